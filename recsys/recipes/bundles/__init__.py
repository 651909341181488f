"""Recipes that make and check bundles."""
