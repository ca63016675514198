"""CUDA: the kernels, how they are compiled, and what the driver says of this machine's GPU."""
