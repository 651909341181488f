"""Items that are put and deleted while the server runs: their log, their vectors, their state."""
