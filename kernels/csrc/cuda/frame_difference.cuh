// `frame_difference`: how much each pixel's luma changed.
#pragma once

#include "device.cuh"

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kDifferencesPerThread = 4;

__device__ __forceinline__ float difference(int earlier, int later) {
    return (static_cast<float>(later) - static_cast<float>(earlier)) / 255.0f;
}

template <class Out>
__device__ void frame_difference(const std::uint8_t* luma, int count, int plane, Out* out) {
    const int first =
        kDifferencesPerThread * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (first >= plane) {
        return;
    }
    const bool words = plane % 4 == 0 && aligned(luma, 4) && aligned(out, 4 * sizeof(Out));
    for (int pair = static_cast<int>(blockIdx.y); pair < count;
         pair += static_cast<int>(gridDim.y)) {
        const std::uint8_t* earlier = luma + static_cast<std::int64_t>(pair) * 2 * plane + first;
        const std::uint8_t* later = earlier + plane;
        Out* to = out + static_cast<std::int64_t>(pair) * plane + first;
        if (words) {
            const std::uint32_t before =
                load_global(reinterpret_cast<const std::uint32_t*>(earlier));
            const std::uint32_t after = load_global(reinterpret_cast<const std::uint32_t*>(later));
            float values[4];
            for (int i = 0; i < 4; ++i) {
                values[i] = difference(byte_of(before, i), byte_of(after, i));
            }
            store_four(to, values);
            continue;
        }
        for (int i = 0; i < least(kDifferencesPerThread, plane - first); ++i) {
            store_global(to + i, rounded<Out>(difference(load_global(earlier + i),
                                                         load_global(later + i))));
        }
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
