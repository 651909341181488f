"""Item features: folders, arrays, and the content they are made from."""
