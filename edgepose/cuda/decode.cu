// Key points of all (person, key point) maps in one launch: peak, refinement, flip merge, mapping to the image.
// Launch: block THREADS, grid N * K; "udp-original" and both "udp-combined" need height * width * 4 bytes of dynamic
// shared memory, the others none. Reference: decode_heatmaps and merge_flipped in edgepose/stages/decode.py, whose rules for
// ties (lowest index), empty maps, NaN and borders hold here. argmax and quarter agree to the bit, the others to
// rounding.
#include "highest.h"

constexpr int IN_FLIGHT = 4;  // loads a thread has under way
constexpr int LARGEST_KERNEL = 31, LARGEST_REACH = 2, LARGEST_WINDOW = LARGEST_KERNEL + 2 * LARGEST_REACH;
constexpr float DARK_FLOOR = 1e-10f, UDP_FLOOR = 1e-3f, UDP_CEILING = 50.0f;

enum Decoder {
    ARGMAX = 0, QUARTER = 1, DARK = 2, UDP = 3, UDP_COMBINED = 4, UDP_V0 = 5, UDP_ORIGINAL = 6, UDP_COMBINED_V0 = 7
};

enum Guard { JOINT = 0, INDEPENDENT = 1, INTERIOR = 2 };

struct Options {
    int decoder, guard, flip_shift, kernel;
    float offset_px;  // both "udp-combined": heat-map px of an offset of 1
};

__device__ inline int reflect(int index, int size) {  // ... 2 1 0 1 2 ...: the edge itself is not repeated
    if (size == 1) return 0;
    while (index < 0 || index >= size) index = index < 0 ? -index : 2 * (size - 1) - index;
    return index;
}

// One heat map, merged on the fly with that of the mirrored crop where there is one.
template <typename T>
struct Map {
    const T* plain;
    const T* mirrored;  // null: no flip test
    int height, width, flip_shift;
    float sign;

    __device__ float at(int y, int x) const {
        const float here = to_float(plain[y * width + x]);
        if (!mirrored) return here;
        const int unshifted = flip_shift && x > 0 ? x - 1 : x;
        return 0.5f * (here + sign * to_float(mirrored[y * width + width - 1 - unshifted]));
    }
    __device__ float at_or_zero(int y, int x) const {
        return y < 0 || x < 0 || y >= height || x >= width ? 0.0f : at(y, x);
    }
    __device__ float at_reflected(int y, int x) const { return at(reflect(y, height), reflect(x, width)); }
};

// Sixteen bytes of a map.
template <typename T>
union Lanes {
    static constexpr int COUNT = 16 / sizeof(T);
    uint4 bytes;
    T lanes[COUNT];

    __device__ void load(const T* from) { bytes = *reinterpret_cast<const uint4*>(from); }
};

template <typename T>
__device__ void see_plain(const Map<T>& map, Running& running) {
    constexpr int COUNT = Lanes<T>::COUNT, STEP = THREADS * COUNT;
    const int size = map.height * map.width;
    for (int first = threadIdx.x * COUNT; first < size; first += IN_FLIGHT * STEP) {
        Lanes<T> plain[IN_FLIGHT];
#pragma unroll
        for (int batch = 0; batch < IN_FLIGHT; ++batch)  // all loads before the first comparison
            if (first + batch * STEP < size) plain[batch].load(map.plain + first + batch * STEP);
#pragma unroll
        for (int batch = 0; batch < IN_FLIGHT; ++batch)
            if (first + batch * STEP < size) {
#pragma unroll
                for (int lane = 0; lane < COUNT; ++lane)
                    running.see(to_float(plain[batch].lanes[lane]), first + batch * STEP + lane);
            }
    }
}

// The same, merged: rows hold whole blocks, and the mirrored map's block is read backwards. Where it is shifted, its
// lanes move on by one and the first lane's value is that before the block: column 0 takes it unshifted.
template <typename T>
__device__ void see_merged(const Map<T>& map, Running& running) {
    constexpr int COUNT = Lanes<T>::COUNT, STEP = THREADS * COUNT, BATCHES = IN_FLIGHT / 2;
    const int size = map.height * map.width;
    for (int first = threadIdx.x * COUNT; first < size; first += BATCHES * STEP) {
        Lanes<T> plain[BATCHES], mirrored[BATCHES];
        T before[BATCHES];
#pragma unroll
        for (int batch = 0; batch < BATCHES; ++batch) {
            const int start = first + batch * STEP;
            if (start >= size) continue;
            const int x = start % map.width, back = start - x + map.width - COUNT - x;  // where the mirror has it
            plain[batch].load(map.plain + start);
            mirrored[batch].load(map.mirrored + back);
            before[batch] = map.mirrored[back + (x > 0 ? COUNT : COUNT - 1)];
        }
#pragma unroll
        for (int batch = 0; batch < BATCHES; ++batch) {
            const int start = first + batch * STEP;
            if (start >= size) continue;
#pragma unroll
            for (int lane = 0; lane < COUNT; ++lane) {
                const T shifted = lane > 0 ? mirrored[batch].lanes[COUNT - lane] : before[batch];
                const float there = to_float(map.flip_shift ? shifted : mirrored[batch].lanes[COUNT - 1 - lane]);
                running.see(0.5f * (to_float(plain[batch].lanes[lane]) + map.sign * there), start + lane);
            }
        }
    }
}

template <typename T>
__device__ Peak find_peak(const Map<T>& map) {
    const int size = map.height * map.width;
    const size_t address = (size_t)map.plain | (size_t)map.mirrored;  // null where nothing is merged
    const int whole = map.mirrored ? map.width : size;                // what must be of whole blocks
    Running running;
    if (whole % Lanes<T>::COUNT == 0 && address % sizeof(uint4) == 0) {
        map.mirrored ? see_merged(map, running) : see_plain(map, running);
    } else {
        for (int index = threadIdx.x; index < size; index += THREADS)
            running.see(map.mirrored ? map.at(index / map.width, index % map.width) : to_float(map.plain[index]), index);
    }
    return best_of_block(running);
}

__device__ inline float quarter(float ahead, float behind) {
    return ahead > behind ? 0.25f : ahead < behind ? -0.25f : 0.0f;
}

template <typename T>
__device__ void quarter_step(const Map<T>& map, int x, int y, int guard, float& dx, float& dy) {
    const int first = guard == INTERIOR ? 0 : 1;
    const bool independent = guard == INDEPENDENT;
    const bool inside_x = x > first && x < map.width - 1, inside_y = y > first && y < map.height - 1;
    // where a guard holds, the neighbours it protects are on the map; the other axis may lie on its border
    const bool step_x = inside_x && (independent ? y > 0 : inside_y);
    const bool step_y = inside_y && (independent ? x > 0 : inside_x);
    if (step_x) dx = quarter(map.at(y, x + 1), map.at(y, x - 1));
    if (step_y) dy = quarter(map.at(y + 1, x), map.at(y - 1, x));
}

// The highest value of the whole blurred map. Slow, and rare: only where a clamp binds, on maps without a real peak.
template <typename T>
__device__ float highest_blurred(const Map<T>& map, const float* weights, int kernel) {
    Running running;
    const int radius = kernel / 2;
    for (int index = threadIdx.x; index < map.height * map.width; index += THREADS) {
        const int y = index / map.width, x = index % map.width;
        float sum = 0.0f;
#pragma unroll 1  // registers are worth more
        for (int j = 0; j < kernel; ++j)
#pragma unroll 1
            for (int i = 0; i < kernel; ++i)
                sum += weights[j] * weights[i] * map.at_or_zero(y + j - radius, x + i - radius);
        running.see(sum, index);
    }
    return best_of_block(running).value;
}

// Four values side by side on a line of `size`, blurred, the border mirrored: `read` gives the value of a place. Each value
// is read once for all four. Near: no place lies further out than the line is long.
template <bool near, typename Read>
__device__ inline void blur_four(const Read& read, int first, int size, const float* weights, int side, float sum[4]) {
    const int start = first - side / 2, last = size - 1;
    const auto value = [&](int k) {
        return read(near ? last - abs(last - abs(start + k)) : reflect(start + k, size));
    };
    sum[0] = sum[1] = sum[2] = sum[3] = 0.0f;
    if (side == 1) {
        for (int i = 0; i < 4; ++i) sum[i] = weights[0] * value(i);
        return;
    }
#pragma unroll
    for (int k = 0; k < 3; ++k) {  // what only the first of the four sees
        const float here = value(k);
#pragma unroll
        for (int i = 0; i <= k; ++i) sum[i] += weights[k - i] * here;
    }
    float one = weights[2], two = weights[1], three = weights[0];
#pragma unroll 1  // registers are worth more
    for (int k = 3; k < side; ++k) {
        const float here = value(k), weight = weights[k];
        sum[0] += weight * here;
        sum[1] += one * here;
        sum[2] += two * here;
        sum[3] += three * here;
        three = two, two = one, one = weight;
    }
#pragma unroll
    for (int k = 0; k < 3; ++k) {  // and only the last
        const float here = value(side + k);
#pragma unroll
        for (int i = k + 1; i < 4; ++i) sum[i] += weights[side + k - i] * here;
    }
}

struct Range {
    Running highest, lowest;  // the lowest with its sign changed, its place that of one of equal values
};

// What a thread sees of the whole map blurred along both axes, border mirrored. The other threads see the rest.
template <bool near, typename T>
__device__ Range see_blurred(const Map<T>& map, const float* weights, int side) {
    DYNAMIC_SHARED(float, lines);  // (height, width): blurred along x
    const int height = map.height, width = map.width, across = (width + 3) / 4, down = (height + 3) / 4;
    float sum[4];
    for (int four = threadIdx.x; four < height * across; four += THREADS) {
        const int y = four / across, x = 4 * (four % across);
        blur_four<near>([&](int at) { return map.at(y, at); }, x, width, weights, side, sum);
        for (int i = 0; i < min(4, width - x); ++i) lines[y * width + x + i] = sum[i];
    }
    __syncthreads();
    Range range;
    for (int four = threadIdx.x; four < down * width; four += THREADS) {
        const int y = 4 * (four / width), x = four % width;
        blur_four<near>([&](int at) { return lines[at * width + x]; }, y, height, weights, side, sum);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (y + i >= height) continue;
            range.highest.see_in_any_order(sum[i], (y + i) * width + x);
            range.lowest.see(-sum[i], 0);
        }
    }
    return range;
}

template <typename T>
__device__ Range see_blurred(const Map<T>& map, const float* weights, int side) {
    const bool near = side / 2 + 3 < min(map.height, map.width);
    return near ? see_blurred<true>(map, weights, side) : see_blurred<false>(map, weights, side);
}

// One pixel of the map blurred along both axes, border mirrored; known to every thread.
template <typename T>
__device__ float blurred_at(const Map<T>& map, int y, int x, const float* weights, int kernel) {
    __shared__ float rows[LARGEST_KERNEL];
    __syncthreads();  // rows may still be read by an earlier call
    const int j = threadIdx.x, radius = kernel / 2;
    if (j < kernel) {
        float sum = 0.0f;
        for (int i = 0; i < kernel; ++i) sum += weights[i] * map.at_reflected(y + j - radius, x + i - radius);
        rows[j] = weights[j] * sum;
    }
    __syncthreads();
    float sum = 0.0f;
    for (int k = 0; k < kernel; ++k) sum += rows[k];
    return sum;
}

// One Newton step on the log of the blurred map ("dark" and those of "udp" without offsets). Only the values it reads
// are blurred, but for "udp-original", which scales by the whole map's range.
template <typename T>
__device__ void newton_step(const Map<T>& map, Peak peak, const Options& options, const float* weights, float& dx, float& dy) {
    __shared__ float window[LARGEST_WINDOW][LARGEST_WINDOW];
    __shared__ float rows[LARGEST_WINDOW][2 * LARGEST_REACH + 1];
    __shared__ float logs[2 * LARGEST_REACH + 1][2 * LARGEST_REACH + 1];
    const bool dark = options.decoder == DARK, original = options.decoder == UDP_ORIGINAL;
    const bool reflected = original || options.decoder == UDP_V0;
    const int reach = dark ? 2 : 1, side = 2 * reach + 1, kernel = options.kernel, span = kernel + 2 * reach;
    const int x = peak.index % map.width, y = peak.index / map.width;
    for (int index = threadIdx.x; index < span * span; index += THREADS) {
        const int j = index / span, i = index % span;
        const int v = y + j - span / 2, u = x + i - span / 2;
        window[j][i] = reflected ? map.at_reflected(v, u) : map.at_or_zero(v, u);
    }
    __syncthreads();
    for (int index = threadIdx.x; index < span * side; index += THREADS) {
        const int j = index / side, i = index % side;
        float sum = 0.0f;
        for (int k = 0; k < kernel; ++k) sum += weights[k] * window[j][i + k];
        rows[j][i] = sum;
    }
    __syncthreads();
    const float floor = dark ? DARK_FLOOR : UDP_FLOOR, ceiling = dark ? INFINITY : UDP_CEILING;
    const int j = threadIdx.x / side, i = threadIdx.x % side;
    const bool mine = threadIdx.x < side * side;
    float blurred = floor;
    if (mine) {
        blurred = 0.0f;
        for (int k = 0; k < kernel; ++k) blurred += weights[k] * rows[j + k][i];
    }
    if (original) {
        const Range range = see_blurred(map, weights, kernel);
        const float highest = best_of_block(range.highest).value, lowest = -best_of_block(range.lowest).value;
        blurred = (blurred - lowest) * (peak.value / (highest - lowest));
    } else if (!reflected && __syncthreads_or((mine && blurred < floor) || peak.value > ceiling)) {
        blurred *= peak.value / highest_blurred(map, weights, kernel);
    }
    if (mine) logs[j][i] = logf(fminf(fmaxf(blurred, floor), ceiling));
    __syncthreads();
    if (threadIdx.x != 0) return;
    const int c = reach;
    float gx, gy, gxx, gyy, gxy;
    if (dark) {
        if (!(x > 1 && x < map.width - 2 && y > 1 && y < map.height - 2)) return;
        gx = (logs[c][c + 1] - logs[c][c - 1]) / 2;
        gy = (logs[c + 1][c] - logs[c - 1][c]) / 2;
        gxx = (logs[c][c + 2] - 2 * logs[c][c] + logs[c][c - 2]) / 4;
        gyy = (logs[c + 2][c] - 2 * logs[c][c] + logs[c - 2][c]) / 4;
        gxy = (logs[c + 1][c + 1] - logs[c - 1][c + 1] - logs[c + 1][c - 1] + logs[c - 1][c - 1]) / 4;
    } else {
        // beyond the border the border is repeated
        const int l = x > 0 ? 0 : 1, r = x < map.width - 1 ? 2 : 1, a = y > 0 ? 0 : 1, b = y < map.height - 1 ? 2 : 1;
        const float here = logs[1][1], left = logs[1][l], right = logs[1][r], above = logs[a][1], below = logs[b][1];
        gx = (right - left) / 2;
        gy = (below - above) / 2;
        const float eps = original ? 0.0f : 1.1920929e-7f;  // float32's epsilon, as published
        gxx = right - 2 * here + left + eps;
        gyy = below - 2 * here + above + eps;
        gxy = (logs[b][r] - right - below + 2 * here - left - above + logs[a][l]) / 2;
    }
    const float determinant = gxx * gyy - gxy * gxy;
    const float step_x = (gxy * gy - gyy * gx) / determinant, step_y = (gxy * gx - gxx * gy) / determinant;
    if (isfinite(step_x) && isfinite(step_y)) {
        dx = step_x;
        dy = step_y;
    }
}

template <typename T>
__device__ void decode(
    const T* heatmaps, const T* flipped, const int* flip_order, const float* weights, const float4* to_image,
    float* keypoints, int num_keypoints, int height, int width, Options options) {
    const int person = blockIdx.x / num_keypoints, point = blockIdx.x % num_keypoints;
    const bool combined = options.decoder == UDP_COMBINED || options.decoder == UDP_COMBINED_V0;
    const int per_point = combined ? 3 : 1, side = 2 * options.kernel + 1;
    const size_t size = (size_t)height * width, stride = per_point * size, first = (size_t)person * num_keypoints;
    const T* plain = heatmaps + blockIdx.x * stride;
    const T* mirrored = flipped ? flipped + (first + flip_order[point]) * stride : nullptr;
    const Map<T> map = {plain, mirrored, height, width, options.flip_shift, 1.0f};

    const Peak peak = combined ? best_of_block(see_blurred(map, weights, side).highest) : find_peak(map);
    const bool real = peak.index >= 0 && peak.value > 0.0f && isfinite(peak.value);  // every thread agrees
    float x = 0.0f, y = 0.0f;
    if (real) {
        const int column = peak.index % width, row = peak.index / width;
        float dx = 0.0f, dy = 0.0f;
        if (options.decoder == QUARTER) {
            quarter_step(map, column, row, options.guard, dx, dy);
        } else if (combined) {
            const Map<T> offset_x = {plain + size, mirrored ? mirrored + size : nullptr, height, width, options.flip_shift, -1.0f};
            const Map<T> offset_y = {plain + 2 * size, mirrored ? mirrored + 2 * size : nullptr, height, width, options.flip_shift, 1.0f};
            const bool blur = options.decoder == UDP_COMBINED_V0;  // by its own weights, which follow the map's
            dx = blur ? blurred_at(offset_x, row, column, weights + side, options.kernel) : offset_x.at(row, column);
            dy = blur ? blurred_at(offset_y, row, column, weights + side, options.kernel) : offset_y.at(row, column);
            dx *= options.offset_px;
            dy *= options.offset_px;
        } else if (options.decoder != ARGMAX) {
            newton_step(map, peak, options, weights, dx, dy);
        }
        x = column + (isfinite(dx) ? dx : 0.0f);
        y = row + (isfinite(dy) ? dy : 0.0f);
    }
    if (threadIdx.x != 0) return;
    float* out = keypoints + (size_t)blockIdx.x * 3;
    const float4 region = to_image ? to_image[person] : make_float4(1.0f, 1.0f, 0.0f, 0.0f);
    out[0] = x * region.x + region.z;
    out[1] = y * region.y + region.w;
    out[2] = peak.index >= 0 && isfinite(peak.value) ? peak.value : 0.0f;
}

// Nine blocks an SM: the 1088 maps of 64 people with 17 key points are one wave on the 132 SMs of an H100.
#define DECODE(name, T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT(9, THREADS)) name(                               \
        const T* __restrict__ heatmaps,        /* (N, K or 3K, height, width) */                                    \
        const T* __restrict__ flipped,         /* the same of the mirrored crops, as the network gave them; or null */ \
        const int* __restrict__ flip_order,    /* (K): the key point that each one is in the mirror */              \
        const float* __restrict__ weights,     /* as blur_weights of kernels.py gives them */                       \
        const float4* __restrict__ to_image,   /* (N): x * .x + .z, y * .y + .w; null leaves heat-map px */         \
        float* __restrict__ keypoints,         /* (N, K, 3): x, y, score */                                         \
        int num_keypoints, int height, int width, int decoder, int guard, int flip_shift, int kernel,               \
        float offset_px) {                                                                                          \
        const Options options = {decoder, guard, flip_shift, kernel, offset_px};                                    \
        decode<T>(heatmaps, flipped, flip_order, weights, to_image, keypoints, num_keypoints, height, width, options); \
    }

DECODE(decode_f32, float)
DECODE(decode_f16, __half)
