#if defined(__x86_64__)

#include "avx512.h"
#include "kernels.h"

/* 16 bytes of neighbouring nibbles, the low one first: one byte each. */
static inline TS_AVX512 __m256i nibbles(__m128i packed)
{
    __m256i words = _mm256_cvtepu8_epi16(packed);
    words = _mm256_or_si256(words, _mm256_slli_epi16(words, 4));
    return _mm256_and_si256(words, _mm256_set1_epi8(15));
}

static inline TS_AVX512 __m512 look_up(__m128i codes)
{
    const __m512 e2m1 = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f,
                                       4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f,
                                       -2.0f, -3.0f, -4.0f, -6.0f);
    return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), e2m1);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_f4_decode_avx512)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 16, y += 32) {
        __m256i codes = nibbles(ts_load_128(in));
        _mm512_storeu_ps(y, look_up(_mm256_castsi256_si128(codes)));
        _mm512_storeu_ps(y + 16, look_up(_mm256_extracti128_si256(codes, 1)));
    }
    ts_f4_decode(in, (uint8_t *)y, count);
}

#endif
