// All kernels as one module: what tests and benchmarks compile.
#include "crop.cu"
#include "decode.cu"
#include "maps.cu"
#include "peaks.cu"
#include "simcc.cu"
#include "volume.cu"
