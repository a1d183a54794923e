#if defined(__x86_64__)

#include "avx2.h"
#include "kernels.h"
#include "scales.h"

/* 16 signed small scales times d. */
static inline TS_AVX2 void scale_16(const uint8_t *small, __m256 d, float *out)
{
    ts_store_16(ts_load_16_bytes(small), d, out);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q2_k_decode_avx2)
{
    float *y = (void *)out;
    _Alignas(32) float scales[16], minima[16];
    const __m256 minus = _mm256_set1_ps(-0.0f);
    for (; count >= 256; count -= 256, in += 84, y += 256) {
        __m128i packed = ts_load_16_bytes(in);
        /* x + (-m) is x - m to the last bit. */
        __m256 dmin = _mm256_xor_ps(ts_half_256(in + 82), minus);
        ts_store_16(ts_low_nibbles(packed), ts_half_256(in + 80), scales);
        ts_store_16(ts_high_nibbles(packed), dmin, minima);
        for (int group = 0; group < 16; group++) {
            const uint8_t *at = in + 16 + group / 8 * 32 + group % 2 * 16;
            __m128i codes
                = ts_pairs(ts_load_16_bytes(at), group / 2 % 4 * 2);
            ts_store_16_plus(codes, _mm256_set1_ps(scales[group]),
                             _mm256_set1_ps(minima[group]), y + 16 * group);
        }
    }
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q3_k_decode_avx2)
{
    float *y = (void *)out;
    _Alignas(32) float scales[16];
    const __m128i four = _mm_set1_epi8(4);
    for (; count >= 256; count -= 256, in += 110, y += 256) {
        int8_t small[16];
        ts_scales_q3_k(in + 96, small);
        scale_16((const uint8_t *)small, ts_half_256(in + 108), scales);
        for (int group = 0; group < 16; group++) {
            const uint8_t *at = in + 32 + group / 8 * 32 + group % 2 * 16;
            __m128i codes
                = ts_pairs(ts_load_16_bytes(at), group / 2 % 4 * 2);
            __m128i top = ts_load_16_bytes(in + group % 2 * 16);
            codes = _mm_or_si128(codes, ts_where_set(top, group / 2, 4));
            ts_store_16(_mm_sub_epi8(codes, four),
                        _mm256_set1_ps(scales[group]), y + 16 * group);
        }
    }
}

/* d * scale in the first eight, -(dmin * minimum) in the last eight. */
static inline TS_AVX2 void q4_k_scales(const uint8_t *in, float *scales)
{
    uint8_t small[16];
    ts_scales_q4_k(in + 4, small);
    __m256 dmin = _mm256_xor_ps(ts_half_256(in + 2), _mm256_set1_ps(-0.0f));
    __m128i bytes = ts_load_16_bytes(small);
    __m256 low = ts_floats_256(bytes);
    __m256 high = ts_floats_256(_mm_unpackhi_epi64(bytes, bytes));
    _mm256_store_ps(scales, _mm256_mul_ps(ts_half_256(in), low));
    _mm256_store_ps(scales + 8, _mm256_mul_ps(dmin, high));
}

static inline TS_AVX2 void q4_k_store(__m128i codes, const float *scales,
                                      int group, float *y)
{
    ts_store_16_plus(codes, _mm256_set1_ps(scales[group]),
                     _mm256_set1_ps(scales[8 + group]), y);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q4_k_decode_avx2)
{
    float *y = (void *)out;
    _Alignas(32) float scales[16];
    for (; count >= 256; count -= 256, in += 144, y += 256) {
        q4_k_scales(in, scales);
        for (int k = 0; k < 8; k++) {
            __m128i packed = ts_load_16_bytes(in + 16 + 16 * k);
            float *to = y + k / 2 * 64 + k % 2 * 16;
            int group = k / 2 * 2;
            q4_k_store(ts_low_nibbles(packed), scales, group, to);
            q4_k_store(ts_high_nibbles(packed), scales, group + 1, to + 32);
        }
    }
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q5_k_decode_avx2)
{
    float *y = (void *)out;
    _Alignas(32) float scales[16];
    for (; count >= 256; count -= 256, in += 176, y += 256) {
        q4_k_scales(in, scales);
        for (int k = 0; k < 8; k++) {
            __m128i packed = ts_load_16_bytes(in + 48 + 16 * k);
            __m128i fifths = ts_load_16_bytes(in + 16 + k % 2 * 16);
            float *to = y + k / 2 * 64 + k % 2 * 16;
            int group = k / 2 * 2;
            __m128i low = _mm_or_si128(ts_low_nibbles(packed),
                                       ts_where_set(fifths, group, 16));
            __m128i high = _mm_or_si128(ts_high_nibbles(packed),
                                        ts_where_set(fifths, group + 1, 16));
            q4_k_store(low, scales, group, to);
            q4_k_store(high, scales, group + 1, to + 32);
        }
    }
}

/* A group of 16 codes of Q6_K: four bits here, two bits there. */
static inline TS_AVX2 __m128i q6_k_codes(const uint8_t *in, int group)
{
    int half = group / 8, quarter = group / 2 % 4, side = group % 2 * 16;
    __m128i low = ts_load_16_bytes(in + 64 * half + quarter % 2 * 32 + side);
    __m128i top = ts_load_16_bytes(in + 128 + 32 * half + side);
    low = quarter < 2 ? ts_low_nibbles(low) : ts_high_nibbles(low);
    top = _mm_slli_epi16(ts_pairs(top, 2 * quarter), 4);
    return _mm_sub_epi8(_mm_or_si128(low, top), _mm_set1_epi8(32));
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q6_k_decode_avx2)
{
    float *y = (void *)out;
    _Alignas(32) float scales[16];
    for (; count >= 256; count -= 256, in += 210, y += 256) {
        scale_16(in + 192, ts_half_256(in + 208), scales);
        for (int group = 0; group < 16; group++)
            ts_store_16(q6_k_codes(in, group), _mm256_set1_ps(scales[group]),
                        y + 16 * group);
    }
}

#endif
