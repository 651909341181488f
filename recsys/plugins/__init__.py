"""Plugins: models, losses and other parts, inside or outside the package, found by name."""
