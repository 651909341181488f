"""Models that a solver of their own fits, without gradients."""
