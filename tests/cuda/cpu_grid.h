// Runs a kernel's source on the CPU: each thread of a block is a thread, blocks run one after the other.
#pragma once
#include <cuda_fp16.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <bit>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
using std::isfinite;
using std::isnan;
using std::max;
using std::min;

inline thread_local uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
inline std::unique_ptr<std::barrier<>> block_barrier;
inline std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;
inline std::vector<unsigned> exchanged, shuffled;

inline void __syncthreads() { block_barrier->arrive_and_wait(); }

inline unsigned flat_thread() { return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x; }

inline int __syncthreads_count(int flag) {
    exchanged[flat_thread()] = flag != 0;
    __syncthreads();
    unsigned sum = 0;
    for (unsigned other : exchanged) sum += other;
    __syncthreads();
    return sum;
}

inline int __syncthreads_or(int flag) { return __syncthreads_count(flag) != 0; }

inline int atomicAdd(int* at, int value) { return std::atomic_ref<int>(*at).fetch_add(value); }
inline int __ffs(unsigned bits) { return __builtin_ffs(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, unsigned lanes) {
    static_assert(sizeof(T) == sizeof(unsigned));
    const unsigned me = flat_thread();
    std::barrier<>& warp = *warp_barriers[me / 32];  // only the warp's: the block's would hide a missing __syncthreads
    std::memcpy(&shuffled[me], &value, sizeof(T));
    warp.arrive_and_wait();
    std::memcpy(&value, &shuffled[me ^ lanes], sizeof(T));
    warp.arrive_and_wait();
    return value;
}

template <typename Kernel>
void run_grid(dim3 grid, dim3 block, Kernel kernel) {
    const unsigned count = block.x * block.y * block.z;
    blockDim = block;
    gridDim = grid;
    exchanged.assign(count, 0);
    shuffled.assign(count, 0);
    warp_barriers.clear();
    for (unsigned warp = 0; warp < count / 32; ++warp) warp_barriers.push_back(std::make_unique<std::barrier<>>(32));
    block_barrier = std::make_unique<std::barrier<>>(count);
    std::vector<std::thread> threads;
    for (unsigned flat = 0; flat < count; ++flat)
        threads.emplace_back([=] {
            threadIdx = {flat % block.x, flat / block.x % block.y, flat / (block.x * block.y)};
            for (unsigned z = 0; z < grid.z; ++z)
                for (unsigned y = 0; y < grid.y; ++y)
                    for (unsigned x = 0; x < grid.x; ++x) {
                        blockIdx = {x, y, z};
                        kernel();
                        __syncthreads();  // shared memory is one for all blocks here
                    }
        });
    for (std::thread& thread : threads) thread.join();
}
