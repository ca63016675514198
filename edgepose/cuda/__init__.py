"""CUDA: what the driver says of this machine's GPU."""
