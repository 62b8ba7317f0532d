// Vectors of the width that this translation unit is compiled for, by the compiler's vector
// extension: one source for SSE, AVX2, AVX-512 and NEON.
//
// Nothing here has external linkage: the same names are compiled once for each instruction set, and
// a linker must never pick another one's copy.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

namespace fgmclip {
namespace {

#if defined(__AVX512BW__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));
// Sums over a patch are taken in eight lanes whatever the machine has: the same bits everywhere.
typedef float Eight __attribute__((vector_size(32)));

template <class Vector, class Element>
inline Vector load(const Element* from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class Vector, class Element>
inline void store(Element* to, Vector value) {
    std::memcpy(to, &value, sizeof value);
}

inline Floats splat(float value) { return Floats{} + value; }
inline Ints splat(std::int32_t value) { return Ints{} + value; }

template <class Vector>
inline Vector least(Vector a, Vector b) {
    return a < b ? a : b;
}

template <class Vector>
inline Vector most(Vector a, Vector b) {
    return a > b ? a : b;
}

// Compilers make poor code of conversions between element sizes, so these two are spelled out.
inline Ints widen(const std::uint8_t* from) {
#if defined(__AVX512BW__)
    return (Ints)_mm512_cvtepu8_epi32(load<__m128i>(from));
#elif defined(__AVX2__)
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#elif defined(__SSE4_1__)
    return (Ints)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(load<std::int32_t>(from)));
#else
    return __builtin_convertvector(load<Bytes>(from), Ints);
#endif
}

// Cut to 0..255.
inline void store_levels(std::uint8_t* to, Ints levels) {
#if defined(__AVX512BW__)
    store(to, _mm512_cvtusepi32_epi8(_mm512_max_epi32((__m512i)levels, _mm512_setzero_si512())));
#elif defined(__AVX2__)
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)levels),
                                           _mm256_extracti128_si256((__m256i)levels, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
#elif defined(__SSE4_1__)
    const __m128i words = _mm_packus_epi32((__m128i)levels, (__m128i)levels);
    store(to, _mm_cvtsi128_si32(_mm_packus_epi16(words, words)));
#else
    store(to, __builtin_convertvector(most(least(levels, splat(255)), splat(0)), Bytes));
#endif
}

inline Floats gather(const float* from, Ints index) {
#if defined(__AVX512BW__)
    return (Floats)_mm512_i32gather_ps((__m512i)index, from, 4);
#elif defined(__AVX2__)
    return (Floats)_mm256_i32gather_ps(from, (__m256i)index, 4);
#else
    Floats result{};
    for (int lane = 0; lane < kLanes; ++lane) {
        result[lane] = from[index[lane]];
    }
    return result;
#endif
}

inline Ints gather(const std::int32_t* from, Ints index) {
#if defined(__AVX512BW__)
    return (Ints)_mm512_i32gather_epi32((__m512i)index, from, 4);
#elif defined(__AVX2__)
    return (Ints)_mm256_i32gather_epi32(from, (__m256i)index, 4);
#else
    Ints result{};
    for (int lane = 0; lane < kLanes; ++lane) {
        result[lane] = from[index[lane]];
    }
    return result;
#endif
}

// 0, 1, 2, ...
inline Floats counting() {
    Floats result{};
    for (int lane = 0; lane < kLanes; ++lane) {
        result[lane] = static_cast<float>(lane);
    }
    return result;
}

inline float sum(Eight v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// 1 / sqrt(x) for x > 0, relative error below 5e-6: an integer guess and two Newton steps, the same
// bits on every machine, and a third of the time of a square root and a division.
inline Floats inverse_root(Floats x) {
    Ints bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = 0x5f3759df - (bits >> 1);
    Floats y;
    std::memcpy(&y, &bits, sizeof y);
    const Floats half = x * 0.5f;
    y = y * (1.5f - half * y * y);
    return y * (1.5f - half * y * y);
}

}  // namespace
}  // namespace fgmclip
