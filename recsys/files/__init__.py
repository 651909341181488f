"""Files on disk: written whole or not at all, with clear messages for system errors."""
