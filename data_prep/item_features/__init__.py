"""Item features from texts, pictures, vectors and columns."""
