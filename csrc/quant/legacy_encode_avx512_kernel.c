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
    enum { X_WHERE_SIGN_ELSE_HALF = 0xca };
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    const __m512i half
        = _mm512_castps_si512(_mm512_set1_ps(0x1.fffffep-2f));
    __m512i signed_half = _mm512_ternarylogic_epi32(
        sign, _mm512_castps_si512(x), half, X_WHERE_SIGN_ELSE_HALF);
    return _mm512_cvttps_epi32(
        _mm512_add_ps(x, _mm512_castsi512_ps(signed_half)));
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
            __m512i a = round_away(_mm512_mul_ps(x.a[k], factor));
            __m512i b = round_away(_mm512_mul_ps(x.b[k], factor));
            ts_store_256(out + 34 * k + 2, ts_low_bytes(a, b));
        }
    }
    return done + ts_q8_0_quantize(in, out, count - done);
}

/* ---- codes of four and five bits --------------------------------------- */

/* Codes of two blocks: elements 0-15 of the one, then of the other; and
 * elements 16-31. */
typedef struct {
    __m256i low, high;
} codes;

/* x * factor + middle, cut to an integer, as 32-bit lanes. */
static inline TS_AVX512 __m512i cut(__m512 x, __m512 factor, __m512 middle)
{
    return _mm512_cvttps_epi32(
        _mm512_add_ps(_mm512_mul_ps(x, factor), middle));
}

/* Of blocks k and k + 1, each code at most `most`. */
static inline TS_AVX512 codes codes_of(const ts_four *x, int k, __m128 inverse,
                                       float middle, int most)
{
    const __m512 add = _mm512_set1_ps(middle);
    const __m256i all = _mm256_set1_epi8((char)most);
    __m512 one = ts_lane_512(inverse, k), two = ts_lane_512(inverse, k + 1);
    __m256i low = ts_low_bytes(cut(x->a[k], one, add),
                               cut(x->a[k + 1], two, add));
    __m256i high = ts_low_bytes(cut(x->b[k], one, add),
                                cut(x->b[k + 1], two, add));
    return (codes){_mm256_min_epu8(low, all), _mm256_min_epu8(high, all)};
}

/* Codes below 16, of one block to out and of the other `step` further. */
static inline TS_AVX512 void store_four(uint8_t *out, size_t step, codes of)
{
    __m256i both = _mm256_or_si256(of.low, _mm256_slli_epi16(of.high, 4));
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i *)(void *)(out + step),
                     _mm256_extracti128_si256(both, 1));
}

static inline TS_AVX512 uint32_t fifth_bits(__m256i of)
{
    return (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(of, 3));
}

static inline TS_AVX512 void store_five(uint8_t *out, size_t step, codes of)
{
    const __m256i rest = _mm256_set1_epi8(15);
    uint32_t low = fifth_bits(of.low), high = fifth_bits(of.high);
    uint32_t one = (low & 0xffff) | high << 16;
    uint32_t two = low >> 16 | (high & 0xffff0000);
    memcpy(out, &one, sizeof one);
    memcpy(out + step, &two, sizeof two);
    of.low = _mm256_and_si256(of.low, rest);
    of.high = _mm256_and_si256(of.high, rest);
    store_four(out + 4, step, of);
}

/* Where the first element is whose magnitude has these bits, which one has. */
static inline TS_AVX512 size_t first_of(const ts_four *x, int k,
                                        uint32_t magnitude)
{
    const __m512i wanted = _mm512_set1_epi32((int)magnitude);
    uint32_t low = _mm512_cmpeq_epi32_mask(ts_magnitude_512(x->a[k]), wanted);
    uint32_t high = _mm512_cmpeq_epi32_mask(ts_magnitude_512(x->b[k]), wanted);
    return (size_t)__builtin_ctz(low | high << 16);
}

/* In each chosen block, the first value that has this magnitude. */
static inline TS_AVX512 __m128 first_signs(const uint8_t *in, const ts_four *x,
                                           __m128 values, __mmask8 chosen)
{
    float found[4];
    _mm_storeu_ps(found, values);
    for (int k = 0; k < 4; k++) {
        if ((chosen >> k & 1) == 0) continue;
        size_t first = first_of(x, k, ts_f32_bits(found[k]) & 0x7fffffff);
        memcpy(found + k, in + 128 * k + 4 * first, sizeof *found);
    }
    return _mm_loadu_ps(found);
}

/* The magnitudes of the largest float of each block and of the smallest, as
 * bits; negative where none is positive, or none negative.  As an integer the
 * largest with a sign is the one, the largest without a sign the other. */
typedef struct {
    __m128i above, below;
} extremes;

static inline TS_AVX512 extremes extremes_of(const ts_four *x)
{
    __m512i above[4], below[4];
    for (int k = 0; k < 4; k++) {
        __m512i a = _mm512_castps_si512(x->a[k]);
        __m512i b = _mm512_castps_si512(x->b[k]);
        above[k] = _mm512_max_epi32(a, b);
        below[k] = ts_turn_512(_mm512_max_epu32(a, b));
    }
    return (extremes){ts_max_four(above), ts_max_four(below)};
}

static inline TS_AVX512 __m128 minus_128(__m128i magnitudes)
{
    return _mm_castsi128_ps(
        _mm_or_si128(magnitudes, _mm_set1_epi32(INT32_MIN)));
}

/* Of each block the first value of largest magnitude; +0 of zeros.  False
 * where something is not finite. */
static inline TS_AVX512 bool peaks_of(const uint8_t *in, const ts_four *x,
                                      __m128 *peaks)
{
    extremes of = extremes_of(x);
    __m128i most = _mm_max_epi32(of.above, of.below);
    most = _mm_max_epi32(most, _mm_setzero_si128());
    if (!ts_are_finite(most)) return false;
    __mmask8 is_used = _mm_test_epi32_mask(most, most);
    __mmask8 is_below = _mm_mask_cmpgt_epi32_mask(is_used, of.below, of.above);
    __mmask8 is_tied = _mm_mask_cmpeq_epi32_mask(is_used, of.below, of.above);
    *peaks = _mm_mask_mov_ps(_mm_castsi128_ps(most), is_below,
                             minus_128(most));
    if (is_tied != 0) *peaks = first_signs(in, x, *peaks, is_tied);
    return true;
}

#define SIGNED_BLOCKS(stem, size, half, most_code, store)                     \
    TS_AVX512 TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx512)                 \
    {                                                                         \
        size_t done = 0;                                                      \
        for (; done + FOUR <= count;                                          \
             done += FOUR, in += 512, out += 4 * (size)) {                    \
            ts_four x = ts_load_four(in);                                     \
            __m128 peaks;                                                     \
            if (!peaks_of(in, &x, &peaks)) break;                             \
            __m128 d = _mm_div_ps(peaks, _mm_set1_ps(-(half)));               \
            __m128 inverse = ts_inverse_128(d);                               \
            ts_store_halves(out, size, d);                                    \
            for (int k = 0; k < 4; k += 2)                                    \
                store(out + (size) * k + 2, size,                             \
                      codes_of(&x, k, inverse, (half) + 0.5f, most_code));    \
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

/* The smallest and the largest of each block, of whatever sign. */
static inline TS_AVX512 void bounds_of(const uint8_t *in, const ts_four *x,
                                       __m128 *min, __m128 *max)
{
    __m512i high[4], low[4];
    for (int k = 0; k < 4; k++) {
        __m512i a = keys_512(x->a[k]), b = keys_512(x->b[k]);
        high[k] = _mm512_max_epi32(a, b);
        low[k] = ts_not_512(_mm512_min_epi32(a, b));
    }
    *max = floats_of(ts_max_four(high));
    *min = floats_of(_mm_xor_si128(ts_max_four(low), _mm_set1_epi32(-1)));
    __mmask8 is_zero = _mm_cmp_ps_mask(*min, _mm_setzero_ps(), _CMP_EQ_OQ);
    if (is_zero != 0) *min = first_signs(in, x, *min, is_zero);
}

/* The range of each block; false where something is not finite.  Where each
 * has values of both signs, which is the rule, its bounds are its extremes. */
static inline TS_AVX512 bool range_of(const uint8_t *in, const ts_four *x,
                                      __m128 *min, __m128 *range)
{
    extremes of = extremes_of(x);
    __m128 max = _mm_castsi128_ps(of.above);
    if (!ts_are_finite(_mm_max_epi32(of.above, of.below))) return false;
    *min = minus_128(of.below);
    if (_mm_cmple_epi32_mask(_mm_min_epi32(of.above, of.below),
                             _mm_setzero_si128())
        != 0)
        bounds_of(in, x, min, &max);
    __mmask8 differ = _mm_cmp_ps_mask(*min, max, _CMP_NEQ_UQ);
    *range = _mm_maskz_sub_ps(differ, max, *min);
    return true;
}

static inline TS_AVX512 void subtract(ts_four *x, __m128 mins)
{
    for (int k = 0; k < 4; k++) {
        __m512 min = ts_lane_512(mins, k);
        x->a[k] = _mm512_sub_ps(x->a[k], min);
        x->b[k] = _mm512_sub_ps(x->b[k], min);
    }
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
            subtract(&x, min);                                                \
            for (int k = 0; k < 4; k += 2)                                    \
                store(out + (size) * k + 4, size,                             \
                      codes_of(&x, k, inverse, 0.5f, most_code));             \
        }                                                                     \
        return done + ts_##stem##_quantize(in, out, count - done);            \
    }
RANGED_BLOCKS(q4_1, 20, 15, store_four)
RANGED_BLOCKS(q5_1, 24, 31, store_five)

#endif
