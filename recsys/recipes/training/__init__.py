"""Verbs that make or change a trained run."""
