"""Stand-ins for pycuda, TensorRT and libcuda, so that the GPU's data path runs where there is no GPU.

They are stricter than a GPU where that finds mistakes: work on a stream is done as late as possible (when somebody
waits), new memory is NaN, freed memory is spoilt, nothing works or is freed without a current context, pycuda's calls
take no numpy numbers, pageable memory is read and written as late as pinned memory, and a CUDA graph holds the
addresses that it was recorded with. The kernels are the real ones, compiled for the CPU; an engine is an ONNX in ONNX
Runtime. They say nothing of what a driver does, of TensorRT's own rules beyond the documented ones, or of speed.
"""
