"""Networks that score rows, one paper a file; torch is needed to fit them alone."""
