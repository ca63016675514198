// Key points of SimCC vectors in one launch: peaks along x and y, flip merge, mapping to the image.
// Launch: block THREADS, grid N * K: one block a key point, both vectors. Reference: decode_simcc and
// merge_flipped_simcc in edgepose/stages/simcc.py, to the bit: of equal bins the lowest, a score of 0 or less or a NaN
// is bin -1.
#include "highest.h"

// What one thread sees of a vector, merged on the fly with that of the mirrored crop where there is one.
template <typename T>
__device__ Running look_along(const T* plain, const T* mirrored, int bins, bool backwards) {
    Running running;
#pragma unroll 4  // 512 bins are four loads a thread, all under way before the first comparison
    for (int bin = threadIdx.x; bin < bins; bin += THREADS) {
        const float here = to_float(plain[bin]);
        running.see(
            mirrored ? 0.5f * (here + to_float(mirrored[backwards ? bins - 1 - bin : bin])) : here, bin);
    }
    return running;
}

template <typename T>
__device__ void decode_vectors(
    const T* x, const T* y, const T* flipped_x, const T* flipped_y, const int* flip_order, const float4* to_image,
    float* keypoints, int num_keypoints, int bins_x, int bins_y, float px_per_bin) {
    const int person = blockIdx.x / num_keypoints, point = blockIdx.x % num_keypoints;
    const size_t here = blockIdx.x, there = flipped_x ? (size_t)person * num_keypoints + flip_order[point] : 0;
    const Running along_x =
        look_along(x + here * bins_x, flipped_x ? flipped_x + there * bins_x : nullptr, bins_x, true);
    const Running along_y =
        look_along(y + here * bins_y, flipped_y ? flipped_y + there * bins_y : nullptr, bins_y, false);
    const Peak peak_x = best_of_block(along_x), peak_y = best_of_block(along_y);
    if (threadIdx.x != 0) return;
    const bool numbers = peak_x.index >= 0 && peak_y.index >= 0;
    const float score = numbers ? fminf(peak_x.value, peak_y.value) : 0.0f;
    const bool found = score > 0.0f && isfinite(score);
    const float4 region = to_image ? to_image[person] : make_float4(1.0f, 1.0f, 0.0f, 0.0f);
    float* out = keypoints + here * 3;
    out[0] = (found ? peak_x.index : -1) * px_per_bin * region.x + region.z;
    out[1] = (found ? peak_y.index : -1) * px_per_bin * region.y + region.w;
    out[2] = isfinite(score) ? score : 0.0f;
}

#define SIMCC(name, T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) name(                                                     \
        const T* __restrict__ x,              /* (N, K, bins_x) */                                                  \
        const T* __restrict__ y,              /* (N, K, bins_y) */                                                  \
        const T* __restrict__ flipped_x,      /* the same of the mirrored crops, as the network gave them; or null */ \
        const T* __restrict__ flipped_y,                                                                            \
        const int* __restrict__ flip_order,   /* (K): the key point that each one is in the mirror */               \
        const float4* __restrict__ to_image,  /* (N): x * .x + .z, y * .y + .w; null leaves px of the input */      \
        float* __restrict__ keypoints,        /* (N, K, 3): x, y, score */                                          \
        int num_keypoints, int bins_x, int bins_y, float px_per_bin) {                                              \
        decode_vectors<T>(                                                                                          \
            x, y, flipped_x, flipped_y, flip_order, to_image, keypoints, num_keypoints, bins_x, bins_y, px_per_bin); \
    }

// Depths of RTMW3D's third vector. Launch: block THREADS, grid N * K, behind the one above, whose scores it reads.
// Reference: decode_depth in edgepose/stages/simcc.py, to the bit: that is why one thread counts in double.
template <typename T>
__device__ void decode_depths(
    const T* z, const T* flipped_z, const int* flip_order, const float* keypoints, float* depths, int num_keypoints,
    int bins, float range_m) {
    const int person = blockIdx.x / num_keypoints, point = blockIdx.x % num_keypoints;
    const size_t here = blockIdx.x, there = flipped_z ? (size_t)person * num_keypoints + flip_order[point] : 0;
    const Peak peak = best_of_block(
        look_along(z + here * bins, flipped_z ? flipped_z + there * bins : nullptr, bins, false));
    if (threadIdx.x != 0) return;
    const bool found = keypoints[here * 3 + 2] > 0.0f && peak.index >= 0;
    depths[here] = found ? (float)((peak.index / (0.5 * bins) - 1.0) * (double)range_m) : 0.0f;
}

SIMCC(simcc_f32, float)
SIMCC(simcc_f16, __half)

#define DEPTH(name, T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) name(                                                     \
        const T* __restrict__ z,             /* (N, K, bins) */                                                     \
        const T* __restrict__ flipped_z,     /* the same of the mirrored crops; or null */                          \
        const int* __restrict__ flip_order,  /* (K) */                                                              \
        const float* __restrict__ keypoints, /* (N, K, 3): x, y, score, which is 0 or less where none was found */  \
        float* __restrict__ depths,          /* (N, K): metres behind the root */                                   \
        int num_keypoints, int bins, float range_m) {                                                               \
        decode_depths<T>(z, flipped_z, flip_order, keypoints, depths, num_keypoints, bins, range_m);                \
    }

DEPTH(depth_f32, float)
DEPTH(depth_f16, __half)
