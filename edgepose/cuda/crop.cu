// Crops of all people of some frames in one launch: affine sampling, colour order, normalisation, NCHW.
// Launch: block (32, 8), grid (ceil(width / 64), any height, N); a thread makes two pixels side by side, in its row and in
// every one that lies a grid's height further down. What stays the same from row to row is computed once.
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

// Two pixels of an axis side by side, the first `at`, and how much each counts: nothing outside the frame.
struct Span {
    int at;
    float first, second;
};

__device__ inline Span span(float position, int size) {
    position = fminf(fmaxf(position, -1.0f), (float)size);  // keeps the cast in range, and NaN out
    const int at = max(min((int)floorf(position), size - 2), 0);
    const float past = position - (float)at;
    return {at, __saturatef(1.0f - fabsf(past)), size > 1 ? __saturatef(1.0f - fabsf(past - 1.0f)) : 0.0f};
}

// A byte of a word as a float. The inner two have no instruction of their own: one that moves bytes makes 2^23 + byte.
template <int byte>
__device__ inline float level(unsigned word) {
    if (byte == 0 || byte == 3) return (float)(word >> 8 * byte & 255u);
    return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7540 + byte)) - 8388608.0f;
}

// Usual, here and below: the crops have whole pairs, the frame is wider than a pixel, and U and V may be read as one.

// RGB or BGR: the six bytes of two pixels, read as two or three words.
template <bool usual>
struct Packed {
    static constexpr float SCALE = 1.0f;  // of what it samples, in grey levels
    const unsigned* words;
    unsigned start, pitch, below;  // bytes: of the first pixel in the words, from a row to the next, to the row below
    unsigned reach;                // bytes that may be read beyond the first

    __device__ explicit Packed(const Frame& frame)
        : words(reinterpret_cast<const unsigned*>((size_t)frame.pixels & ~(size_t)3)), start((size_t)frame.pixels & 3),
          pitch(frame.pitch), below(frame.height > 1 ? frame.pitch : 0), reach(usual || frame.width > 1 ? 5 : 2) {}

    __device__ void add(unsigned at, float first, float second, float sum[3]) const {
        const unsigned *from = words + (at >> 2), inside = at & 3;
        const unsigned word = __ldg(from);
        unsigned next = 0;
        if (usual || inside + reach > 3) next = __ldg(from + 1);
        unsigned last = next;
        if (inside > 7 - reach) last = __ldg(from + 2);
        const unsigned low = __funnelshift_r(word, next, 8 * at), high = __funnelshift_r(next, last, 8 * at);
        sum[0] += first * level<0>(low);
        sum[1] += first * level<1>(low);
        sum[2] += first * level<2>(low);
        sum[0] += second * level<3>(low);
        sum[1] += second * level<0>(high);
        sum[2] += second * level<1>(high);
    }
    __device__ void sample(const Span& y, const Span& x, float sum[3]) const {
        const unsigned at = y.at * pitch + (3 * x.at + start);  // a frame has fewer than 2^31 bytes
        add(at, x.first * y.first, x.second * y.first, sum);
        add(at + below, x.first * y.second, x.second * y.second, sum);
    }
};

// NV12, by grey levels / 255, for there is a free clamp to 0 and 1.
template <bool usual>
struct Nv12 {
    static constexpr float SCALE = 255.0f;
    const unsigned char *luma, *chroma;
    unsigned pitch, chroma_pitch, below;
    float scale, floor, red_v, red, green_u, green_v, green, blue_u, blue;

    __device__ explicit Nv12(const Frame& frame)
        : luma(frame.pixels), chroma(frame.chroma), pitch(frame.pitch), chroma_pitch(frame.chroma_pitch),
          below(frame.height > 1 ? frame.pitch : 0), scale(frame.luma_scale / SCALE), floor(-frame.luma_floor * scale),
          red_v(frame.red_v / SCALE), red(-128.0f * red_v), green_u(frame.green_u / SCALE),
          green_v(frame.green_v / SCALE), green(-128.0f * (green_u + green_v)), blue_u(frame.blue_u / SCALE),
          blue(-128.0f * blue_u) {}

    __device__ void add(unsigned y, unsigned uv, float share, float sum[3]) const {
        const float grey = fmaxf((float)__ldg(luma + y) * scale + floor, 0.0f);
        const unsigned pair = usual ? __ldg(reinterpret_cast<const unsigned short*>(chroma + uv))
                                    : __ldg(chroma + uv) | __ldg(chroma + uv + 1) << 8;
        const float u = (float)(pair & 255u), v = (float)(pair >> 8);
        sum[0] += share * __saturatef(grey + (red_v * v + red));
        sum[1] += share * __saturatef(grey + (green_u * u + (green_v * v + green)));
        sum[2] += share * __saturatef(grey + (blue_u * u + blue));
    }
    __device__ void sample(const Span& y, const Span& x, float sum[3]) const {
        const unsigned at = y.at * pitch + x.at, left = x.at & ~1, right = (x.at + 1) & ~1;
        const unsigned above = (y.at >> 1) * chroma_pitch, under = ((y.at + 1) >> 1) * chroma_pitch;
        add(at, above + left, x.first * y.first, sum);
        add(at + 1, above + right, x.second * y.first, sum);
        add(at + below, under + left, x.first * y.second, sum);
        add(at + below + 1, under + right, x.second * y.second, sum);
    }
};

// Where the crops of a person go.
template <typename T>
struct Output {
    const float* normalise;
    T *crops, *mirrored;
    int height, width;
    bool turned;  // the channels of a sample are in the other order: as they lie in a packed frame, red first of NV12
};

template <bool usual, typename Sampler, typename T>
__device__ inline void crop_rows(const Sampler& sampler, const Frame& frame, const float4& region, const Output<T>& to) {
    const int x = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (x >= to.width) return;
    const Span left = span(x * region.x + region.z, frame.width);
    const Span right = span((x + 1) * region.x + region.z, frame.width);
    T *const crops = to.crops + x, *const back = to.mirrored + (to.width - 1 - x);
    unsigned plane[3];
    float factor[3], summand[3];
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) {
        const int out = to.turned ? 2 - channel : channel;
        plane[channel] = out * to.height * to.width;
        factor[channel] = to.normalise[out] * Sampler::SCALE;
        summand[channel] = to.normalise[3 + out];
    }
#pragma unroll 1
    for (int y = blockIdx.y * blockDim.y + threadIdx.y; y < to.height; y += gridDim.y * blockDim.y) {
        const Span rows = span(y * region.y + region.w, frame.height);
        float pair[2][3] = {};
        sampler.sample(rows, left, pair[0]);
        sampler.sample(rows, right, pair[1]);
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            const float first = pair[0][channel] * factor[channel] + summand[channel];
            const float second = pair[1][channel] * factor[channel] + summand[channel];
            const unsigned row = y * to.width + plane[channel];
            if (usual) {
                store_pair(crops + row, first, second);
                if (to.mirrored) store_pair(back + row - 1, second, first);
                continue;
            }
            store(crops + row, first);
            if (to.mirrored) store(back + row, first);
            if (x + 1 == to.width) continue;
            store(crops + row + 1, second);
            if (to.mirrored) store(back + row - 1, second);
        }
    }
}

template <bool usual, typename T>
__device__ inline void crop(const Frame& frame, const float4& region, const Output<T>& to) {
    frame.format == NV12 ? crop_rows<usual>(Nv12<usual>(frame), frame, region, to)
                         : crop_rows<usual>(Packed<usual>(frame), frame, region, to);
}

// Four blocks an SM: more would leave so few registers that what stays the same is computed anew in each row.
#define CROP(name, T)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256, RESIDENT(4, 256)) name(                                      \
        const Frame* __restrict__ frames,                                                                          \
        const int* __restrict__ frame_of,      /* (N): which frame a region lies in */                             \
        const float4* __restrict__ to_image,   /* (N): image x = x * .x + .z, image y = y * .y + .w */             \
        const float* __restrict__ normalise,   /* (6): factor, then summand, of each channel of the crops */       \
        int bgr_out,                           /* channels of the crops are blue, green, red */                    \
        T* __restrict__ crops,                 /* (N, 3, height, width), at an address of whole pairs */           \
        T* __restrict__ mirrored,              /* the same, left and right changed over (flip test); or null */    \
        int height, int width) {                                                                                   \
        const Frame frame = frames[frame_of[blockIdx.z]];                                                          \
        const size_t first = (size_t)blockIdx.z * 3 * height * width;                                              \
        const bool usual = width % 2 == 0 && frame.width > 1 && (((size_t)frame.chroma | frame.chroma_pitch) & 1) == 0; \
        const Output<T> to = {normalise, crops + first, mirrored ? mirrored + first : nullptr, height, width,      \
                              (frame.format == BGR) != (bool)bgr_out};                                             \
        usual ? crop<true>(frame, to_image[blockIdx.z], to) : crop<false>(frame, to_image[blockIdx.z], to);        \
    }

CROP(crop_f32, float)
CROP(crop_f16, __half)
