#include "plan.h"

#include <algorithm>
#include <cmath>

namespace fgmclip {

namespace {

constexpr std::size_t kKept = 64;
constexpr int kBicubicBits = 22, kAreaBits = 11;

double cubic(double distance) {
    constexpr double a = -0.5;
    const double x = std::fabs(distance);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

}  // namespace

// No further than to the last weight that counts.
void Plans::Weights::trim() {
    const std::size_t outputs = start.size(), wide = static_cast<std::size_t>(taps);
    std::size_t needed = 1;
    for (std::size_t i = 0; i < outputs; ++i) {
        for (std::size_t k = wide; k > needed; --k) {
            if (weights[i * wide + k - 1] != 0) {
                needed = k;
            }
        }
    }
    for (std::size_t i = 0; i < outputs; ++i) {
        std::copy_n(weights.begin() + static_cast<std::ptrdiff_t>(i * wide), needed,
                    weights.begin() + static_cast<std::ptrdiff_t>(i * needed));
    }
    weights.resize(outputs * needed);
    taps = static_cast<int>(needed);
}

Plans::Weights Plans::bicubic(int length, int resized, int offset, int outputs) {
    const double scale = static_cast<double>(length) / resized;
    const double filter_scale = std::max(scale, 1.0);
    const double support = 2.0 * filter_scale, inverse = 1.0 / filter_scale;
    Weights result;
    result.taps = static_cast<int>(std::ceil(support)) * 2 + 1;
    result.weights.assign(static_cast<std::size_t>(outputs) * result.taps, 0);
    std::vector<double> values(static_cast<std::size_t>(result.taps));
    for (int i = 0; i < outputs; ++i) {
        const double center = (offset + i + 0.5) * scale;
        const int first = std::max(static_cast<int>(center - support + 0.5), 0);
        const int end = std::min(static_cast<int>(center + support + 0.5), length);
        double total = 0.0;
        for (int k = 0; first + k < end; ++k) {
            values[k] = cubic((first + k - center + 0.5) * inverse);
            total += values[k];
        }
        for (int k = 0; first + k < end; ++k) {
            const double scaled = values[k] / total * (1 << kBicubicBits);
            // Half away from zero.
            result.weights[static_cast<std::size_t>(i) * result.taps + k] =
                static_cast<std::int32_t>(scaled + std::copysign(0.5, scaled));
        }
        result.start.push_back(first);
    }
    result.trim();
    return result;
}

Plans::Weights Plans::area(int length, int resized, int offset, int extent, int outputs) {
    using Wide = std::int64_t;
    const Wide unit = static_cast<Wide>(resized) * outputs;
    const Wide bin = static_cast<Wide>(extent) * length;
    Weights result;
    result.taps = static_cast<int>((bin + unit - 1) / unit) + 1;
    for (int i = 0; i < outputs; ++i) {
        const Wide begin =
            (static_cast<Wide>(offset) * outputs + static_cast<Wide>(i) * extent) * length;
        const Wide first = begin / unit;
        Wide before = 0;
        for (int k = 0; k < result.taps; ++k) {
            const Wide edge = std::clamp<Wide>((first + k + 1) * unit - begin, 0, bin);
            const Wide share = ((edge << (kAreaBits + 1)) + bin) / (2 * bin);
            result.weights.push_back(static_cast<std::int32_t>(share - before));
            before = share;
        }
        result.start.push_back(static_cast<std::int32_t>(first));
    }
    result.trim();
    return result;
}

Region Plans::region(const RegionKey& key) {
    auto found = std::find_if(plans_.begin(), plans_.end(),
                              [&](const Plan& plan) { return plan.key.same_scale(key); });
    if (found == plans_.end()) {
        Plan plan{key, {}};
        plan.axes[0] = bicubic(key.width, key.resized_width, key.offset_x, key.size);
        plan.axes[1] = bicubic(key.height, key.resized_height, key.offset_y, key.size);
        if (key.motion > 0) {
            plan.axes[2] = area(key.width, key.resized_width, key.offset_x, key.size, key.motion);
            plan.axes[3] = area(key.height, key.resized_height, key.offset_y, key.size, key.motion);
        }
        plans_.push_front(std::move(plan));
        if (plans_.size() > kKept) {
            plans_.pop_back();
        }
    } else {
        plans_.splice(plans_.begin(), plans_, found);
    }
    const auto& axes = plans_.front().axes;
    Region region{};
    region.left = key.left;
    region.top = key.top;
    region.across = axes[0].axis();
    region.down = axes[1].axis();
    region.luma_across = axes[2].axis();
    region.luma_down = axes[3].axis();
    // Starts grow with the output, so the first and the last output have the span.
    const auto span = [](const Axis& a, const Axis& b, int length, int& first, int& count) {
        first = a.start[0];
        int end = a.start[a.outputs - 1] + a.taps;
        if (b.outputs > 0) {
            first = std::min(first, b.start[0]);
            end = std::max(end, b.start[b.outputs - 1] + b.taps);
        }
        count = std::min(end, length) - first;
    };
    span(region.across, region.luma_across, key.width, region.first_column, region.columns);
    span(region.down, region.luma_down, key.height, region.first_row, region.rows);
    return region;
}

}  // namespace fgmclip
