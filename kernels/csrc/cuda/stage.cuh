// From global memory to a tile's shared memory: weights, and rows of a frame in groups of four.
#pragma once

#include "abi.cuh"
#include "device.cuh"

namespace fgmclip {
namespace cuda {
namespace {

// Some groups of four rows of the tile's input.
struct Chunk {
    int first, groups;
};

// An odd distance puts the weights of neighbouring outputs into different banks.
__device__ __forceinline__ int odd_stride(int taps) { return taps | 1; }

// Weights of an output whose taps may begin at any row of their first group.
__device__ __forceinline__ int group_stride(int taps) { return (taps + 6) / 4 * 4; }

// Starts of outputs `first` .. of an axis, counted from `origin`.
__device__ inline void stage_starts(const std::int32_t* tables, const AxisTable& axis, int first,
                                    int outputs, int origin, std::int32_t* to) {
    for (int i = static_cast<int>(threadIdx.x); i < outputs; i += static_cast<int>(blockDim.x)) {
        to[i] = load_global(tables + axis.start + first + i) - origin;
    }
}

// Weights of outputs `first` .. of an axis.
__device__ inline void stage_weights(const std::int32_t* tables, const AxisTable& axis, int first,
                                     int outputs, std::int32_t* to) {
    const std::int32_t* weights = tables + axis.weights + first * axis.taps;
    for (int i = static_cast<int>(threadIdx.x); i < outputs * axis.taps;
         i += static_cast<int>(blockDim.x)) {
        to[i / axis.taps * odd_stride(axis.taps) + i % axis.taps] = load_global(weights + i);
    }
}

// The same, each output's weights moved to where they meet the rows of their groups.
__device__ inline void stage_grouped_weights(const std::int32_t* tables, const AxisTable& axis,
                                             int first, int outputs, const std::int32_t* starts,
                                             std::int32_t* to) {
    const int stride = group_stride(axis.taps);
    const std::int32_t* weights = tables + axis.weights + first * axis.taps;
    for (int i = static_cast<int>(threadIdx.x); i < outputs * stride;
         i += static_cast<int>(blockDim.x)) {
        const int output = i / stride, tap = i % stride - starts[output] % 4;
        const bool there = tap >= 0 && tap < axis.taps;
        to[i] = there ? load_global(weights + output * axis.taps + tap) : 0;
    }
}

// Bytes begin .. end of some rows of a plane; they may lie outside of the plane's width.
struct Span {
    const std::uint8_t* plane;
    std::int64_t stride;
    int begin, end, width;
    bool words;  // aligned words can be read, the first of them `head` bytes before `begin`
    int head;

    __device__ Span(const std::uint8_t* plane_, std::int64_t stride_, int begin_, int end_,
                    int width_)
        : plane(plane_), stride(stride_), begin(begin_), end(end_), width(width_) {
        words = stride % 4 == 0;
        const std::uintptr_t address =
            reinterpret_cast<std::uintptr_t>(plane) + static_cast<std::uintptr_t>(begin);
        head = words ? static_cast<int>(address % 4) : 0;
    }

    __device__ int count() const { return (end - begin + head + 3) / 4; }

    // Four bytes of row y, zeros outside of the width. Each byte is read by one thread alone.
    __device__ std::uint32_t load(int y, int index) const {
        const int at = begin - head + 4 * index;
        const std::uint8_t* row = plane + y * stride;
        if (words && at >= 0 && at + 4 <= width) {
            return load_global(reinterpret_cast<const std::uint32_t*>(row + at));
        }
        std::uint32_t word = 0;
        for (int i = 0; i < 4; ++i) {
            if (at + i >= most(begin, 0) && at + i < least(end, width)) {
                word |= static_cast<std::uint32_t>(load_global(row + at + i)) << (8 * i);
            }
        }
        return word;
    }
};

// Four rows of four bytes, turned: each word holds one byte of every row.
__device__ __forceinline__ uint4 turned(const std::uint32_t (&rows)[4]) {
    const std::uint32_t a = __byte_perm(rows[0], rows[1], 0x5140);
    const std::uint32_t b = __byte_perm(rows[2], rows[3], 0x5140);
    const std::uint32_t c = __byte_perm(rows[0], rows[1], 0x7362);
    const std::uint32_t d = __byte_perm(rows[2], rows[3], 0x7362);
    return make_uint4(__byte_perm(a, b, 0x5410), __byte_perm(a, b, 0x7632),
                      __byte_perm(c, d, 0x5410), __byte_perm(c, d, 0x7632));
}

// Rows of a chunk into words [groups, stride]. kShare rows of the frame share one of the plane: 1,
// or 2 for chroma. Rows outside of begin .. end, rows of the frame, are zeros.
template <int kShare>
__device__ void stage_rows(const Span& span, const Chunk& chunk, int row, int begin, int end,
                           std::int32_t* to, int stride) {
    const int count = span.count();
    for (int item = static_cast<int>(threadIdx.x); item < chunk.groups * count;
         item += static_cast<int>(blockDim.x)) {
        const int index = item % count, group = item / count;
        const int y = row + 4 * (chunk.first + group);
        std::uint32_t rows[4];
        for (int i = 0; i < 4; i += kShare) {
            const bool there = y + i >= begin && y + i < end;
            rows[i] = there ? span.load((y + i) / kShare, index) : 0;
            rows[i + kShare - 1] = rows[i];
        }
        *reinterpret_cast<uint4*>(to + group * stride + 4 * index) = turned(rows);
    }
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
