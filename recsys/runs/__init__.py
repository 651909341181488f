"""Runs: config, folder, and loading of the trained model."""
