"""Vector stores: a bundle's vectors in the store that a team runs, shown to give the same lists."""
