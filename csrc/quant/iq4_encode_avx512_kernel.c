#if defined(__x86_64__)

#include "lanes_avx512.h"
#include "rounding.h"
#include "scales.h"

/* For values within 134, which is what candidates make: by 16 + (a ninth of
 * the value, to nearest) the midpoint between codes that lies there, or one
 * beyond all, and the codes at or below it and above. */
typedef struct {
    __m512 middles[2], below[2], above[2];
    __m512i indexes[2]; /* of the codes below */
} lookup;

static inline TS_AVX512 __m512i place_of(__m512 value)
{
    return _mm512_castps_si512(
        _mm512_fmadd_ps(value, _mm512_set1_ps(0x1.c71c72p-4f),
                        _mm512_set1_ps(TS_ROUNDER + 16)));
}

static inline TS_AVX512 lookup lookup_make(void)
{
    float middles[32], below[32], above[32], between[16] = {0};
    int32_t places[16], indexes[32];
    for (int i = 0; i < 15; i++)
        between[i]
            = (float)(ts_iq4_codes[i] + ts_iq4_codes[i + 1]) / 2;
    _mm512_storeu_si512(places, place_of(_mm512_loadu_ps(between)));
    for (int k = 0, i = 0; k < 32; k++) {
        bool has_middle = i < 15 && (places[i] & 31) == k;
        middles[k] = has_middle ? between[i] : 1000;
        indexes[k] = i;
        below[k] = ts_iq4_codes[i];
        i += has_middle;
        above[k] = ts_iq4_codes[i];
    }
    lookup table;
    for (int k = 0; k < 2; k++) {
        table.middles[k] = _mm512_loadu_ps(middles + 16 * k);
        table.below[k] = _mm512_loadu_ps(below + 16 * k);
        table.above[k] = _mm512_loadu_ps(above + 16 * k);
        table.indexes[k] = _mm512_loadu_si512(indexes + 16 * k);
    }
    return table;
}

/* A midpoint itself goes up. */
static inline TS_AVX512 __mmask16 is_up(const lookup *table, __m512 value,
                                        __m512i place)
{
    __m512 middle = _mm512_permutex2var_ps(table->middles[0], place,
                                           table->middles[1]);
    return _mm512_cmp_ps_mask(value, middle, _CMP_GE_OQ);
}

static inline TS_AVX512 __m512 nearest(const lookup *table, __m512 value)
{
    __m512i place = place_of(value);
    __mmask16 up = is_up(table, value, place);
    __m512 code = _mm512_permutex2var_ps(table->below[0], place,
                                         table->below[1]);
    return _mm512_mask_blend_ps(
        up, code,
        _mm512_permutex2var_ps(table->above[0], place, table->above[1]));
}

/* Codes of 16 values that may be anything: what is no number has the last. */
static inline TS_AVX512 __m512i indexes_of(const lookup *table,
                                           __m512 value)
{
    value = _mm512_min_ps(value, _mm512_set1_ps(130));
    value = _mm512_max_ps(value, _mm512_set1_ps(-130));
    __m512i place = place_of(value);
    __m512i index = _mm512_permutex2var_epi32(table->indexes[0], place,
                                              table->indexes[1]);
    return _mm512_mask_add_epi32(index, is_up(table, value, place), index,
                                 _mm512_set1_epi32(1));
}

static inline TS_AVX512 void store(const lookup *table, const float *x,
                                   float inverse, uint8_t *out)
{
    __m512 all = _mm512_set1_ps(inverse);
    __m512i low = indexes_of(table, _mm512_mul_ps(all, _mm512_loadu_ps(x)));
    __m512i high
        = indexes_of(table, _mm512_mul_ps(all, _mm512_loadu_ps(x + 16)));
    _mm_storeu_si128((__m128i *)(void *)out,
                     _mm512_cvtepi32_epi8(_mm512_or_si512(
                         low, _mm512_slli_epi32(high, 4))));
}

#include "iq4_search_body.h"

IQ4_NL_KERNEL(ts_iq4_nl_quantize_avx512)
IQ4_XS_KERNEL(ts_iq4_xs_quantize_avx512)

#endif
