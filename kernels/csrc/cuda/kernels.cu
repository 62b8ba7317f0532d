// The kernels, as nvcc compiles them into the fat binary and the tests' host layer into a library:
//
//     nvcc --fmad=false -std=c++17 kernels.cu
//
// Each product and sum is rounded, as on a CPU: a fused multiply-add would give other bits.
// fgmclip/kernels/cuda/abi.py names the kernels and lays out their structures.
#include "abi.cuh"
#include "device.cuh"
#include "frame_difference.cuh"
#include "normalize.cuh"
#include "optical_flow.cuh"
#include "preprocess.cuh"

using namespace fgmclip::cuda;

// FRAMES to PIXELS [R n, 3, S, S], or PIXELS_U8 [R n, S, S, 3], and LUMA_U8 [R n, 2, M, M]; a block
// a tile. `size` is S, `motion_size` M; PIXELS or LUMA_U8 may be absent, as the tiles say.
#define FGMCLIP_PREPROCESS(name, Out)                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        name(const Tile* tiles, const std::uint8_t* frames, FrameLayout layout, Color color,       \
             Normalization normalization, std::int32_t size, std::int32_t motion_size,             \
             Out* pixels, std::uint8_t* luma) {                                                    \
        preprocess<Out>(tiles, frames, layout, color, motion_size, {pixels, normalization, size},  \
                        luma);                                                                     \
    }

FGMCLIP_PREPROCESS(preprocess_f32, float)
FGMCLIP_PREPROCESS(preprocess_f16, __half)
FGMCLIP_PREPROCESS(preprocess_u8, std::uint8_t)

// PIXELS_U8 [count, S, S, 3] to PIXELS [count, 3, S, S]; `plane` is S * S, blocks in y are images.
#define FGMCLIP_NORMALIZE(name, Out)                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        name(const std::uint8_t* pixels_u8, std::int32_t count, std::int32_t plane,                \
             Normalization normalization, Out* pixels) {                                           \
        normalize(pixels_u8, count, plane, normalization, pixels);                                 \
    }

FGMCLIP_NORMALIZE(normalize_f32, float)
FGMCLIP_NORMALIZE(normalize_f16, __half)

// LUMA_U8 [count, 2, M, M] to [count, M, M]; `plane` is M * M, blocks in y are pairs.
#define FGMCLIP_FRAME_DIFFERENCE(name, Out)                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        name(const std::uint8_t* luma, std::int32_t count, std::int32_t plane, Out* difference) {  \
        frame_difference(luma, count, plane, difference);                                          \
    }

FGMCLIP_FRAME_DIFFERENCE(frame_difference_f32, float)
FGMCLIP_FRAME_DIFFERENCE(frame_difference_f16, __half)

// LUMA_U8 [pairs, 2, M, M] to the flow [pairs, 2, M, M], or to MOTION [pairs, 3, M, M]; a block a
// pair, `scratch` [pairs, scratch_floats]. One block on a multiprocessor is enough: unless it is
// told, ptxas saves registers for two, and spills.
#define FGMCLIP_FLOW(name, kDifference, Out)                                                       \
    extern "C" __global__ void __launch_bounds__(512, 1)                                           \
        name(const std::uint8_t* luma, std::int32_t size, FlowParameters parameters,               \
             float* scratch, std::int64_t scratch_floats, Out* out) {                              \
        optical_flow<kDifference>(luma, size, parameters, scratch, scratch_floats, out);           \
    }

FGMCLIP_FLOW(optical_flow_f32, false, float)
FGMCLIP_FLOW(motion_f32, true, float)
FGMCLIP_FLOW(motion_f16, true, __half)
