// Variational refinement on one level; fgmclip/kernels/flow_refinement.py is its definition.
//
// Its unknown is the step from the flow; here the flow plus the step is solved for, which needs one
// array less, and weights come from `inverse_root`: differences far below 1e-3 pixels.
#pragma once

#include <initializer_list>

#include "flow_layout.h"
#include "vectors.h"

namespace fgmclip {
namespace flow {
namespace {

constexpr float kOmega = 1.9f;
constexpr float kEpsilon = 1e-3f * 1e-3f;
constexpr float kZeta = 0.1f * 0.1f;

class Refinement {
  public:
    Refinement(const Buffers& buffers, int level, const FlowParameters& parameters)
        : b_(buffers),
          level_(level),
          side_(buffers.sides[level]),
          even_((side_ + 1) / 2),
          parameters_(parameters) {}

    // Replaces the flow in buffers.flow_u, flow_v by the one that minimises the energy near it. The
    // same bits for any team.
    void run(const Team& team) const {
        const int iterations = parameters_.refinement_iterations * (level_ + 1);
        if (iterations == 0) {
            return;
        }
        prepare();
        // A band loses a margin at each end that another one shares.
        const int margin = kSetUp + 2 * parameters_.relaxation_iterations;
        const int most = side_ / (2 * margin);
        const int bands = team.threads < most ? team.threads : (most < 1 ? 1 : most);
        const auto edge = [&](int band) { return band * side_ / bands; };
        for (int iteration = 0; iteration < iterations; ++iteration) {
            repeat_border(b_.flow_u, side_);
            repeat_border(b_.flow_v, side_);
            team.each(bands, [&](int band) {
                const int begin = edge(band), end = edge(band + 1);
                sweep({begin, end, begin == 0 ? 0 : 1, end == side_ ? 0 : -1}, iteration == 0);
            });
            team.each(bands - 1, [&](int band) {
                sweep({edge(band + 1), edge(band + 1), -1, 1}, iteration == 0);
            });
        }
    }

  private:
    static constexpr int kSetUp = 2;  // rows to either side that a row's equations look at

    // Rows of a stage; a stage that looks `margin` rows farther than the first has `at` of it.
    struct Rows {
        int begin, end, top, bottom;

        Rows at(int margin) const {
            return {begin + top * margin, end + bottom * margin, top, bottom};
        }
        bool holds(int y) const { return y >= begin && y < end; }
    };

    // One iteration over some rows. First each band does what it can without its neighbours, so a
    // stage has fewer rows than the one before; then the gaps between bands are filled, where a stage
    // has more.
    //
    // Every stage needs its predecessor's row above and below. Each therefore follows one row behind
    // the one before, and what a row needs is still in the cache: the same result as stage by stage.
    // Relaxation walks by itself, as its rows alone fit into the nearest cache.
    void sweep(const Rows& rows, bool first) const {
        const int passes = 2 * parameters_.relaxation_iterations;
        // The equations are set up around the flow that comes in, once.
        const int lag = first ? 3 : 1;
        const Rows widest = rows.top < 0 ? rows.at(kSetUp + passes) : rows;
        const Rows ready = rows.at(kSetUp);
        for (int row = widest.begin; row < widest.end + lag + 1; ++row) {
            if (first) {
                linearise(rows, row);
            }
            if (rows.holds(row - lag + 1)) {
                links(row - lag + 1);
            }
            if (ready.holds(row - lag)) {
                system(row - lag);
            }
        }
        for (int row = widest.begin; row < widest.end + passes; ++row) {
            for (int pass = 0; pass < passes; ++pass) {
                const int y = row - pass;
                if (rows.at(kSetUp + pass).holds(y)) {
                    relax(y, (y + pass) % 2 != 0);
                }
            }
        }
    }

    void prepare() const {
        // What lies past the last column would shrink with every pass, and numbers near the smallest
        // take a hundred times longer; and memory there may hold no numbers at all, of which 0 times
        // is none. There the flow is 0, as far as the last vector's right neighbours.
        for (int y = 0; y < side_; ++y) {
            for (const Halves& flow : {b_.flow_u, b_.flow_v}) {
                for (int odd = 0; odd < 2; ++odd) {
                    float* row = around(flow, y, odd).here;
                    for (int x = columns(odd); x <= round_up(even_, kLanes); ++x) {
                        row[x] = 0.0f;
                    }
                }
            }
        }
        // No link enters the picture from above or from the left.
        std::memset(b_.down.even(-1) - kLead, 0,
                    static_cast<std::size_t>(2 * b_.down.half) * sizeof(float));
        for (int y = 0; y < side_; ++y) {
            b_.right.odd(y)[-1] = 0.0f;
        }
    }

    // The stages that set the equations up, at the row where each is when the first is at `row`.
    void linearise(const Rows& rows, int row) const {
        if (rows.holds(row)) {
            warp(row);
            finish_row(b_.mean, row);
            finish_row(b_.change, row);
        }
        if (rows.at(1).holds(row - 1)) {
            slopes(row - 1);
            finish_row(b_.slope_x, row - 1);
            finish_row(b_.slope_y, row - 1);
        }
        if (rows.at(kSetUp).holds(row - 2)) {
            terms(row - 2);
        }
    }

    // The border of a row that is complete.
    void finish_row(const Halves& halves, int y) const {
        repeat_ends(halves, side_, y);
        if (y == 0) {
            repeat_row(halves, 0, -1);
        }
        if (y == side_ - 1) {
            repeat_row(halves, y, side_);
        }
    }

    // The later picture seen along the flow: its mean with and change from the earlier one.
    void warp(int y) const {
        split(b_.earlier[level_].row(y), side_, b_.before, y);
        const float last = static_cast<float>(side_ - 1);
        for (int odd = 0; odd < 2; ++odd) {
            const float* u = around(b_.flow_u, y, odd).here;
            const float* v = around(b_.flow_v, y, odd).here;
            const float* before = around(b_.before, y, odd).here;
            float* mean = around(b_.mean, y, odd).here;
            float* change = around(b_.change, y, odd).here;
            for (int x = 0; x < even_; x += kLanes) {
                const Floats column =
                    (counting() + static_cast<float>(x)) * 2.0f + static_cast<float>(odd);
                const Floats at_x = inside(column + load<Floats>(u + x), last);
                const Floats at_y = inside(load<Floats>(v + x) + static_cast<float>(y), last);
                const Ints x0 = least(__builtin_convertvector(at_x, Ints), splat(side_ - 2));
                const Ints y0 = least(__builtin_convertvector(at_y, Ints), splat(side_ - 2));
                const Corners seen = corners(x0, y0);
                const Floats fx = at_x - __builtin_convertvector(x0, Floats);
                const Floats fy = at_y - __builtin_convertvector(y0, Floats);
                const Floats top = seen.first + (seen.second - seen.first) * fx;
                const Floats bottom = seen.third + (seen.fourth - seen.third) * fx;
                const Floats value = top + (bottom - top) * fy;
                const Floats was = load<Floats>(before + x);
                store(mean + x, (value + was) * 0.5f);
                store(change + x, value - was);
            }
        }
    }

    struct Corners {
        Floats first, second, third, fourth;  // upper left, upper right, lower left, lower right
    };

    Corners corners(Ints x, Ints y) const {
        if (level_ == 0) {
            const Ints four = gather(b_.quads, y * side_ + x);
            return {__builtin_convertvector(four & 255, Floats),
                    __builtin_convertvector((four >> 8) & 255, Floats),
                    __builtin_convertvector((four >> 16) & 255, Floats),
                    __builtin_convertvector((four >> 24) & 255, Floats)};
        }
        const Picture& later = b_.later[level_];
        const Ints first = y * later.stride + x;
        const float* below = later.data + later.stride;
        return {gather(later.data, first), gather(later.data + 1, first), gather(below, first),
                gather(below + 1, first)};
    }

    static Floats inside(Floats at, float last) {
        return least(most(at, Floats{}), splat(last));
    }

    static Floats difference(const float* plus, const float* minus, int x) {
        return (load<Floats>(plus + x) - load<Floats>(minus + x)) * 0.5f;
    }

    void slopes(int y) const {
        for (int odd = 0; odd < 2; ++odd) {
            const Around mean = around(b_.mean, y, odd);
            float* slope_x = around(b_.slope_x, y, odd).here;
            float* slope_y = around(b_.slope_y, y, odd).here;
            for (int x = 0; x < even_; x += kLanes) {
                store(slope_x + x, difference(mean.right, mean.left, x));
                store(slope_y + x, difference(mean.down, mean.up, x));
            }
        }
    }

    // Brightness and gradient constancy around the flow, as a u + b v + c with u, v the whole flow.
    void terms(int y) const {
        for (int odd = 0; odd < 2; ++odd) {
            const float* u = around(b_.flow_u, y, odd).here;
            const float* v = around(b_.flow_v, y, odd).here;
            const Around across = around(b_.slope_x, y, odd);
            const Around along = around(b_.slope_y, y, odd);
            const Around change = around(b_.change, y, odd);
            float* to[kTerms];
            for (int i = 0; i < kTerms; ++i) {
                to[i] = around(b_.term[i], y, odd).here;
            }
            for (int x = 0; x < even_; x += kLanes) {
                const Floats flow_u = load<Floats>(u + x), flow_v = load<Floats>(v + x);
                const Floats mixed = difference(along.right, along.left, x);
                const Floats a[3] = {load<Floats>(across.here + x),
                                     difference(across.right, across.left, x), mixed};
                const Floats b[3] = {load<Floats>(along.here + x), mixed,
                                     difference(along.down, along.up, x)};
                const Floats c[3] = {load<Floats>(change.here + x),
                                     difference(change.right, change.left, x),
                                     difference(change.down, change.up, x)};
                for (int i = 0; i < 3; ++i) {
                    const Floats scale = inverse_root(a[i] * a[i] + b[i] * b[i] + kZeta);
                    const Floats first = a[i] * scale, second = b[i] * scale;
                    store(to[3 * i] + x, first);
                    store(to[3 * i + 1] + x, second);
                    store(to[3 * i + 2] + x, c[i] * scale - first * flow_u - second * flow_v);
                }
            }
        }
    }

    // Weights of the links to the right and down.
    void links(int y) const {
        for (int odd = 0; odd < 2; ++odd) {
            // No link leaves the picture to the right: the last column has none.
            const int linked = odd == side_ % 2 ? columns(odd) : columns(odd) - 1;
            const Around u = around(b_.flow_u, y, odd), v = around(b_.flow_v, y, odd);
            float* right = around(b_.right, y, odd).here;
            float* down = around(b_.down, y, odd).here;
            for (int x = 0; x < even_; x += kLanes) {
                const Floats here_u = load<Floats>(u.here + x), here_v = load<Floats>(v.here + x);
                const Floats ru = load<Floats>(u.right + x) - here_u;
                const Floats rv = load<Floats>(v.right + x) - here_v;
                const Floats du = load<Floats>(u.down + x) - here_u;
                const Floats dv = load<Floats>(v.down + x) - here_v;
                const Floats weight =
                    inverse_root((ru * ru + du * du) + (rv * rv + dv * dv) + kEpsilon) *
                    parameters_.smoothness;
                store(right + x, keep(weight, linked - x));
                store(down + x, y == side_ - 1 ? Floats{} : keep(weight, columns(odd) - x));
            }
        }
    }

    int columns(int odd) const { return odd ? side_ / 2 : even_; }

    // The first `count` lanes, 0 in the others.
    static Floats keep(Floats value, int count) {
        return counting() < static_cast<float>(count) ? value : Floats{};
    }

    // The 2x2 part of each pixel's equations, solved for each unknown.
    void system(int y) const {
        for (int odd = 0; odd < 2; ++odd) {
            const Around link = around(b_.right, y, odd), fall = around(b_.down, y, odd);
            const float* flow_u = around(b_.flow_u, y, odd).here;
            const float* flow_v = around(b_.flow_v, y, odd).here;
            const float* terms[kTerms];
            for (int i = 0; i < kTerms; ++i) {
                terms[i] = around(b_.term[i], y, odd).here;
            }
            float* cross = around(b_.cross, y, odd).here;
            float* rhs_u = around(b_.rhs_u, y, odd).here;
            float* rhs_v = around(b_.rhs_v, y, odd).here;
            float* inverse_u = around(b_.inverse_u, y, odd).here;
            float* inverse_v = around(b_.inverse_v, y, odd).here;
            for (int x = 0; x < even_; x += kLanes) {
                const Floats u = load<Floats>(flow_u + x), v = load<Floats>(flow_v + x);
                Floats a[3], b[3], c[3], squared[3];
                for (int i = 0; i < 3; ++i) {
                    a[i] = load<Floats>(terms[3 * i] + x);
                    b[i] = load<Floats>(terms[3 * i + 1] + x);
                    c[i] = load<Floats>(terms[3 * i + 2] + x);
                    const Floats residual = a[i] * u + b[i] * v + c[i];
                    squared[i] = residual * residual;
                }
                const Floats brightness =
                    inverse_root(squared[0] + kEpsilon) * parameters_.intensity;
                const Floats gradient =
                    inverse_root(squared[1] + squared[2] + kEpsilon) * parameters_.gradient;
                const Floats weight[3] = {brightness, gradient, gradient};
                Floats uu = (load<Floats>(link.left + x) + load<Floats>(link.here + x)) +
                            (load<Floats>(fall.up + x) + load<Floats>(fall.here + x));
                Floats vv = uu, uv{}, ru{}, rv{};
                for (int i = 0; i < 3; ++i) {
                    const Floats wa = weight[i] * a[i], wb = weight[i] * b[i];
                    uu += wa * a[i];
                    uv += wa * b[i];
                    vv += wb * b[i];
                    ru -= wa * c[i];
                    rv -= wb * c[i];
                }
                // Lanes past the last column have no equation, whatever the memory there held: their
                // flow must stay a number, as the last column meets it with a weight of 0.
                const int count = columns(odd) - x;
                const Floats inverse = kOmega / (uu * vv);
                store(cross + x, keep(uv, count));
                store(rhs_u + x, keep(ru, count));
                store(rhs_v + x, keep(rv, count));
                store(inverse_u + x, keep(inverse * vv, count));
                store(inverse_v + x, keep(inverse * uu, count));
            }
        }
    }

    // The pixels of a row that have one colour: their neighbours have the other.
    void relax(int y, bool odd) const {
        const Around u = around(b_.flow_u, y, odd), v = around(b_.flow_v, y, odd);
        const Around link = around(b_.right, y, odd), fall = around(b_.down, y, odd);
        const float* cross = around(b_.cross, y, odd).here;
        const float* rhs_u = around(b_.rhs_u, y, odd).here;
        const float* rhs_v = around(b_.rhs_v, y, odd).here;
        const float* inverse_u = around(b_.inverse_u, y, odd).here;
        const float* inverse_v = around(b_.inverse_v, y, odd).here;
        for (int x = 0; x < even_; x += kLanes) {
            const Floats left = load<Floats>(link.left + x), right = load<Floats>(link.here + x);
            const Floats up = load<Floats>(fall.up + x), down = load<Floats>(fall.here + x);
            const Floats both = load<Floats>(cross + x);
            const Floats old_u = load<Floats>(u.here + x), old_v = load<Floats>(v.here + x);
            const Floats sum_u = load<Floats>(rhs_u + x) + pull(u, x, left, right, up, down);
            const Floats new_u = old_u * (1.0f - kOmega) +
                                 (sum_u - both * old_v) * load<Floats>(inverse_u + x);
            const Floats sum_v = load<Floats>(rhs_v + x) + pull(v, x, left, right, up, down);
            const Floats new_v = old_v * (1.0f - kOmega) +
                                 (sum_v - both * new_u) * load<Floats>(inverse_v + x);
            store(u.here + x, new_u);
            store(v.here + x, new_v);
        }
    }

    static Floats pull(const Around& flow, int x, Floats left, Floats right, Floats up,
                       Floats down) {
        return (left * load<Floats>(flow.left + x) + right * load<Floats>(flow.right + x)) +
               (up * load<Floats>(flow.up + x) + down * load<Floats>(flow.down + x));
    }

    const Buffers& b_;
    int level_, side_, even_;
    const FlowParameters& parameters_;
};

}  // namespace
}  // namespace flow
}  // namespace fgmclip
