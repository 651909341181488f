"""The report of the ranking stage."""
