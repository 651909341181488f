"""LightGCN of RecBole beside ours: an epoch and what it reaches."""
