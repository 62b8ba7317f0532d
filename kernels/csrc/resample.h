// Resampling in strips: sixteen rows of a frame are turned so that a column of them lies side by
// side in memory. Sums across then run over vectors of rows, whatever the channels or the colour
// format, and each pixel of the frame is read once.
#pragma once

#include "operations.h"
#include "vectors.h"

namespace fgmclip {
namespace {

constexpr int kBicubicBits = 22;
constexpr int kAreaBits = 11;
constexpr int kColorBits = 16;
constexpr int kPerStrip = kStrip / kLanes;

typedef std::uint8_t Sixteen __attribute__((vector_size(16)));

inline Sixteen low_halves(Sixteen a, Sixteen b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

inline Sixteen high_halves(Sixteen a, Sixteen b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
}

// Four rounds of interleaving row i with row i + 8 transpose 16 x 16 bytes.
inline void transpose(Sixteen rows[16]) {
    Sixteen other[16];
    for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 8; ++i) {
            other[2 * i] = low_halves(rows[i], rows[i + 8]);
            other[2 * i + 1] = high_halves(rows[i], rows[i + 8]);
        }
        for (int i = 0; i < 8; ++i) {
            rows[2 * i] = low_halves(other[i], other[i + 8]);
            rows[2 * i + 1] = high_halves(other[i], other[i + 8]);
        }
    }
}

// Bytes `begin .. end` of sixteen rows into out [end - begin, 16], black where the mask is 0.
inline void turn(const std::uint8_t* const rows[16], Sixteen mask, std::ptrdiff_t begin,
                 std::ptrdiff_t end, std::uint8_t* out) {
    std::ptrdiff_t at = begin;
    for (; at + 16 <= end; at += 16, out += 256) {
        Sixteen block[16];
        for (int i = 0; i < 16; ++i) {
            block[i] = load<Sixteen>(rows[i] + at);
        }
        transpose(block);
        for (int i = 0; i < 16; ++i) {
            store(out + 16 * i, block[i] & mask);
        }
    }
    for (; at < end; ++at, out += 16) {
        for (int i = 0; i < 16; ++i) {
            out[i] = rows[i][at] & mask[i];
        }
    }
}

// Columns of the region that the frame has, counted from the region's first column.
struct Inside {
    int begin, end;  // end >= begin
};

inline Inside inside(const Frame& frame, const Region& region) {
    const int first = region.left + region.first_column;
    const int begin = first < 0 ? -first : 0;
    const int room = frame.width - first;
    int end = region.columns < room ? region.columns : room;
    end = end < begin ? begin : end;
    return {begin < region.columns ? begin : region.columns,
            end < region.columns ? end : region.columns};
}

struct Lines {
    const std::uint8_t* pixels[kStrip];
    const std::uint8_t* chroma[kStrip];
    alignas(16) std::uint8_t mask[kStrip];  // 255 where the frame has the row
    bool any, all;
};

inline Lines lines(const Frame& frame, const Region& region, int strip) {
    Lines result{};
    result.all = true;
    for (int i = 0; i < kStrip; ++i) {
        const int row = strip * kStrip + i;
        int y = region.top + region.first_row + row;
        const bool there = row < region.rows && y >= 0 && y < frame.height;
        // Some row is read where there is none, and masked.
        y = there ? y : 0;
        result.pixels[i] = frame.pixels + y * frame.row_stride;
        result.chroma[i] =
            frame.chroma == nullptr ? nullptr : frame.chroma + y / 2 * frame.row_stride;
        result.mask[i] = there ? 255 : 0;
        result.any |= there;
        result.all &= there;
    }
    return result;
}

// NV12 in strips to RGB in strips, [columns, 3, 16], and Y to luma in place. `uv` [pairs, 2, 16]
// begins at the pair of column `odd`, 1 where the first column is the second of its pair.
inline void color_strip(const Color& color, std::uint8_t* y, const std::uint8_t* uv, int odd,
                        int columns, const Lines& row, std::uint8_t* rgb) {
    for (int part = 0; part < kStrip; part += kLanes) {
        const Bytes seen = load<Bytes>(row.mask + part);
        Ints red{}, green{}, blue{};
        for (int column = 0; column < columns; ++column) {
            // Two columns share their chroma.
            if (column == 0 || (column + odd) % 2 == 0) {
                const std::uint8_t* chroma = uv + (column + odd) / 2 * 2 * kStrip + part;
                const Ints u = widen(chroma) - 128;
                const Ints v = widen(chroma + kStrip) - 128;
                red = v * color.red_v;
                green = u * color.green_u + v * color.green_v;
                blue = u * color.blue_u;
            }
            const Ints level =
                (widen(y + column * kStrip + part) - color.black) * color.luma + (1 << 15);
            if (color.black != 0) {
                store_levels(y + column * kStrip + part, level >> kColorBits);
            }
            std::uint8_t* to = rgb + column * 3 * kStrip + part;
            store_levels(to, (level + red) >> kColorBits);
            store_levels(to + kStrip, (level - green) >> kColorBits);
            store_levels(to + 2 * kStrip, (level + blue) >> kColorBits);
            // Rows that the frame has not, which few strips hold.
            for (int c = 0; c < (row.all ? 0 : 3); ++c) {
                store(to + c * kStrip, load<Bytes>(to + c * kStrip) & seen);
            }
        }
    }
}

inline void luma_of_rgb(const Color& color, const std::uint8_t* rgb, int columns,
                        std::uint8_t* luma) {
    for (int column = 0; column < columns; ++column) {
        for (int part = 0; part < kStrip; part += kLanes) {
            const std::uint8_t* from = rgb + column * 3 * kStrip + part;
            const Ints level = widen(from) * color.weight_r +
                               widen(from + kStrip) * color.weight_g +
                               widen(from + 2 * kStrip) * color.weight_b + (1 << 15);
            store_levels(luma + column * kStrip + part, level >> kColorBits);
        }
    }
}

inline void luma_of_y(const Color& color, std::uint8_t* y, int columns) {
    if (color.black == 0) {
        return;
    }
    for (int at = 0; at < columns * kStrip; at += kLanes) {
        store_levels(y + at, ((widen(y + at) - color.black) * color.luma + (1 << 15)) >> kColorBits);
    }
}

// rgb [columns, 3, 16] to out [3, S, 16].
inline void bicubic_across(const Axis& axis, int first, const std::uint8_t* rgb,
                           std::uint8_t* out) {
    for (int x = 0; x < axis.outputs; ++x) {
        const std::int32_t* weights = axis.weights + x * axis.taps;
        const std::uint8_t* from = rgb + (axis.start[x] - first) * 3 * kStrip;
        Ints total[3 * kPerStrip];
        for (auto& value : total) {
            value = splat(1 << (kBicubicBits - 1));
        }
        for (int k = 0; k < axis.taps; ++k, from += 3 * kStrip) {
            const Ints weight = splat(weights[k]);
            for (int i = 0; i < 3 * kPerStrip; ++i) {
                total[i] += widen(from + i * kLanes) * weight;
            }
        }
        for (int i = 0; i < 3 * kPerStrip; ++i) {
            const int channel = i / kPerStrip, part = i % kPerStrip;
            store_levels(out + (channel * axis.outputs + x) * kStrip + part * kLanes,
                         total[i] >> kBicubicBits);
        }
    }
}

// luma [columns, 16] to sums [M, padded_rows], sixteen rows of them.
inline void area_across(const Axis& axis, int first, const std::uint8_t* luma, std::int32_t* sums,
                        std::ptrdiff_t padded_rows) {
    for (int x = 0; x < axis.outputs; ++x) {
        const std::int32_t* weights = axis.weights + x * axis.taps;
        const std::uint8_t* from = luma + (axis.start[x] - first) * kStrip;
        Ints total[kPerStrip] = {};
        for (int k = 0; k < axis.taps; ++k, from += kStrip) {
            for (int i = 0; i < kPerStrip; ++i) {
                total[i] += widen(from + i * kLanes) * weights[k];
            }
        }
        for (int i = 0; i < kPerStrip; ++i) {
            store(sums + x * padded_rows + i * kLanes, total[i]);
        }
    }
}

void strip(const Frame& frame, const Region& region, const Color& color, int index,
           const Strip& scratch, std::uint8_t* middle, std::int32_t* sums,
           std::ptrdiff_t padded_rows) {
    const Lines row = lines(frame, region, index);
    const Sixteen mask = load<Sixteen>(row.mask);
    Inside columns = inside(frame, region);
    if (!row.any) {
        columns.end = columns.begin;
    }
    const int count = columns.end - columns.begin;
    const int x = region.left + region.first_column + columns.begin;
    std::uint8_t* luma = scratch.luma;
    // What the frame has not is black.
    std::memset(luma, 0, static_cast<std::size_t>(columns.begin) * kStrip);
    std::memset(luma + columns.end * kStrip, 0,
                static_cast<std::size_t>(region.columns - columns.end) * kStrip);
    std::memset(scratch.rgb, 0, static_cast<std::size_t>(columns.begin) * 3 * kStrip);
    std::memset(scratch.rgb + columns.end * 3 * kStrip, 0,
                static_cast<std::size_t>(region.columns - columns.end) * 3 * kStrip);
    luma += columns.begin * kStrip;
    std::uint8_t* rgb = scratch.rgb + columns.begin * 3 * kStrip;
    if (count > 0 && frame.chroma == nullptr) {
        turn(row.pixels, mask, 3 * static_cast<std::ptrdiff_t>(x), 3 * (x + count), rgb);
        if (sums != nullptr) {
            luma_of_rgb(color, rgb, count, luma);
        }
    } else if (count > 0) {
        turn(row.pixels, mask, x, x + count, luma);
        if (middle != nullptr) {
            const int odd = x % 2;
            turn(row.chroma, mask, x - odd, (x + count + 1) / 2 * 2, scratch.planes);
            color_strip(color, luma, scratch.planes, odd, count, row, rgb);
        } else {
            luma_of_y(color, luma, count);
        }
    }
    if (sums != nullptr) {
        area_across(region.luma_across, region.first_column, scratch.luma, sums + index * kStrip,
                    padded_rows);
    }
    if (middle != nullptr) {
        bicubic_across(region.across, region.first_column, scratch.rgb, scratch.across);
        const std::ptrdiff_t width = 3 * region.across.outputs;
        // Back to rows; the last strip may hold rows that nobody reads.
        for (std::ptrdiff_t at = 0; at < width; at += 16) {
            const std::size_t wide = static_cast<std::size_t>(width - at < 16 ? width - at : 16);
            Sixteen block[16] = {};
            std::memcpy(block, scratch.across + at * kStrip, wide * kStrip);
            transpose(block);
            for (int i = 0; i < kStrip; ++i) {
                std::memcpy(middle + (index * kStrip + i) * width + at, &block[i], wide);
            }
        }
    }
}

void pixel_rows(const Region& region, const std::uint8_t* middle, int begin, int end,
                std::uint8_t* planes) {
    const Axis& axis = region.down;
    const int width = 3 * region.across.outputs, size = region.across.outputs;
    constexpr int kBlock = 4 * kLanes;
    for (int y = begin; y < end; ++y) {
        const std::int32_t* weights = axis.weights + y * axis.taps;
        const std::uint8_t* rows = middle + (axis.start[y] - region.first_row) * width;
        alignas(64) std::uint8_t line[kBlock];
        for (int x = 0; x < width; x += kBlock) {
            Ints total[4];
            for (auto& value : total) {
                value = splat(1 << (kBicubicBits - 1));
            }
            // middle is padded: the last block may read past the row, and throws that away.
            const std::uint8_t* from = rows + x;
            for (int k = 0; k < axis.taps; ++k, from += width) {
                const Ints weight = splat(weights[k]);
                for (int i = 0; i < 4; ++i) {
                    total[i] += widen(from + i * kLanes) * weight;
                }
            }
            for (int i = 0; i < 4; ++i) {
                store_levels(line + i * kLanes, total[i] >> kBicubicBits);
            }
            for (int i = 0; i < kBlock && x + i < width;) {
                const int channel = (x + i) / size, column = (x + i) % size;
                int run = size - column;
                run = run < kBlock - i ? run : kBlock - i;
                std::memcpy(planes + (channel * size + y) * size + column, line + i,
                            static_cast<std::size_t>(run));
                i += run;
            }
        }
    }
}

void luma_rows(const Region& region, const std::int32_t* sums, std::ptrdiff_t padded_rows, int begin,
               int end, std::uint8_t* luma) {
    const Axis& axis = region.luma_down;
    const int size = axis.outputs;
    for (int y = begin; y < end; ++y) {
        const std::int32_t* weights = axis.weights + y * axis.taps;
        const std::int32_t* column = sums + (axis.start[y] - region.first_row);
        for (int x = 0; x < size; ++x, column += padded_rows) {
            std::int32_t total = 1 << (2 * kAreaBits - 1);
            for (int k = 0; k < axis.taps; ++k) {
                total += column[k] * weights[k];
            }
            luma[y * size + x] = static_cast<std::uint8_t>(total >> (2 * kAreaBits));
        }
    }
}

// A byte has 256 values: each is computed once, then looked up.
struct Levels {
    float table[256];

    Levels(float mean, float std) {
        for (int level = 0; level < 256; ++level) {
            table[level] = (static_cast<float>(level) / 255.0f - mean) / std;
        }
    }
};

void normalize_plane(const std::uint8_t* levels, std::size_t count, float mean, float std,
                     float* out) {
    const Levels values(mean, std);
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = values.table[levels[i]];
    }
}

void normalize_pixels(const std::uint8_t* levels, std::size_t count, const float* mean,
                      const float* std, float* out, std::size_t plane) {
    const Levels red(mean[0], std[0]), green(mean[1], std[1]), blue(mean[2], std[2]);
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = red.table[levels[3 * i]];
        out[plane + i] = green.table[levels[3 * i + 1]];
        out[2 * plane + i] = blue.table[levels[3 * i + 2]];
    }
}

void frame_difference(const std::uint8_t* earlier, const std::uint8_t* later, std::size_t count,
                      float* out) {
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = (static_cast<float>(later[i]) - static_cast<float>(earlier[i])) / 255.0f;
    }
}

}  // namespace
}  // namespace fgmclip
