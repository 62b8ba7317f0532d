// From a region to the integer weights of its four axes; fgmclip/kernels/taps.py is the definition.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <vector>

#include "operations.h"

namespace fgmclip {

// The fields of fgmclip.kernels.regions.Region, then M (0 without motion).
struct RegionKey {
    int left, top, width, height, resized_width, resized_height, offset_x, offset_y, size, motion;

    bool same_scale(const RegionKey& other) const {
        return width == other.width && height == other.height &&
               resized_width == other.resized_width && resized_height == other.resized_height &&
               offset_x == other.offset_x && offset_y == other.offset_y && size == other.size &&
               motion == other.motion;
    }
    bool operator==(const RegionKey& other) const {
        return left == other.left && top == other.top && same_scale(other);
    }
};

// Keeps the weights of the regions that came last: cameras do not change their size.
class Plans {
  public:
    Region region(const RegionKey& key);

  private:
    struct Weights {
        std::vector<std::int32_t> start, weights;
        int taps = 0;

        Axis axis() const {
            return {start.data(), weights.data(), static_cast<int>(start.size()), taps};
        }
        void trim();
    };
    struct Plan {
        RegionKey key;
        std::array<Weights, 4> axes;  // bicubic across, down, area across, down
    };

    static Weights bicubic(int length, int resized, int offset, int outputs);
    static Weights area(int length, int resized, int offset, int extent, int outputs);

    std::list<Plan> plans_;  // latest first
};

}  // namespace fgmclip
