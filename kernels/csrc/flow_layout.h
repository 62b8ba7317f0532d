// How the flow lays its pictures out in memory, and the scratch that it takes them from.
#pragma once

#include <cstring>
#include <initializer_list>

#include "operations.h"

namespace fgmclip {
namespace flow {
namespace {

constexpr int kMaxLevels = 16;
constexpr int kMargin = 24;  // patches of up to 16 pixels reach this far over the border
constexpr int kLead = 16;    // floats before each half row; vectors may run over into the next's
constexpr int kTail = 32;    // floats after a picture: vectors may run over

inline int round_up(int value, int to) { return (value + to - 1) / to * to; }

// side x side with a margin of repeated border on every side.
struct Picture {
    float* data;  // pixel (0, 0)
    int stride;

    float* row(int y) const { return data + static_cast<std::ptrdiff_t>(y) * stride; }
};

inline int picture_stride(int side) { return round_up(side + 2 * kMargin, 16); }

inline std::size_t picture_floats(int side) {
    return static_cast<std::size_t>(picture_stride(side)) * (side + 2 * kMargin) + kTail;
}

// A row's even columns, then its odd ones: red and black pixels lie in vectors of their own. One
// row more above and below. Rows of several such pictures lie side by side, as they are used.
struct Halves {
    float* data;         // even half of row 0
    int half;            // floats from the even to the odd half
    std::ptrdiff_t row;  // floats from row to row

    float* even(int y) const { return data + y * row; }
    float* odd(int y) const { return even(y) + half; }
};

inline int half_stride(int side) { return round_up((side + 1) / 2, 16) + kLead; }

// Hands out parts of one block; the block's size is found by a dry run.
struct Arena {
    float* next;
    std::size_t used = 0;

    float* take(std::size_t count) {
        const std::size_t rounded = (count + 15) / 16 * 16;
        float* part = next == nullptr ? nullptr : next + used;
        used += rounded;
        return part;
    }

    Picture picture(int side) {
        const int stride = picture_stride(side);
        float* data = take(picture_floats(side));
        return {data == nullptr ? nullptr : data + kMargin * stride + kMargin, stride};
    }

    void halves(int side, Halves* const* pictures, int count) {
        const int half = half_stride(side);
        const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(2) * half * count;
        float* data = take(static_cast<std::size_t>(row) * (side + 2) + kLead);
        for (int i = 0; i < count; ++i) {
            *pictures[i] = {data == nullptr ? nullptr : data + row + 2 * i * half + kLead, half, row};
        }
    }
};

// A pixel and its neighbours, for each pixel of a half row.
struct Around {
    float* here;
    const float *left, *right, *up, *down;
};

inline Around around(const Halves& halves, int y, bool odd) {
    float* even = halves.even(y);
    float* other = halves.odd(y);
    const std::ptrdiff_t row = halves.row;
    if (odd) {
        return {other, even, even + 1, other - row, other + row};
    }
    return {even, other - 1, other, even - row, even + row};
}

constexpr int kTerms = 9;

// All buffers of one pair.
struct Buffers {
    int levels;
    int sides[kMaxLevels];
    Picture earlier[kMaxLevels], later[kMaxLevels];
    Picture gradient_x, gradient_y;          // of the earlier picture
    Picture u, v;                            // the flow, while patches search
    Picture coarse_u, coarse_v;              // of the level before; then the patches' weighted sums
    Picture weight;                          // sums of their weights
    Halves flow_u, flow_v;                   // the flow, while it is refined
    Halves before, mean, change, slope_x, slope_y;
    Halves term[kTerms];                     // (a, b, c) of three constancy terms
    Halves right, down, cross, rhs_u, rhs_v, inverse_u, inverse_v;
    float *patch_u, *patch_v, *patch_cost;   // a displacement for each patch, and how badly it fits
    float *next_u, *next_v;                  // the patches' displacements after a round
    std::int32_t* quads;                     // four bytes of the later sample for each pixel
};

// Patches in a row of the grid over a picture.
inline int patch_count(int side, const FlowParameters& parameters) {
    return (side + parameters.patch_stride - 1) / parameters.patch_stride +
           parameters.patch_size / parameters.patch_stride - 1;
}

inline Buffers lay_out(Arena& arena, int side, const FlowParameters& parameters) {
    Buffers b{};
    int current = side;
    do {
        b.sides[b.levels] = current;
        b.earlier[b.levels] = arena.picture(current);
        b.later[b.levels] = arena.picture(current);
        ++b.levels;
        current /= 2;
    } while (current >= parameters.coarsest_side && b.levels < kMaxLevels);
    Picture* const pictures[] = {&b.gradient_x, &b.gradient_y, &b.u,     &b.v,
                                 &b.coarse_u,   &b.coarse_v,   &b.weight};
    for (Picture* picture : pictures) {
        *picture = arena.picture(side);
    }
    Halves* const seen[] = {&b.before, &b.mean, &b.change, &b.slope_x, &b.slope_y};
    arena.halves(side, seen, 5);
    Halves* terms[kTerms];
    for (int i = 0; i < kTerms; ++i) {
        terms[i] = &b.term[i];
    }
    arena.halves(side, terms, kTerms);
    Halves* const system[] = {&b.flow_u, &b.flow_v, &b.right,     &b.down,     &b.cross,
                              &b.rhs_u,  &b.rhs_v,  &b.inverse_u, &b.inverse_v};
    arena.halves(side, system, 9);
    const std::size_t count = static_cast<std::size_t>(patch_count(side, parameters));
    for (float** field : {&b.patch_u, &b.patch_v, &b.patch_cost, &b.next_u, &b.next_v}) {
        *field = arena.take(count * count);
    }
    b.quads = reinterpret_cast<std::int32_t*>(
        arena.take(static_cast<std::size_t>(side) * side + kTail));
    return b;
}

// The margin repeats the border, so that reading outside needs no test.
inline void repeat_border(const Picture& picture, int side, int margin) {
    for (int y = 0; y < side; ++y) {
        float* row = picture.row(y);
        for (int x = 1; x <= margin; ++x) {
            row[-x] = row[0];
            row[side - 1 + x] = row[side - 1];
        }
    }
    const std::size_t bytes = static_cast<std::size_t>(side + 2 * margin) * sizeof(float);
    for (int y = 1; y <= margin; ++y) {
        std::memcpy(picture.row(-y) - margin, picture.row(0) - margin, bytes);
        std::memcpy(picture.row(side - 1 + y) - margin, picture.row(side - 1) - margin, bytes);
    }
}

inline void repeat_row(const Halves& halves, int from, int to) {
    std::memcpy(halves.even(to) - kLead, halves.even(from) - kLead,
                static_cast<std::size_t>(2 * halves.half) * sizeof(float));
}

inline void repeat_ends(const Halves& halves, int side, int y) {
    const int half = side / 2;
    float* even = halves.even(y);
    float* odd = halves.odd(y);
    odd[-1] = even[0];
    if (side % 2 != 0) {
        odd[half] = even[half];
    } else {
        even[half] = odd[half - 1];
    }
}

// One pixel of repeated border.
inline void repeat_border(const Halves& halves, int side) {
    for (int y = 0; y < side; ++y) {
        repeat_ends(halves, side, y);
    }
    repeat_row(halves, 0, -1);
    repeat_row(halves, side - 1, side);
}

inline void split(const float* row, int side, const Halves& to, int y) {
    float* even = to.even(y);
    float* odd = to.odd(y);
    const int half = side / 2;
    for (int i = 0; i < half; ++i) {
        even[i] = row[2 * i];
        odd[i] = row[2 * i + 1];
    }
    if (side % 2 != 0) {
        even[half] = row[side - 1];
    }
}

inline void merge(const Halves& from, int y, int side, float* row) {
    const float* even = from.even(y);
    const float* odd = from.odd(y);
    const int half = side / 2;
    for (int i = 0; i < half; ++i) {
        row[2 * i] = even[i];
        row[2 * i + 1] = odd[i];
    }
    if (side % 2 != 0) {
        row[side - 1] = even[half];
    }
}

}  // namespace
}  // namespace flow
}  // namespace fgmclip
