// What is launched around a plan that finds everybody in a whole image, as one module, which `edgepose build` lays beside.
#include "peaks.cu"
#include "maps.cu"
