"""Files on disk: written whole or not at all, and errors of the system explained."""
