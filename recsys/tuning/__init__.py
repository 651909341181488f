"""Searches over a space of configs: the space, the trials on disk, the page that shows them."""
