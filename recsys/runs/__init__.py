"""Runs: their config, their folder, and a trained model read out of it again."""
