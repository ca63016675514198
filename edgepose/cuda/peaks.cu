// Local maxima of bottom-up heat maps, the highest top_k of each, in one launch.
// Launch: block PEAK_THREADS, grid one block per map. Reference: find_peaks in edgepose/stages/peaks.py, to the bit: highest
// first, of equal values the lowest index; every pixel of a plateau is a peak; a NaN lets none be within its window.
//
// A block walks its map once and keeps candidates as 64-bit keys, which order as the peaks do. When its buffer could
// overflow it is sorted, all but the first top_k are dropped, and what would be dropped is not looked at any more. So
// any number of peaks fits, and the order in which threads reach the buffer does not show.
#include "portable.h"

constexpr int PEAK_THREADS = 256, PER_THREAD = 16, LARGEST_TOP_K = 256, CAPACITY = 1024;
static_assert(CAPACITY >= LARGEST_TOP_K + PEAK_THREADS, "one more of each thread must fit");

typedef unsigned long long Key;  // the value, as an unsigned number of the same order, then the index counted down

__device__ inline Key key_of(float value, int index) {
    const unsigned bits = __float_as_uint(value + 0.0f);  // -0 is 0
    const unsigned ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (Key)ordered << 32 | (0xffffffffu - index);
}

__device__ inline float value_of(Key key) {
    const unsigned ordered = key >> 32;
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

__device__ inline int index_of(Key key) { return 0xffffffffu - (unsigned)key; }

// Is nothing in the window higher? A NaN compares false, and so is higher.
template <typename T>
__device__ inline bool highest_around(const T* map, float value, int x, int y, int height, int width, int radius) {
    const int left = max(x - radius, 0), right = min(x + radius, width - 1);
    for (int row = max(y - radius, 0); row <= min(y + radius, height - 1); ++row) {
        bool highest = true;  // of a row at once: its loads do not wait for each other
        for (int column = left; column <= right; ++column) highest &= to_float(map[row * width + column]) <= value;
        if (!highest) return false;
    }
    return true;
}

// Sorts the keys that are held, highest first: a bitonic network over the next power of two.
__device__ inline void sort_keys(Key* keys, int held) {
    int size = 1;
    while (size < held) size *= 2;
    for (int slot = held + threadIdx.x; slot < size; slot += PEAK_THREADS) keys[slot] = 0;
    __syncthreads();
    for (int run = 2; run <= size; run *= 2)
        for (int distance = run / 2; distance > 0; distance /= 2) {
            for (int pair = threadIdx.x; pair < size / 2; pair += PEAK_THREADS) {
                const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
                const bool falling = (low & run) == 0;
                const Key a = keys[low], b = keys[high];
                if ((a < b) == falling) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
}

template <typename T>
__device__ void find_peaks(
    const T* map, float* peaks, int* count, int height, int width, int window, float threshold, int top_k) {
    __shared__ Key keys[CAPACITY];
    __shared__ int held;
    const int size = height * width;
    if (threadIdx.x == 0) held = 0;
    __syncthreads();
    Key worst = 0;  // of the first top_k, once there are as many
    int now = 0;    // how many are held, known to every thread; one more of each fits
    for (int first = threadIdx.x; first - (int)threadIdx.x < size; first += PER_THREAD * PEAK_THREADS) {
        unsigned mine = 0;  // which of the thread's pixels are high enough, then which are peaks
#pragma unroll
        for (int nth = 0; nth < PER_THREAD; ++nth) {
            const int index = first + nth * PEAK_THREADS;
            const float value = index < size ? to_float(map[index]) : NAN;
            mine |= (unsigned)(value > threshold && isfinite(value)) << nth;
        }
        for (unsigned left = mine; left != 0; left &= left - 1) {
            const int nth = __ffs(left) - 1, index = first + nth * PEAK_THREADS;
            const float value = to_float(map[index]);
            if (key_of(value, index) < worst ||
                !highest_around(map, value, index % width, index / width, height, width, window / 2))
                mine &= ~(1u << nth);
        }
        const int threads = __syncthreads_count(mine != 0);
        if (threads == 0) continue;
        const int step = now + threads * PER_THREAD <= CAPACITY ? PER_THREAD : 1;  // all at once if they surely fit
        for (int nth = 0; nth < PER_THREAD; nth += step) {
            for (int each = nth; each < nth + step; ++each)
                if (mine >> each & 1) {
                    const int index = first + each * PEAK_THREADS;
                    keys[atomicAdd(&held, 1)] = key_of(to_float(map[index]), index);
                }
            __syncthreads();
            now = held;
            __syncthreads();
            if (now + PEAK_THREADS <= CAPACITY) continue;
            sort_keys(keys, now);
            now = top_k;  // fewer than there were
            if (threadIdx.x == 0) held = now;
            worst = keys[top_k - 1];
            __syncthreads();
        }
    }
    sort_keys(keys, now);
    const int found = min(now, top_k);
    for (int rank = threadIdx.x; rank < top_k; rank += PEAK_THREADS) {
        const bool is = rank < found;
        const int index = is ? index_of(keys[rank]) : 0;
        peaks[3 * rank] = index % width;
        peaks[3 * rank + 1] = index / width;
        peaks[3 * rank + 2] = is ? value_of(keys[rank]) : 0.0f;
    }
    if (threadIdx.x == 0) *count = found;
}

#define PEAKS(name, T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(PEAK_THREADS) name(                                                \
        const T* __restrict__ heatmaps, /* (M, height, width): M maps, of N images with C channels say */           \
        float* __restrict__ peaks,      /* (M, top_k, 3): x, y, value; 0 behind the last */                         \
        int* __restrict__ counts,       /* (M): how many there are */                                               \
        int height, int width, int window, /* odd, px */                                                            \
        float threshold,                   /* a peak is higher */                                                   \
        int top_k /* at most LARGEST_TOP_K */) {                                                                    \
        find_peaks<T>(                                                                                              \
            heatmaps + (size_t)blockIdx.x * height * width, peaks + (size_t)blockIdx.x * top_k * 3,                 \
            counts + blockIdx.x, height, width, window, threshold, top_k);                                          \
    }

PEAKS(peaks_f32, float)
PEAKS(peaks_f16, __half)
