"""Measurements of funnels: quality against bytes, work and time."""
