"""Vectors for items without interactions."""
