// What crosses from Python to the kernels: the structures, field by field as
// fgmclip/kernels/cuda/abi.py writes them (numpy's `align=True` is C's layout).
#pragma once

#include <cstdint>

namespace fgmclip {
namespace cuda {

// Frames of one request: u8 RGB [count, height, width, 3] or NV12 [count, height * 3 / 2, width].
struct FrameLayout {
    std::int64_t frame_stride, row_stride;  // bytes; of both planes
    std::int32_t height, width;
    std::int32_t nv12;
};

// fgmclip/kernels/color.py has the formulas.
struct Color {
    std::int32_t weight_r, weight_g, weight_b;
    std::int32_t luma, black, red_v, green_u, green_v, blue_u;
};

struct Normalization {
    float mean[3], std[3];
};

// fgmclip.kernels.parameters.FlowParameters has the meanings.
struct FlowParameters {
    std::int32_t coarsest_side, finest_level, patch_size, patch_stride, iterations, propagations;
    std::int32_t refinement_iterations, relaxation_iterations;
    float stiffness, smoothness, gradient, intensity;
};

// Where an axis's weights lie in `Tile::tables`: start [outputs], then weights [outputs, taps].
struct AxisTable {
    std::int32_t start, weights, taps;
};

// What one block of `preprocess` does: some outputs of one frame seen through one region.
struct Tile {
    const std::int32_t* tables;
    std::int32_t frame;
    std::int32_t pixels;            // which of PIXELS; -1 for none
    std::int32_t luma, luma_again;  // which planes of LUMA_U8; -1 for none
    std::int32_t left, top;         // the region's corner in the frame: starts count from there
    std::int32_t column, columns;   // inputs, columns of the frame; may lie outside
    std::int32_t row, rows;         // the same; `row` is even where chroma rows serve two
    std::int32_t x, width, y, height;                      // outputs, of PIXELS
    std::int32_t luma_x, luma_width, luma_y, luma_height;  // outputs, of LUMA_U8
    AxisTable across, down, luma_across, luma_down;
    std::int32_t groups;  // groups of four rows in a chunk
    // Shared memory, in words: where each part begins, and how far its rows are apart. Staged
    // input of a chunk, with the channels side by side, chroma and luma; then the two rings, bytes
    // resized across and sums of luma across; then starts and weights.
    std::int32_t raw, raw_stride, chroma, chroma_stride, gray, gray_stride;
    std::int32_t middle, middle_groups, sums, sums_rows;
    std::int32_t across_at, down_at, luma_across_at, luma_down_at;
};

}  // namespace cuda
}  // namespace fgmclip
