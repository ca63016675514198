// What a bottom-up network's maps say: enlarged heat maps, the key points in them, how strongly fields connect two of
// these, tags, and where a missing key point fits best. Only answers come down. peaks.cu finds the peaks beside tags.
// References: enlarge.py, field_points.py, field_grouping.py and tag_maps.py in edgepose/stages, to rounding: maps are read
// between their pixels as cv2.resize does, in float.
#include "highest.h"

constexpr float KEYS = -0.75f;   // CUBIC of enlarge.py
constexpr float FARTHEST = 1e6f;  // of tag_maps.py

// One pixel that was found; FOUND of edgepose/cuda/maps.py is its twin.
struct Found {
    int place;
    float value;
};

// How much each of four pixels of an axis counts, from `first` on. Linear weights are the two in the middle.
struct Taps {
    int first;
    float weights[4];
};

template <bool cubic>
__device__ inline Taps taps_at(int at, int factor) {
    const float position = (at + 0.5f) / factor - 0.5f, low = floorf(position), part = position - low;
    Taps taps = {(int)low - 1, {0.0f, 1.0f - part, part, 0.0f}};
    if (!cubic) return taps;
    const float far = part + 1.0f, rest = 1.0f - part;
    taps.weights[0] = ((KEYS * far - 5.0f * KEYS) * far + 8.0f * KEYS) * far - 4.0f * KEYS;
    taps.weights[1] = ((KEYS + 2.0f) * part - (KEYS + 3.0f)) * part * part + 1.0f;
    taps.weights[2] = ((KEYS + 2.0f) * rest - (KEYS + 3.0f)) * rest * rest + 1.0f;
    taps.weights[3] = 1.0f - taps.weights[0] - taps.weights[1] - taps.weights[2];
    return taps;
}

// Maps of one size, as the network gave them, and how many times larger they are read.
template <typename T>
struct Maps {
    const T* values;
    int height, width, factor;

    // The value at a pixel of the enlarged map; a border's pixels go on beyond it.
    template <bool cubic>
    __device__ float at(int number, int y, int x) const {
        const T* map = values + (size_t)number * height * width;
        if (factor == 1) return to_float(map[y * width + x]);
        const Taps down = taps_at<cubic>(y, factor), across = taps_at<cubic>(x, factor);
        float sum = 0.0f;
#pragma unroll
        for (int dy = cubic ? 0 : 1; dy < (cubic ? 4 : 3); ++dy) {
            const T* row = map + min(max(down.first + dy, 0), height - 1) * width;
            float of_row = 0.0f;
#pragma unroll
            for (int dx = cubic ? 0 : 1; dx < (cubic ? 4 : 3); ++dx)
                of_row += across.weights[dx] * to_float(row[min(max(across.first + dx, 0), width - 1)]);
            sum += down.weights[dy] * of_row;
        }
        return sum;
    }
};

// Launch: block (32, 8), grid (ceil(factor * width / 32), ceil(factor * height / 8), C).
#define ENLARGE(name, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256) name(                                                         \
        const T* __restrict__ maps,   /* (C, height, width) */                                                      \
        float* __restrict__ enlarged, /* (C, factor * height, factor * width) */                                    \
        int height, int width, int factor, int cubic) {                                                             \
        const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;                              \
        if (x >= width * factor || y >= height * factor) return;                                                    \
        const Maps<T> given = {maps, height, width, factor};                                                        \
        const size_t place = ((size_t)blockIdx.z * height * factor + y) * width * factor + x;                       \
        enlarged[place] = cubic ? given.template at<true>(blockIdx.z, y, x) : given.template at<false>(blockIdx.z, y, x); \
    }

ENLARGE(enlarge_f32, float)
ENLARGE(enlarge_f16, __half)

// Pixels of at least the threshold that are higher than the four around: find_candidates, in any order.
// Launch: block 256, grid ceil(C * height * width / 256). Of neighbours one alone can be higher, so half of a map's pixels,
// rounded up, is room for all.
extern "C" __global__ void __launch_bounds__(256) candidates(
    const float* __restrict__ maps,  // (C, height, width)
    Found* __restrict__ found,       // the first one's place counts those behind it; 0 at the start
    int count,                       // C * height * width
    int height, int width, float threshold) {
    const int place = blockIdx.x * 256 + threadIdx.x;
    if (place >= count) return;
    const float value = maps[place];
    if (!(value >= threshold) || !isfinite(value)) return;
    const int x = place % width, y = place / width % height;
    if (x > 0 && !(value > maps[place - 1])) return;  // not higher than a NaN either
    if (x < width - 1 && !(value > maps[place + 1])) return;
    if (y > 0 && !(value > maps[place - width])) return;
    if (y < height - 1 && !(value > maps[place + width])) return;
    found[1 + atomicAdd(&found[0].place, 1)] = {place, value};
}

// How strongly the fields point from one pixel to another: limb_strengths. In double, as there: a limb is one or none.
template <typename T>
__device__ double strength_of(const Maps<T>& fields, const int* pair, int samples, int may_fail, float threshold) {
    const int map = pair[0], x = pair[1], y = pair[2], step_x = pair[3] - x, step_y = pair[4] - y;
    if (step_x == 0 && step_y == 0) return 0.0;
    const double length = sqrt((double)step_x * step_x + (double)step_y * step_y);
    const double across = step_x / length, down = step_y / length;
    double sum = 0.0;
    int counted = 0;
    for (int sample = 0; sample < samples; ++sample) {
        const int column = (int)rint(x + sample * ((double)step_x / (samples - 1)));
        const int row = (int)rint(y + sample * ((double)step_y / (samples - 1)));
        const double along = across * fields.template at<true>(map, row, column) +
                             down * fields.template at<true>(map + 1, row, column);
        if (along > threshold) {
            sum += along;
            ++counted;
        } else if (sample + 1 - counted > may_fail) {
            return 0.0;
        }
    }
    const double half = fields.height * fields.factor / 2;
    const double strength = sum / max(counted, 1) + fmin(half / length - 1.0, 0.0);
    return strength > 0.0 && isfinite(strength) ? strength : 0.0;
}

// Launch: block 128, grid ceil(count / 128).
#define STRENGTHS(name, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(128) name(                                                         \
        const T* __restrict__ fields,       /* (2 L, height, width) */                                              \
        const int* __restrict__ pairs,      /* (count, 5): map of x, from x, y, to x, y [px of enlarged maps] */    \
        double* __restrict__ strengths,     /* (count): 0 where they are not connected */                           \
        int count, int height, int width, int factor, int samples, int may_fail, float threshold) {                 \
        const int pair = blockIdx.x * 128 + threadIdx.x;                                                            \
        if (pair >= count) return;                                                                                  \
        strengths[pair] = strength_of<T>({fields, height, width, factor}, pairs + 5 * pair, samples, may_fail, threshold); \
    }

STRENGTHS(strengths_f32, float)
STRENGTHS(strengths_f16, __half)

// Single pixels of maps that are enlarged linearly. Launch: block 128, grid ceil(count / 128).
#define READ(name, T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(128) name(                                                         \
        const T* __restrict__ maps,     /* (C, height, width) */                                                    \
        const int* __restrict__ pixels, /* (count, 3): map, y, x [px of enlarged maps] */                           \
        float* __restrict__ values,     /* (count) */                                                               \
        int count, int height, int width, int factor) {                                                             \
        const int row = blockIdx.x * 128 + threadIdx.x;                                                             \
        if (row >= count) return;                                                                                   \
        const Maps<T> given = {maps, height, width, factor};                                                        \
        const int* pixel = pixels + 3 * row;                                                                        \
        values[row] = given.template at<false>(pixel[0], pixel[1], pixel[2]);                                       \
    }

READ(read_f32, float)
READ(read_f16, __half)

// Where a heat map, less `weight` times the rounded distance of its tag from a wanted one, is highest: best_places.
// Launch: block THREADS, grid one block a question. A pixel no higher than the best so far is not asked for its tag.
template <typename T>
__device__ void find_best(
    const float* heatmaps, const Maps<T>& tags, const int* question, Found* answer, int keypoints, int numbers,
    float weight) {
    const int kind = question[0], width = tags.width * tags.factor, size = tags.height * tags.factor * width;
    const float* wanted = reinterpret_cast<const float*>(question + 1);
    const float* map = heatmaps + (size_t)kind * size;
    Running running;
    for (int place = threadIdx.x; place < size; place += THREADS) {
        const float height = map[place];
        if (!(height > running.value)) continue;  // nor is a NaN or -inf
        float squares = 0.0f;
        for (int number = 0; number < numbers; ++number) {
            const float apart =
                tags.template at<false>(number * keypoints + kind, place / width, place % width) - wanted[number];
            squares += apart * apart;
        }
        const float distance = fminf(rintf(sqrtf(squares)), FARTHEST);  // of a NaN FARTHEST
        running.see(height - weight * distance, place);
    }
    const Peak best = best_of_block(running);
    if (threadIdx.x == 0) *answer = {best.index, map[best.index]};
}

#define BEST(name, T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) name(                                                     \
        const float* __restrict__ heatmaps,  /* (K, factor * height, factor * width) */                             \
        const T* __restrict__ tags,          /* (L * K, height, width) */                                           \
        const int* __restrict__ questions,   /* (Q, 1 + L): key point, and the wanted tag as bits of floats */      \
        Found* __restrict__ answers,         /* (Q): pixel and height */                                            \
        int keypoints, int numbers, int height, int width, int factor, float weight) {                              \
        find_best<T>(                                                                                               \
            heatmaps, {tags, height, width, factor}, questions + (size_t)blockIdx.x * (1 + numbers),                \
            answers + blockIdx.x, keypoints, numbers, weight);                                                      \
    }

BEST(best_f32, float)
BEST(best_f16, __half)
