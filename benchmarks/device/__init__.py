"""Cost of training and evaluation on one device, beside the naive form and another library."""
