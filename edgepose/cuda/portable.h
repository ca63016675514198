// What kernels share, and the few words that let the same source run on a CPU in tests (EDGEPOSE_ON_CPU:
// tests/cuda/cpu_grid.h then stands in for the GPU's grid).
#pragma once
#ifdef EDGEPOSE_ON_CPU
#include "cpu_grid.h"
#define DYNAMIC_SHARED(type, name) static type name[1 << 16]
#else
#include <cuda_fp16.h>
#include <cfloat>
#define DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#endif

// Blocks that an SM is to hold at once, which bounds their registers; a Turing SM has room for 1024 threads only.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define RESIDENT(blocks, threads) (1024 / (threads))
#else
#define RESIDENT(blocks, threads) (blocks)
#endif

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline void store(float* to, float value) { *to = value; }
__device__ inline void store(__half* to, float value) { *to = __float2half_rn(value); }
__device__ inline void store_pair(float* to, float first, float second) {
    *reinterpret_cast<float2*>(to) = make_float2(first, second);
}
__device__ inline void store_pair(__half* to, float first, float second) {
    *reinterpret_cast<__half2*>(to) = __floats2half2_rn(first, second);
}
