"""Labelled events (clicks): folders of coded fields, numbers and labels, in three parts."""
