"""Features of candidates, computed by the same code in training and in serving; numpy alone."""
