// Preprocessing of a request: threads, buffers and weights that are kept from one to the next.
#pragma once

#include <cstdint>
#include <vector>

#include "operations.h"
#include "plan.h"
#include "pool.h"

namespace fgmclip {

// Memory that starts at a cache line, is zero at first and only ever grows.
template <class Element>
class Buffer {
  public:
    Element* room(std::size_t count) {
        constexpr std::size_t kLine = 64;
        if (count > count_) {
            storage_.assign(count * sizeof(Element) + kLine, 0);
            count_ = count;
        }
        const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
        return reinterpret_cast<Element*>((address + kLine - 1) / kLine * kLine);
    }

  private:
    std::vector<std::uint8_t> storage_;
    std::size_t count_ = 0;
};

struct Normalization {
    float mean[3], std[3];
};

// Frames of one request, all of one size and layout.
struct Frames {
    const std::uint8_t* data;
    std::ptrdiff_t frame_stride, row_stride;  // bytes
    int count, height, width;
    bool nv12;

    Frame at(int index) const {
        const std::uint8_t* pixels = data + index * frame_stride;
        return {pixels, nv12 ? pixels + height * row_stride : nullptr, row_stride, height, width};
    }
};

// Where the pixels of a request go: exactly one of the two is not null.
struct Pixels {
    std::uint8_t* levels;  // PIXELS_U8 [R n, S, S, 3]
    float* values;         // PIXELS [R n, 3, S, S]
    Normalization normalization;
};

// Not for two threads at once.
class Workspace {
  public:
    Workspace(int threads, const Operations* operations)
        : pool_(threads), operations_(operations), strips_(threads), flows_(threads), planes_(threads) {}

    const char* instruction_set() const { return operations_->name; }
    int threads() const { return pool_.threads(); }

    // FRAMES of R tracks to pixels, LUMA_U8 [R n, 2, M, M] unless it is null, and MOTION
    // [R n, 3, M, M] unless it is null; MOTION needs LUMA_U8. `regions` is [R, n].
    void preprocess(const Frames& frames, const std::vector<RegionKey>& regions,
                    const Color& color, const Pixels& pixels, const FlowParameters& flow,
                    std::uint8_t* luma, float* motion);

    // One frame to PIXELS_U8 [S, S, 3] or PIXELS [3, S, S].
    void resize(const Frames& frames, const RegionKey& region, const Color& color,
                const Pixels& pixels);

    // One frame to LUMA_U8 [M, M].
    void luma(const Frames& frames, const RegionKey& region, const Color& color,
              std::uint8_t* out);

    // PIXELS_U8 [N, S, S, 3] to PIXELS [N, 3, S, S].
    void normalize(const std::uint8_t* levels, int count, int size, const Normalization& how,
                   float* values);

    // LUMA_U8 [N, 2, M, M] to MOTION [N, 3, M, M].
    void motion(const std::uint8_t* luma, int count, int size, const FlowParameters& flow,
                float* out);

    // LUMA_U8 [N, 2, M, M] to flow [N, 2, M, M] in pixels.
    void optical_flow(const std::uint8_t* luma, int count, int size, const FlowParameters& flow,
                      float* out);

    void frame_difference(const std::uint8_t* luma, int count, int size, float* out);

  private:
    struct Job;

    void across(const Frames& frames, const Job& job, const Color& color);
    void luma_down(const Job& job, int index, std::uint8_t* out);
    void pixels_down(const Job& job, int index, int thread, const Pixels& pixels);
    Team team();
    template <class Task>
    void each_pair(int count, int size, const FlowParameters& flow, const Task& task);
    void pair_motion(const std::uint8_t* pair, int size, const FlowParameters& flow, int thread,
                     const Team& team, float* out);
    void pair_flow(const std::uint8_t* pair, int size, const FlowParameters& flow, float scale,
                   int thread, const Team& team, float* out);

    Pool pool_;
    const Operations* operations_;
    Plans plans_;
    std::vector<Buffer<std::uint8_t>> strips_;
    std::vector<Buffer<float>> flows_;
    std::vector<Buffer<std::uint8_t>> planes_;
    Buffer<std::uint8_t> middle_;
    Buffer<std::int32_t> sums_;
};

}  // namespace fgmclip
