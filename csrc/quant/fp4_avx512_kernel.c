#if defined(__x86_64__)

#include "avx512.h"
#include "fp4.h"
#include "kernels.h"
#include "scales.h"

static inline TS_AVX512 __m512 table_of(const int8_t codes[16])
{
    return ts_floats_512(ts_load_128((const uint8_t *)codes));
}

TS_AVX512 TS_CONVERT_KERNEL(ts_iq4_nl_decode_avx512)
{
    float *y = (void *)out;
    const __m512 codes = table_of(ts_iq4_codes);
    for (; count >= 32; count -= 32, in += 18, y += 32)
        ts_lookup_512(in + 2, _mm512_mul_ps(ts_half_512(in), codes), y);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_iq4_xs_decode_avx512)
{
    float *y = (void *)out;
    const __m512 codes = table_of(ts_iq4_codes);
    for (; count >= 256; count -= 256, in += 136, y += 256) {
        int8_t scales[8];
        ts_scales_iq4_xs(in + 4, ts_load_u16(in + 2), scales);
        __m512 d = ts_half_512(in);
        for (int k = 0; k < 8; k++) {
            __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps((float)scales[k]));
            ts_lookup_512(in + 8 + 16 * k, _mm512_mul_ps(scale, codes),
                          y + 32 * k);
        }
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_mxfp4_decode_avx512)
{
    float *y = (void *)out;
    const __m512 codes = table_of(ts_fp4_codes);
    for (; count >= 32; count -= 32, in += 17, y += 32) {
        __m512 d = _mm512_set1_ps(ts_fp4_half_power(in[0]));
        ts_lookup_512(in + 1, _mm512_mul_ps(d, codes), y);
    }
}

/* The four scales of a block, one in each quarter of the lanes: E4M3 without
 * its sign shifted into an F16, as in fp4.h. */
static inline TS_AVX512 __m128 nvfp4_scales(const uint8_t *in)
{
    const __m128i magnitude = _mm_set1_epi8(0x7f);
    __m128i bytes = _mm_cvtsi32_si128((int)ts_load_u32(in));
    __mmask16 is_used = _mm_cmpneq_epi8_mask(bytes, magnitude);
    bytes = _mm_maskz_and_epi32(0xf, bytes, magnitude);
    bytes = _mm_maskz_mov_epi8(is_used, bytes);
    __m128i halves = _mm_slli_epi16(_mm_cvtepu8_epi16(bytes), 7);
    return _mm_mul_ps(_mm_cvtph_ps(halves), _mm_set1_ps(128.0f));
}

/* Eight bytes hold the codes of 16 elements: lanes 0-7 the low nibbles. */
static inline TS_AVX512 __m512 nvfp4_group(const uint8_t *at, __m512 table)
{
    const __m512i shifts
        = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(4), 1);
    __m128i both = _mm_set1_epi64x((long long)ts_load_u64(at));
    __m512i codes = _mm512_srlv_epi32(_mm512_cvtepu8_epi32(both), shifts);
    return _mm512_permutexvar_ps(codes, table);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_nvfp4_decode_avx512)
{
    float *y = (void *)out;
    const __m512 codes = table_of(ts_fp4_codes);
    for (; count >= 64; count -= 64, in += 36, y += 64) {
        __m512 scales = _mm512_castps128_ps512(nvfp4_scales(in));
        for (int k = 0; k < 4; k++) {
            __m512 d = _mm512_permutexvar_ps(_mm512_set1_epi32(k), scales);
            _mm512_storeu_ps(y + 16 * k,
                             nvfp4_group(in + 4 + 8 * k,
                                         _mm512_mul_ps(d, codes)));
        }
    }
}

#endif
