"""Stores that answer queries themselves: servers, and databases in a file."""
