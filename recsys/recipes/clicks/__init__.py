"""Rankers on labelled events: fitted, calibrated and measured side by side."""
