"""Parts from inside and outside the package, found by name."""
