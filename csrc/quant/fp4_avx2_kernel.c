#if defined(__x86_64__)

#include "avx2.h"
#include "fp4.h"
#include "kernels.h"
#include "scales.h"

/* 16 bytes of nibbles through a table of 16 signed bytes, times d. */
static inline TS_AVX2 void store_lookup(const uint8_t *at, __m128i table,
                                        __m256 d, float *y)
{
    __m128i packed = ts_load_16_bytes(at);
    ts_store_16(_mm_shuffle_epi8(table, ts_low_nibbles(packed)), d, y);
    ts_store_16(_mm_shuffle_epi8(table, ts_high_nibbles(packed)), d, y + 16);
}

static inline TS_AVX2 __m128i table_of(const int8_t codes[16])
{
    return ts_load_16_bytes((const uint8_t *)codes);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_iq4_nl_decode_avx2)
{
    float *y = (void *)out;
    const __m128i codes = table_of(ts_iq4_codes);
    for (; count >= 32; count -= 32, in += 18, y += 32)
        store_lookup(in + 2, codes, ts_half_256(in), y);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_iq4_xs_decode_avx2)
{
    float *y = (void *)out;
    const __m128i codes = table_of(ts_iq4_codes);
    for (; count >= 256; count -= 256, in += 136, y += 256) {
        int8_t scales[8];
        ts_scales_iq4_xs(in + 4, ts_load_u16(in + 2), scales);
        __m256 d = ts_half_256(in);
        for (int k = 0; k < 8; k++) {
            __m256 scale = _mm256_set1_ps((float)scales[k]);
            store_lookup(in + 8 + 16 * k, codes, _mm256_mul_ps(d, scale),
                         y + 32 * k);
        }
    }
}

TS_AVX2 TS_CONVERT_KERNEL(ts_mxfp4_decode_avx2)
{
    float *y = (void *)out;
    const __m128i codes = table_of(ts_fp4_codes);
    for (; count >= 32; count -= 32, in += 17, y += 32)
        store_lookup(in + 1, codes, _mm256_set1_ps(ts_fp4_half_power(in[0])),
                     y);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_nvfp4_decode_avx2)
{
    float *y = (void *)out;
    const __m128i codes = table_of(ts_fp4_codes);
    for (; count >= 64; count -= 64, in += 36, y += 64)
        for (int k = 0; k < 4; k++) {
            __m128i packed = _mm_cvtsi64_si128(
                (long long)ts_load_u64(in + 4 + 8 * k));
            __m128i nibbles = _mm_unpacklo_epi64(
                ts_low_nibbles(packed), ts_high_nibbles(packed));
            ts_store_16(_mm_shuffle_epi8(codes, nibbles),
                        _mm256_set1_ps(ts_fp4_half_ue4m3(in[k])), y + 16 * k);
        }
}

#endif
