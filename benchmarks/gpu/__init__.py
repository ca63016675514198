"""What only a GPU shows: kernels and engines against their CPU twins, and how fast they are. See gpu_acceptance.py."""
