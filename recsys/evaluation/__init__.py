"""Evaluation: protocols, ranking, metrics, intervals, and the trade-off of funnels."""
