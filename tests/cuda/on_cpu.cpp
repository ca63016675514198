// The kernels as ordinary functions, for ctypes.
#include "crop.cu"
#include "decode.cu"

#define CROP_ON_CPU(name, T)                                                                                          \
    extern "C" void run_##name(const unsigned char* pixels, int pitch, int frame_height, int frame_width, int format,  \
                               const float4* to_image, const float* normalise, int bgr_out, T* crops, T* mirrored,     \
                               int height, int width, int people) {                                                    \
        run_grid({(unsigned)(width + 31) / 32, (unsigned)(height + 7) / 8, (unsigned)people}, {32, 8, 1}, [=] {        \
            name(pixels, pitch, frame_height, frame_width, format, to_image, normalise, bgr_out, crops, mirrored,      \
                 height, width);                                                                                       \
        });                                                                                                            \
    }
CROP_ON_CPU(crop_f32, float)
CROP_ON_CPU(crop_f16, __half)

#define DECODE_ON_CPU(name, T)                                                                                        \
    extern "C" void run_##name(const T* heatmaps, const T* flipped, const int* flip_order, const float* weights,       \
                               const float4* to_image, float* keypoints, int num_keypoints, int height, int width,     \
                               int decoder, int independent_guard, int flip_shift, int kernel, float offset_px,        \
                               int people) {                                                                           \
        run_grid({(unsigned)(people * num_keypoints), 1, 1}, {(unsigned)THREADS, 1, 1}, [=] {                          \
            name(heatmaps, flipped, flip_order, weights, to_image, keypoints, num_keypoints, height, width, decoder,   \
                 independent_guard, flip_shift, kernel, offset_px);                                                    \
        });                                                                                                            \
    }
DECODE_ON_CPU(decode_f32, float)
DECODE_ON_CPU(decode_f16, __half)
