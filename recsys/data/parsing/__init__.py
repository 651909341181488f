"""Reading of interactions: frames, and ids and times in any notation."""
