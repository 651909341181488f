"""Four libraries side by side: from one frame of pandas to recommendations by external ids."""
