#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx512.h"
#include "nf4.h"

/* A value's sixteenth between -1 and 1 is looked up for the midpoint in it and
 * the code below that. */
typedef struct {
    __m512 middles[2];
    __m512i codes[2];
} stretches;

static inline TS_AVX512 stretches stretches_load(void)
{
    stretches table;
    for (int k = 0; k < 2; k++) {
        table.middles[k] = _mm512_loadu_ps(ts_nf4_stretch_middles + 16 * k);
        table.codes[k] = _mm512_loadu_si512(ts_nf4_stretch_codes + 16 * k);
    }
    return table;
}

static inline TS_AVX512 __m512i codes_of(const stretches *table, __m512 x,
                                         __m512 inverse)
{
    const __m512 sixteen = _mm512_set1_ps(16);
    __m512 value = _mm512_mul_ps(x, inverse);
    __m512 place = _mm512_add_ps(_mm512_mul_ps(value, sixteen), sixteen);
    __m512i stretch = _mm512_min_epi32(_mm512_cvttps_epi32(place),
                                       _mm512_set1_epi32(31));
    __m512 middle = _mm512_permutex2var_ps(table->middles[0], stretch,
                                           table->middles[1]);
    __m512i code = _mm512_permutex2var_epi32(table->codes[0], stretch,
                                             table->codes[1]);
    __mmask16 is_above = _mm512_cmp_ps_mask(value, middle, _CMP_GT_OQ);
    return _mm512_mask_add_epi32(code, is_above, code, _mm512_set1_epi32(1));
}

/* Codes of 32 elements into 16 bytes: the even ones are the high nibbles. */
static inline TS_AVX512 void store_pairs(uint8_t *out, __m512i a, __m512i b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18,
                                           20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
    __m512i high = _mm512_permutex2var_epi32(a, even, b);
    __m512i low = _mm512_permutex2var_epi32(a, odd, b);
    ts_store_low_bytes(out, _mm512_or_si512(_mm512_slli_epi32(high, 4), low));
}

TS_AVX512 size_t ts_nf4_quantize_avx512(const uint8_t *in, uint8_t *out,
                                        float *scales, size_t count)
{
    const stretches table = stretches_load();
    size_t done = 0;
    for (; done + 128 <= count; done += 128, in += 512, out += 64) {
        ts_four x = ts_load_four(in);
        __m128i most = ts_most_four(&x);
        if (!ts_are_finite(most)) break;
        /* The largest of two halves is that of the block. */
        most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
        __m128 scale = _mm_castsi128_ps(most);
        __m128 inverse = _mm_div_ps(
            _mm_set1_ps(1), _mm_max_ps(scale, _mm_set1_ps(TS_NF4_LEAST)));
        _mm_storel_epi64((__m128i *)(void *)scales,
                         _mm_shuffle_epi32(most, 0x08));
        for (int k = 0; k < 4; k++) {
            __m512 factor = ts_lane_512(inverse, k);
            store_pairs(out + 16 * k, codes_of(&table, x.a[k], factor),
                        codes_of(&table, x.b[k], factor));
        }
        scales += 2;
    }
    return done + ts_nf4_quantize(in, out, scales, count - done);
}

#endif
