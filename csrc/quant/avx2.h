/* avx2.h -- the few steps that most AVX2 decoders are made of. */
#ifndef TS_QUANT_AVX2_H
#define TS_QUANT_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "core/base.h"

/* An attribute and not a pragma, so that clang obeys it too. */
#define TS_AVX2 __attribute__((target("avx2,f16c,bmi2")))

static inline TS_AVX2 __m128i ts_load_16_bytes(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)at);
}

static inline TS_AVX2 __m256i ts_load_32_bytes(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

/* A half-precision scale in all 8 lanes. */
static inline TS_AVX2 __m256 ts_half_256(const uint8_t *at)
{
    return _mm256_cvtph_ps(_mm_set1_epi16((short)ts_load_u16(at)));
}

/* 8 signed bytes as floats. */
static inline TS_AVX2 __m256 ts_floats_256(__m128i bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

/* 16 signed codes times d. */
static inline TS_AVX2 void ts_store_16(__m128i codes, __m256 d, float *y)
{
    __m256 a = ts_floats_256(codes);
    __m256 b = ts_floats_256(_mm_unpackhi_epi64(codes, codes));
    _mm256_storeu_ps(y, _mm256_mul_ps(d, a));
    _mm256_storeu_ps(y + 8, _mm256_mul_ps(d, b));
}

/* 16 signed codes times d, plus m. */
static inline TS_AVX2 void ts_store_16_plus(__m128i codes, __m256 d, __m256 m,
                                            float *y)
{
    __m256 a = ts_floats_256(codes);
    __m256 b = ts_floats_256(_mm_unpackhi_epi64(codes, codes));
    _mm256_storeu_ps(y, _mm256_add_ps(_mm256_mul_ps(d, a), m));
    _mm256_storeu_ps(y + 8, _mm256_add_ps(_mm256_mul_ps(d, b), m));
}

/* The two nibbles of 16 bytes. */
static inline TS_AVX2 __m128i ts_low_nibbles(__m128i bytes)
{
    return _mm_and_si128(bytes, _mm_set1_epi8(15));
}

static inline TS_AVX2 __m128i ts_high_nibbles(__m128i bytes)
{
    return ts_low_nibbles(_mm_srli_epi16(bytes, 4));
}

/* Bits shift and shift + 1 of each byte, shift up to 6. */
static inline TS_AVX2 __m128i ts_pairs(__m128i bytes, int shift)
{
    __m128i moved = _mm_srl_epi16(bytes, _mm_cvtsi32_si128(shift));
    return _mm_and_si128(moved, _mm_set1_epi8(3));
}

/* `value` where bit `bit` of the byte is set, else 0. */
static inline TS_AVX2 __m128i ts_where_set(__m128i bytes, int bit, char value)
{
    __m128i at = _mm_set1_epi8((char)(1 << bit));
    __m128i is_set = _mm_cmpeq_epi8(_mm_and_si128(bytes, at), at);
    return _mm_and_si128(is_set, _mm_set1_epi8(value));
}

#endif
