// What the data path of a heat-map plan launches, as one module: what `edgepose build` compiles and lays beside it.
#include "crop.cu"
#include "decode.cu"
