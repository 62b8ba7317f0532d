// CUDA's words on a host, for tests: the same kernels, compiled by a C++ compiler, run thread by
// thread on one core. machine.h is what runs them.
//
// Every load and store of global memory is counted, and must lie inside of one allocation and at
// the alignment that a GPU wants.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

#define __syncthreads() fgmclip::host::barrier(__FILE__, __LINE__)
#define __any_sync(mask, value) fgmclip::host::any(mask, value, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, lanes) \
    fgmclip::host::exchange(mask, value, lanes, __FILE__, __LINE__)

#define FGMCLIP_NOINLINE

#define FGMCLIP_SHARED(name) \
    std::int32_t* const name = static_cast<std::int32_t*>(fgmclip::host::shared_memory())

namespace fgmclip {
namespace host {

constexpr unsigned kLanes = 32;

struct Index {
    unsigned x, y, z;
};

}  // namespace host
}  // namespace fgmclip

extern fgmclip::host::Index threadIdx, blockIdx, blockDim, gridDim;

namespace fgmclip {
namespace host {

void barrier(const char* file, int line);
// What each lane of the warp brings, once all have come.
const std::uint32_t* gather(std::uint32_t mask, std::uint32_t bits, const char* file, int line);
void* shared_memory();
void count_access(const void* address, std::size_t bytes, bool store);

inline float exchange(std::uint32_t mask, float value, unsigned lanes, const char* file, int line) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = gather(mask, bits, file, line)[(threadIdx.x % kLanes) ^ lanes];
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline int any(std::uint32_t mask, bool value, const char* file, int line) {
    const std::uint32_t* all = gather(mask, value, file, line);
    return std::find(all, all + kLanes, 1u) != all + kLanes;
}

}  // namespace host

namespace cuda {
namespace {

inline void count_load(const void* from, std::size_t bytes) {
    host::count_access(from, bytes, false);
}
inline void count_store(const void* to, std::size_t bytes) { host::count_access(to, bytes, true); }

}  // namespace
}  // namespace cuda
}  // namespace fgmclip

struct alignas(8) uint2 {
    std::uint32_t x, y;
};
struct alignas(16) uint4 {
    std::uint32_t x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

inline uint2 make_uint2(std::uint32_t x, std::uint32_t y) { return {x, y}; }
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) {
    return {x, y, z, w};
}
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline int __float_as_int(float value) {
    int bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Each digit of `selector` picks one of the eight bytes of b, a.
inline std::uint32_t __byte_perm(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(b) << 32 | a;
    std::uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t from = selector >> (4 * i) & 7;
        result |= static_cast<std::uint32_t>(bytes >> (8 * from) & 255) << (8 * i);
    }
    return result;
}

struct __half {
    std::uint16_t bits;
};

inline std::uint16_t __half_as_ushort(__half value) { return value.bits; }

// To the nearest, half to even.
inline __half __float2half_rn(float value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(__float_as_int(value));
    const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return {static_cast<std::uint16_t>(0x7fffu)};  // as the GPU's instruction: one NaN
    }
    std::uint32_t half;
    if (magnitude >= 0x477ff000u) {  // 65520: what rounds to infinity
        half = 0x7c00u;
    } else if (magnitude < 0x38800000u) {  // below 2**-14: steps of 2**-24, which this adds up
        const float shifted = __int_as_float(static_cast<int>(magnitude)) + 0.5f;
        half = static_cast<std::uint32_t>(__float_as_int(shifted)) - 0x3f000000u;
    } else {
        const std::uint32_t odd = magnitude >> 13 & 1;
        half = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
    }
    return {static_cast<std::uint16_t>(sign | half)};
}
