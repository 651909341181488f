"""First stages beside each other: recall, speed and memory of every way to search a catalogue."""
