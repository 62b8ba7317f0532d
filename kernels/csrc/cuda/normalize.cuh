// `normalize`: PIXELS_U8 to PIXELS.
#pragma once

#include "abi.cuh"
#include "device.cuh"

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kPixelsPerThread = 4;  // one word of each channel

__device__ __forceinline__ float normalized(int level, float mean, float std) {
    return (static_cast<float>(level) / 255.0f - mean) / std;
}

template <class Out>
__device__ void normalize(const std::uint8_t* pixels_u8, int count, int plane,
                          const Normalization& how, Out* pixels) {
    const int first = kPixelsPerThread * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= plane) {
        return;
    }
    const bool words = plane % 4 == 0 && aligned(pixels_u8, 4) && aligned(pixels, 4 * sizeof(Out));
    for (int image = static_cast<int>(blockIdx.y); image < count;
         image += static_cast<int>(gridDim.y)) {
        const std::int64_t at = static_cast<std::int64_t>(image) * 3 * plane;
        const std::uint8_t* from = pixels_u8 + at + 3 * static_cast<std::int64_t>(first);
        Out* to = pixels + at + first;
        if (words) {
            std::uint32_t levels[3];
            for (int i = 0; i < 3; ++i) {
                levels[i] = load_global(reinterpret_cast<const std::uint32_t*>(from) + i);
            }
            for (int c = 0; c < 3; ++c) {
                float values[4];
                for (int i = 0; i < 4; ++i) {
                    const int byte = 3 * i + c;
                    values[i] = normalized(byte_of(levels[byte / 4], byte % 4), how.mean[c],
                                           how.std[c]);
                }
                store_four(to + static_cast<std::int64_t>(c) * plane, values);
            }
            continue;
        }
        for (int i = 0; i < least(kPixelsPerThread, plane - first); ++i) {
            for (int c = 0; c < 3; ++c) {
                const float value = normalized(load_global(from + 3 * i + c), how.mean[c],
                                               how.std[c]);
                store_global(to + static_cast<std::int64_t>(c) * plane + i, rounded<Out>(value));
            }
        }
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
