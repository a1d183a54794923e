/* encode_avx2.h -- the few steps that most AVX2 encoders are made of. */
#ifndef TS_QUANT_ENCODE_AVX2_H
#define TS_QUANT_ENCODE_AVX2_H

#include <stdbool.h>
#include <string.h>

#include "avx2.h"

/* Elements 0-7, 8-15, 16-23 and 24-31 of a block. */
typedef struct {
    __m256 part[4];
} ts_block;

static inline TS_AVX2 ts_block ts_load_block(const uint8_t *in)
{
    ts_block x;
    for (int k = 0; k < 4; k++)
        x.part[k] = _mm256_loadu_ps((const float *)(const void *)in + 8 * k);
    return x;
}

static inline TS_AVX2 __m256i ts_magnitude_256(__m256 x)
{
    return _mm256_and_si256(_mm256_castps_si256(x),
                            _mm256_set1_epi32(0x7fffffff));
}

static inline TS_AVX2 uint32_t ts_max_256(__m256i x)
{
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(x),
                                 _mm256_extracti128_si256(x, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(most);
}

/* The bits of the largest magnitude: floats without a sign are in the order
 * of their bits, and what is not finite is above all others. */
static inline TS_AVX2 uint32_t ts_most_256(const ts_block *x)
{
    __m256i a = _mm256_max_epi32(ts_magnitude_256(x->part[0]),
                                 ts_magnitude_256(x->part[1]));
    __m256i b = _mm256_max_epi32(ts_magnitude_256(x->part[2]),
                                 ts_magnitude_256(x->part[3]));
    return ts_max_256(_mm256_max_epi32(a, b));
}

static inline TS_AVX2 void ts_store_half_256(uint8_t *out, float value)
{
    __m128i half = _mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT);
    uint16_t bits = (uint16_t)_mm_cvtsi128_si32(half);
    memcpy(out, &bits, sizeof bits);
}

/* The low bytes of 16 integers that fit a byte with or without a sign. */
static inline TS_AVX2 __m128i ts_low_bytes_256(__m256i a, __m256i b)
{
    const __m256i byte = _mm256_set1_epi32(255);
    __m256i words = _mm256_packus_epi32(_mm256_and_si256(a, byte),
                                        _mm256_and_si256(b, byte));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words),
                            _mm256_extracti128_si256(words, 1));
}

static inline TS_AVX2 void ts_store_16_bytes(uint8_t *out, __m128i bytes)
{
    _mm_storeu_si128((__m128i *)(void *)out, bytes);
}

#endif
