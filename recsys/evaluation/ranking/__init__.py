"""Ranks of targets and lists of best items, for every kind of model and machine."""
