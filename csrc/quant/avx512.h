/* avx512.h -- the few steps that most AVX-512 decoders are made of. */
#ifndef TS_QUANT_AVX512_H
#define TS_QUANT_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "core/base.h"

/* An attribute and not a pragma, so that clang obeys it too. */
#define TS_AVX512                                                             \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,"    \
                          "avx512vbmi2,avx2,f16c,bmi2")))

static inline TS_AVX512 __m128i ts_load_128(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)at);
}

static inline TS_AVX512 __m256i ts_load_256(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)at);
}

static inline TS_AVX512 __m512i ts_load_512(const uint8_t *at)
{
    return _mm512_loadu_si512(at);
}

/* A half-precision scale in all 16 lanes. */
static inline TS_AVX512 __m512 ts_half_512(const uint8_t *at)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)ts_load_u16(at)));
}

/* 16 signed bytes as floats. */
static inline TS_AVX512 __m512 ts_floats_512(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

/* The high nibbles of 16 bytes that were widened to 32 bits.  A multiply, as
 * Zen 4 shifts on the two pipes that the permutations need. */
static inline TS_AVX512 __m512i ts_high_512(__m512i bytes)
{
    return _mm512_mulhi_epu16(bytes, _mm512_set1_epi32(1 << 12));
}

/* 16 bytes of nibbles become 32 floats of the table: the low ones first.
 * The permutation looks at four bits of each index, so no mask is needed. */
static inline TS_AVX512 void ts_lookup_512(const uint8_t *at, __m512 table,
                                           float *y)
{
    __m512i codes = _mm512_cvtepu8_epi32(ts_load_128(at));
    __m512i high = ts_high_512(codes);
    _mm512_storeu_ps(y, _mm512_permutexvar_ps(codes, table));
    _mm512_storeu_ps(y + 16, _mm512_permutexvar_ps(high, table));
}

/* The same with a fifth bit an element: set, it chooses the upper table. */
static inline TS_AVX512 void ts_lookup_five_512(const uint8_t *at,
                                                __mmask16 low_bits,
                                                __mmask16 high_bits,
                                                __m512 lower, __m512 upper,
                                                float *y)
{
    __m512i codes = _mm512_cvtepu8_epi32(ts_load_128(at));
    __m512i high = ts_high_512(codes);
    __m512 a = _mm512_permutexvar_ps(codes, lower);
    __m512 b = _mm512_permutexvar_ps(high, lower);
    a = _mm512_mask_permutexvar_ps(a, low_bits, codes, upper);
    b = _mm512_mask_permutexvar_ps(b, high_bits, high, upper);
    _mm512_storeu_ps(y, a);
    _mm512_storeu_ps(y + 16, b);
}

/* first, first + 1 ... first + 15 */
static inline TS_AVX512 __m512 ts_count_512(float first)
{
    const __m512 steps = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                        12, 13, 14, 15);
    return _mm512_add_ps(steps, _mm512_set1_ps(first));
}

#endif
