"""First stages side by side: recall, speed and memory."""
