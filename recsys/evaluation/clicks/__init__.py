"""Figures of labelled events: AUC, log-loss, AUC by user, calibration."""
