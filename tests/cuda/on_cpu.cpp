// The kernels as ordinary functions, for ctypes.
#include "kernels.cu"

// shape: threads of a block in x, y and z, then blocks of the grid, as kernels.py gives them.
template <typename Kernel>
void launch(const int* shape, Kernel kernel) {
    run_grid(
        {(unsigned)shape[3], (unsigned)shape[4], (unsigned)shape[5]},
        {(unsigned)shape[0], (unsigned)shape[1], (unsigned)shape[2]}, kernel);
}

#define CROP_ON_CPU(name, T)                                                                                          \
    extern "C" void run_##name(const Frame* frames, const int* frame_of, const float4* to_image,                      \
                               const float* normalise, int bgr_out, T* crops, T* mirrored, int height, int width,     \
                               const int* shape) {                                                                    \
        launch(shape, [=] {                                                                                           \
            name(frames, frame_of, to_image, normalise, bgr_out, crops, mirrored, height, width);                     \
        });                                                                                                           \
    }
CROP_ON_CPU(crop_f32, float)
CROP_ON_CPU(crop_f16, __half)

#define DECODE_ON_CPU(name, T)                                                                                        \
    extern "C" void run_##name(const T* heatmaps, const T* flipped, const int* flip_order, const float* weights,      \
                               const float4* to_image, float* keypoints, int num_keypoints, int height, int width,    \
                               int decoder, int guard, int flip_shift, int kernel, float offset_px,                   \
                               const int* shape) {                                                                    \
        launch(shape, [=] {                                                                                           \
            name(heatmaps, flipped, flip_order, weights, to_image, keypoints, num_keypoints, height, width, decoder,  \
                 guard, flip_shift, kernel, offset_px);                                                               \
        });                                                                                                           \
    }
DECODE_ON_CPU(decode_f32, float)
DECODE_ON_CPU(decode_f16, __half)

#define PEAKS_ON_CPU(name, T)                                                                                         \
    extern "C" void run_##name(const T* heatmaps, float* peaks, int* counts, int height, int width, int window,       \
                               float threshold, int top_k, const int* shape) {                                        \
        launch(shape, [=] { name(heatmaps, peaks, counts, height, width, window, threshold, top_k); });               \
    }
PEAKS_ON_CPU(peaks_f32, float)
PEAKS_ON_CPU(peaks_f16, __half)

#define SIMCC_ON_CPU(name, T)                                                                                         \
    extern "C" void run_##name(const T* x, const T* y, const T* flipped_x, const T* flipped_y, const int* flip_order, \
                               const float4* to_image, float* keypoints, int num_keypoints, int bins_x, int bins_y,   \
                               float px_per_bin, const int* shape) {                                                  \
        launch(shape, [=] {                                                                                           \
            name(x, y, flipped_x, flipped_y, flip_order, to_image, keypoints, num_keypoints, bins_x, bins_y,          \
                 px_per_bin);                                                                                         \
        });                                                                                                           \
    }
SIMCC_ON_CPU(simcc_f32, float)
SIMCC_ON_CPU(simcc_f16, __half)

#define DEPTH_ON_CPU(name, T)                                                                                         \
    extern "C" void run_##name(const T* z, const T* flipped_z, const int* flip_order, const float* keypoints,         \
                               float* depths, int num_keypoints, int bins, float range_m, const int* shape) {         \
        launch(shape, [=] { name(z, flipped_z, flip_order, keypoints, depths, num_keypoints, bins, range_m); });      \
    }
DEPTH_ON_CPU(depth_f32, float)
DEPTH_ON_CPU(depth_f16, __half)

#define VOLUME_ON_CPU(name, T)                                                                                        \
    extern "C" void run_##name(const T* volumes, float* keypoints, int depth, int height, int width, float depth_m,   \
                               const int* shape) {                                                                    \
        launch(shape, [=] { name(volumes, keypoints, depth, height, width, depth_m); });                              \
    }
VOLUME_ON_CPU(volume_f32, float)
VOLUME_ON_CPU(volume_f16, __half)

#define MAPS_ON_CPU(letters, T)                                                                                       \
    extern "C" void run_enlarge_##letters(const T* maps, float* enlarged, int height, int width, int factor,          \
                                          int cubic, const int* shape) {                                              \
        launch(shape, [=] { enlarge_##letters(maps, enlarged, height, width, factor, cubic); });                      \
    }                                                                                                                 \
    extern "C" void run_strengths_##letters(const T* fields, const int* pairs, double* strengths, int count,          \
                                            int height, int width, int factor, int samples, int may_fail,             \
                                            float threshold, const int* shape) {                                      \
        launch(shape, [=] {                                                                                           \
            strengths_##letters(fields, pairs, strengths, count, height, width, factor, samples, may_fail, threshold); \
        });                                                                                                           \
    }                                                                                                                 \
    extern "C" void run_read_##letters(const T* maps, const int* pixels, float* values, int count, int height,        \
                                       int width, int factor, const int* shape) {                                     \
        launch(shape, [=] { read_##letters(maps, pixels, values, count, height, width, factor); });                   \
    }                                                                                                                 \
    extern "C" void run_best_##letters(const float* heatmaps, const T* tags, const int* questions, Found* answers,    \
                                       int keypoints, int numbers, int height, int width, int factor, float weight,   \
                                       const int* shape) {                                                            \
        launch(shape, [=] {                                                                                           \
            best_##letters(heatmaps, tags, questions, answers, keypoints, numbers, height, width, factor, weight);    \
        });                                                                                                           \
    }
MAPS_ON_CPU(f32, float)
MAPS_ON_CPU(f16, __half)

extern "C" void run_candidates(const float* maps, Found* found, int count, int height, int width, float threshold,
                               const int* shape) {
    launch(shape, [=] { candidates(maps, found, count, height, width, threshold); });
}
