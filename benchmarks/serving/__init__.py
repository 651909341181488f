"""Benchmarks of `recsys serve`: load, start, and lists that are the same everywhere."""
