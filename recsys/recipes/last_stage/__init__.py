"""The last stage on a run's candidates: what diversity and calibration cost in accuracy."""
