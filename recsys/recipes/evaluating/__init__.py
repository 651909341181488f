"""Recipes that measure runs and report figures."""
