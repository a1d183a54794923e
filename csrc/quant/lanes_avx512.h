/* lanes_avx512.h -- a register of floats by the names that searches use. */
#ifndef TS_QUANT_LANES_AVX512_H
#define TS_QUANT_LANES_AVX512_H

#include "avx512.h"

#define TS_TARGET TS_AVX512
enum { LANES = 16 };
typedef __m512 lanes;
typedef __mmask16 picks;

#define lanes_set(value) _mm512_set1_ps(value)
#define lanes_load(at) _mm512_loadu_ps(at)
#define lanes_store(at, x) _mm512_storeu_ps(at, x)
#define lanes_min(a, b) _mm512_min_ps(a, b)
#define lanes_max(a, b) _mm512_max_ps(a, b)
#define lanes_abs(x) _mm512_abs_ps(x)
#define lanes_sqrt(x) _mm512_sqrt_ps(x)
#define lanes_less(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)
#define lanes_equal(a, b) _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
#define lanes_differ(a, b) _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ)
#define lanes_both(p, q) ((picks)((p) & (q)))
#define lanes_all(p) ((p) == 0xffff)
#define lanes_choose(p, a, b) _mm512_mask_blend_ps(p, b, a)

/* Of positive floats, as integers: the units for floats have enough to do. */
static inline TS_TARGET lanes lanes_clamp(lanes value, float least, float most)
{
    return _mm512_castsi512_ps(_mm512_min_epi32(
        _mm512_max_epi32(_mm512_castps_si512(value),
                         _mm512_castps_si512(_mm512_set1_ps(least))),
        _mm512_castps_si512(_mm512_set1_ps(most))));
}

/* ts_round_even of any float, then between least and most. */
static inline TS_TARGET lanes lanes_round_even(lanes value, int least,
                                               int most)
{
    __m512i bits = _mm512_castps_si512(value + _mm512_set1_ps(12582912.0f));
    bits = _mm512_and_si512(bits, _mm512_set1_epi32(0x007fffff));
    bits = _mm512_sub_epi32(bits, _mm512_set1_epi32(0x00400000));
    bits = _mm512_max_epi32(bits, _mm512_set1_epi32(least));
    return _mm512_cvtepi32_ps(_mm512_min_epi32(bits, _mm512_set1_epi32(most)));
}

#endif
