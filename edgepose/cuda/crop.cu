// Crops of all people of some frames in one launch: affine sampling, colour order, normalisation, NCHW.
// Launch: block (32, 8), grid (ceil(width / 64), ceil(height / 8), N); one thread makes two pixels side by side.
// Reference: cut_out in edgepose/stages/crop.py; bilinear, black outside the frame, also where a region is not finite.
// Sampling is in float: it differs from the reference, which rounds crops to whole grey levels, by at most one level.
#include "portable.h"

// NV12: a plane of Y, and one of U, V in turns at half size, rounded up.
enum FrameFormat { RGB = 0, BGR = 1, NV12 = 2 };

// One frame; FRAME in edgepose/cuda/launch.py is its twin. The last six are yuv_factors of edgepose/stages/frames.py.
struct Frame {
    const unsigned char *pixels, *chroma;  // of NV12: Y, then U and V
    int pitch, chroma_pitch;               // bytes from a row to the next
    int height, width, format;
    float luma_floor, luma_scale, red_v, green_u, green_v, blue_u;
    int unused;
};

__device__ inline float clamp_level(float level) { return fminf(fmaxf(level, 0.0f), 255.0f); }

// The two pixels of an axis that a position lies between, and how much each counts: nothing outside the frame.
struct Neighbours {
    int first, second;
    float first_share, second_share;
};

__device__ inline Neighbours neighbours(float position, int size) {
    position = fminf(fmaxf(position, -1.0f), (float)size);  // keeps the cast in range, and NaN out
    const float low = floorf(position), share = position - low;
    const int first = (int)low, second = first + 1;
    return {
        min(max(first, 0), size - 1), min(second, size - 1), first >= 0 && first < size ? 1.0f - share : 0.0f,
        second < size ? share : 0.0f};
}

// Adds the share of a pixel to the sums of its three channels: as they lie in a packed frame; red, green, blue of NV12.
template <bool nv12>
__device__ inline void add(
    const Frame& frame, unsigned row, unsigned chroma_row, int x, float share, float sum[3]) {
    if (nv12) {
        const unsigned char* chroma = frame.chroma + (chroma_row + (x & ~1));
        const float luma = fmaxf((float)frame.pixels[row + x] - frame.luma_floor, 0.0f) * frame.luma_scale;
        const float u = (float)chroma[0] - 128.0f, v = (float)chroma[1] - 128.0f;
        sum[0] += share * clamp_level(luma + frame.red_v * v);
        sum[1] += share * clamp_level(luma + frame.green_u * u + frame.green_v * v);
        sum[2] += share * clamp_level(luma + frame.blue_u * u);
    } else {
        const unsigned char* pixel = frame.pixels + (row + 3 * x);
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) sum[channel] += share * (float)pixel[channel];
    }
}

// Two pixels of the crop, which share their rows of the frame.
template <bool nv12>
__device__ inline void sample_pair(
    const Frame& frame, const Neighbours& y, const Neighbours x[2], float pair[2][3]) {
    const unsigned above = y.first * frame.pitch, below = y.second * frame.pitch;  // a frame has fewer than 2^31 bytes
    const unsigned chroma_above = y.first / 2 * frame.chroma_pitch, chroma_below = y.second / 2 * frame.chroma_pitch;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
        float* sum = pair[side];
        sum[0] = sum[1] = sum[2] = 0.0f;
        add<nv12>(frame, above, chroma_above, x[side].first, x[side].first_share * y.first_share, sum);
        add<nv12>(frame, above, chroma_above, x[side].second, x[side].second_share * y.first_share, sum);
        add<nv12>(frame, below, chroma_below, x[side].first, x[side].first_share * y.second_share, sum);
        add<nv12>(frame, below, chroma_below, x[side].second, x[side].second_share * y.second_share, sum);
    }
}

template <typename T>
__device__ inline void crop_pair(
    const Frame& frame, const float4* to_image, const float* normalise, int bgr_out, T* crops, T* mirrored, int height,
    int width) {
    const int x = 2 * (blockIdx.x * blockDim.x + threadIdx.x), y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const float4 region = to_image[blockIdx.z];
    const Neighbours rows = neighbours(y * region.y + region.w, frame.height);
    const Neighbours columns[2] = {
        neighbours(x * region.x + region.z, frame.width), neighbours((x + 1) * region.x + region.z, frame.width)};
    float pair[2][3];
    if (frame.format == NV12)
        sample_pair<true>(frame, rows, columns, pair);
    else
        sample_pair<false>(frame, rows, columns, pair);

    const bool turned = (frame.format == BGR) != (bool)bgr_out, whole_pairs = width % 2 == 0;
    const size_t plane = (size_t)height * width, row = blockIdx.z * 3 * plane + (size_t)y * width;
    const int back = width - 1 - x;
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) {
        const int out = turned ? 2 - channel : channel;
        const float left = pair[0][channel] * normalise[out] + normalise[3 + out];
        const float right = pair[1][channel] * normalise[out] + normalise[3 + out];
        const size_t offset = row + out * plane;
        if (whole_pairs) {
            store_pair(crops + offset + x, left, right);
            if (mirrored) store_pair(mirrored + offset + back - 1, right, left);
            continue;
        }
        store(crops + offset + x, left);
        if (mirrored) store(mirrored + offset + back, left);
        if (x + 1 == width) continue;
        store(crops + offset + x + 1, right);
        if (mirrored) store(mirrored + offset + back - 1, right);
    }
}

// Six blocks an SM: the 768 of 8 people at 256 x 192 are one wave on the 132 SMs of an H100.
#define CROP(name, T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, RESIDENT(6, 256)) name(                                      \
        const Frame* __restrict__ frames,                                                                          \
        const int* __restrict__ frame_of,      /* (N): which frame a region lies in */                             \
        const float4* __restrict__ to_image,   /* (N): image x = x * .x + .z, image y = y * .y + .w */             \
        const float* __restrict__ normalise,   /* (6): factor, then summand, of each channel of the crops */       \
        int bgr_out,                           /* channels of the crops are blue, green, red */                    \
        T* __restrict__ crops,                 /* (N, 3, height, width), at an address of whole pairs */           \
        T* __restrict__ mirrored,              /* the same, left and right changed over (flip test); or null */    \
        int height, int width) {                                                                                   \
        const Frame frame = frames[frame_of[blockIdx.z]];                                                          \
        crop_pair<T>(frame, to_image, normalise, bgr_out, crops, mirrored, height, width);                        \
    }

CROP(crop_f32, float)
CROP(crop_f16, __half)
