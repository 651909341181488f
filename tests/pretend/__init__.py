"""A device written in Python: tensors on it hold CPU tensors and refuse to mix with them."""
