// `optical_flow`: one block takes one pair from its pyramid to the flow. csrc/flow.h has the order
// of the operations.
#pragma once

#include "abi.cuh"
#include "device.cuh"
#include "flow_layout.cuh"
#include "flow_refine.cuh"
#include "flow_search.cuh"
#include "frame_difference.cuh"

namespace fgmclip {
namespace cuda {
namespace flow {
namespace {

__device__ inline void widen(const std::uint8_t* from, int pixels, float* to) {
    for (int i = static_cast<int>(threadIdx.x); i < pixels; i += static_cast<int>(blockDim.x)) {
        store_global(to + i, static_cast<float>(load_global(from + i)));
    }
}

__device__ inline void halve(const float* from, int from_side, float* to, int side) {
    for (int y = warp(); y < side; y += warps()) {
        for (int x = lane(); x < side; x += kWarp) {
            const float* top = from + (2 * y * from_side + 2 * x);
            const float* bottom = top + from_side;
            const float left = load_global(top) + load_global(bottom);
            const float right = load_global(top + 1) + load_global(bottom + 1);
            store_global(to + (y * side + x), (left + right) * 0.25f);
        }
    }
}

// The flow that a level begins with: the coarser one's, bilinear and doubled, nothing without one.
__device__ inline void start_level(const Level& level, const Level* coarser) {
    for_each_pixel(level.side, [&](int y, int x) {
        const int at = level.place(y, x);
        if (coarser == nullptr) {
            level.set(level.flow_u, at, 0.0f);
            level.set(level.flow_v, at, 0.0f);
            return;
        }
        // Pixel 2 k lies a quarter before pixel k of the coarser grid, 2 k + 1 a quarter after.
        const int below = (y + 1) / 2, right = (x + 1) / 2;
        const float part_y = y % 2 != 0 ? 0.25f : 0.75f, part_x = x % 2 != 0 ? 0.25f : 0.75f;
        const int first = coarser->border(below - 1, right - 1);
        const int second = coarser->border(below - 1, right);
        const int third = coarser->border(below, right - 1);
        const int fourth = coarser->border(below, right);
        for (int i = 0; i < 2; ++i) {
            const int field = coarser->flow_u + i;
            const float before =
                between(coarser->get(field, first), coarser->get(field, third), part_y);
            const float after =
                between(coarser->get(field, second), coarser->get(field, fourth), part_y);
            level.set(level.flow_u + i, at, between(before, after, part_x) * 2.0f);
        }
    });
}

// Leaves the flow in the fields of level 0.
__device__ FGMCLIP_NOINLINE void solve(const Scratch scratch, const std::uint8_t* pair,
                                       const FlowParameters parameters) {
    const int pixels = scratch.size * scratch.size;
    Level level = scratch.level(0);
    widen(pair, pixels, level.earlier);
    widen(pair + pixels, pixels, level.later);
    __syncthreads();
    for (int index = 1; index < scratch.levels; ++index) {
        const Level finer = level;
        level = scratch.level(index);
        halve(finer.earlier, finer.side, level.earlier, level.side);
        halve(finer.later, finer.side, level.later, level.side);
        __syncthreads();
    }
    // The coarsest level is searched, and that begins with a barrier.
    start_level(level, nullptr);
    const int finest = least(parameters.finest_level, scratch.levels - 1);
    for (int index = scratch.levels - 1; index >= 0; --index) {
        if (index >= finest) {
            search(level, parameters);
        }
        refine(level, parameters.refinement_iterations * (index + 1), parameters);
        if (index > 0) {
            const Level coarser = level;
            level = scratch.level(index - 1);
            start_level(level, &coarser);
            __syncthreads();
        }
    }
}

}  // namespace
}  // namespace flow

namespace {

// kDifference: MOTION [pairs, 3, M, M], the difference and the flow in parts of M; else the flow
// [pairs, 2, M, M] in pixels.
template <bool kDifference, class Out>
__device__ void optical_flow(const std::uint8_t* luma, int size, const FlowParameters& parameters,
                             float* scratch_memory, std::int64_t scratch_floats, Out* out) {
    const int plane = size * size;
    const std::uint8_t* pair = luma + static_cast<std::int64_t>(blockIdx.x) * 2 * plane;
    const flow::Scratch scratch(scratch_memory + blockIdx.x * scratch_floats, size, parameters);
    flow::solve(scratch, pair, parameters);
    const flow::Level level = scratch.level(0);
    const float scale = kDifference ? static_cast<float>(size) : 1.0f;
    Out* to = out + static_cast<std::int64_t>(blockIdx.x) * (kDifference ? 3 : 2) * plane;
    for (int y = flow::warp(); y < size; y += flow::warps()) {
        for (int x = flow::lane(); x < size; x += kWarp) {
            const int pixel = level.pixel(y, x), at = level.place(y, x);
            Out* values = to + pixel;
            if (kDifference) {
                const int before = load_global(pair + pixel);
                const int after = load_global(pair + plane + pixel);
                store_global(values, rounded<Out>(difference(before, after)));
                values += plane;
            }
            for (int i = 0; i < 2; ++i) {
                const float moved = level.get(level.flow_u + i, at) / scale;
                store_global(values + static_cast<std::int64_t>(i) * plane, rounded<Out>(moved));
            }
        }
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
