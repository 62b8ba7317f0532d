// Preprocesses frames from standard input and writes PIXELS, LUMA_U8 and MOTION to standard output:
// the C++ build without Python, so that it runs where only a compiler and an emulator are.
//
// Arguments: frames, height, width, 1 for NV12, then the ten numbers of a region, the nine of a
// colour. Mean 0.5, deviation 0.25; the flow's numbers as `flow` below.
//
// Says on standard error how often a second, equal request allocated memory.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "workspace.h"

namespace {

int allocations = 0;

}  // namespace

void* operator new(std::size_t size) {
    ++allocations;
    void* const memory = std::malloc(size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int main(int count, char** arguments) {
    using namespace fgmclip;
    std::vector<int> n;
    for (int i = 1; i < count; ++i) {
        n.push_back(std::atoi(arguments[i]));
    }
    const bool nv12 = n[3] != 0;
    const std::ptrdiff_t row = nv12 ? n[2] : 3 * n[2];
    const std::ptrdiff_t frame = row * (nv12 ? n[1] * 3 / 2 : n[1]);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(frame) * n[0]);
    if (std::fread(bytes.data(), 1, bytes.size(), stdin) != bytes.size()) {
        return 1;
    }
    const Frames frames{bytes.data(), frame, row, n[0], n[1], n[2], nv12};
    const RegionKey region{n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13]};
    const Color color{n[14], n[15], n[16], n[17], n[18], n[19], n[20], n[21], n[22]};
    FlowParameters flow{};
    flow.coarsest_side = 14;
    flow.finest_level = 1;
    flow.patch_size = 8;
    flow.patch_stride = 4;
    flow.iterations = 2;
    flow.propagations = 2;
    flow.refinement_iterations = 1;
    flow.relaxation_iterations = 3;
    flow.stiffness = 4.0f;
    flow.smoothness = 8.0f;
    flow.gradient = 10.0f;
    flow.intensity = 5.0f;

    const std::size_t samples = static_cast<std::size_t>(n[0]) - 1;
    const std::size_t size = static_cast<std::size_t>(region.size);
    const std::size_t motion_size = static_cast<std::size_t>(region.motion);
    std::vector<float> values(samples * 3 * size * size);
    std::vector<std::uint8_t> luma(samples * 2 * motion_size * motion_size);
    std::vector<float> motion(samples * 3 * motion_size * motion_size);
    const Pixels pixels{nullptr, values.data(), {{0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f}}};
    Workspace workspace(2, operations());
    const std::vector<RegionKey> regions(samples, region);
    workspace.preprocess(frames, regions, color, pixels, flow, luma.data(), motion.data());
    allocations = 0;
    workspace.preprocess(frames, regions, color, pixels, flow, luma.data(), motion.data());
    std::fprintf(stderr, "%d", allocations);
    std::fwrite(values.data(), sizeof(float), values.size(), stdout);
    std::fwrite(luma.data(), 1, luma.size(), stdout);
    std::fwrite(motion.data(), sizeof(float), motion.size(), stdout);
    return 0;
}
