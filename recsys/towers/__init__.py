"""Towers: item vectors from ids and content."""
