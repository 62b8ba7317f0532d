"""The network of the paper, its checkpoints, its graphs and its counts."""
