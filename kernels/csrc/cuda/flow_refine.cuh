// Variational refinement on one level: a few fixed-point steps, each with red-black relaxation.
// csrc/flow_refine.h has the order of the operations.
#pragma once

#include "abi.cuh"
#include "device.cuh"
#include "flow_layout.cuh"
#include "flow_search.cuh"

namespace fgmclip {
namespace cuda {
namespace flow {
namespace {

constexpr float kOmega = 1.9f;
constexpr float kEpsilon = 1e-3f * 1e-3f;
constexpr float kZeta = 0.1f * 0.1f;

// 1 / sqrt(x) for x > 0: an integer guess and two Newton steps, the same bits on every machine.
__device__ __forceinline__ float inverse_root(float x) {
    float y = __int_as_float(0x5f3759df - (__float_as_int(x) >> 1));
    const float half = x * 0.5f;
    y = y * (1.5f - half * y * y);
    return y * (1.5f - half * y * y);
}

// The later picture seen along the flow: its mean with and change from the earlier one.
__device__ inline void warp_later(const Level& level) {
    const float last = static_cast<float>(level.side - 1);
    for_each_pixel(level.side, [&](int y, int x) {
        const int at = level.place(y, x);
        const float at_x = limit(static_cast<float>(x) + level.get(level.flow_u, at), 0.0f, last);
        const float at_y = limit(static_cast<float>(y) + level.get(level.flow_v, at), 0.0f, last);
        const int x0 = least(static_cast<int>(at_x), level.side - 2);
        const int y0 = least(static_cast<int>(at_y), level.side - 2);
        const float fx = at_x - static_cast<float>(x0), fy = at_y - static_cast<float>(y0);
        const float* top = level.later + (y0 * level.side + x0);
        const float* bottom = top + level.side;
        const float seen = between(between(load_global(top), load_global(top + 1), fx),
                                   between(load_global(bottom), load_global(bottom + 1), fx), fy);
        const float was = load_global(level.earlier + level.pixel(y, x));
        level.set(kMean, at, (seen + was) * 0.5f);
        level.set(kChange, at, seen - was);
    });
}

// Central differences.
__device__ __forceinline__ float across(const Level& level, int field, const Around& at) {
    return (level.get(field, at.right) - level.get(field, at.left)) * 0.5f;
}
__device__ __forceinline__ float along(const Level& level, int field, const Around& at) {
    return (level.get(field, at.down) - level.get(field, at.up)) * 0.5f;
}

__device__ inline void slopes(const Level& level) {
    for_each_pixel(level.side, [&](int y, int x) {
        const Around at = level.around(y, x);
        level.set(kSlopeX, at.here, across(level, kMean, at));
        level.set(kSlopeY, at.here, along(level, kMean, at));
    });
}

// Brightness and gradient constancy around the flow, as a u + b v + c with u, v the whole flow.
__device__ inline void linearise(const Level& level) {
    for_each_pixel(level.side, [&](int y, int x) {
        const Around at = level.around(y, x);
        const float u = level.get(level.flow_u, at.here), v = level.get(level.flow_v, at.here);
        const float mixed = across(level, kSlopeY, at);
        const float a[3] = {level.get(kSlopeX, at.here), across(level, kSlopeX, at), mixed};
        const float b[3] = {level.get(kSlopeY, at.here), mixed, along(level, kSlopeY, at)};
        const float c[3] = {level.get(kChange, at.here), across(level, kChange, at),
                            along(level, kChange, at)};
        for (int i = 0; i < 3; ++i) {
            const float scale = inverse_root(a[i] * a[i] + b[i] * b[i] + kZeta);
            const float first = a[i] * scale, second = b[i] * scale;
            level.set(kTerms + 3 * i, at.here, first);
            level.set(kTerms + 3 * i + 1, at.here, second);
            level.set(kTerms + 3 * i + 2, at.here, c[i] * scale - first * u - second * v);
        }
    });
}

// Weights of the links to the right and down; none leaves the picture.
__device__ inline void links(const Level& level, float smoothness) {
    for_each_pixel(level.side, [&](int y, int x) {
        const Around at = level.around(y, x);
        const float u = level.get(level.flow_u, at.here), v = level.get(level.flow_v, at.here);
        const float ru = level.get(level.flow_u, at.right) - u;
        const float rv = level.get(level.flow_v, at.right) - v;
        const float du = level.get(level.flow_u, at.down) - u;
        const float dv = level.get(level.flow_v, at.down) - v;
        const float weight =
            inverse_root((ru * ru + du * du) + (rv * rv + dv * dv) + kEpsilon) * smoothness;
        level.set(kRight, at.here, x == level.side - 1 ? 0.0f : weight);
        level.set(kDown, at.here, y == level.side - 1 ? 0.0f : weight);
    });
}

// Links of a pixel to its neighbours; none enters the picture.
struct Links {
    float left, right, up, down;

    __device__ Links(const Level& level, const Around& at, int y, int x)
        : left(x == 0 ? 0.0f : level.get(kRight, at.left)),
          right(level.get(kRight, at.here)),
          up(y == 0 ? 0.0f : level.get(kDown, at.up)),
          down(level.get(kDown, at.here)) {}

    __device__ float sum() const { return (left + right) + (up + down); }
    __device__ float pull(const Level& level, int field, const Around& at) const {
        return (left * level.get(field, at.left) + right * level.get(field, at.right)) +
               (up * level.get(field, at.up) + down * level.get(field, at.down));
    }
};

// The 2x2 part of each pixel's equations, solved for each unknown.
__device__ inline void set_up(const Level& level, const FlowParameters& parameters) {
    for_each_pixel(level.side, [&](int y, int x) {
        const Around at = level.around(y, x);
        const float u = level.get(level.flow_u, at.here), v = level.get(level.flow_v, at.here);
        float a[3], b[3], c[3], squared[3];
        for (int i = 0; i < 3; ++i) {
            a[i] = level.get(kTerms + 3 * i, at.here);
            b[i] = level.get(kTerms + 3 * i + 1, at.here);
            c[i] = level.get(kTerms + 3 * i + 2, at.here);
            const float residual = a[i] * u + b[i] * v + c[i];
            squared[i] = residual * residual;
        }
        const float brightness = inverse_root(squared[0] + kEpsilon) * parameters.intensity;
        const float gradient =
            inverse_root(squared[1] + squared[2] + kEpsilon) * parameters.gradient;
        const float weight[3] = {brightness, gradient, gradient};
        float uu = Links(level, at, y, x).sum();
        float vv = uu, uv = 0.0f, ru = 0.0f, rv = 0.0f;
        for (int i = 0; i < 3; ++i) {
            const float wa = weight[i] * a[i], wb = weight[i] * b[i];
            uu += wa * a[i];
            uv += wa * b[i];
            vv += wb * b[i];
            ru -= wa * c[i];
            rv -= wb * c[i];
        }
        const float inverse = kOmega / (uu * vv);
        level.set(kCross, at.here, uv);
        level.set(kRhsU, at.here, ru);
        level.set(kRhsV, at.here, rv);
        level.set(kInverseU, at.here, inverse * vv);
        level.set(kInverseV, at.here, inverse * uu);
    });
}

// The pixels of one colour: their neighbours have the other.
__device__ inline void relax(const Level& level, int color) {
    for (int y = warp(); y < level.side; y += warps()) {
        for (int x = 2 * lane() + (y + color) % 2; x < level.side; x += 2 * kWarp) {
            const Around at = level.around(y, x);
            const Links link(level, at, y, x);
            const float both = level.get(kCross, at.here);
            const float old_u = level.get(level.flow_u, at.here);
            const float old_v = level.get(level.flow_v, at.here);
            const float sum_u = level.get(kRhsU, at.here) + link.pull(level, level.flow_u, at);
            const float new_u = old_u * (1.0f - kOmega) +
                                (sum_u - both * old_v) * level.get(kInverseU, at.here);
            const float sum_v = level.get(kRhsV, at.here) + link.pull(level, level.flow_v, at);
            const float new_v = old_v * (1.0f - kOmega) +
                                (sum_v - both * new_u) * level.get(kInverseV, at.here);
            level.set(level.flow_u, at.here, new_u);
            level.set(level.flow_v, at.here, new_v);
        }
    }
}

// Replaces the level's flow by the one that minimises the energy near it.
__device__ inline void refine(const Level& level, int iterations,
                              const FlowParameters& parameters) {
    if (iterations == 0) {
        return;
    }
    warp_later(level);
    __syncthreads();
    slopes(level);
    __syncthreads();
    linearise(level);
    for (int i = 0; i < iterations; ++i) {
        links(level, parameters.smoothness);
        __syncthreads();
        set_up(level, parameters);
        __syncthreads();
        for (int pass = 0; pass < 2 * parameters.relaxation_iterations; ++pass) {
            relax(level, pass % 2);
            __syncthreads();
        }
    }
}

}  // namespace
}  // namespace flow
}  // namespace cuda
}  // namespace fgmclip
