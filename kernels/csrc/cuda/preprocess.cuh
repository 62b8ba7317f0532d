// `preprocess`: what one block does with its tile. It marches down the tile's rows in chunks:
// stages them, each byte of the frame read once for PIXELS and LUMA_U8 together, sums them across
// into rings of rows, and sums down the outputs whose rows are complete.
#pragma once

#include "abi.cuh"
#include "color.cuh"
#include "device.cuh"
#include "luma.cuh"
#include "resize.cuh"
#include "stage.cuh"

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kTileWords = static_cast<int>(sizeof(Tile) / 4);

__device__ inline void stage_tile(const Tile* tiles, std::int32_t* shared) {
    const std::int32_t* from = reinterpret_cast<const std::int32_t*>(tiles + blockIdx.x);
    for (int i = static_cast<int>(threadIdx.x); i < kTileWords;
         i += static_cast<int>(blockDim.x)) {
        shared[i] = load_global(from + i);
    }
}

__device__ inline void stage_tables(const Tile& tile, std::int32_t* shared) {
    const int column = tile.column - tile.left, row = tile.row - tile.top;
    if (tile.pixels >= 0) {
        std::int32_t* across = shared + tile.across_at;
        stage_starts(tile.tables, tile.across, tile.x, tile.width, column, across);
        stage_weights(tile.tables, tile.across, tile.x, tile.width, across + tile.width);
        stage_starts(tile.tables, tile.down, tile.y, tile.height, row, shared + tile.down_at);
    }
    if (tile.luma >= 0) {
        std::int32_t* across = shared + tile.luma_across_at;
        stage_starts(tile.tables, tile.luma_across, tile.luma_x, tile.luma_width, column, across);
        stage_weights(tile.tables, tile.luma_across, tile.luma_x, tile.luma_width,
                      across + tile.luma_width);
        stage_starts(tile.tables, tile.luma_down, tile.luma_y, tile.luma_height, row,
                     shared + tile.luma_down_at);
    }
}

// The first output, from `output` on, that needs rows after the first `rows` of the tile.
__device__ inline int finished(const std::int32_t* starts, int taps, int output, int outputs,
                               int rows, int all_rows) {
    while (output < outputs && least(starts[output] + taps, all_rows) <= rows) {
        ++output;
    }
    return output;
}

template <class Out>
__device__ void preprocess(const Tile* tiles, const std::uint8_t* frames,
                           const FrameLayout& layout, const Color& color, int motion_size,
                           const Pixels<Out>& pixels, std::uint8_t* luma) {
    FGMCLIP_SHARED(shared);
    stage_tile(tiles, shared);
    __syncthreads();
    const Tile& tile = *reinterpret_cast<const Tile*>(shared);
    stage_tables(tile, shared);
    __syncthreads();

    const bool nv12 = layout.nv12 != 0, has_pixels = tile.pixels >= 0, has_luma = tile.luma >= 0;
    const std::uint8_t* frame = frames + tile.frame * layout.frame_stride;
    const int column = tile.column, last = tile.column + tile.columns;
    const int top = most(tile.row, 0), bottom = least(tile.row + tile.rows, layout.height);
    const Span bytes = nv12 ? Span(frame, layout.row_stride, column, last, layout.width)
                            : Span(frame, layout.row_stride, 3 * column, 3 * last,
                                   3 * layout.width);
    const Span chroma(frame + layout.height * layout.row_stride, layout.row_stride,
                      2 * (column >> 1), 2 * ((last + 1) >> 1), layout.width);
    const int rgb_head = nv12 ? 0 : bytes.head, gray_head = nv12 ? bytes.head : 0;

    const int all_groups = (tile.rows + 3) / 4;
    std::int32_t* const down_table = shared + tile.down_at;
    std::int32_t* const luma_down_table = shared + tile.luma_down_at;
    int done = 0, luma_done = 0;
    for (int first = 0; first < all_groups; first += tile.groups) {
        const Chunk chunk{first, least(tile.groups, all_groups - first)};
        const int rows = least(4 * (first + chunk.groups), tile.rows);
        int end = 0, luma_end = 0;
        if (has_pixels) {
            end = finished(down_table, tile.down.taps, done, tile.height, rows, tile.rows);
        }
        if (has_luma) {
            luma_end = finished(luma_down_table, tile.luma_down.taps, luma_done, tile.luma_height,
                                rows, tile.rows);
        }
        stage_rows<1>(bytes, chunk, tile.row, top, bottom, shared + (nv12 ? tile.gray : tile.raw),
                      nv12 ? tile.gray_stride : tile.raw_stride);
        if (nv12 && has_pixels) {
            stage_rows<2>(chroma, chunk, tile.row, top, bottom, shared + tile.chroma,
                          tile.chroma_stride);
        }
        __syncthreads();
        if (nv12) {
            colors_of_nv12(tile, chunk, color, layout, has_pixels, bytes.head, chroma.head, shared);
        } else if (has_luma) {
            luma_of_rgb(tile, chunk, color, bytes.head, shared);
        }
        // Weights down are many, and each is used in one chunk alone. Past the barrier above,
        // nobody uses those of the chunk before any more.
        stage_grouped_weights(tile.tables, tile.down, tile.y + done, end - done,
                              down_table + done, down_table + tile.height);
        stage_weights(tile.tables, tile.luma_down, tile.luma_y + luma_done, luma_end - luma_done,
                      luma_down_table + tile.luma_height);
        __syncthreads();
        if (has_pixels) {
            resize_across(tile, chunk, rgb_head, shared);
        }
        if (has_luma) {
            luma_across(tile, chunk, gray_head, shared);
        }
        __syncthreads();
        resize_down(tile, shared, done, end, all_groups, pixels);
        luma_down(tile, shared, luma_done, luma_end, motion_size, luma);
        done = end;
        luma_done = luma_end;
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
