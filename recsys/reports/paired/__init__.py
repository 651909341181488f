"""Paired comparisons: differences of two figures, user by user, and what may be noise."""
