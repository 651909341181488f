"""Training: the loop, optimizers, checkpoints, logs."""
