#if defined(__x86_64__)

#include "encode_avx2.h"
#include "lanes_avx2.h"
#include "scales.h"

/* Four comparisons halve the codes that are left: with the middle midpoint,
 * one of two, of four (in one table), of eight (in another). */
typedef struct {
    float middles[15];
    __m256 fours, eights;
    __m256 lower, upper; /* the codes */
} lookup;

static inline TS_AVX2 lookup lookup_make(void)
{
    lookup table;
    float fours[8] = {0}, eights[8], codes[16];
    for (int i = 0; i < 16; i++) codes[i] = ts_iq4_codes[i];
    for (int i = 0; i < 15; i++)
        table.middles[i] = (codes[i] + codes[i + 1]) / 2;
    for (int i = 0; i < 4; i++) fours[i] = table.middles[4 * i + 1];
    for (int i = 0; i < 8; i++) eights[i] = table.middles[2 * i];
    table.fours = _mm256_loadu_ps(fours);
    table.eights = _mm256_loadu_ps(eights);
    table.lower = _mm256_loadu_ps(codes);
    table.upper = _mm256_loadu_ps(codes + 8);
    return table;
}

/* index * 2, and one more unless the value is below the midpoint: a midpoint
 * goes up, and what is no number to the end. */
static inline TS_AVX2 __m256i next_bit(__m256i index, __m256 value,
                                       __m256 middle)
{
    __m256 is_up = _mm256_cmp_ps(value, middle, _CMP_NLT_UQ);
    return _mm256_sub_epi32(_mm256_add_epi32(index, index),
                            _mm256_castps_si256(is_up));
}

static inline TS_AVX2 __m256i indexes_of(const lookup *table, __m256 value)
{
    __m256 middle = _mm256_set1_ps(table->middles[7]);
    __m256 is_up = _mm256_cmp_ps(value, middle, _CMP_NLT_UQ);
    __m256i index = next_bit(_mm256_setzero_si256(), value, middle);
    middle = _mm256_blendv_ps(_mm256_set1_ps(table->middles[3]),
                              _mm256_set1_ps(table->middles[11]), is_up);
    index = next_bit(index, value, middle);
    index = next_bit(index, value,
                     _mm256_permutevar8x32_ps(table->fours, index));
    return next_bit(index, value,
                    _mm256_permutevar8x32_ps(table->eights, index));
}

/* The permutations look at three bits, the blend at the fourth. */
static inline TS_AVX2 __m256 nearest(const lookup *table, __m256 value)
{
    __m256i index = indexes_of(table, value);
    __m256 is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table->lower, index),
                            _mm256_permutevar8x32_ps(table->upper, index),
                            is_upper);
}

static inline TS_AVX2 __m128i indexes_of_16(const lookup *table,
                                            const float *x, __m256 inverse)
{
    __m256 a = _mm256_mul_ps(inverse, _mm256_loadu_ps(x));
    __m256 b = _mm256_mul_ps(inverse, _mm256_loadu_ps(x + 8));
    return ts_low_bytes_256(indexes_of(table, a), indexes_of(table, b));
}

static inline TS_AVX2 void store(const lookup *table, const float *x,
                                 float inverse, uint8_t *out)
{
    __m256 all = _mm256_set1_ps(inverse);
    __m128i low = indexes_of_16(table, x, all);
    __m128i high = indexes_of_16(table, x + 16, all);
    ts_store_16_bytes(out, _mm_or_si128(low, _mm_slli_epi16(high, 4)));
}

#include "iq4_search_body.h"

IQ4_NL_KERNEL(ts_iq4_nl_quantize_avx2)
IQ4_XS_KERNEL(ts_iq4_xs_quantize_avx2)

#endif
