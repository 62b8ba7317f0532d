// Colour on staged rows: NV12 to RGB and to full-range luma, RGB to luma. Words hold four rows.
#pragma once

#include "abi.cuh"
#include "device.cuh"
#include "stage.cuh"

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kColorBits = 16;
constexpr std::int32_t kColorHalf = 1 << (kColorBits - 1);

__device__ __forceinline__ std::uint32_t color_level(std::int32_t sum, int row) {
    return static_cast<std::uint32_t>(clamp(sum >> kColorBits, 0, 255)) << (8 * row);
}

// raw [groups, columns, 3] to gray [groups, columns].
__device__ inline void luma_of_rgb(const Tile& tile, const Chunk& chunk, const Color& color,
                                   int head, std::int32_t* shared) {
    const int columns = tile.columns;
    for (int item = static_cast<int>(threadIdx.x); item < chunk.groups * columns;
         item += static_cast<int>(blockDim.x)) {
        const int column = item % columns, group = item / columns;
        const std::int32_t* rgb = shared + tile.raw + group * tile.raw_stride + head + 3 * column;
        const std::uint32_t red = static_cast<std::uint32_t>(rgb[0]);
        const std::uint32_t green = static_cast<std::uint32_t>(rgb[1]);
        const std::uint32_t blue = static_cast<std::uint32_t>(rgb[2]);
        std::uint32_t gray = 0;
        for (int row = 0; row < 4; ++row) {
            gray |= color_level(byte_of(red, row) * color.weight_r +
                                    byte_of(green, row) * color.weight_g +
                                    byte_of(blue, row) * color.weight_b + kColorHalf,
                                row);
        }
        shared[tile.gray + group * tile.gray_stride + column] = static_cast<std::int32_t>(gray);
    }
}

// gray [groups, columns] holds Y and becomes luma; chroma [groups, pairs, 2] and Y become raw
// [groups, columns, 3] where `rgb` says so. Black outside of the frame.
__device__ inline void colors_of_nv12(const Tile& tile, const Chunk& chunk, const Color& color,
                                      const FrameLayout& layout, bool rgb, int luma_head,
                                      int chroma_head, std::int32_t* shared) {
    const int columns = tile.columns;
    for (int item = static_cast<int>(threadIdx.x); item < chunk.groups * columns;
         item += static_cast<int>(blockDim.x)) {
        const int column = item % columns, group = item / columns;
        const int x = tile.column + column, y = tile.row + 4 * (chunk.first + group);
        std::int32_t* gray =
            shared + tile.gray + group * tile.gray_stride + luma_head + column;
        const std::uint32_t level = static_cast<std::uint32_t>(*gray);
        std::uint32_t u = 0, v = 0;
        if (rgb) {
            const int pair = (x >> 1) - (tile.column >> 1);
            const std::int32_t* chroma =
                shared + tile.chroma + group * tile.chroma_stride + chroma_head + 2 * pair;
            u = static_cast<std::uint32_t>(chroma[0]);
            v = static_cast<std::uint32_t>(chroma[1]);
        }
        std::uint32_t luma = 0, red = 0, green = 0, blue = 0;
        for (int row = 0; row < 4; ++row) {
            if (x < 0 || x >= layout.width || y + row < 0 || y + row >= layout.height) {
                continue;
            }
            const std::int32_t bright =
                (byte_of(level, row) - color.black) * color.luma + kColorHalf;
            const std::int32_t cb = byte_of(u, row) - 128, cr = byte_of(v, row) - 128;
            luma |= color_level(bright, row);
            red |= color_level(bright + cr * color.red_v, row);
            green |= color_level(bright - cb * color.green_u - cr * color.green_v, row);
            blue |= color_level(bright + cb * color.blue_u, row);
        }
        *gray = static_cast<std::int32_t>(luma);
        if (rgb) {
            std::int32_t* to = shared + tile.raw + group * tile.raw_stride + 3 * column;
            to[0] = static_cast<std::int32_t>(red);
            to[1] = static_cast<std::int32_t>(green);
            to[2] = static_cast<std::int32_t>(blue);
        }
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
