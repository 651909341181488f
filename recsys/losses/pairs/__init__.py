"""Losses of (user, item) pairs without an order."""
