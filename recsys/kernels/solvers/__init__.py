"""Compiled solvers."""
