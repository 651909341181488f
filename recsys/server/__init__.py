"""Recommendations over HTTP from a bundle: micro-batched searches, hot swap, a page to look at."""
