// Every path of the kernels that have shared memory, once, for ThreadSanitizer: see test_races.py.
#include <random>

#include "kernels.cu"

std::vector<float> random_values(size_t count, float scale) {
    std::mt19937 generator(1);
    std::vector<float> values(count);
    for (float& value : values) value = scale * std::uniform_real_distribution<float>()(generator);
    return values;
}

int main() {
    const int points = 2, height = 24, width = 16, flip_order[] = {1, 0};
    const float4 to_image = {1, 1, 0, 0};
    const std::vector<float> weights(64, 1.0f / 11);
    for (int decoder = ARGMAX; decoder <= UDP_COMBINED_V0; ++decoder)
        for (float scale : {1e-6f, 60.0f}) {  // below the floors of the Newton steps, and beyond their ceiling
            const bool combined = decoder == UDP_COMBINED || decoder == UDP_COMBINED_V0;
            const std::vector<float> maps = random_values(points * height * width * (combined ? 3 : 1), scale);
            std::vector<float> keypoints(points * 3);
            run_grid({points, 1, 1}, {THREADS, 1, 1}, [&] {
                decode_f32(
                    maps.data(), maps.data(), flip_order, weights.data(), &to_image, keypoints.data(), points, height,
                    width, decoder, JOINT, 1, combined ? 5 : 11, 2.0f);
            });
        }
    const std::vector<float> maps = random_values(40 * 64, 1.0f);
    for (int top_k : {1, 200}) {  // with more peaks than the buffer holds
        std::vector<float> peaks(top_k * 3);
        int count;
        run_grid({1, 1, 1}, {PEAK_THREADS, 1, 1}, [&] {
            peaks_f32(maps.data(), peaks.data(), &count, 40, 64, 1, 0.01f, top_k);
        });
    }
    const std::vector<float> x = random_values(points * 300, 1.0f), y = random_values(points * 200, 1.0f);
    std::vector<float> keypoints(points * 3);
    run_grid({points, 1, 1}, {THREADS, 1, 1}, [&] {
        simcc_f32(
            x.data(), y.data(), x.data(), y.data(), flip_order, &to_image, keypoints.data(), points, 300, 200, 0.5f);
    });
    const int pairs[] = {0, 1, 1, 30, 20};
    double strength;
    run_grid({1, 1, 1}, {128, 1, 1}, [&] { strengths_f32(maps.data(), pairs, &strength, 1, 40, 32, 1, 10, 1, 0.05f); });
    std::vector<Found> found(1 + 40 * 64);
    run_grid({10, 1, 1}, {256, 1, 1}, [&] { candidates(maps.data(), found.data(), 40 * 64, 40, 64, 0.1f); });
    const int questions[] = {0, 0, 1, 0};  // two key points, each with a wanted tag of 0
    std::vector<Found> answers(2);
    run_grid({2, 1, 1}, {THREADS, 1, 1}, [&] {
        best_f32(maps.data(), maps.data(), questions, answers.data(), 2, 1, 20, 64, 1, 100.0f);
    });
    std::vector<float> keypoint(4);
    run_grid({1, 1, 1}, {VOLUME_THREADS, 1, 1}, [&] { volume_f32(maps.data(), keypoint.data(), 8, 8, 40, 2.0f); });
}
