#include "workspace.h"

#include <algorithm>
#include <cstring>

namespace fgmclip {

namespace {

// Rows of output in a task: enough to be worth a thread, few enough to share out.
constexpr int kBlock = 16;

int blocks(int rows) { return (rows + kBlock - 1) / kBlock; }

// Room for each thread, made before they start: tasks allocate nothing.
template <class Element>
void make_room(std::vector<Buffer<Element>>& buffers, std::size_t count) {
    for (auto& buffer : buffers) {
        buffer.room(count);
    }
}

}  // namespace

// One frame seen through one region.
struct Workspace::Job {
    int frame;
    Region region;
    int pixels;  // which PIXELS it becomes; -1 for none
    bool luma;
    int strips() const { return (region.rows + kStrip - 1) / kStrip; }
    // Vectors and zero weights may reach over the end.
    std::ptrdiff_t padded_rows() const {
        return static_cast<std::ptrdiff_t>(strips()) * kStrip + region.luma_down.taps;
    }
};

void Workspace::across(const Frames& frames, const Job& job, const Color& color) {
    const Region& region = job.region;
    const int size = region.across.outputs, strips = job.strips();
    const Frame frame = frames.at(job.frame);
    // Zero weights may read past the last column or row.
    const std::size_t columns = static_cast<std::size_t>(region.columns) +
                                std::max(region.across.taps, region.luma_across.taps) + 2;
    std::uint8_t* middle = nullptr;
    std::int32_t* sums = nullptr;
    if (job.pixels >= 0) {
        middle = middle_.room((static_cast<std::size_t>(strips) * kStrip + region.down.taps) * 3 *
                                  size +
                              256);
    }
    if (job.luma) {
        sums = sums_.room(static_cast<std::size_t>(job.padded_rows()) * region.luma_across.outputs +
                          64);
    }
    const std::size_t column = kStrip * columns, resized = 3 * kStrip * size;
    make_room(strips_, 8 * column + resized + 16 * kStrip);
    make_room(planes_, 3 * static_cast<std::size_t>(size) * size);
    pool_.run(strips, [&](int index, int thread) {
        std::uint8_t* part = strips_[thread].room(0);
        const Strip scratch{part, part + 3 * column, part + 6 * column, part + 8 * column};
        operations_->strip(frame, region, color, index, scratch, middle, sums, job.padded_rows());
    });
}

void Workspace::luma_down(const Job& job, int index, std::uint8_t* out) {
    const int size = job.region.luma_down.outputs, begin = index * kBlock;
    operations_->luma_rows(job.region, sums_.room(0), job.padded_rows(), begin,
                           std::min(begin + kBlock, size), out);
}

void Workspace::pixels_down(const Job& job, int index, int thread, const Pixels& pixels) {
    const std::size_t size = static_cast<std::size_t>(job.region.down.outputs);
    const std::size_t begin = static_cast<std::size_t>(index) * kBlock;
    const std::size_t end = std::min(begin + kBlock, size);
    std::uint8_t* planes = planes_[thread].room(0);
    operations_->pixel_rows(job.region, middle_.room(0), static_cast<int>(begin),
                            static_cast<int>(end), planes);
    const std::size_t count = (end - begin) * size;
    for (std::size_t c = 0; c < 3; ++c) {
        const std::uint8_t* levels = planes + (c * size + begin) * size;
        if (pixels.values != nullptr) {
            const std::size_t at = ((static_cast<std::size_t>(job.pixels) * 3 + c) * size + begin);
            operations_->normalize_plane(levels, count, pixels.normalization.mean[c],
                                         pixels.normalization.std[c], pixels.values + at * size);
        } else {
            std::uint8_t* to =
                pixels.levels + (static_cast<std::size_t>(job.pixels) * size + begin) * size * 3 + c;
            for (std::size_t i = 0; i < count; ++i) {
                to[3 * i] = levels[i];
            }
        }
    }
}

Team Workspace::team() {
    Team team;
    team.threads = pool_.threads();
    team.pool = &pool_;
    team.run = [](void* pool, int count, const void* task, void (*call)(const void*, int)) {
        static_cast<Pool*>(pool)->run(count, [&](int index, int) { call(task, index); });
    };
    return team;
}

// Calls each(index, thread, team): a pair for each thread, and all threads for each one left over.
template <class Task>
void Workspace::each_pair(int count, int size, const FlowParameters& flow, const Task& task) {
    const int threads = pool_.threads(), left = count % threads, even = count - left;
    const std::size_t room = flow_scratch(size, flow);
    if (even > 0) {
        make_room(flows_, room);
    } else {
        flows_[0].room(room);
    }
    pool_.run(even, [&](int index, int thread) { task(index, thread, Team()); });
    for (int index = even; index < count; ++index) {
        task(index, 0, team());
    }
}

void Workspace::pair_flow(const std::uint8_t* pair, int size, const FlowParameters& flow,
                          float scale, int thread, const Team& team, float* out) {
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    operations_->optical_flow(pair, pair + plane, size, flow, scale, team,
                              flows_[thread].room(0), out);
}

void Workspace::pair_motion(const std::uint8_t* pair, int size, const FlowParameters& flow,
                            int thread, const Team& team, float* out) {
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    operations_->frame_difference(pair, pair + plane, plane, out);
    pair_flow(pair, size, flow, static_cast<float>(size), thread, team, out + plane);
}

void Workspace::preprocess(const Frames& frames, const std::vector<RegionKey>& regions,
                           const Color& color, const Pixels& pixels, const FlowParameters& flow,
                           std::uint8_t* luma, float* motion) {
    const int samples = frames.count - 1;
    const int pairs = static_cast<int>(regions.size());
    const int size = luma == nullptr ? 0 : regions[0].motion;
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    Job last{};
    for (int pair = 0; pair < pairs; ++pair) {
        const int sample = pair % samples;
        const bool same_before = sample > 0 && regions[pair - 1] == regions[pair];
        const bool same_after = sample + 1 < samples && regions[pair + 1] == regions[pair];
        // Where the region stays, a frame is the later of one pair and the earlier of the next.
        for (int frame = sample + (same_before || luma == nullptr ? 1 : 0); frame <= sample + 1;
             ++frame) {
            const bool later = frame == sample + 1;
            const Job job{frame, plans_.region(regions[pair]), later ? pair : -1, luma != nullptr};
            across(frames, job, color);
            const std::size_t slot = 2 * static_cast<std::size_t>(pair) + (later ? 1 : 0);
            std::uint8_t* const out = luma == nullptr ? nullptr : luma + slot * plane;
            const int luma_blocks = luma == nullptr ? 0 : blocks(size);
            last = job;
            const bool final = pair == pairs - 1 && later;
            const int pixel_blocks = later && !final ? blocks(job.region.down.outputs) : 0;
            pool_.run(luma_blocks + pixel_blocks, [&](int index, int thread) {
                if (index < luma_blocks) {
                    luma_down(job, index, out);
                } else {
                    pixels_down(job, index - luma_blocks, thread, pixels);
                }
            });
            if (luma != nullptr && later && same_after) {
                std::memcpy(luma + (slot + 1) * plane, out, plane);
            }
        }
    }
    pool_.run(blocks(last.region.down.outputs),
              [&](int index, int thread) { pixels_down(last, index, thread, pixels); });
    if (motion != nullptr) {
        this->motion(luma, pairs, size, flow, motion);
    }
}

void Workspace::resize(const Frames& frames, const RegionKey& region, const Color& color,
                       const Pixels& pixels) {
    const Job job{0, plans_.region(region), 0, false};
    across(frames, job, color);
    pool_.run(blocks(region.size),
              [&](int index, int thread) { pixels_down(job, index, thread, pixels); });
}

void Workspace::luma(const Frames& frames, const RegionKey& region, const Color& color,
                     std::uint8_t* out) {
    const Job job{0, plans_.region(region), -1, true};
    across(frames, job, color);
    pool_.run(blocks(region.motion), [&](int index, int) { luma_down(job, index, out); });
}

void Workspace::normalize(const std::uint8_t* levels, int count, int size,
                          const Normalization& how, float* values) {
    // Parts of an image: a stream brings one at a time.
    constexpr std::size_t kPart = 16384;
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    const int parts = static_cast<int>((plane + kPart - 1) / kPart);
    pool_.run(count * parts, [&](int index, int) {
        const std::size_t image = static_cast<std::size_t>(index / parts);
        const std::size_t begin = static_cast<std::size_t>(index % parts) * kPart;
        const std::size_t first = image * 3 * plane;
        operations_->normalize_pixels(levels + first + 3 * begin, std::min(kPart, plane - begin),
                                      how.mean, how.std, values + first + begin, plane);
    });
}

void Workspace::motion(const std::uint8_t* luma, int count, int size, const FlowParameters& flow,
                       float* out) {
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    each_pair(count, size, flow, [&](int index, int thread, const Team& team) {
        const std::size_t at = static_cast<std::size_t>(index);
        pair_motion(luma + 2 * at * plane, size, flow, thread, team, out + 3 * at * plane);
    });
}

void Workspace::optical_flow(const std::uint8_t* luma, int count, int size,
                             const FlowParameters& flow, float* out) {
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    each_pair(count, size, flow, [&](int index, int thread, const Team& team) {
        const std::size_t at = static_cast<std::size_t>(index);
        pair_flow(luma + 2 * at * plane, size, flow, 1.0f, thread, team, out + 2 * at * plane);
    });
}

void Workspace::frame_difference(const std::uint8_t* luma, int count, int size, float* out) {
    const std::size_t plane = static_cast<std::size_t>(size) * size;
    pool_.run(count, [&](int index, int) {
        const std::size_t at = static_cast<std::size_t>(index);
        const std::uint8_t* pair = luma + 2 * at * plane;
        operations_->frame_difference(pair, pair + plane, plane, out + at * plane);
    });
}

}  // namespace fgmclip
