"""Verbs that measure a run and report figures."""
