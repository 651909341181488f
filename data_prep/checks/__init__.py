"""Checks of raw columns and ids."""
