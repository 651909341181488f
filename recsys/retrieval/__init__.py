"""Retrieval: bundles of tiers, indexes, and the funnel that searches them."""
