#if defined(__x86_64__)

#include "avx512.h"
#include "kernels.h"
#include "scales.h"

/* Scales are broadcast by loads, which are free next to the permutations;
 * left alone, gcc keeps them in a register and permutes them out of it. */
static inline void keep_in_memory(float *scales)
{
    __asm__("" : "+m"(*(float(*)[16])scales));
}

/* 64 signed codes, a scale for each 16: the four quarters of a register. */
static inline TS_AVX512 void store_scaled(__m512i codes, const float *scales,
                                          float *y)
{
    __m512 a = ts_floats_512(_mm512_castsi512_si128(codes));
    __m512 b = ts_floats_512(_mm512_extracti32x4_epi32(codes, 1));
    __m512 c = ts_floats_512(_mm512_extracti32x4_epi32(codes, 2));
    __m512 d = ts_floats_512(_mm512_extracti32x4_epi32(codes, 3));
    _mm512_storeu_ps(y, _mm512_mul_ps(a, _mm512_set1_ps(scales[0])));
    _mm512_storeu_ps(y + 16, _mm512_mul_ps(b, _mm512_set1_ps(scales[1])));
    _mm512_storeu_ps(y + 32, _mm512_mul_ps(c, _mm512_set1_ps(scales[2])));
    _mm512_storeu_ps(y + 48, _mm512_mul_ps(d, _mm512_set1_ps(scales[3])));
}

/* 32 bytes twice, the upper copy shifted right by two more than the lower:
 * neighbouring pairs of bits of the same bytes, 64 elements in order. */
static inline TS_AVX512 __m512i pairs(__m256i bytes, int shift)
{
    const __m512i step
        = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    __m512i both = _mm512_broadcast_i64x4(bytes);
    __m512i by = _mm512_add_epi16(step, _mm512_set1_epi16((short)shift));
    __m512i low = _mm512_srlv_epi16(both, by);
    return _mm512_and_si512(low, _mm512_set1_epi8(3));
}

/* Four codes a group of 16: a table of four products less the minimum, in
 * each quarter of a register. */
static inline TS_AVX512 void store_q2_k(__m512i codes, const float *scales,
                                        const float *minima, float *y)
{
    for (int k = 0; k < 4; k++, y += 16) {
        __m128i quarter = k == 0 ? _mm512_castsi512_si128(codes)
            : k == 1             ? _mm512_extracti32x4_epi32(codes, 1)
            : k == 2             ? _mm512_extracti32x4_epi32(codes, 2)
                                 : _mm512_extracti32x4_epi32(codes, 3);
        __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(scales[k]),
                                      ts_floats_512(quarter));
        __m512 minimum = _mm512_set1_ps(minima[k]);
        _mm512_storeu_ps(y, _mm512_sub_ps(scaled, minimum));
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q2_k_decode_avx512)
{
    float *y = (void *)out;
    _Alignas(64) float scales[16], minima[16];
    for (; count >= 256; count -= 256, in += 84, y += 256) {
        __m512i packed = _mm512_cvtepu8_epi32(ts_load_128(in));
        __m512i low = _mm512_and_si512(packed, _mm512_set1_epi32(15));
        __m512i high = _mm512_srli_epi32(packed, 4);
        _mm512_store_ps(scales, _mm512_mul_ps(ts_half_512(in + 80),
                                              _mm512_cvtepi32_ps(low)));
        _mm512_store_ps(minima, _mm512_mul_ps(ts_half_512(in + 82),
                                              _mm512_cvtepi32_ps(high)));
        keep_in_memory(scales);
        keep_in_memory(minima);
        for (int half = 0; half < 2; half++) {
            __m256i codes = ts_load_256(in + 16 + 32 * half);
            const float *s = scales + 8 * half, *m = minima + 8 * half;
            store_q2_k(pairs(codes, 0), s, m, y + 128 * half);
            store_q2_k(pairs(codes, 4), s + 4, m + 4, y + 128 * half + 64);
        }
    }
}

/* Bit `bit` of the lower copy of the high bits and the next one of the upper
 * copy, as 4 or 0. */
static inline TS_AVX512 __m512i fours(__m512i lower_and_next, int bit)
{
    __m512i at = _mm512_set1_epi8((char)(1 << bit));
    __mmask64 is_set = _mm512_test_epi8_mask(lower_and_next, at);
    return _mm512_maskz_set1_epi8(is_set, 4);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q3_k_decode_avx512)
{
    float *y = (void *)out;
    _Alignas(64) float scales[16];
    const __m512i four = _mm512_set1_epi8(4);
    for (; count >= 256; count -= 256, in += 110, y += 256) {
        int8_t packed[16];
        ts_scales_q3_k(in + 96, packed);
        __m512 small = ts_floats_512(ts_load_128((const uint8_t *)packed));
        _mm512_store_ps(scales, _mm512_mul_ps(ts_half_512(in + 108), small));
        keep_in_memory(scales);
        /* The upper copy is one bit further, whatever crosses a byte lands
         * on bit 7, which `fours` never asks for. */
        __m256i high = ts_load_256(in);
        __m512i highs = _mm512_inserti64x4(_mm512_castsi256_si512(high),
                                           _mm256_srli_epi16(high, 1), 1);
        for (int k = 0; k < 4; k++) {
            __m256i low = ts_load_256(in + 32 + k / 2 * 32);
            __m512i codes = _mm512_or_si512(pairs(low, k % 2 * 4),
                                            fours(highs, 2 * k));
            store_scaled(_mm512_sub_epi8(codes, four), scales + 4 * k,
                         y + 64 * k);
        }
    }
}

/* ts_scales_q4_k on the first 16 bytes of a block, in one register. */
static inline TS_AVX512 __m128i q4_k_bytes(const uint8_t *in)
{
    const __m128i shifts = _mm_setr_epi32(0, 0, 0, 4);
    const __m128i low = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f,
                                       0x0f0f0f0f);
    const __m128i top = _mm_setr_epi32(0, 0x30303030, 0, 0x30303030);
    __m128i head = ts_load_128(in);
    __m128i acbc = _mm_shuffle_epi32(head, _MM_SHUFFLE(3, 2, 3, 1));
    __m128i aabb = _mm_shuffle_epi32(head, _MM_SHUFFLE(2, 2, 1, 1));
    acbc = _mm_and_si128(_mm_srlv_epi32(acbc, shifts), low);
    aabb = _mm_and_si128(_mm_srli_epi32(aabb, 2), top);
    return _mm_or_si128(acbc, aabb);
}

/* d * scale in the first eight lanes, dmin * minimum in the last eight. */
static inline TS_AVX512 void q4_k_scales(const uint8_t *in, float *scales)
{
    __m512 small = ts_floats_512(q4_k_bytes(in));
    __m512 d = ts_half_512(in), dmin = ts_half_512(in + 2);
    _mm512_store_ps(scales,
                    _mm512_mul_ps(_mm512_mask_mov_ps(d, 0xff00, dmin), small));
    keep_in_memory(scales);
}

/* What each of 16 codes stands for in this group. */
static inline TS_AVX512 __m512 q4_k_table(const float *scales, int group,
                                          __m512 codes)
{
    __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(scales[group]), codes);
    return _mm512_sub_ps(scaled, _mm512_set1_ps(scales[8 + group]));
}

/* 16 bytes of codes: the low nibbles to one group, the high to the next. */
static inline TS_AVX512 void q4_k_store(const uint8_t *at, __m512 low,
                                        __m512 high, float *y)
{
    __m512i codes = _mm512_cvtepu8_epi32(ts_load_128(at));
    __m512i upper = ts_high_512(codes);
    _mm512_storeu_ps(y, _mm512_permutexvar_ps(codes, low));
    _mm512_storeu_ps(y + 32, _mm512_permutexvar_ps(upper, high));
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q4_k_decode_avx512)
{
    float *y = (void *)out;
    _Alignas(64) float scales[16];
    const __m512 codes = ts_count_512(0);
    for (; count >= 256; count -= 256, in += 144, y += 256) {
        q4_k_scales(in, scales);
        for (int k = 0; k < 4; k++) {
            __m512 low = q4_k_table(scales, 2 * k, codes);
            __m512 high = q4_k_table(scales, 2 * k + 1, codes);
            q4_k_store(in + 16 + 32 * k, low, high, y + 64 * k);
            q4_k_store(in + 32 + 32 * k, low, high, y + 64 * k + 16);
        }
    }
}

/* Codes of five bits, the fifth from bit `group` of 16 lanes. */
static inline TS_AVX512 __m512 q5_k_values(__m512i codes, __m512i fifths,
                                           int group, __m512 lower,
                                           __m512 upper)
{
    __mmask16 is_upper
        = _mm512_test_epi32_mask(fifths, _mm512_set1_epi32(1 << group));
    __m512 values = _mm512_permutexvar_ps(codes, lower);
    return _mm512_mask_permutexvar_ps(values, is_upper, codes, upper);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q5_k_decode_avx512)
{
    float *y = (void *)out;
    _Alignas(64) float scales[16];
    const __m512 first = ts_count_512(0), second = ts_count_512(16);
    for (; count >= 256; count -= 256, in += 176, y += 256) {
        q4_k_scales(in, scales);
        __m512i fifths[2] = {_mm512_cvtepu8_epi32(ts_load_128(in + 16)),
                             _mm512_cvtepu8_epi32(ts_load_128(in + 32))};
        for (int group = 0; group < 8; group++) {
            __m512 lower = q4_k_table(scales, group, first);
            __m512 upper = q4_k_table(scales, group, second);
            for (int half = 0; half < 2; half++) {
                const uint8_t *at = in + 48 + group / 2 * 32 + 16 * half;
                __m512i codes = _mm512_cvtepu8_epi32(ts_load_128(at));
                if (group % 2 == 1) codes = ts_high_512(codes);
                _mm512_storeu_ps(y + 32 * group + 16 * half,
                                 q5_k_values(codes, fifths[half], group, lower,
                                             upper));
            }
        }
    }
}

/* The pairs of bits of 32 bytes, `shift` and the next, at bits 4 and 5. */
static inline TS_AVX512 __m512i sixteens(__m256i bytes, int shift)
{
    return _mm512_slli_epi16(pairs(bytes, shift), 4);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q6_k_decode_avx512)
{
    float *y = (void *)out;
    _Alignas(64) float scales[16];
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i middle = _mm512_set1_epi8(32);
    for (; count >= 256; count -= 256, in += 210, y += 256) {
        __m512 small = ts_floats_512(ts_load_128(in + 192));
        _mm512_store_ps(scales, _mm512_mul_ps(ts_half_512(in + 208), small));
        keep_in_memory(scales);
        for (int half = 0; half < 2; half++) {
            __m512i packed = ts_load_512(in + 64 * half);
            __m256i top = ts_load_256(in + 128 + 32 * half);
            __m512i low = _mm512_and_si512(packed, nibble);
            __m512i high
                = _mm512_and_si512(_mm512_srli_epi16(packed, 4), nibble);
            low = _mm512_or_si512(low, sixteens(top, 0));
            high = _mm512_or_si512(high, sixteens(top, 4));
            const float *s = scales + 8 * half;
            float *to = y + 128 * half;
            store_scaled(_mm512_sub_epi8(low, middle), s, to);
            store_scaled(_mm512_sub_epi8(high, middle), s + 4, to + 64);
        }
    }
}

#endif
