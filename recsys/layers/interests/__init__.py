"""Several vectors of each user, made of the vectors of a history."""
