"""Training: data sets, cached rows, epochs and what a checkpoint is worth."""
