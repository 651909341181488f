"""Stores that are files: index libraries, and the folders their versions stand in."""
