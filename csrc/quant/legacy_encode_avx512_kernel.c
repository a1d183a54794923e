#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx512.h"

/* The plain loops on four blocks at a time: the same operations, so the same
 * bits.  Fewer blocks at the end, and four with something in them that is not
 * finite, are left to the plain loop. */
enum { FOUR = 128 };

/* ts_round_away of 16 floats. */
static inline TS_AVX512 __m512i round_away(__m512 x)
{
    const __m512 sign = _mm512_set1_ps(-0.0f);
    const __m512 half = _mm512_set1_ps(0x1.fffffep-2f);
    __m512 signed_half = _mm512_or_ps(_mm512_and_ps(x, sign), half);
    return _mm512_cvttps_epi32(_mm512_add_ps(x, signed_half));
}

TS_AVX512 TS_QUANTIZE_KERNEL(ts_q8_0_quantize_avx512)
{
    size_t done = 0;
    for (; done + FOUR <= count; done += FOUR, in += 512, out += 4 * 34) {
        ts_four x = ts_load_four(in);
        __m128i most = ts_most_four(&x);
        if (!ts_are_finite(most)) break;
        __m128 d = _mm_div_ps(_mm_castsi128_ps(most), _mm_set1_ps(127));
        __m128 inverse = ts_inverse_128(d);
        ts_store_halves(out, 34, d);
        for (int k = 0; k < 4; k++) {
            __m512 factor = ts_lane_512(inverse, k);
            ts_store_low_bytes(out + 34 * k + 2,
                               round_away(_mm512_mul_ps(x.a[k], factor)));
            ts_store_low_bytes(out + 34 * k + 18,
                               round_away(_mm512_mul_ps(x.b[k], factor)));
        }
    }
    return done + ts_q8_0_quantize(in, out, count - done);
}

/* ---- codes of four and five bits --------------------------------------- */

/* Where the first element is that equals `wanted`, which one does. */
static inline TS_AVX512 size_t first_of(__m512i a, __m512i b, __m512i wanted)
{
    uint32_t low = _mm512_cmpeq_epi32_mask(a, wanted);
    uint32_t high = _mm512_cmpeq_epi32_mask(b, wanted);
    return (size_t)__builtin_ctz(low | high << 16);
}

/* Of each block the first value of largest magnitude; +0 of zeros. */
static inline TS_AVX512 __m128 peaks_of(const uint8_t *in, const ts_four *x,
                                        __m128i most)
{
    float peaks[4];
    for (int k = 0; k < 4; k++) {
        __m512i wanted = _mm512_castps_si512(
            ts_lane_512(_mm_castsi128_ps(most), k));
        size_t first = first_of(ts_magnitude_512(x->a[k]),
                                ts_magnitude_512(x->b[k]), wanted);
        memcpy(peaks + k, in + 128 * k + 4 * first, sizeof *peaks);
    }
    __mmask8 is_used = _mm_test_epi32_mask(most, most);
    return _mm_maskz_mov_ps(is_used, _mm_loadu_ps(peaks));
}

/* x * factor + middle, cut to an integer that is at most `most`. */
static inline TS_AVX512 __m512i codes_of(__m512 x, __m512 factor, float middle,
                                         int most)
{
    __m512 scaled = _mm512_mul_ps(x, factor);
    scaled = _mm512_add_ps(scaled, _mm512_set1_ps(middle));
    return _mm512_min_epi32(_mm512_cvttps_epi32(scaled),
                            _mm512_set1_epi32(most));
}

static inline TS_AVX512 void store_four(uint8_t *out, __m512i low,
                                        __m512i high)
{
    ts_store_low_bytes(out, _mm512_or_si512(low, _mm512_slli_epi32(high, 4)));
}

static inline TS_AVX512 void store_five(uint8_t *out, __m512i low,
                                        __m512i high)
{
    const __m512i fifth = _mm512_set1_epi32(16), rest = _mm512_set1_epi32(15);
    uint32_t bits = _mm512_test_epi32_mask(low, fifth)
        | (uint32_t)_mm512_test_epi32_mask(high, fifth) << 16;
    memcpy(out, &bits, sizeof bits);
    store_four(out + 4, _mm512_and_si512(low, rest),
               _mm512_and_si512(high, rest));
}

#define SIGNED_BLOCKS(stem, size, half, most_code, store)                     \
    TS_AVX512 TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx512)                 \
    {                                                                         \
        size_t done = 0;                                                      \
        for (; done + FOUR <= count;                                          \
             done += FOUR, in += 512, out += 4 * (size)) {                    \
            ts_four x = ts_load_four(in);                                     \
            __m128i most = ts_most_four(&x);                                  \
            if (!ts_are_finite(most)) break;                                  \
            __m128 d = _mm_div_ps(peaks_of(in, &x, most),                     \
                                  _mm_set1_ps(-(half)));                      \
            __m128 inverse = ts_inverse_128(d);                               \
            ts_store_halves(out, size, d);                                    \
            for (int k = 0; k < 4; k++) {                                     \
                __m512 factor = ts_lane_512(inverse, k);                      \
                store(out + (size) * k + 2,                                   \
                      codes_of(x.a[k], factor, (half) + 0.5f, most_code),     \
                      codes_of(x.b[k], factor, (half) + 0.5f, most_code));    \
            }                                                                 \
        }                                                                     \
        return done + ts_##stem##_quantize(in, out, count - done);            \
    }
SIGNED_BLOCKS(q4_0, 18, 8, 15, store_four)
SIGNED_BLOCKS(q5_0, 22, 16, 31, store_five)

/* ---- with a minimum ---------------------------------------------------- */

/* Bits of floats in an order that integers have: those of negative ones
 * turned over.  It is its own inverse. */
static inline TS_AVX512 __m512i keys_512(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    return _mm512_xor_si512(
        bits, _mm512_srli_epi32(_mm512_srai_epi32(bits, 31), 1));
}

static inline TS_AVX512 __m128 floats_of(__m128i keys)
{
    return _mm_castsi128_ps(_mm_xor_si128(
        keys, _mm_srli_epi32(_mm_srai_epi32(keys, 31), 1)));
}

/* A minimum of zero has the sign of the first zero of its block. */
static inline TS_AVX512 __m128 signed_zeros(const uint8_t *in,
                                            const ts_four *x, __m128 min)
{
    float mins[4];
    _mm_storeu_ps(mins, min);
    for (int k = 0; k < 4; k++) {
        if (mins[k] != 0) continue;
        size_t first = first_of(ts_magnitude_512(x->a[k]),
                                ts_magnitude_512(x->b[k]),
                                _mm512_setzero_si512());
        memcpy(mins + k, in + 128 * k + 4 * first, sizeof *mins);
    }
    return _mm_loadu_ps(mins);
}

/* The range of each block; false where something is not finite. */
static inline TS_AVX512 bool range_of(const uint8_t *in, const ts_four *x,
                                      __m128 *min, __m128 *range)
{
    __m512i high[4], low[4];
    for (int k = 0; k < 4; k++) {
        __m512i a = keys_512(x->a[k]), b = keys_512(x->b[k]);
        high[k] = _mm512_max_epi32(a, b);
        low[k] = ts_not_512(_mm512_min_epi32(a, b));
    }
    __m128i top = ts_max_four(high), bottom = ts_max_four(low);
    if (!ts_are_finite(_mm_max_epi32(top, bottom))) return false;
    __m128 max = floats_of(top);
    *min = floats_of(_mm_xor_si128(bottom, _mm_set1_epi32(-1)));
    __mmask8 is_zero = _mm_cmp_ps_mask(*min, _mm_setzero_ps(), _CMP_EQ_OQ);
    __mmask8 differ = _mm_cmp_ps_mask(*min, max, _CMP_NEQ_UQ);
    if (is_zero != 0) *min = signed_zeros(in, x, *min);
    *range = _mm_maskz_sub_ps(differ, max, *min);
    return true;
}

#define RANGED_BLOCKS(stem, size, most_code, store)                           \
    TS_AVX512 TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx512)                 \
    {                                                                         \
        size_t done = 0;                                                      \
        for (; done + FOUR <= count;                                          \
             done += FOUR, in += 512, out += 4 * (size)) {                    \
            ts_four x = ts_load_four(in);                                     \
            __m128 min, range;                                                \
            if (!range_of(in, &x, &min, &range)) break;                       \
            __m128 d = _mm_div_ps(range, _mm_set1_ps(most_code));             \
            __m128 inverse = ts_inverse_128(d);                               \
            ts_store_halves(out, size, d);                                    \
            ts_store_halves(out + 2, size, min);                              \
            for (int k = 0; k < 4; k++) {                                     \
                __m512 factor = ts_lane_512(inverse, k);                      \
                __m512 m = ts_lane_512(min, k);                               \
                __m512 a = _mm512_sub_ps(x.a[k], m);                          \
                __m512 b = _mm512_sub_ps(x.b[k], m);                          \
                store(out + (size) * k + 4,                                   \
                      codes_of(a, factor, 0.5f, most_code),                   \
                      codes_of(b, factor, 0.5f, most_code));                  \
            }                                                                 \
        }                                                                     \
        return done + ts_##stem##_quantize(in, out, count - done);            \
    }
RANGED_BLOCKS(q4_1, 20, 15, store_four)
RANGED_BLOCKS(q5_1, 24, 31, store_five)

#endif
