"""Verbs: one function for each command."""
