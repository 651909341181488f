"""Measurements: ratios within one run, with the machine named. `make bench`."""
