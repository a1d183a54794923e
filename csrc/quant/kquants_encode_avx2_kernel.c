#if defined(__x86_64__)

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

#include "kquants_search_body.h"

MIN_KERNEL(ts_q2_k_quantize_avx2, q2_k, 16, 84, TS_Q2_K_RULE)
MIN_KERNEL(ts_q4_k_quantize_avx2, q4_k, 32, 144, TS_Q4_K_RULE)
MIN_KERNEL(ts_q5_k_quantize_avx2, q5_k, 32, 176, TS_Q5_K_RULE)
SCALE_KERNEL(ts_q3_k_quantize_avx2, q3_k, 110, search_q3)
SCALE_KERNEL(ts_q6_k_quantize_avx2, q6_k, 210, search_q6)

#endif
