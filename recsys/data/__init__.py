"""Data sets: interactions, histories, splits, features and training batches."""
