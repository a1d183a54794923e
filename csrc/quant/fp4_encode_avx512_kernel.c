#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx512.h"
#include "fp4.h"
#include "fp4_encode.h"

/* The nearest code is found without computing the errors of all: a magnitude
 * goes up to a code when it is above the midpoint to the one below.  That is
 * the plain loop's choice as long as its differences do not round, which
 * fails only for a scale at an end of its range; such blocks are left to it. */

/* The sign in bit 3, but for code 0. */
static inline TS_AVX512 __m512i signed_codes(__m512i codes, __m512 x)
{
    __m512i sign = _mm512_and_si512(
        _mm512_srli_epi32(_mm512_castps_si512(x), 28), _mm512_set1_epi32(8));
    return _mm512_mask_or_epi32(codes, _mm512_test_epi32_mask(codes, codes),
                                codes, sign);
}

/* ---- MXFP4 ------------------------------------------------------------- */

/* In steps of half the scale, the midpoints are 0.5, 1.5, 2.5, 3.5, 5, 7 and
 * 10: all at quarters of a binade.  So two bits of the mantissa and the
 * exponent, counted from 0.5 on, decide; one unit less puts a midpoint into
 * the quarter below it. */
static inline TS_AVX512 __m512i mxfp4_codes(__m512 x, __m512 factor)
{
    const __m512i low = _mm512_setr_epi32(0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3,
                                          4, 4, 5, 5);
    const __m512i high = _mm512_setr_epi32(6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                           7, 7, 7, 7);
    __m512i bits = ts_magnitude_512(_mm512_mul_ps(x, factor));
    __m512i quarter = _mm512_srai_epi32(
        _mm512_sub_epi32(bits, _mm512_set1_epi32(1)), 21);
    quarter = _mm512_sub_epi32(quarter,
                               _mm512_set1_epi32((0x3f000000 >> 21) - 1));
    quarter = _mm512_max_epi32(quarter, _mm512_setzero_si512());
    return signed_codes(_mm512_permutex2var_epi32(low, quarter, high), x);
}

/* The exponent, and one over the half scale; false for scales whose inverse
 * or largest code would overflow. */
static inline TS_AVX512 bool mxfp4_scale(uint32_t most, uint8_t *exponent,
                                         float *factor)
{
    int code = ts_mxfp4_exponent(ts_f32_from_bits(most));
    *exponent = (uint8_t)code;
    *factor = ts_f32_from_bits((uint32_t)(255 - code) << 23);
    return code > 1 && code < 253;
}

TS_AVX512 TS_QUANTIZE_KERNEL(ts_mxfp4_quantize_avx512)
{
    size_t done = 0;
    for (; done < count; done += 32, in += 128, out += 17) {
        __m512 a = _mm512_loadu_ps(in), b = _mm512_loadu_ps(in + 64);
        uint32_t most = (uint32_t)_mm512_reduce_max_epi32(
            _mm512_max_epi32(ts_magnitude_512(a), ts_magnitude_512(b)));
        float factor;
        if (most >= 0x7f800000) break;
        if (!mxfp4_scale(most, out, &factor)) {
            ts_mxfp4_quantize(in, out, 32);
            continue;
        }
        __m512 all = _mm512_set1_ps(factor);
        __m512i low = mxfp4_codes(a, all), high = mxfp4_codes(b, all);
        ts_store_low_bytes(
            out + 1, _mm512_or_si512(low, _mm512_slli_epi32(high, 4)));
    }
    return done;
}

/* ---- NVFP4 ------------------------------------------------------------- */

/* A group of 16 under a half scale of few bits, whose products with the
 * midpoints are exact. */
static inline TS_AVX512 __m512i nvfp4_codes(__m512 x, float d)
{
    static const float middles[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};
    __m512 magnitude = _mm512_abs_ps(x);
    __m512i codes = _mm512_setzero_si512();
    for (int i = 0; i < 7; i++) {
        __m512 middle = _mm512_set1_ps(middles[i] * d);
        __mmask16 above = _mm512_cmp_ps_mask(magnitude, middle, _CMP_GT_OQ);
        codes = _mm512_mask_add_epi32(codes, above, codes,
                                      _mm512_set1_epi32(1));
    }
    return signed_codes(codes, x);
}

/* Elements j and j + 8 of 16 codes share byte j. */
static inline TS_AVX512 void store_eight(uint8_t *out, __m512i codes)
{
    __m256i high = _mm512_extracti64x4_epi64(codes, 1);
    __m256i both = _mm256_or_si256(_mm512_castsi512_si256(codes),
                                   _mm256_slli_epi32(high, 4));
    _mm_storel_epi64((__m128i *)(void *)out, _mm256_cvtepi32_epi8(both));
}

TS_AVX512 TS_QUANTIZE_KERNEL(ts_nvfp4_quantize_avx512)
{
    size_t done = 0;
    for (; done < count; done += 64, in += 256, out += 36) {
        bool is_plain = false;
        for (int k = 0; k < 4 && !is_plain; k++) {
            __m512 x = _mm512_loadu_ps(in + 64 * k);
            uint32_t most
                = (uint32_t)_mm512_reduce_max_epi32(ts_magnitude_512(x));
            if (most >= 0x7f800000) return done;
            uint8_t scale = ts_ue4m3_of_f32(ts_f32_from_bits(most) / 6);
            is_plain = scale == 0 || scale == 0x7e;
            out[k] = scale;
            store_eight(out + 4 + 8 * k,
                        nvfp4_codes(x, ts_fp4_half_ue4m3(scale)));
        }
        if (is_plain && ts_nvfp4_quantize(in, out, 64) == 0) return done;
    }
    return done;
}

#endif
