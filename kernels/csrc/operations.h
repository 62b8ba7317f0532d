// The operations as one instruction set computes them, and what they are told.
// operations.cpp is compiled once for each instruction set; dispatch.cpp picks one at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fgmclip {

// Rows of a frame are taken in strips of this many, which then lie side by side in memory.
constexpr int kStrip = 16;

// Integer weights of one axis of a resampling: output i sums inputs start[i] .. start[i] + taps - 1.
struct Axis {
    const std::int32_t* start;    // [outputs]
    const std::int32_t* weights;  // [outputs, taps], zero-padded
    int outputs;
    int taps;
};

// What of a frame becomes PIXELS and luma. Inputs of all axes count from the region's corner.
struct Region {
    int left, top;               // of the frame; may lie outside
    int first_column, columns;   // inputs that any axis reads
    int first_row, rows;
    Axis across, down;           // bicubic, S outputs each
    Axis luma_across, luma_down; // area, M outputs each; no outputs without motion
};

// u8 RGB [height, width, 3], or NV12: Y [height, width] and UV [height / 2, width].
struct Frame {
    const std::uint8_t* pixels;
    const std::uint8_t* chroma;  // null for RGB
    std::ptrdiff_t row_stride;   // bytes, of both planes
    int height, width;
};

// fgmclip/kernels/color.py has the formulas.
struct Color {
    std::int32_t weight_r, weight_g, weight_b;
    std::int32_t luma, black, red_v, green_u, green_v, blue_u;
};

// fgmclip.kernels.parameters.FlowParameters has the meanings.
struct FlowParameters {
    int coarsest_side, finest_level, patch_size, patch_stride, iterations, propagations;
    int refinement_iterations, relaxation_iterations;
    float stiffness, smoothness, gradient, intensity;
};

// Threads that share the work of one call; without any it runs in the caller's.
struct Team {
    int threads = 1;
    void* pool = nullptr;
    void (*run)(void* pool, int count, const void* task, void (*call)(const void*, int)) = nullptr;

    // Calls task(index) for each index below count, in any order, and returns when all are done.
    template <class Task>
    void each(int count, const Task& task) const {
        if (run == nullptr || count < 2) {
            for (int index = 0; index < count; ++index) {
                task(index);
            }
            return;
        }
        run(pool, count, &task,
            [](const void* one, int index) { (*static_cast<const Task*>(one))(index); });
    }
};

// Buffers of one strip; `Strip::bytes` says how large.
struct Strip {
    std::uint8_t* planes;   // [columns, 3, kStrip] or [columns, 3 (Y, U, V), kStrip]
    std::uint8_t* rgb;      // [columns, 3, kStrip], converted
    std::uint8_t* luma;     // [columns, kStrip]
    std::uint8_t* across;   // [3, S, kStrip], resized across
};

struct Operations {
    const char* name;

    // Rows strip * kStrip .. of the region: bicubic across into middle [rows, 3, S] unless it is
    // null, area sums across into sums [M, padded_rows] unless it is null.
    void (*strip)(const Frame& frame, const Region& region, const Color& color, int strip,
                  const Strip& scratch, std::uint8_t* middle, std::int32_t* sums,
                  std::ptrdiff_t padded_rows);

    // Rows begin .. end of PIXELS_U8: down from middle; planar levels [3, S, S].
    void (*pixel_rows)(const Region& region, const std::uint8_t* middle, int begin, int end,
                       std::uint8_t* planes);

    // Rows begin .. end of LUMA_U8 [M, M] from sums.
    void (*luma_rows)(const Region& region, const std::int32_t* sums, std::ptrdiff_t padded_rows,
                      int begin, int end, std::uint8_t* luma);

    // (level / 255 - mean) / std.
    void (*normalize_plane)(const std::uint8_t* levels, std::size_t count, float mean, float std,
                            float* out);

    // The same for pixels of three interleaved levels, into planes that lie `plane` values apart.
    void (*normalize_pixels)(const std::uint8_t* levels, std::size_t count, const float* mean,
                             const float* std, float* out, std::size_t plane);

    // (later - earlier) / 255.
    void (*frame_difference)(const std::uint8_t* earlier, const std::uint8_t* later,
                             std::size_t count, float* out);

    // Flow of one pair of side x side, divided by scale, into out [2, side, side].
    void (*optical_flow)(const std::uint8_t* earlier, const std::uint8_t* later, int side,
                         const FlowParameters& parameters, float scale, const Team& team,
                         float* scratch, float* out);
};

// Floats of scratch that optical_flow needs.
std::size_t flow_scratch(int side, const FlowParameters& parameters);

// The best that this machine runs; `name` asks for another one, null when it is not here.
const Operations* operations();
const Operations* operations(const char* name);

}  // namespace fgmclip
