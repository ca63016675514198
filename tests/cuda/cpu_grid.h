// Runs a kernel's source on the CPU, blocks one after the other. Under ThreadSanitizer each thread of a block is a thread
// of the machine. Else they take turns on one and change at barriers: a twentieth of the time, and always the same order.
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
#ifndef __SANITIZE_THREAD__
#include <ucontext.h>
#endif

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

#ifdef __SANITIZE_THREAD__
using Barrier = std::barrier<>;
inline thread_local uint3 threadIdx, blockIdx;
#else
inline uint3 threadIdx, blockIdx;  // of the thread whose turn it is

struct Turn {
    ucontext_t context;
    uint3 thread, block;
    std::unique_ptr<char[]> stack;
    bool done;
};
inline std::vector<Turn> turns;
inline ucontext_t caller;
constexpr size_t STACK = 128 << 10;  // bytes; what is not used takes no memory
inline size_t current;

// Hands over to the next thread that has not ended; comes back when it is this one's turn again.
inline void next_turn() {
    const size_t me = current;
    turns[me].thread = threadIdx, turns[me].block = blockIdx;
    size_t next = me;
    do next = (next + 1) % turns.size();
    while (turns[next].done && next != me);
    if (next == me && !turns[me].done) return;
    if (next == me) setcontext(&caller);  // all have ended
    current = next;
    threadIdx = turns[next].thread, blockIdx = turns[next].block;
    swapcontext(&turns[me].context, &turns[next].context);
}

class Barrier {
public:
    explicit Barrier(unsigned count) : expected(count) {}
    void arrive_and_wait() {
        const unsigned mine = generation;
        if (++arrived == expected) {
            arrived = 0;
            ++generation;
            return;
        }
        while (generation == mine) next_turn();
    }

private:
    unsigned expected, arrived = 0, generation = 0;
};
#endif
inline dim3 blockDim, gridDim;
inline std::unique_ptr<Barrier> block_barrier;
inline std::vector<std::unique_ptr<Barrier>> warp_barriers;
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
inline float __saturatef(float value) { return value > 0.0f ? min(value, 1.0f) : 0.0f; }  // NaN becomes 0
template <typename T>
T __ldg(const T* from) { return *from; }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits) {
    return ((unsigned long long)high << 32 | low) >> (bits & 31);
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selected) {  // a nibble of `selected` a byte
    const unsigned long long bytes = (unsigned long long)high << 32 | low;
    unsigned result = 0;
    for (int byte = 0; byte < 4; ++byte) result |= (bytes >> 8 * (selected >> 4 * byte & 7) & 255) << 8 * byte;
    return result;
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, unsigned lanes) {
    static_assert(sizeof(T) == sizeof(unsigned));
    const unsigned me = flat_thread();
    Barrier& warp = *warp_barriers[me / 32];  // only the warp's: the block's would hide a missing __syncthreads
    std::memcpy(&shuffled[me], &value, sizeof(T));
    warp.arrive_and_wait();
    std::memcpy(&value, &shuffled[me ^ lanes], sizeof(T));
    warp.arrive_and_wait();
    return value;
}

#ifdef __SANITIZE_THREAD__
template <typename Run>
void run_threads(unsigned count, Run run) {
    std::vector<std::thread> threads;
    for (unsigned flat = 0; flat < count; ++flat) threads.emplace_back([=] { run(flat); });
    for (std::thread& thread : threads) thread.join();
}
#else
template <typename Run>
void run_threads(unsigned count, Run run) {
    static const Run* running;  // makecontext passes ints alone
    running = &run;
    if (turns.size() != count) turns = std::vector<Turn>(count);
    for (unsigned flat = 0; flat < count; ++flat) {
        Turn& turn = turns[flat];
        if (!turn.stack) turn.stack.reset(new char[STACK]);
        turn.done = false;
        getcontext(&turn.context);
        turn.context.uc_stack.ss_sp = turn.stack.get();
        turn.context.uc_stack.ss_size = STACK;
        void (*const entry)(unsigned) = [](unsigned mine) {
            (*running)(mine);
            turns[mine].done = true;
            next_turn();
        };
        makecontext(&turn.context, reinterpret_cast<void (*)()>(entry), 1, flat);
    }
    current = 0;
    swapcontext(&caller, &turns[0].context);
}
#endif

template <typename Kernel>
void run_grid(dim3 grid, dim3 block, Kernel kernel) {
    const unsigned count = block.x * block.y * block.z;
    blockDim = block;
    gridDim = grid;
    exchanged.assign(count, 0);
    shuffled.assign(count, 0);
    warp_barriers.clear();
    for (unsigned warp = 0; warp < count / 32; ++warp) warp_barriers.push_back(std::make_unique<Barrier>(32));
    block_barrier = std::make_unique<Barrier>(count);
    auto run_thread = [=](unsigned flat) {
        threadIdx = {flat % block.x, flat / block.x % block.y, flat / (block.x * block.y)};
        for (unsigned z = 0; z < grid.z; ++z)
            for (unsigned y = 0; y < grid.y; ++y)
                for (unsigned x = 0; x < grid.x; ++x) {
                    blockIdx = {x, y, z};
                    kernel();
                    __syncthreads();  // shared memory is one for all blocks here
                }
    };
    run_threads(count, run_thread);
}
