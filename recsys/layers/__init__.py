"""Layers of the towers: attention, recurrence, nested linear maps, dropout."""
