"""Labelled events: from tables and from ratings to folders of coded events."""
