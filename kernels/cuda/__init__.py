"""The operations in CUDA: launches, the device behind them, and the fat binary that they load."""
