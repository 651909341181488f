"""Lists and scores of a model in memory, and of a bundle without torch."""
