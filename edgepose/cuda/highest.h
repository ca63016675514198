// The highest of many values and where it is, found by a block of THREADS threads. Of equal values the lowest index.
#pragma once
#include "portable.h"

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr float NOTHING = -INFINITY;

struct Peak {
    float value;
    int index;  // a NaN anywhere makes it -1
};

// Of equal values the lowest index; no branches, since a warp's threads rarely agree.
__device__ inline Peak better(Peak a, Peak b) {
    const bool higher = (b.value > a.value) | ((b.value == a.value) & (b.index < a.index));
    const bool take_b = (a.index >= 0) & (higher | (b.index < 0));
    return {take_b ? b.value : a.value, take_b ? b.index : a.index};
}

// The highest of the values that one thread sees, in order of their indices.
struct Running {
    float value = NOTHING;
    int index = INT_MAX;
    bool numbers = true;

    __device__ void see(float value_here, int index_here) { see(value_here, index_here, value_here > value); }
    __device__ void see_in_any_order(float value_here, int index_here) {
        see(value_here, index_here, (value_here > value) | ((value_here == value) & (index_here < index)));
    }

private:
    __device__ void see(float value_here, int index_here, bool higher) {
        value = higher ? value_here : value;
        index = higher ? index_here : index;
        numbers &= value_here == value_here;
    }
};

// The block's best peak, known to every thread.
__device__ inline Peak best_of_block(const Running& running) {
    __shared__ Peak of_warp[WARPS];
    Peak peak = {running.value, running.numbers ? running.index : -1};
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        peak = better(peak, {__shfl_xor_sync(~0u, peak.value, distance), __shfl_xor_sync(~0u, peak.index, distance)});
    __syncthreads();  // of_warp may still be read by an earlier call
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = peak;
    __syncthreads();
    peak = of_warp[0];
#pragma unroll
    for (int warp = 1; warp < WARPS; ++warp) peak = better(peak, of_warp[warp]);
    if (peak.index == INT_MAX) peak.index = 0;  // all -inf
    return peak;
}
