// Dense inverse search on one level; fgmclip/kernels/flow_patches.py is its definition.
#pragma once

#include "flow_layout.h"
#include "vectors.h"

namespace fgmclip {
namespace flow {
namespace {

// Central differences, the border repeated.
inline void gradients(const Picture& picture, int side, const Picture& across,
                      const Picture& along) {
    for (int y = 0; y < side; ++y) {
        const float* row = picture.row(y);
        const float* above = picture.row(y - 1);
        const float* below = picture.row(y + 1);
        float* dx = across.row(y);
        float* dy = along.row(y);
        for (int x = 0; x < side; ++x) {
            dx[x] = (row[x + 1] - row[x - 1]) * 0.5f;
            dy[x] = (below[x] - above[x]) * 0.5f;
        }
    }
}

// A value that is no number becomes the lowest one.
inline float limit(float value, float low, float high) {
    return value > low ? (value < high ? value : high) : low;
}

// Bilinear, the border repeated.
inline float sample(const Picture& picture, int side, float y, float x) {
    y = limit(y, 0.0f, static_cast<float>(side - 1));
    x = limit(x, 0.0f, static_cast<float>(side - 1));
    const int y0 = static_cast<int>(y) < side - 2 ? static_cast<int>(y) : side - 2;
    const int x0 = static_cast<int>(x) < side - 2 ? static_cast<int>(x) : side - 2;
    const float fy = y - static_cast<float>(y0), fx = x - static_cast<float>(x0);
    const float* top = picture.row(y0) + x0;
    const float* bottom = picture.row(y0 + 1) + x0;
    const float first = top[0] + (top[1] - top[0]) * fx;
    const float second = bottom[0] + (bottom[1] - bottom[0]) * fx;
    return first + (second - first) * fy;
}

constexpr int kMaxPatch = 16;

// Where a patch looks in the later picture: its upper left pixel and the fractions.
struct Place {
    const float* pixel;
    float fx, fy;
};

inline Place place(const Picture& later, int side, int patch, float y, float x) {
    // Farther out there is only more of the same border.
    y = limit(y, static_cast<float>(-patch - 1), static_cast<float>(side));
    x = limit(x, static_cast<float>(-patch - 1), static_cast<float>(side));
    const float y0 = __builtin_floorf(y), x0 = __builtin_floorf(x);
    return {later.row(static_cast<int>(y0)) + static_cast<int>(x0), x - x0, y - y0};
}

// kChunks vectors of eight make a row of the patch; lanes past its side have no slope and no share.
template <int kChunks>
class Search {
  public:
    Search(const Buffers& buffers, int level, const FlowParameters& parameters)
        : b_(buffers),
          earlier_(buffers.earlier[level]),
          later_(buffers.later[level]),
          side_(buffers.sides[level]),
          patch_(parameters.patch_size),
          stride_(parameters.patch_stride),
          iterations_(parameters.iterations),
          propagations_(parameters.propagations),
          count_(patch_count(side_, parameters)),
          area_(static_cast<float>(patch_ * patch_)),
          spring_(parameters.stiffness * area_) {
        for (int lane = 0; lane < 8; ++lane) {
            for (int chunk = 0; chunk < kChunks; ++chunk) {
                share_[chunk][lane] = chunk * 8 + lane < patch_ ? 1.0f : 0.0f;
            }
        }
    }

    // Replaces the flow in buffers.u, buffers.v by what the patches find.
    void run() {
        gradients(earlier_, side_, b_.gradient_x, b_.gradient_y);
        // As far as vectors reach, lanes without a share included: what they read must be numbers.
        repeat_border(b_.gradient_x, side_, 8 * kChunks);
        repeat_border(b_.gradient_y, side_, 8 * kChunks);
        for (int i = 0; i < count_ * count_; ++i) {
            descend(i);
        }
        for (int round = 0; round < propagations_; ++round) {
            if (!propagate()) {
                break;
            }
        }
        densify();
    }

  private:
    int top(int patch) const { return patch / count_ * stride_ - (patch_ - stride_); }
    int left(int patch) const { return patch % count_ * stride_ - (patch_ - stride_); }

    // Gauss-Newton steps from the coarser flow; kept where they fit better than it.
    void descend(int index) const {
        const int top = this->top(index), left = this->left(index);
        const float middle = static_cast<float>(patch_ - 1) * 0.5f;
        const float start_y = static_cast<float>(top) + middle;
        const float start_x = static_cast<float>(left) + middle;
        const float u0 = sample(b_.u, side_, start_y, start_x);
        const float v0 = sample(b_.v, side_, start_y, start_x);
        Eight slope_x[kMaxPatch * kChunks], slope_y[kMaxPatch * kChunks];
        const Normal normal = slopes(top, left, slope_x, slope_y);
        float u = u0, v = v0, first = 0.0f;
        for (int i = 0; i < iterations_; ++i) {
            Eight right{}, down{}, total{}, squares{};
            errors(top, left, u, v, [&](int at, Eight error) {
                right += slope_x[at] * error;
                down += slope_y[at] * error;
                if (i == 0) {
                    const Eight counted = error * share_[at % kChunks];
                    total += counted;
                    squares += counted * counted;
                }
            });
            if (i == 0) {
                first = misfit(total, squares);
            }
            const float pull_x = sum(right) + spring_ * (u - u0);
            const float pull_y = sum(down) + spring_ * (v - v0);
            u -= (normal.yy * pull_x - normal.xy * pull_y) * normal.inverse;
            v -= (normal.xx * pull_y - normal.xy * pull_x) * normal.inverse;
        }
        const float last = cost(top, left, u, v);
        const bool better = last < first;
        b_.patch_u[index] = better ? u : u0;
        b_.patch_v[index] = better ? v : v0;
        b_.patch_cost[index] = better ? last : first;
    }

    // One round: a patch takes over what a neighbour found where that fits it better. All look at
    // what was before the round, so their order does not matter. Says whether anything changed.
    bool propagate() const {
        bool changed = false;
        for (int row = 0; row < count_; ++row) {
            for (int column = 0; column < count_; ++column) {
                const int index = row * count_ + column;
                float u = b_.patch_u[index], v = b_.patch_v[index];
                const int neighbors[4] = {column + 1 < count_ ? index + 1 : index,
                                          column > 0 ? index - 1 : index,
                                          row + 1 < count_ ? index + count_ : index,
                                          row > 0 ? index - count_ : index};
                for (const int neighbor : neighbors) {
                    const float other_u = b_.patch_u[neighbor], other_v = b_.patch_v[neighbor];
                    const float du = other_u - u, dv = other_v - v;
                    // Steps go that far; farther away lies another motion.
                    if (du * du + dv * dv <= 1.0f) {
                        continue;
                    }
                    const float fit = cost(top(index), left(index), other_u, other_v);
                    if (fit < b_.patch_cost[index]) {
                        b_.patch_cost[index] = fit;
                        u = other_u;
                        v = other_v;
                        changed = true;
                    }
                }
                b_.next_u[index] = u;
                b_.next_v[index] = v;
            }
        }
        const std::size_t bytes = static_cast<std::size_t>(count_) * count_ * sizeof(float);
        std::memcpy(b_.patch_u, b_.next_u, bytes);
        std::memcpy(b_.patch_v, b_.next_v, bytes);
        return changed;
    }

    // Each pixel takes the mean of its patches, weighted by how well each fits there. Patches come in
    // one order, so a pixel's sums do too.
    void densify() const {
        clear(b_.coarse_u);
        clear(b_.coarse_v);
        clear(b_.weight);
        for (int i = 0; i < count_ * count_; ++i) {
            spread(top(i), left(i), b_.patch_u[i], b_.patch_v[i]);
        }
        for (int y = 0; y < side_; ++y) {
            const float* weight = b_.weight.row(y);
            const float* sum_u = b_.coarse_u.row(y);
            const float* sum_v = b_.coarse_v.row(y);
            float* u = b_.u.row(y);
            float* v = b_.v.row(y);
            for (int x = 0; x < side_; ++x) {
                u[x] = sum_u[x] / weight[x];
                v[x] = sum_v[x] / weight[x];
            }
        }
    }

    void clear(const Picture& sums) const {
        for (int y = -patch_; y < side_ + patch_; ++y) {
            std::memset(sums.row(y) - patch_, 0,
                        static_cast<std::size_t>(side_ + 2 * patch_ + 8) * sizeof(float));
        }
    }

    // Calls use(index, error) for each vector of the patch: the later picture at a displacement minus
    // the earlier one.
    template <class Use>
    void errors(int top, int left, float u, float v, const Use& use) const {
        const Place at = place(later_, side_, patch_, static_cast<float>(top) + v,
                               static_cast<float>(left) + u);
        const float* seen = at.pixel;
        Eight upper[kChunks];
        for (int c = 0; c < kChunks; ++c) {
            upper[c] = across(seen + 8 * c, at.fx);
        }
        for (int y = 0; y < patch_; ++y) {
            seen += later_.stride;
            const float* expected = earlier_.row(top + y) + left;
            for (int c = 0; c < kChunks; ++c) {
                const Eight lower = across(seen + 8 * c, at.fx);
                use(y * kChunks + c,
                    upper[c] + (lower - upper[c]) * at.fy - load<Eight>(expected + 8 * c));
                upper[c] = lower;
            }
        }
    }

    // Squared errors without their mean: the mean of a patch is free, as light changes.
    float misfit(Eight total, Eight squares) const {
        const float mean = sum(total);
        return sum(squares) - mean * mean / area_;
    }

    float cost(int top, int left, float u, float v) const {
        Eight total{}, squares{};
        errors(top, left, u, v, [&](int at, Eight error) {
            const Eight counted = error * share_[at % kChunks];
            total += counted;
            squares += counted * counted;
        });
        return misfit(total, squares);
    }

    struct Normal {
        float xx, xy, yy, inverse;
    };

    // Slopes of the patch without their means.
    Normal slopes(int top, int left, Eight* slope_x, Eight* slope_y) const {
        Eight sum_x{}, sum_y{};
        for (int y = 0; y < patch_; ++y) {
            for (int c = 0; c < kChunks; ++c) {
                const int i = y * kChunks + c;
                slope_x[i] = load<Eight>(b_.gradient_x.row(top + y) + left + 8 * c);
                slope_y[i] = load<Eight>(b_.gradient_y.row(top + y) + left + 8 * c);
                sum_x += slope_x[i] * share_[c];
                sum_y += slope_y[i] * share_[c];
            }
        }
        const float mean_x = sum(sum_x) / area_, mean_y = sum(sum_y) / area_;
        Eight xx{}, xy{}, yy{};
        for (int y = 0; y < patch_; ++y) {
            for (int c = 0; c < kChunks; ++c) {
                const int i = y * kChunks + c;
                slope_x[i] = (slope_x[i] - mean_x) * share_[c];
                slope_y[i] = (slope_y[i] - mean_y) * share_[c];
                xx += slope_x[i] * slope_x[i];
                xy += slope_x[i] * slope_y[i];
                yy += slope_y[i] * slope_y[i];
            }
        }
        // A spring to the start: where there is only noise, noise must not lead the patch away.
        Normal normal{sum(xx) + spring_, sum(xy), sum(yy) + spring_, 0.0f};
        normal.inverse = 1.0f / (normal.xx * normal.yy - normal.xy * normal.xy);
        return normal;
    }

    static Eight across(const float* pixel, float fraction) {
        const Eight first = load<Eight>(pixel);
        return first + (load<Eight>(pixel + 1) - first) * fraction;
    }

    void spread(int top, int left, float u, float v) const {
        errors(top, left, u, v, [&](int at, Eight error) {
            const int c = at % kChunks, y = top + at / kChunks;
            float* weights = b_.weight.row(y) + left + 8 * c;
            float* sum_u = b_.coarse_u.row(y) + left + 8 * c;
            float* sum_v = b_.coarse_v.row(y) + left + 8 * c;
            const Eight weight = share_[c] / most(most(error, -error), Eight{} + 1.0f);
            store(weights, load<Eight>(weights) + weight);
            store(sum_u, load<Eight>(sum_u) + weight * u);
            store(sum_v, load<Eight>(sum_v) + weight * v);
        });
    }

    const Buffers& b_;
    Picture earlier_, later_;
    int side_, patch_, stride_, iterations_, propagations_, count_;
    float area_, spring_;
    Eight share_[kChunks];
};

}  // namespace
}  // namespace flow
}  // namespace fgmclip
