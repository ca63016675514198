// What the data path of a SimCC plan launches, as one module: what `edgepose build` compiles and lays beside it.
#include "crop.cu"
#include "simcc.cu"
