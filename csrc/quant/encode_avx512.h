/* encode_avx512.h -- the few steps that most AVX-512 encoders are made of.
 *
 * Blocks of 32 go four at a time: what is one number a block, a scale, is then
 * one lane of four, and the slow divisions serve four blocks. */
#ifndef TS_QUANT_ENCODE_AVX512_H
#define TS_QUANT_ENCODE_AVX512_H

#include <stdbool.h>
#include <string.h>

#include "avx512.h"

/* Elements 0-15 and 16-31 of four blocks. */
typedef struct {
    __m512 a[4], b[4];
} ts_four;

/* What comes a page later is asked for: the processor's own reading ahead ends
 * with each page.  Beyond the input this asks for nothing. */
static inline TS_AVX512 ts_four ts_load_four(const uint8_t *in)
{
    ts_four x;
    for (uintptr_t line = 0; line < 512; line += 64)
        _mm_prefetch((const char *)((uintptr_t)in + 4096 + line),
                     _MM_HINT_T0);
    for (int k = 0; k < 4; k++) {
        x.a[k] = _mm512_loadu_ps(in + 128 * k);
        x.b[k] = _mm512_loadu_ps(in + 128 * k + 64);
    }
    return x;
}

static inline TS_AVX512 __m512i ts_magnitude_512(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x),
                            _mm512_set1_epi32(0x7fffffff));
}

/* Signs turned over, as floats or as integers. */
static inline TS_AVX512 __m512i ts_turn_512(__m512i x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi32(INT32_MIN));
}

static inline TS_AVX512 __m512i ts_not_512(__m512i x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi32(-1));
}

/* Lane k: the maximum over all lanes of m[k]. */
static inline TS_AVX512 __m128i ts_max_four(const __m512i m[4])
{
    __m512i s = _mm512_max_epi32(_mm512_unpacklo_epi32(m[0], m[1]),
                                 _mm512_unpackhi_epi32(m[0], m[1]));
    __m512i t = _mm512_max_epi32(_mm512_unpacklo_epi32(m[2], m[3]),
                                 _mm512_unpackhi_epi32(m[2], m[3]));
    __m512i all = _mm512_max_epi32(_mm512_unpacklo_epi64(s, t),
                                   _mm512_unpackhi_epi64(s, t));
    __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(all),
                                    _mm512_extracti64x4_epi64(all, 1));
    return _mm_max_epi32(_mm256_castsi256_si128(half),
                         _mm256_extracti128_si256(half, 1));
}

/* The bits of the largest magnitude of each block: floats without a sign are
 * in the order of their bits, and what is not finite is above all others. */
static inline TS_AVX512 __m128i ts_most_four(const ts_four *x)
{
    __m512i m[4];
    for (int k = 0; k < 4; k++)
        m[k] = _mm512_max_epi32(ts_magnitude_512(x->a[k]),
                                ts_magnitude_512(x->b[k]));
    return ts_max_four(m);
}

static inline TS_AVX512 bool ts_are_finite(__m128i most)
{
    return _mm_cmpgt_epi32_mask(most, _mm_set1_epi32(0x7f7fffff)) == 0;
}

/* ts_inverse of four. */
static inline TS_AVX512 __m128 ts_inverse_128(__m128 d)
{
    __mmask8 is_used = _mm_cmp_ps_mask(d, _mm_setzero_ps(), _CMP_NEQ_UQ);
    return _mm_maskz_div_ps(is_used, _mm_set1_ps(1), d);
}

/* Lane k of four, in all sixteen. */
static inline TS_AVX512 __m512 ts_lane_512(__m128 four, int k)
{
    return _mm512_permutexvar_ps(_mm512_set1_epi32(k),
                                 _mm512_castps128_ps512(four));
}

/* Four halves, `step` bytes apart. */
static inline TS_AVX512 void ts_store_halves(uint8_t *out, size_t step,
                                             __m128 four)
{
    uint16_t halves[8];
    _mm_storeu_si128((__m128i *)(void *)halves,
                     _mm_cvtps_ph(four, _MM_FROUND_TO_NEAREST_INT));
    for (int k = 0; k < 4; k++) memcpy(out + step * (size_t)k, halves + k, 2);
}

/* The low bytes of 16 integers and of 16 more: one permutation, where the
 * instruction that narrows takes two steps for each 16. */
static inline TS_AVX512 __m256i ts_low_bytes(__m512i a, __m512i b)
{
    const __m256i at = _mm256_setr_epi8(
        0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68,
        72, 76, 80, 84, 88, 92, 96, 100, 104, 108, 112, 116, 120, 124);
    return _mm512_castsi512_si256(
        _mm512_permutex2var_epi8(a, _mm512_castsi256_si512(at), b));
}

static inline TS_AVX512 void ts_store_256(uint8_t *out, __m256i x)
{
    _mm256_storeu_si256((__m256i *)(void *)out, x);
}

static inline TS_AVX512 void ts_store_low_bytes(uint8_t *out, __m512i x)
{
    _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8(x));
}

#endif
