// Optical flow of one pair, coarse to fine; fgmclip/kernels/optical_flow.py is its definition.
#pragma once

#include "flow_layout.h"
#include "flow_refine.h"
#include "flow_search.h"

namespace fgmclip {
namespace flow {
namespace {

inline void widen_picture(const std::uint8_t* from, int side, const Picture& to) {
    for (int y = 0; y < side; ++y) {
        float* row = to.row(y);
        for (int x = 0; x < side; ++x) {
            row[x] = static_cast<float>(from[y * side + x]);
        }
    }
}

// Each pixel with its right, lower and lower right neighbour, a byte each: one gather in place of four.
inline void gather_quads(const std::uint8_t* from, int side, std::int32_t* to) {
    for (int y = 0; y + 1 < side; ++y) {
        const std::uint8_t* top = from + y * side;
        const std::uint8_t* bottom = top + side;
        for (int x = 0; x + 1 < side; ++x) {
            const std::uint32_t upper = top[x] | static_cast<std::uint32_t>(top[x + 1]) << 8;
            const std::uint32_t lower = bottom[x] | static_cast<std::uint32_t>(bottom[x + 1]) << 8;
            to[y * side + x] = static_cast<std::int32_t>(upper | lower << 16);
        }
    }
}

inline void halve(const Picture& from, int side, const Picture& to) {
    for (int y = 0; y < side; ++y) {
        const float* top = from.row(2 * y);
        const float* bottom = from.row(2 * y + 1);
        float* row = to.row(y);
        for (int x = 0; x < side; ++x) {
            row[x] = ((top[2 * x] + bottom[2 * x]) + (top[2 * x + 1] + bottom[2 * x + 1])) * 0.25f;
        }
    }
}

// Row y of the flow on a grid of about twice the side: bilinear, values doubled. `coarse` has one
// pixel of repeated border; `line` takes a row of it.
inline void enlarge_row(const Picture& coarse, int coarse_side, int y, float* line,
                        const Halves& to) {
    // Pixel 2 k lies a quarter before pixel k of the coarse grid, pixel 2 k + 1 a quarter after.
    const int below = (y + 1) / 2;
    const float part = y % 2 != 0 ? 0.25f : 0.75f;
    const float* first = coarse.row(below - 1);
    const float* second = coarse.row(below);
    for (int x = -1; x <= coarse_side; ++x) {
        line[x] = first[x] + (second[x] - first[x]) * part;
    }
    float* even = to.even(y);
    float* odd = to.odd(y);
    for (int k = 0; k <= coarse_side; ++k) {
        even[k] = (line[k - 1] + (line[k] - line[k - 1]) * 0.75f) * 2.0f;
    }
    for (int k = 0; k < coarse_side; ++k) {
        odd[k] = (line[k] + (line[k + 1] - line[k]) * 0.25f) * 2.0f;
    }
}

inline void enlarge(const Picture& coarse, int coarse_side, int side, float* line,
                    const Halves& to) {
    repeat_border(coarse, coarse_side, 2);
    for (int y = 0; y < side; ++y) {
        enlarge_row(coarse, coarse_side, y, line, to);
    }
}

inline void clear(const Halves& halves, int side) {
    for (int y = 0; y < side; ++y) {
        std::memset(halves.even(y) - kLead, 0,
                    static_cast<std::size_t>(2 * halves.half) * sizeof(float));
    }
}

// The flow that a level begins with: what the coarser one found.
inline void start_level(const Buffers& b, int level) {
    const int side = b.sides[level];
    if (level == b.levels - 1) {
        clear(b.flow_u, side);
        clear(b.flow_v, side);
        return;
    }
    const int coarse = b.sides[level + 1];
    for (int y = 0; y < coarse; ++y) {
        merge(b.flow_u, y, coarse, b.coarse_u.row(y));
        merge(b.flow_v, y, coarse, b.coarse_v.row(y));
    }
    enlarge(b.coarse_u, coarse, side, b.weight.row(0), b.flow_u);
    enlarge(b.coarse_v, coarse, side, b.weight.row(0), b.flow_v);
}

template <int kChunks>
inline void search(const Buffers& b, int level, const FlowParameters& parameters) {
    const int side = b.sides[level];
    for (int y = 0; y < side; ++y) {
        merge(b.flow_u, y, side, b.u.row(y));
        merge(b.flow_v, y, side, b.v.row(y));
    }
    Search<kChunks>(b, level, parameters).run();
    for (int y = 0; y < side; ++y) {
        split(b.u.row(y), side, b.flow_u, y);
        split(b.v.row(y), side, b.flow_v, y);
    }
}

}  // namespace
}  // namespace flow

namespace {

void optical_flow(const std::uint8_t* earlier, const std::uint8_t* later, int side,
                  const FlowParameters& parameters, float scale, const Team& team,
                  float* scratch, float* out) {
    flow::Arena arena{scratch};
    const flow::Buffers b = flow::lay_out(arena, side, parameters);
    const int finest =
        parameters.finest_level < b.levels ? parameters.finest_level : b.levels - 1;
    flow::widen_picture(earlier, side, b.earlier[0]);
    flow::widen_picture(later, side, b.later[0]);
    flow::gather_quads(later, side, b.quads);
    for (int level = 1; level < b.levels; ++level) {
        flow::halve(b.earlier[level - 1], b.sides[level], b.earlier[level]);
        flow::halve(b.later[level - 1], b.sides[level], b.later[level]);
    }
    for (int level = b.levels - 1; level >= 0; --level) {
        flow::start_level(b, level);
        if (level >= finest) {
            flow::repeat_border(b.earlier[level], b.sides[level], flow::kMargin);
            flow::repeat_border(b.later[level], b.sides[level], flow::kMargin);
            if (parameters.patch_size <= 8) {
                flow::search<1>(b, level, parameters);
            } else {
                flow::search<2>(b, level, parameters);
            }
        }
        flow::Refinement(b, level, parameters).run(team);
    }
    float* const line = b.weight.row(0);
    const flow::Halves flows[2] = {b.flow_u, b.flow_v};
    for (int y = 0; y < 2 * side; ++y) {
        flow::merge(flows[y / side], y % side, side, line);
        for (int x = 0; x < side; ++x) {
            out[y * side + x] = line[x] / scale;
        }
    }
}

}  // namespace
}  // namespace fgmclip
