// All kernels as one module: what `edgepose build` compiles and lays beside a plan.
#include "crop.cu"
#include "decode.cu"
#include "peaks.cu"
#include "simcc.cu"
#include "volume.cu"
