#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx2.h"
#include "fp4.h"
#include "fp4_encode.h"

/* As fp4_encode_avx512_kernel.c says: a magnitude goes up to a code when it is
 * above the midpoint to the one below, which is the plain loop's choice unless
 * the scale is at an end of its range. */

static const float middles[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};

/* Codes with their sign in bit 3, but for code 0; d is half the scale. */
static inline TS_AVX2 __m256i codes_of(__m256 x, float d)
{
    __m256 magnitude = _mm256_castsi256_ps(ts_magnitude_256(x));
    __m256i codes = _mm256_setzero_si256();
    for (int i = 0; i < 7; i++) {
        __m256 middle = _mm256_set1_ps(middles[i] * d);
        __m256 above = _mm256_cmp_ps(magnitude, middle, _CMP_GT_OQ);
        codes = _mm256_sub_epi32(codes, _mm256_castps_si256(above));
    }
    __m256i sign = _mm256_and_si256(
        _mm256_srli_epi32(_mm256_castps_si256(x), 28), _mm256_set1_epi32(8));
    __m256i is_zero = _mm256_cmpeq_epi32(codes, _mm256_setzero_si256());
    return _mm256_or_si256(codes, _mm256_andnot_si256(is_zero, sign));
}

TS_AVX2 TS_QUANTIZE_KERNEL(ts_mxfp4_quantize_avx2)
{
    size_t done = 0;
    for (; done < count; done += 32, in += 128, out += 17) {
        ts_block x = ts_load_block(in);
        __m256i codes[4];
        uint32_t most = ts_most_256(&x);
        if (most >= 0x7f800000) break;
        out[0] = ts_mxfp4_exponent(ts_f32_from_bits(most));
        if (out[0] < 2 || out[0] >= 253) {
            ts_mxfp4_quantize(in, out, 32);
            continue;
        }
        for (int k = 0; k < 4; k++)
            codes[k] = codes_of(x.part[k], ts_fp4_half_power(out[0]));
        __m128i low = ts_low_bytes_256(codes[0], codes[1]);
        __m128i high = ts_low_bytes_256(codes[2], codes[3]);
        ts_store_16_bytes(out + 1,
                          _mm_or_si128(low, _mm_slli_epi16(high, 4)));
    }
    return done;
}

/* A group of 16: false when the plain loop has to do the block. */
static inline TS_AVX2 bool nvfp4_group(const uint8_t *in, uint8_t *scale,
                                       uint8_t *out)
{
    const float *x = (const void *)in;
    __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8);
    uint32_t most = ts_max_256(
        _mm256_max_epi32(ts_magnitude_256(a), ts_magnitude_256(b)));
    if (most >= 0x7f800000) return false;
    *scale = ts_ue4m3_of_f32(ts_f32_from_bits(most) / 6);
    if (*scale == 0 || *scale == 0x7e) return false;
    float d = ts_fp4_half_ue4m3(*scale);
    __m128i codes = ts_low_bytes_256(codes_of(a, d), codes_of(b, d));
    codes = _mm_or_si128(codes,
                         _mm_slli_epi16(_mm_unpackhi_epi64(codes, codes), 4));
    _mm_storel_epi64((__m128i *)(void *)out, codes);
    return true;
}

TS_AVX2 TS_QUANTIZE_KERNEL(ts_nvfp4_quantize_avx2)
{
    size_t done = 0;
    for (; done < count; done += 64, in += 256, out += 36) {
        bool is_done = true;
        for (int k = 0; k < 4 && is_done; k++)
            is_done = nvfp4_group(in + 64 * k, out + k, out + 4 + 8 * k);
        if (!is_done && ts_nvfp4_quantize(in, out, 64) == 0) return done;
    }
    return done;
}

#endif
