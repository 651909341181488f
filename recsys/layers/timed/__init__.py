"""Layers that read when interactions were, and attention over histories of thousands."""
