"""Serving: export of a model into a bundle, and the bundle's user and item towers."""
