// What the kernels take from CUDA, so that the same source runs on a GPU and, in the tests, on the
// host layer, which counts what global memory gives and takes.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef FGMCLIP_HOST
#include "../host_cuda/cuda.h"
#else
#include <cuda_fp16.h>

// Keeps a function that several kernels call from becoming part of each.
#define FGMCLIP_NOINLINE __noinline__

// The block's dynamic shared memory, as words.
#define FGMCLIP_SHARED(name) extern __shared__ __align__(16) std::int32_t name[]

namespace fgmclip {
namespace cuda {
namespace {

__device__ __forceinline__ void count_load(const void*, std::size_t) {}
__device__ __forceinline__ void count_store(const void*, std::size_t) {}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
#endif

namespace fgmclip {
namespace cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <class Value>
__device__ __forceinline__ Value load_global(const Value* from) {
    count_load(from, sizeof(Value));
    return *from;
}

template <class Value>
__device__ __forceinline__ void store_global(Value* to, Value value) {
    count_store(to, sizeof(Value));
    *to = value;
}

__device__ __forceinline__ bool aligned(const void* address, std::size_t bytes) {
    return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

__device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int most(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ int clamp(int value, int low, int high) {
    return least(most(value, low), high);
}

__device__ __forceinline__ int byte_of(std::uint32_t word, int index) {
    return static_cast<int>(word >> (8 * index) & 255u);
}

// A value as an output stores it.
template <class Out>
__device__ __forceinline__ Out rounded(float value);
template <>
__device__ __forceinline__ float rounded<float>(float value) {
    return value;
}
template <>
__device__ __forceinline__ __half rounded<__half>(float value) {
    return __float2half_rn(value);
}

// Four values side by side in one store; `to` is aligned to all four.
__device__ __forceinline__ void store_four(float* to, const float (&values)[4]) {
    store_global(reinterpret_cast<float4*>(to),
                 make_float4(values[0], values[1], values[2], values[3]));
}

__device__ __forceinline__ void store_four(__half* to, const float (&values)[4]) {
    std::uint32_t words[2];
    for (int i = 0; i < 2; ++i) {
        const std::uint32_t low = __half_as_ushort(__float2half_rn(values[2 * i]));
        const std::uint32_t high = __half_as_ushort(__float2half_rn(values[2 * i + 1]));
        words[i] = low | high << 16;
    }
    store_global(reinterpret_cast<uint2*>(to), make_uint2(words[0], words[1]));
}

}  // namespace
}  // namespace cuda
}  // namespace fgmclip
