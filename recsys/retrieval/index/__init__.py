"""Indexes for the first stage: built, tuned, chosen, opened."""
