"""Recipes: one function for each command."""
