"""Bundles: the exported folder of tiers, ids, histories and index."""
