// Runs the flow twice on each pair, in memory that holds zeros and in memory that holds no numbers,
// and writes the sides at which the results differ.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "operations.h"

int main() {
    using namespace fgmclip;
    constexpr std::size_t kLine = 16;  // floats of a cache line, at which scratch begins
    for (int patch : {4, 5, 8, 9, 16}) {
        FlowParameters flow{};
        flow.coarsest_side = 4;
        flow.finest_level = 0;
        flow.patch_size = patch;
        flow.patch_stride = patch % 2 == 0 ? patch / 2 : patch;
        flow.iterations = 2;
        flow.propagations = 2;
        flow.refinement_iterations = 1;
        flow.relaxation_iterations = 3;
        flow.stiffness = 4.0f;
        flow.smoothness = 8.0f;
        flow.gradient = 10.0f;
        flow.intensity = 5.0f;
        for (int side = 16; side < 72; ++side) {
            const std::size_t plane = static_cast<std::size_t>(side) * side;
            std::vector<std::uint8_t> pair(2 * plane);
            unsigned state = static_cast<unsigned>(side);
            for (auto& level : pair) {
                state = state * 1664525u + 1013904223u;
                level = static_cast<std::uint8_t>(state >> 24);
            }
            std::vector<float> results[2];
            for (int poisoned = 0; poisoned < 2; ++poisoned) {
                const float held = poisoned ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
                std::vector<float> scratch(flow_scratch(side, flow) + kLine, held);
                const std::size_t past = reinterpret_cast<std::uintptr_t>(scratch.data()) / 4 % kLine;
                results[poisoned].resize(2 * plane);
                operations()->optical_flow(pair.data(), pair.data() + plane, side, flow, 1.0f, Team(),
                                           scratch.data() + (kLine - past), results[poisoned].data());
            }
            if (std::memcmp(results[0].data(), results[1].data(), 2 * plane * sizeof(float)) != 0) {
                std::printf("%d/%d ", patch, side);
            }
        }
    }
    return 0;
}
