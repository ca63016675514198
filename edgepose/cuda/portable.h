// What kernels share, and the few words that let the same source run on a CPU in tests (EDGEPOSE_ON_CPU:
// tests/cuda/cpu_grid.h then stands in for the GPU's grid).
#pragma once
#ifdef EDGEPOSE_ON_CPU
#include "cpu_grid.h"
#define DYNAMIC_SHARED(type, name) static type name[1 << 16]
#else
#include <cuda_fp16.h>
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline void store(float* to, float value) { *to = value; }
__device__ inline void store(__half* to, float value) { *to = __float2half_rn(value); }
