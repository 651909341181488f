"""Losses of models of pairs: users and items without sequences."""
