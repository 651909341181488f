"""Recipes that make or change a trained run."""
