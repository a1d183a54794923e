/* lanes_avx2.h -- a register of floats by the names that searches use. */
#ifndef TS_QUANT_LANES_AVX2_H
#define TS_QUANT_LANES_AVX2_H

#include "avx2.h"

#define TS_TARGET TS_AVX2
enum { LANES = 8 };
typedef __m256 lanes;
typedef __m256 picks; /* all bits of a lane set, or none */

#define lanes_set(value) _mm256_set1_ps(value)
#define lanes_load(at) _mm256_loadu_ps(at)
#define lanes_store(at, x) _mm256_storeu_ps(at, x)
#define lanes_min(a, b) _mm256_min_ps(a, b)
#define lanes_max(a, b) _mm256_max_ps(a, b)
#define lanes_abs(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
#define lanes_sqrt(x) _mm256_sqrt_ps(x)
#define lanes_less(a, b) _mm256_cmp_ps(a, b, _CMP_LT_OQ)
#define lanes_equal(a, b) _mm256_cmp_ps(a, b, _CMP_EQ_OQ)
#define lanes_differ(a, b) _mm256_cmp_ps(a, b, _CMP_NEQ_UQ)
#define lanes_both(p, q) _mm256_and_ps(p, q)
#define lanes_all(p) (_mm256_movemask_ps(p) == 0xff)
#define lanes_choose(p, a, b) _mm256_blendv_ps(b, a, p)

/* Of positive floats, as integers: the units for floats have enough to do. */
static inline TS_TARGET lanes lanes_clamp(lanes value, float least, float most)
{
    return _mm256_castsi256_ps(_mm256_min_epi32(
        _mm256_max_epi32(_mm256_castps_si256(value),
                         _mm256_castps_si256(_mm256_set1_ps(least))),
        _mm256_castps_si256(_mm256_set1_ps(most))));
}

/* ts_round_even of any float, then between least and most. */
static inline TS_TARGET lanes lanes_round_even(lanes value, int least,
                                               int most)
{
    __m256i bits = _mm256_castps_si256(value + _mm256_set1_ps(12582912.0f));
    bits = _mm256_and_si256(bits, _mm256_set1_epi32(0x007fffff));
    bits = _mm256_sub_epi32(bits, _mm256_set1_epi32(0x00400000));
    bits = _mm256_max_epi32(bits, _mm256_set1_epi32(least));
    return _mm256_cvtepi32_ps(_mm256_min_epi32(bits, _mm256_set1_epi32(most)));
}

#endif
