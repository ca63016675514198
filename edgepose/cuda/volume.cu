// Key points of likelihood volumes: the mean place of each one's softmax, in one pass over it.
// Launch: block VOLUME_THREADS, grid N * K. Reference: decode_volume in edgepose/stages/volume.py, to rounding.
//
// A thread keeps the highest value it saw and sums of exp(value - highest) and of its products with the coordinates,
// which are rescaled where a higher value comes; so the highest need not be known before (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018). Coordinates count from the volume's middle: their squares stay
// small.
#include "portable.h"

constexpr int VOLUME_THREADS = 256, VOLUME_WARPS = VOLUME_THREADS / 32, MOMENTS = 7;
constexpr float VOLUME_SPREAD = 0.1f;

struct Moments {
    float highest = -FLT_MAX;  // not -inf: exp(-inf - -inf) is NaN, and a cell of -inf counts nothing
    float sums[MOMENTS] = {};  // of the shares, and of them times x, y, z, x^2, y^2, z^2

    __device__ void scale_to(float new_highest) {
        const float factor = expf(highest - new_highest);
#pragma unroll
        for (int i = 0; i < MOMENTS; ++i) sums[i] *= factor;
        highest = new_highest;
    }

    __device__ void see(float value, float x, float y, float z) {
        if (value > highest) scale_to(value);
        const float share = expf(value - highest);  // NaN for NaN, and for +inf
        const float products[MOMENTS] = {1, x, y, z, x * x, y * y, z * z};
#pragma unroll
        for (int i = 0; i < MOMENTS; ++i) sums[i] += share * products[i];
    }

    __device__ void add(Moments other) {
        if (other.highest > highest)
            scale_to(other.highest);
        else
            other.scale_to(highest);
#pragma unroll
        for (int i = 0; i < MOMENTS; ++i) sums[i] += other.sums[i];
    }
};

template <typename T>
__device__ void decode_volume(const T* volumes, float* keypoints, int depth, int height, int width, float depth_m) {
    __shared__ Moments of_warp[VOLUME_WARPS];
    const T* volume = volumes + (size_t)blockIdx.x * depth * height * width;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float middle_x = 0.5f * (width - 1), middle_y = 0.5f * (height - 1), middle_z = 0.5f * (depth - 1);
    Moments moments;
    for (int row = warp; row < depth * height; row += VOLUME_WARPS) {
        const float y = row % height - middle_y, z = row / height - middle_z;
        for (int x = lane; x < width; x += 32) moments.see(to_float(volume[row * width + x]), x - middle_x, y, z);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        Moments other;
        other.highest = __shfl_xor_sync(~0u, moments.highest, distance);
#pragma unroll
        for (int i = 0; i < MOMENTS; ++i) other.sums[i] = __shfl_xor_sync(~0u, moments.sums[i], distance);
        moments.add(other);
    }
    if (lane == 0) of_warp[warp] = moments;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int other = 1; other < VOLUME_WARPS; ++other) moments.add(of_warp[other]);
    float4 keypoint = make_float4(0, 0, 0, 0);
    if (isfinite(moments.sums[0]) && moments.sums[0] > 0) {
        float mean[3], spread = 0;
        const int sides[3] = {width, height, depth};
        for (int axis = 0; axis < 3; ++axis) {
            mean[axis] = moments.sums[1 + axis] / moments.sums[0];
            const float variance = moments.sums[4 + axis] / moments.sums[0] - mean[axis] * mean[axis];
            spread += fmaxf(variance, 0.0f) / (3.0f * sides[axis] * sides[axis]);
        }
        const float z = ((mean[2] + middle_z) / depth - 0.5f) * depth_m;
        keypoint = make_float4(
            mean[0] + middle_x, mean[1] + middle_y, z, expf(-spread / (VOLUME_SPREAD * VOLUME_SPREAD)));
    }
    reinterpret_cast<float4*>(keypoints)[blockIdx.x] = keypoint;
}

extern "C" __global__ void __launch_bounds__(VOLUME_THREADS) volume_f32(
    const float* __restrict__ volumes,  // (N, K * D, h, w), so N * K of D * h * w
    float* __restrict__ keypoints,      // (N, K, 4): x, y [cells], z [m], score
    int depth, int height, int width, float depth_m) {
    decode_volume(volumes, keypoints, depth, height, width, depth_m);
}

extern "C" __global__ void __launch_bounds__(VOLUME_THREADS) volume_f16(
    const __half* __restrict__ volumes,
    float* __restrict__ keypoints,
    int depth, int height, int width, float depth_m) {
    decode_volume(volumes, keypoints, depth, height, width, depth_m);
}
