// How the flow of one pair lies in its scratch, and how a block walks over it.
//
// kernels/cuda/plan.py's `flow_scratch` says how many floats that takes.
#pragma once

#include "abi.cuh"
#include "device.cuh"

namespace fgmclip {
namespace cuda {
namespace flow {
namespace {

constexpr int kMaxLevels = 16;

// Planes of the scratch. Two hold each component of the flow, as one level's is made of another's.
enum Field : int {
    kFlow = 0,
    kMean = 4,
    kChange,
    kSlopeX,
    kSlopeY,
    kTerms,  // (a, b, c) of three constancy terms
    kRight = kTerms + 9,
    kDown,
    kCross,
    kRhsU,
    kRhsV,
    kInverseU,
    kInverseV,
    kFields,
    // While patches search, the earlier picture's gradients lie where the terms will.
    kGradientX = kTerms,
    kGradientY,
};

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ __forceinline__ int warps() { return static_cast<int>(blockDim.x) / kWarp; }

// A pixel's place and its neighbours' in a field; outside of it the border is repeated.
struct Around {
    int here, left, right, up, down;
};

// One level of a pair. Pictures lie row by row. In a row of a field the even columns come before
// the odd ones: the lanes of a warp that relax one colour touch pixels that lie side by side.
struct Level {
    float *earlier, *later, *fields, *found;
    int side, half, plane, flow_u, flow_v;

    __device__ int inside(int at) const { return clamp(at, 0, side - 1); }
    __device__ int pixel(int y, int x) const { return inside(y) * side + inside(x); }
    __device__ int place(int y, int x) const { return y * (2 * half) + x % 2 * half + x / 2; }
    __device__ int border(int y, int x) const { return place(inside(y), inside(x)); }

    __device__ Around around(int y, int x) const {
        return {place(y, x), border(y, x - 1), border(y, x + 1), border(y - 1, x),
                border(y + 1, x)};
    }

    __device__ float get(int field, int at) const {
        return load_global(fields + (field * plane + at));
    }
    __device__ void set(int field, int at, float value) const {
        store_global(fields + (field * plane + at), value);
    }

    // What the patches found, three floats each, before a round of propagation and after it.
    __device__ float* found_in(int round, int patches) const {
        return found + round % 2 * 3 * patches;
    }
};

// Calls visit(y, x) for each pixel: a row a warp, columns in the order of the fields.
template <class Visit>
__device__ __forceinline__ void for_each_pixel(int side, const Visit& visit) {
    const int half = (side + 1) / 2;
    for (int y = warp(); y < side; y += warps()) {
        for (int i = lane(); i < 2 * half; i += kWarp) {
            const int x = i < half ? 2 * i : 2 * (i - half) + 1;
            if (x < side) {
                visit(y, x);
            }
        }
    }
}

// The scratch of one pair: earlier pictures, later ones, fields, what patches found.
struct Scratch {
    float* data;
    int size, levels;

    __device__ Scratch(float* data_, int size_, const FlowParameters& parameters)
        : data(data_), size(size_), levels(1) {
        while (size >> levels >= parameters.coarsest_side && levels < kMaxLevels) {
            ++levels;
        }
    }

    __device__ Level level(int index) const {
        int before = 0, all = 0;
        for (int i = 0; i < levels; ++i) {
            const int pixels = (size >> i) * (size >> i);
            before += i < index ? pixels : 0;
            all += pixels;
        }
        const int side = size >> index, plane = size * ((size + 1) / 2 * 2);
        float* const fields = data + 2 * all;
        return {data + before,
                data + all + before,
                fields,
                fields + static_cast<std::int64_t>(kFields) * plane,
                side,
                (side + 1) / 2,
                plane,
                kFlow + 2 * (index % 2),
                kFlow + 2 * (index % 2) + 1};
    }
};

}  // namespace
}  // namespace flow
}  // namespace cuda
}  // namespace fgmclip
