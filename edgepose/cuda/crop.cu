// Crops of all people of a frame in one launch: affine sampling, colour order, normalisation, NCHW.
// Launch: block (32, 8), grid (ceil(width / 32), ceil(height / 8), N); one thread makes one pixel, three channels.
// Reference: cut_out in edgepose/preprocess.py; bilinear, black outside the frame. Sampling is in float: it differs
// from the reference, which rounds crops to whole grey levels, by at most one level.
#include "portable.h"

enum FrameFormat { RGB = 0, BGR = 1, NV12 = 2 };  // NV12: a plane of Y, then rows of U, V at half size (BT.601, 16..235)

struct Frame {
    const unsigned char* pixels;
    int pitch, height, width, format;  // pitch: bytes from a row to the next
};

__device__ inline float clamp_level(float level) { return fminf(fmaxf(level, 0.0f), 255.0f); }

// Red, green and blue of one pixel, 0..255; black outside the frame.
__device__ inline void read_pixel(const Frame& frame, int x, int y, float rgb[3]) {
    if (x < 0 || y < 0 || x >= frame.width || y >= frame.height) {
        rgb[0] = rgb[1] = rgb[2] = 0.0f;
        return;
    }
    const unsigned char* row = frame.pixels + (size_t)y * frame.pitch;
    if (frame.format == NV12) {
        const unsigned char* chroma = frame.pixels + (size_t)(frame.height + y / 2) * frame.pitch + x / 2 * 2;
        const float luma = fmaxf((float)row[x] - 16.0f, 0.0f) * 1.163999557f;  // ITU-R BT.601, as OpenCV scales it
        const float u = (float)chroma[0] - 128.0f, v = (float)chroma[1] - 128.0f;
        rgb[0] = clamp_level(luma + 1.595999718f * v);
        rgb[1] = clamp_level(luma - 0.390999794f * u - 0.812999725f * v);
        rgb[2] = clamp_level(luma + 2.017999649f * u);
        return;
    }
    const unsigned char* pixel = row + 3 * x;
    const int red = frame.format == RGB ? 0 : 2;
    rgb[0] = pixel[red];
    rgb[1] = pixel[1];
    rgb[2] = pixel[2 - red];
}

template <typename T>
__device__ inline void crop_pixel(
    const Frame& frame, const float4* to_image, const float* normalise, int bgr_out, T* crops, T* mirrored, int height,
    int width) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const float4 region = to_image[blockIdx.z];
    const float image_x = x * region.x + region.z, image_y = y * region.y + region.w;
    // A region far outside the frame is black; the comparison also keeps the cast below in range, and NaN out.
    float blend[3] = {0.0f, 0.0f, 0.0f};
    if (image_x > -1.0f && image_y > -1.0f && image_x < (float)frame.width && image_y < (float)frame.height) {
        const int left = (int)floorf(image_x), top = (int)floorf(image_y);
        const float right_share = image_x - left, bottom_share = image_y - top;
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
            const int dx = corner & 1, dy = corner >> 1;
            const float share = (dx ? right_share : 1.0f - right_share) * (dy ? bottom_share : 1.0f - bottom_share);
            float rgb[3];
            read_pixel(frame, left + dx, top + dy, rgb);
#pragma unroll
            for (int channel = 0; channel < 3; ++channel) blend[channel] += share * rgb[channel];
        }
    }
    const size_t plane = (size_t)height * width;
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) {
        const float level = blend[bgr_out ? 2 - channel : channel];
        const float value = level * normalise[channel] + normalise[3 + channel];
        const size_t row = (blockIdx.z * (size_t)3 + channel) * plane + (size_t)y * width;
        store(crops + row + x, value);
        if (mirrored) store(mirrored + row + (width - 1 - x), value);
    }
}

#define CROP(name, T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256) name(                                                        \
        const unsigned char* __restrict__ pixels, /* the frame */                                                  \
        int pitch, int frame_height, int frame_width, int format,                                                  \
        const float4* __restrict__ to_image,   /* (N): image x = x * .x + .z, image y = y * .y + .w */             \
        const float* __restrict__ normalise,   /* (6): factor, then summand, of each channel of the crops */       \
        int bgr_out,                           /* channels of the crops are blue, green, red */                    \
        T* __restrict__ crops,                 /* (N, 3, height, width) */                                         \
        T* __restrict__ mirrored,              /* the same, left and right changed over (flip test); or null */    \
        int height, int width) {                                                                                   \
        const Frame frame = {pixels, pitch, frame_height, frame_width, format};                                    \
        crop_pixel<T>(frame, to_image, normalise, bgr_out, crops, mirrored, height, width);                        \
    }

CROP(crop_f32, float)
CROP(crop_f16, __half)
