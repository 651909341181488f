"""The report of a trade-off: page, plots, CSV and terminal."""
