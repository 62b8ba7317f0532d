// `resize`: bicubic sums across and down of what a tile has staged in shared memory.
//
// A word of staged input or of the middle holds one byte of each of four rows that follow each
// other: a weight is read once for four products.
#pragma once

#include "abi.cuh"
#include "device.cuh"
#include "normalize.cuh"
#include "stage.cuh"

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kBicubicBits = 22;

__device__ __forceinline__ int bicubic_level(std::int32_t sum) {
    return clamp(sum >> kBicubicBits, 0, 255);
}

// Rows of a chunk from RGB to the middle: each rounded to bytes, as the definition says.
__device__ inline void resize_across(const Tile& tile, const Chunk& chunk, int head,
                                     std::int32_t* shared) {
    const int width = tile.width, columns = tile.columns, taps = tile.across.taps;
    const int padded = odd_stride(taps);
    const std::int32_t* starts = shared + tile.across_at;
    const std::int32_t* weights = starts + width;
    const std::int32_t* raw = shared + tile.raw + head;
    for (int item = static_cast<int>(threadIdx.x); item < chunk.groups * 3 * width;
         item += static_cast<int>(blockDim.x)) {
        const int x = item % width, plane = item / width;
        const int channel = plane % 3, group = plane / 3;
        const int start = starts[x];
        // Weights past the region's border are zeros without an input.
        const int count = least(taps, columns - start);
        const std::int32_t* from = raw + group * tile.raw_stride + 3 * start + channel;
        const std::int32_t* weight = weights + x * padded;
        std::int32_t sums[4];
        for (int row = 0; row < 4; ++row) {
            sums[row] = 1 << (kBicubicBits - 1);
        }
        for (int k = 0; k < count; ++k) {
            const std::uint32_t word = static_cast<std::uint32_t>(from[3 * k]);
            for (int row = 0; row < 4; ++row) {
                sums[row] += byte_of(word, row) * weight[k];
            }
        }
        std::uint32_t levels = 0;
        for (int row = 0; row < 4; ++row) {
            levels |= static_cast<std::uint32_t>(bicubic_level(sums[row])) << (8 * row);
        }
        const int slot = (chunk.first + group) % tile.middle_groups;
        shared[tile.middle + (slot * 3 + channel) * width + x] =
            static_cast<std::int32_t>(levels);
    }
}

// The sum down of one output, whose first input is row `start`.
__device__ inline int resized_level(const Tile& tile, const std::int32_t* shared,
                                    const std::int32_t* weight, int start, int place,
                                    int all_groups) {
    const int line = 3 * tile.width, first = start / 4;
    const int end = least((start + tile.down.taps + 3) / 4, all_groups);
    int slot = first % tile.middle_groups;
    std::int32_t sum = 1 << (kBicubicBits - 1);
    for (int group = first; group < end; ++group, weight += 4) {
        const std::uint32_t word =
            static_cast<std::uint32_t>(shared[tile.middle + slot * line + place]);
        for (int i = 0; i < 4; ++i) {
            sum += byte_of(word, i) * weight[i];
        }
        slot = slot + 1 == tile.middle_groups ? 0 : slot + 1;
    }
    return bicubic_level(sum);
}

// An index known only at run time would put the values into local memory.
__device__ __forceinline__ float of_channel(const float (&values)[3], int channel) {
    return channel == 0 ? values[0] : channel == 1 ? values[1] : values[2];
}

// Where a finished level goes: planar values, or levels with the channels side by side.
template <class Out>
struct Pixels {
    Out* values;  // [R n, 3, S, S]
    const Normalization& how;
    int size;

    __device__ void place(int item, int width, int& x, int& channel, int& row) const {
        x = item % width;
        channel = item / width % 3;
        row = item / width / 3;
    }
    __device__ void store(int image, int channel, int y, int x, int level) const {
        const std::int64_t plane = static_cast<std::int64_t>(image) * 3 + channel;
        const float value =
            normalized(level, of_channel(how.mean, channel), of_channel(how.std, channel));
        store_global(values + (plane * size + y) * size + x, rounded<Out>(value));
    }
};

template <>
struct Pixels<std::uint8_t> {
    std::uint8_t* values;  // [R n, S, S, 3]
    const Normalization& how;
    int size;

    __device__ void place(int item, int width, int& x, int& channel, int& row) const {
        channel = item % 3;
        x = item / 3 % width;
        row = item / 3 / width;
    }
    __device__ void store(int image, int channel, int y, int x, int level) const {
        const std::int64_t line = static_cast<std::int64_t>(image) * size + y;
        store_global(values + (line * size + x) * 3 + channel, static_cast<std::uint8_t>(level));
    }
};

// Rows begin .. end of the tile, whose inputs are all in the middle and whose weights are staged.
template <class Out>
__device__ void resize_down(const Tile& tile, const std::int32_t* shared, int begin, int end,
                            int all_groups, const Pixels<Out>& pixels) {
    const int width = tile.width, stride = group_stride(tile.down.taps);
    const std::int32_t* starts = shared + tile.down_at;
    const std::int32_t* weights = starts + tile.height;
    for (int item = static_cast<int>(threadIdx.x); item < (end - begin) * 3 * width;
         item += static_cast<int>(blockDim.x)) {
        int x, channel, row;
        pixels.place(item, width, x, channel, row);
        const int level = resized_level(tile, shared, weights + row * stride, starts[begin + row],
                                        channel * width + x, all_groups);
        pixels.store(tile.pixels, channel, tile.y + begin + row, tile.x + x, level);
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
