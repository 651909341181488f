"""Readers of named data sets and of files whose columns are named."""
