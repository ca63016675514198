"""From values to values, in numpy: the specification that the CUDA kernels follow."""
