"""Calibration: probabilities from the scores of a ranker, fitted on labelled rows."""
