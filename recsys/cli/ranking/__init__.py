"""The ranking stage on the command line."""
