"""Where a recommender comes from: a fit, a run, a baseline, a bundle."""
