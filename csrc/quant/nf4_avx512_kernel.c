#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx512.h"
#include "nf4.h"
#include "rounding.h"

/* A value's place among the fifteenths between -1 and 1 is looked up for the
 * midpoint there, and then place and comparison together for the code. */
typedef struct {
    __m512 middles[2];
    __m512i codes;
} stretches;

static inline TS_AVX512 stretches stretches_load(void)
{
    return (stretches){{_mm512_loadu_ps(ts_nf4_stretch_middles),
                        _mm512_loadu_ps(ts_nf4_stretch_middles + 16)},
                       _mm512_loadu_si512(ts_nf4_stretch_codes)};
}

/* In the low byte the place, with 32 added above the midpoint.  The sum's last
 * place is one, so it rounds, and has the place in its last bits. */
static inline TS_AVX512 __m512i places_of(const stretches *table, __m512 x,
                                          __m512 inverse)
{
    const __m512 fifteen = _mm512_set1_ps(15);
    const __m512 rounder = _mm512_set1_ps(TS_ROUNDER + 16);
    __m512 value = _mm512_mul_ps(x, inverse);
    __m512i place = _mm512_castps_si512(
        _mm512_fmadd_ps(value, fifteen, rounder));
    __m512 middle = _mm512_permutex2var_ps(table->middles[0], place,
                                           table->middles[1]);
    __mmask16 is_above = _mm512_cmp_ps_mask(value, middle, _CMP_GT_OQ);
    return _mm512_mask_or_epi32(place, is_above, place,
                                _mm512_set1_epi32(32));
}

/* Places of 64 elements become 32 bytes: even ones are the high nibbles. */
static inline TS_AVX512 void store_codes(const stretches *table,
                                         const __m512i places[4], uint8_t *out)
{
    const __m512i weights = _mm512_set1_epi16(0x0110); /* 16 and 1 */
    __m512i bytes = _mm512_inserti64x4(
        _mm512_castsi256_si512(ts_low_bytes(places[0], places[1])),
        ts_low_bytes(places[2], places[3]), 1);
    __m512i codes = _mm512_permutexvar_epi8(bytes, table->codes);
    __m512i pairs = _mm512_maddubs_epi16(codes, weights);
    ts_store_256(out, _mm512_cvtepi16_epi8(pairs));
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
        for (int k = 0; k < 4; k += 2) {
            __m512 factor = ts_lane_512(inverse, k);
            __m512i places[4] = {places_of(&table, x.a[k], factor),
                                 places_of(&table, x.b[k], factor),
                                 places_of(&table, x.a[k + 1], factor),
                                 places_of(&table, x.b[k + 1], factor)};
            store_codes(&table, places, out + 16 * k);
        }
        scales += 2;
    }
    return done + ts_nf4_quantize(in, out, scales, count - done);
}

/* Eight bytes in every eight: lane i finds its nibble in its lowest byte, and
 * the permutation looks at no more than four bits. */
static inline TS_AVX512 __m512i nibbles_of(const uint8_t *at)
{
    const __m512i places = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 36,
                                             32, 44, 40, 52, 48, 60, 56);
    return _mm512_multishift_epi64_epi8(
        places, _mm512_set1_epi64((long long)ts_load_u64(at)));
}

TS_AVX512 void ts_nf4_decode_avx512(const uint8_t *in, const float *scales,
                                    float *out, size_t count)
{
    const __m512 values = _mm512_loadu_ps(ts_nf4_values);
    for (; count >= 64; count -= 64, in += 32, out += 64) {
        __m512 products = _mm512_mul_ps(values, _mm512_set1_ps(*scales++));
        for (int k = 0; k < 4; k++)
            _mm512_storeu_ps(out + 16 * k,
                             _mm512_permutexvar_ps(nibbles_of(in + 8 * k),
                                                   products));
    }
    ts_nf4_decode(in, scales, out, count);
}

#endif
