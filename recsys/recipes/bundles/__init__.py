"""Verbs that make and check bundles."""
