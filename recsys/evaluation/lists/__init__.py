"""Figures of lists beyond accuracy: diversity, calibration to a user's categories, popularity."""
