// Dense inverse search on one level: eight lanes a patch, each with one column of it, or two where
// patches are wider than eight. csrc/flow_search.h has the order of the operations.
#pragma once

#include "abi.cuh"
#include "device.cuh"
#include "flow_layout.cuh"

namespace fgmclip {
namespace cuda {
namespace flow {
namespace {

constexpr int kPatchLanes = 8;
constexpr int kPatchesPerWarp = kWarp / kPatchLanes;
constexpr int kChunks = 2;  // columns of a lane, at most

// A value that is no number becomes the lowest one.
__device__ __forceinline__ float limit(float value, float low, float high) {
    return value > low ? (value < high ? value : high) : low;
}

// The sum over a patch's eight lanes, in each of them: exchanging the two summands of an addition
// changes no bit.
__device__ __forceinline__ float patch_sum(float value) {
    value += __shfl_xor_sync(kAllLanes, value, 4);
    value += __shfl_xor_sync(kAllLanes, value, 2);
    return value + __shfl_xor_sync(kAllLanes, value, 1);
}

__device__ __forceinline__ float between(float first, float second, float part) {
    return first + (second - first) * part;
}

// Where a patch looks in the later picture: its upper left pixel and the fractions.
struct Place {
    int y, x;
    float fy, fx;

    __device__ Place(int side, int patch, float at_y, float at_x) {
        // Farther out there is only more of the same border.
        const float low = static_cast<float>(-patch - 1), high = static_cast<float>(side);
        at_y = limit(at_y, low, high);
        at_x = limit(at_x, low, high);
        const float y0 = floorf(at_y), x0 = floorf(at_x);
        y = static_cast<int>(y0);
        x = static_cast<int>(x0);
        fy = at_y - y0;
        fx = at_x - x0;
    }
};

// The later picture between two of its columns.
struct Column {
    const float *first, *second;
    int side;
    float part;

    __device__ Column(const Level& level, int x, float part_)
        : first(level.later + level.inside(x)),
          second(level.later + level.inside(x + 1)),
          side(level.side),
          part(part_) {}

    __device__ float at(int y) const {
        const int row = clamp(y, 0, side - 1) * side;
        return between(load_global(first + row), load_global(second + row), part);
    }
};

// Where the patches of a level lie; the first reach over the border, so that every pixel lies in
// equally many.
struct Grid {
    int patch, stride, count;

    __device__ Grid(int side, const FlowParameters& parameters)
        : patch(parameters.patch_size),
          stride(parameters.patch_stride),
          count((side + stride - 1) / stride + patch / stride - 1) {}

    __device__ int patches() const { return count * count; }
    __device__ int top(int index) const { return index / count * stride - (patch - stride); }
    __device__ int left(int index) const { return index % count * stride - (patch - stride); }
};

// What a patch found: its displacement, and its squared errors there without their mean.
struct Found {
    float u, v, misfit;

    __device__ static Found load(const float* from, int patch) {
        return {load_global(from + 3 * patch), load_global(from + 3 * patch + 1),
                load_global(from + 3 * patch + 2)};
    }
    __device__ void store(float* to, int patch) const {
        store_global(to + 3 * patch, u);
        store_global(to + 3 * patch + 1, v);
        store_global(to + 3 * patch + 2, misfit);
    }
};

// What a lane knows of its patch: columns eight apart. All lanes of a warp call together.
class Patch {
  public:
    __device__ Patch(const Level& level, const Grid& grid, int index)
        : level_(level),
          size_(grid.patch),
          top_(grid.top(index)),
          left_(grid.left(index) + lane() % kPatchLanes),
          area_(static_cast<float>(grid.patch * grid.patch)) {}

    // Gauss-Newton steps from a displacement; kept where they fit better than it.
    __device__ Found descend(float u0, float v0, const FlowParameters& parameters) const {
        const float spring = parameters.stiffness * area_;
        const Slopes slopes = this->slopes(spring);
        float u = u0, v = v0;
        for (int i = 0; i < parameters.iterations; ++i) {
            float right = 0.0f, down = 0.0f;
            errors(u, v, [&](int at, int c, float error) {
                right += slope(kGradientX, at, c, slopes.mean_x) * error;
                down += slope(kGradientY, at, c, slopes.mean_y) * error;
            });
            const float pull_x = patch_sum(right) + spring * (u - u0);
            const float pull_y = patch_sum(down) + spring * (v - v0);
            u -= (slopes.yy * pull_x - slopes.xy * pull_y) * slopes.inverse;
            v -= (slopes.xx * pull_y - slopes.xy * pull_x) * slopes.inverse;
        }
        const float first = misfit(u0, v0), last = misfit(u, v);
        return last < first ? Found{u, v, last} : Found{u0, v0, first};
    }

    // Squared errors without their mean: the mean of a patch is free, as light changes.
    __device__ float misfit(float u, float v) const {
        float total = 0.0f, squares = 0.0f;
        errors(u, v, [&](int, int c, float error) {
            const float counted = has(c) ? error : 0.0f;
            total += counted;
            squares += counted * counted;
        });
        const float mean = patch_sum(total);
        return patch_sum(squares) - mean * mean / area_;
    }

  private:
    // Means of the slopes, and what solves for a step.
    struct Slopes {
        float mean_x, mean_y, xx, xy, yy, inverse;
    };

    __device__ Slopes slopes(float spring) const {
        float sum_x = 0.0f, sum_y = 0.0f;
        for_each([&](int at, int c) {
            sum_x += slope(kGradientX, at, c, 0.0f);
            sum_y += slope(kGradientY, at, c, 0.0f);
        });
        const float mean_x = patch_sum(sum_x) / area_, mean_y = patch_sum(sum_y) / area_;
        float xx = 0.0f, xy = 0.0f, yy = 0.0f;
        for_each([&](int at, int c) {
            const float x = slope(kGradientX, at, c, mean_x);
            const float y = slope(kGradientY, at, c, mean_y);
            xx += x * x;
            xy += x * y;
            yy += y * y;
        });
        // A spring to the start: where there is only noise, noise must not lead the patch away.
        xx = patch_sum(xx) + spring;
        xy = patch_sum(xy);
        yy = patch_sum(yy) + spring;
        return {mean_x, mean_y, xx, xy, yy, 1.0f / (xx * yy - xy * xy)};
    }

    // Whether a column lies in the patch; the others have no slope and no share.
    __device__ bool has(int chunk) const {
        return lane() % kPatchLanes + kPatchLanes * chunk < size_;
    }
    __device__ float slope(int field, int at, int chunk, float mean) const {
        return has(chunk) ? level_.get(field, at) - mean : 0.0f;
    }

    // Calls use(pixel, chunk) for this lane's pixels, row by row.
    template <class Use>
    __device__ __forceinline__ void for_each(const Use& use) const {
        for (int y = 0; y < size_; ++y) {
            for (int c = 0; c < kChunks; ++c) {
                if (kPatchLanes * c < size_) {
                    use(level_.pixel(top_ + y, left_ + kPatchLanes * c), c);
                }
            }
        }
    }

    // Calls use(pixel, chunk, error): the later picture at a displacement minus the earlier one.
    template <class Use>
    __device__ __forceinline__ void errors(float u, float v, const Use& use) const {
        const int left = left_ - lane() % kPatchLanes;
        const Place at(level_.side, size_, static_cast<float>(top_) + v,
                       static_cast<float>(left) + u);
        const int x = at.x + left_ - left;
        const Column seen[kChunks] = {{level_, x, at.fx}, {level_, x + kPatchLanes, at.fx}};
        float upper[kChunks] = {seen[0].at(at.y), seen[1].at(at.y)};
        for (int y = 0; y < size_; ++y) {
            for (int c = 0; c < kChunks; ++c) {
                if (kPatchLanes * c < size_) {
                    const int pixel = level_.pixel(top_ + y, left_ + kPatchLanes * c);
                    const float lower = seen[c].at(at.y + y + 1);
                    use(pixel, c,
                        between(upper[c], lower, at.fy) - load_global(level_.earlier + pixel));
                    upper[c] = lower;
                }
            }
        }
    }

    const Level& level_;
    int size_, top_, left_;
    float area_;
};

// Central differences of the earlier picture, the border repeated.
__device__ inline void gradients(const Level& level) {
    const float* from = level.earlier;
    for (int y = warp(); y < level.side; y += warps()) {
        for (int x = lane(); x < level.side; x += kWarp) {
            const int at = level.pixel(y, x);
            level.set(kGradientX, at,
                      (load_global(from + level.pixel(y, x + 1)) -
                       load_global(from + level.pixel(y, x - 1))) * 0.5f);
            level.set(kGradientY, at,
                      (load_global(from + level.pixel(y + 1, x)) -
                       load_global(from + level.pixel(y - 1, x))) * 0.5f);
        }
    }
}

// Calls visit(index, writes) for each patch, with eight lanes of a warp, of which one writes. A
// warp's lanes stay together: those without a patch repeat the last one.
template <class Visit>
__device__ __forceinline__ void for_each_patch(int patches, const Visit& visit) {
    for (int first = warp() * kPatchesPerWarp; first < patches;
         first += warps() * kPatchesPerWarp) {
        const int mine = first + lane() / kPatchLanes;
        visit(least(mine, patches - 1), mine < patches && lane() % kPatchLanes == 0);
    }
}

// The coarser level's flow where a patch has its middle: bilinear, the border repeated.
struct Start {
    int first, second, third, fourth;
    float fy, fx;

    __device__ Start(const Level& level, float y, float x) {
        const float last = static_cast<float>(level.side - 1);
        y = limit(y, 0.0f, last);
        x = limit(x, 0.0f, last);
        const int y0 = least(static_cast<int>(y), level.side - 2);
        const int x0 = least(static_cast<int>(x), level.side - 2);
        first = level.place(y0, x0);
        second = level.place(y0, x0 + 1);
        third = level.place(y0 + 1, x0);
        fourth = level.place(y0 + 1, x0 + 1);
        fy = y - static_cast<float>(y0);
        fx = x - static_cast<float>(x0);
    }

    __device__ float in(const Level& level, int field) const {
        return between(between(level.get(field, first), level.get(field, second), fx),
                       between(level.get(field, third), level.get(field, fourth), fx), fy);
    }
};

// What each patch finds from the flow of the coarser level.
__device__ inline void descend(const Level& level, const Grid& grid,
                               const FlowParameters& parameters) {
    const float middle = static_cast<float>(grid.patch - 1) * 0.5f;
    float* const to = level.found_in(0, grid.patches());
    for_each_patch(grid.patches(), [&](int index, bool writes) {
        const Start start(level, static_cast<float>(grid.top(index)) + middle,
                          static_cast<float>(grid.left(index)) + middle);
        const Found found =
            Patch(level, grid, index)
                .descend(start.in(level, level.flow_u), start.in(level, level.flow_v), parameters);
        if (writes) {
            found.store(to, index);
        }
    });
}

// One round: a patch takes over what a neighbour found where that fits it better. All look at what
// was before the round.
__device__ inline void propagate(const Level& level, const Grid& grid, int round) {
    const float* const from = level.found_in(round, grid.patches());
    float* const to = level.found_in(round + 1, grid.patches());
    for_each_patch(grid.patches(), [&](int index, bool writes) {
        const int row = index / grid.count, column = index % grid.count;
        const Patch patch(level, grid, index);
        Found best = Found::load(from, index);
        for (int i = 0; i < 4; ++i) {
            const int y = row + (i == 2) - (i == 3), x = column + (i == 0) - (i == 1);
            const int neighbor =
                clamp(y, 0, grid.count - 1) * grid.count + clamp(x, 0, grid.count - 1);
            const Found other = Found::load(from, neighbor);
            const float du = other.u - best.u, dv = other.v - best.v;
            // Steps go that far; farther away lies another motion.
            const bool far = du * du + dv * dv > 1.0f;
            if (!__any_sync(kAllLanes, far)) {
                continue;
            }
            const float misfit = patch.misfit(other.u, other.v);
            if (far && misfit < best.misfit) {
                best = {other.u, other.v, misfit};
            }
        }
        if (writes) {
            best.store(to, index);
        }
    });
}

// Each pixel's flow: the mean of its patches' displacements, weighted by how well each fits there,
// added up row by row of patches.
__device__ inline void densify(const Level& level, const Grid& grid, int rounds) {
    const float* const found = level.found_in(rounds, grid.patches());
    const int overlap = grid.patch / grid.stride;
    for_each_pixel(level.side, [&](int y, int x) {
        const float expected = load_global(level.earlier + level.pixel(y, x));
        float weights = 0.0f, sum_u = 0.0f, sum_v = 0.0f;
        for (int i = 0; i < overlap * overlap; ++i) {
            const int row = y / grid.stride + i / overlap, column = x / grid.stride + i % overlap;
            const int index = row * grid.count + column;
            const int top = grid.top(index), left = grid.left(index);
            const float u = load_global(found + 3 * index), v = load_global(found + 3 * index + 1);
            const Place at(level.side, grid.patch, static_cast<float>(top) + v,
                           static_cast<float>(left) + u);
            const Column seen(level, at.x + x - left, at.fx);
            const float error =
                between(seen.at(at.y + y - top), seen.at(at.y + y - top + 1), at.fy) - expected;
            const float weight = 1.0f / (fabsf(error) > 1.0f ? fabsf(error) : 1.0f);
            weights += weight;
            sum_u += weight * u;
            sum_v += weight * v;
        }
        const int at = level.place(y, x);
        level.set(level.flow_u, at, sum_u / weights);
        level.set(level.flow_v, at, sum_v / weights);
    });
}

__device__ inline void search(const Level& level, const FlowParameters& parameters) {
    const Grid grid(level.side, parameters);
    gradients(level);
    __syncthreads();
    descend(level, grid, parameters);
    __syncthreads();
    for (int round = 0; round < parameters.propagations; ++round) {
        propagate(level, grid, round);
        __syncthreads();
    }
    densify(level, grid, parameters.propagations);
    __syncthreads();
}

}  // namespace
}  // namespace flow
}  // namespace cuda
}  // namespace fgmclip
