#if defined(__x86_64__)

#include "avx512.h"
#include "kernels.h"

/* Two bits a code, four values: a permutation of the products.  The index is
 * four bits wide, so the table repeats its four values and the bits above
 * the code do not matter. */
static inline TS_AVX512 __m512 quaternary(const uint8_t *scale)
{
    const __m512 codes = _mm512_setr_ps(-1, 0, 1, 2, -1, 0, 1, 2, -1, 0, 1, 2,
                                        -1, 0, 1, 2);
    return _mm512_mul_ps(ts_half_512(scale), codes);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_tq2_0_decode_avx512)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 66, y += 256) {
        __m512 table = quaternary(in + 64);
        for (int k = 0; k < 4; k++) {
            float *to = y + k / 2 * 128 + k % 2 * 16;
            __m512i bits = _mm512_cvtepu8_epi32(ts_load_128(in + 16 * k));
            for (int j = 0; j < 4; j++, to += 32) {
                _mm512_storeu_ps(to, _mm512_permutexvar_ps(bits, table));
                bits = _mm512_srli_epi32(bits, 2);
            }
        }
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q2_0_decode_avx512)
{
    float *y = (void *)out;
    const __m512i shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18,
                                             20, 22, 24, 26, 28, 30);
    for (; count >= 64; count -= 64, in += 18, y += 64) {
        __m512 table = quaternary(in);
        for (int k = 0; k < 4; k++) {
            int word = (int)ts_load_u32(in + 2 + 4 * k);
            __m512i bits = _mm512_srlv_epi32(_mm512_set1_epi32(word), shifts);
            _mm512_storeu_ps(y + 16 * k, _mm512_permutexvar_ps(bits, table));
        }
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q1_0_decode_avx512)
{
    float *y = (void *)out;
    const __m512 sign = _mm512_set1_ps(-0.0f);
    for (; count >= 128; count -= 128, in += 18, y += 128) {
        __m512 plus = ts_half_512(in), minus = _mm512_xor_ps(plus, sign);
        for (int k = 0; k < 8; k++) {
            __mmask16 is_plus = ts_load_u16(in + 2 + 2 * k);
            _mm512_storeu_ps(y + 16 * k,
                             _mm512_mask_mov_ps(minus, is_plus, plus));
        }
    }
}

/* 16 bytes as fractions of 256, times a power of three: the digit that has
 * come before the point chooses -d, 0 or d. */
static inline TS_AVX512 __m512 digits(__m256i bytes, __m256i power,
                                      __m512 table)
{
    const __m256i three = _mm256_set1_epi16(3), low = _mm256_set1_epi16(255);
    __m256i rest = _mm256_and_si256(_mm256_mullo_epi16(bytes, power), low);
    __m256i digit = _mm256_srli_epi16(_mm256_mullo_epi16(rest, three), 8);
    return _mm512_permutexvar_ps(_mm512_cvtepu16_epi32(digit), table);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_tq1_0_decode_avx512)
{
    static const short powers[5] = {1, 3, 9, 27, 81};
    float *y = (void *)out;
    const __m256i mixed = _mm256_setr_epi16(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9,
                                            27, 27, 27, 27);
    for (; count >= 256; count -= 256, in += 54, y += 256) {
        __m512 table = quaternary(in + 52);
        __m256i a = _mm256_cvtepu8_epi16(ts_load_128(in));
        __m256i b = _mm256_cvtepu8_epi16(ts_load_128(in + 16));
        __m256i c = _mm256_cvtepu8_epi16(ts_load_128(in + 32));
        for (int k = 0; k < 5; k++) {
            __m256i power = _mm256_set1_epi16(powers[k]);
            _mm512_storeu_ps(y + 32 * k, digits(a, power, table));
            _mm512_storeu_ps(y + 32 * k + 16, digits(b, power, table));
            _mm512_storeu_ps(y + 160 + 16 * k, digits(c, power, table));
        }
        __m128i last = _mm_set1_epi32((int)ts_load_u32(in + 48));
        _mm512_storeu_ps(y + 240,
                         digits(_mm256_cvtepu8_epi16(last), mixed, table));
    }
}

#endif
