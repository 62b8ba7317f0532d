// `luma`: area sums across and down of the luma that a tile has staged in shared memory.
#pragma once

#include "abi.cuh"
#include "device.cuh"
#include "stage.cuh"

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kAreaBits = 11;

__device__ inline void luma_across(const Tile& tile, const Chunk& chunk, int head,
                                   std::int32_t* shared) {
    const int width = tile.luma_width, columns = tile.columns, taps = tile.luma_across.taps;
    const int padded = odd_stride(taps);
    const std::int32_t* starts = shared + tile.luma_across_at;
    const std::int32_t* weights = starts + width;
    for (int item = static_cast<int>(threadIdx.x); item < chunk.groups * width;
         item += static_cast<int>(blockDim.x)) {
        const int x = item % width, group = item / width;
        const int start = starts[x], count = least(taps, columns - start);
        const std::int32_t* from = shared + tile.gray + group * tile.gray_stride + head + start;
        const std::int32_t* weight = weights + x * padded;
        std::int32_t sums[4] = {0, 0, 0, 0};
        for (int k = 0; k < count; ++k) {
            const std::uint32_t word = static_cast<std::uint32_t>(from[k]);
            for (int row = 0; row < 4; ++row) {
                sums[row] += byte_of(word, row) * weight[k];
            }
        }
        for (int row = 0; row < 4; ++row) {
            const int slot = (4 * (chunk.first + group) + row) % tile.sums_rows;
            shared[tile.sums + slot * width + x] = sums[row];
        }
    }
}

// Rows begin .. end of the tile, whose inputs are all in the sums and whose weights are staged.
__device__ inline void luma_down(const Tile& tile, const std::int32_t* shared, int begin, int end,
                                 int size, std::uint8_t* luma) {
    const int width = tile.luma_width, taps = tile.luma_down.taps;
    const std::int32_t* starts = shared + tile.luma_down_at;
    const std::int32_t* weights = starts + tile.luma_height;
    for (int item = static_cast<int>(threadIdx.x); item < (end - begin) * width;
         item += static_cast<int>(blockDim.x)) {
        const int x = item % width, row = begin + item / width;
        const int start = starts[row], count = least(taps, tile.rows - start);
        const std::int32_t* weight = weights + (row - begin) * odd_stride(taps);
        int slot = start % tile.sums_rows;
        std::int32_t sum = 1 << (2 * kAreaBits - 1);
        for (int k = 0; k < count; ++k) {
            sum += shared[tile.sums + slot * width + x] * weight[k];
            slot = slot + 1 == tile.sums_rows ? 0 : slot + 1;
        }
        const std::uint8_t level = static_cast<std::uint8_t>(sum >> (2 * kAreaBits));
        const std::int64_t plane = static_cast<std::int64_t>(size) * size;
        const std::int64_t at =
            static_cast<std::int64_t>(tile.luma_y + row) * size + tile.luma_x + x;
        store_global(luma + tile.luma * plane + at, level);
        // The later frame of a pair is the earlier one of the next, where the region stays.
        if (tile.luma_again >= 0) {
            store_global(luma + tile.luma_again * plane + at, level);
        }
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
