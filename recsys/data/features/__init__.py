"""Item features: their folders, their arrays, the content they come from."""
