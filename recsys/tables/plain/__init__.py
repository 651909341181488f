"""Tables with one full row for each index."""
