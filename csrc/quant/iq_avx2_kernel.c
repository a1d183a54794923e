#if defined(__x86_64__)

#include "avx2.h"
#include "iq.h"
#include "kernels.h"

typedef __m256 table;

static inline TS_AVX2 table scaled(float scale, const float values[8])
{
    return _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(values));
}

/* Each lane shifts its own field down.  The permutation looks at three bits
 * of an index; of two-bit fields the next one's must be cleared. */
static inline TS_AVX2 void put(float *y, uint32_t fields, int bits,
                               table values, uint32_t signs)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i down = _mm256_mullo_epi32(lane, _mm256_set1_epi32(bits));
    __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32((int)fields), down);
    index = _mm256_and_si256(index, _mm256_set1_epi32((1 << bits) - 1));
    __m256i up = _mm256_sub_epi32(_mm256_set1_epi32(31), lane);
    __m256i sign = _mm256_sllv_epi32(_mm256_set1_epi32((int)signs), up);
    sign = _mm256_and_si256(sign, _mm256_set1_epi32(INT32_MIN));
    _mm256_storeu_ps(y, _mm256_xor_ps(_mm256_permutevar8x32_ps(values, index),
                                      _mm256_castsi256_ps(sign)));
}

#define TARGET TS_AVX2
#define DECODER(stem) TS_CONVERT_KERNEL(ts_##stem##_decode_avx2)
#include "iq_blocks.h"

#endif
