#if defined(__x86_64__)

#include <stdbool.h>

#include "avx512.h"
#include "tally.h"

/* The lanes of tally.h in registers. */
typedef struct {
    __m512d low, high;
} lanes;

static inline TS_AVX512 lanes load_lanes(const ts_tally *tally)
{
    return (lanes){_mm512_loadu_pd(tally->sums),
                   _mm512_loadu_pd(tally->sums + 8)};
}

static inline TS_AVX512 void store_lanes(lanes sums, ts_tally *tally)
{
    _mm512_storeu_pd(tally->sums, sums.low);
    _mm512_storeu_pd(tally->sums + 8, sums.high);
}

static inline TS_AVX512 lanes add_row(lanes sums, __m512 row)
{
    __m256 low = _mm512_castps512_ps256(row);
    __m256 high = _mm512_extractf32x8_ps(row, 1);
    sums.low = _mm512_add_pd(sums.low, _mm512_cvtps_pd(low));
    sums.high = _mm512_add_pd(sums.high, _mm512_cvtps_pd(high));
    return sums;
}

static inline TS_AVX512 lanes add_rows(lanes sums, __m512 a, __m512 b,
                                       __m512 c, __m512 d)
{
    return add_row(sums, _mm512_add_ps(_mm512_add_ps(a, b),
                                       _mm512_add_ps(c, d)));
}

/* Smallest and largest key. */
typedef struct {
    __m512i low, high;
} range;

/* bits ^ (sign & 0x7f...) */
static inline TS_AVX512 __m512i keys_16(__m512i bits)
{
    return _mm512_ternarylogic_epi32(bits, _mm512_srai_epi16(bits, 15),
                                     _mm512_set1_epi16(0x7fff), 0x78);
}

static inline TS_AVX512 __m512i keys_32(__m512i bits)
{
    return _mm512_ternarylogic_epi32(bits, _mm512_srai_epi32(bits, 31),
                                     _mm512_set1_epi32(0x7fffffff), 0x78);
}

static inline TS_AVX512 range nothing_16(void)
{
    return (range){_mm512_set1_epi16(INT16_MAX), _mm512_set1_epi16(INT16_MIN)};
}

static inline TS_AVX512 range nothing_32(void)
{
    return (range){_mm512_set1_epi32(INT32_MAX), _mm512_set1_epi32(INT32_MIN)};
}

static inline TS_AVX512 range add_keys_16(range seen, __m512i bits)
{
    __m512i keys = keys_16(bits);
    return (range){_mm512_min_epi16(seen.low, keys),
                   _mm512_max_epi16(seen.high, keys)};
}

static inline TS_AVX512 range add_keys_32(range seen, __m512i bits)
{
    __m512i keys = keys_32(bits);
    return (range){_mm512_min_epi32(seen.low, keys),
                   _mm512_max_epi32(seen.high, keys)};
}

/* Of two-byte floats the largest as signed numbers is the largest positive,
 * and as unsigned ones the negative furthest from zero: half the work of keys
 * for every value, so long as there are both. */
typedef struct {
    __m512i high, low;
} ends;

static inline TS_AVX512 ends no_ends(void)
{
    return (ends){_mm512_set1_epi16(INT16_MIN), _mm512_setzero_si512()};
}

static inline TS_AVX512 ends add_ends(ends seen, __m512i bits)
{
    return (ends){_mm512_max_epi16(seen.high, bits),
                  _mm512_max_epu16(seen.low, bits)};
}

static TS_AVX512 range stretch_range_16(const uint8_t *in)
{
    range seen = nothing_16();
    for (int i = 0; i < TS_STRETCH; i += 32)
        seen = add_keys_16(seen, ts_load_512(in + 2 * i));
    return seen;
}

/* As keys, of the stretch at `in`. */
static inline TS_AVX512 range ends_range(ends seen, const uint8_t *in)
{
    range both = nothing_16();
    __mmask32 positive = ~_mm512_movepi16_mask(seen.high);
    __mmask32 negative = _mm512_movepi16_mask(seen.low);

    if (positive == 0 || negative == 0) return stretch_range_16(in);
    both.low = _mm512_mask_mov_epi16(both.low, negative, keys_16(seen.low));
    both.high = _mm512_mask_mov_epi16(both.high, positive, seen.high);
    return both;
}

static inline TS_AVX512 bool is_calm_16(range seen, int limit)
{
    __m512i top = _mm512_set1_epi16((short)(limit - 1));
    __m512i bottom = _mm512_set1_epi16((short)-limit);
    return (_mm512_cmpgt_epi16_mask(seen.high, top)
            | _mm512_cmplt_epi16_mask(seen.low, bottom))
        == 0;
}

static inline TS_AVX512 bool is_calm_32(range seen, int limit)
{
    __m512i top = _mm512_set1_epi32(limit - 1);
    __m512i bottom = _mm512_set1_epi32(-limit);
    return (_mm512_cmpgt_epi32_mask(seen.high, top)
            | _mm512_cmplt_epi32_mask(seen.low, bottom))
        == 0;
}

static inline TS_AVX512 range join_16(range a, range b)
{
    return (range){_mm512_min_epi16(a.low, b.low),
                   _mm512_max_epi16(a.high, b.high)};
}

static inline TS_AVX512 range join_32(range a, range b)
{
    return (range){_mm512_min_epi32(a.low, b.low),
                   _mm512_max_epi32(a.high, b.high)};
}

/* `low > high` still means that nothing was seen. */
static void tally_range(ts_tally *tally, int64_t low, int64_t high)
{
    if (low > high) return;
    if (low < tally->low) tally->low = low;
    if (high > tally->high) tally->high = high;
}

static inline TS_AVX512 void finish_16(range seen, ts_tally *tally)
{
    int16_t low[32], high[32];
    _mm512_storeu_si512(low, seen.low);
    _mm512_storeu_si512(high, seen.high);
    for (int i = 0; i < 32; i++) tally_range(tally, low[i], high[i]);
}

static inline TS_AVX512 void finish_32(range seen, ts_tally *tally)
{
    tally_range(tally, _mm512_reduce_min_epi32(seen.low),
                _mm512_reduce_max_epi32(seen.high));
}

/* 32 values of two bytes, those of the mask: specials are counted and become
 * zero, the rest enters the range. */
static inline TS_AVX512 __m512i sift_16(__m512i bits, __mmask32 used,
                                        int infinity, range *seen,
                                        ts_tally *tally)
{
    __m512i limit = _mm512_set1_epi16((short)infinity);
    __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi16(0x7fff));
    __mmask32 is_nan = _mm512_mask_cmpgt_epi16_mask(used, magnitude, limit);
    __mmask32 is_inf = _mm512_mask_cmpeq_epi16_mask(used, magnitude, limit);
    __mmask32 is_finite = used & ~(is_nan | is_inf);
    __m512i keys = keys_16(bits);
    seen->low = _mm512_mask_min_epi16(seen->low, is_finite, seen->low, keys);
    seen->high
        = _mm512_mask_max_epi16(seen->high, is_finite, seen->high, keys);
    tally->nan_count += (uint64_t)__builtin_popcount(is_nan);
    tally->inf_count += (uint64_t)__builtin_popcount(is_inf);
    return _mm512_maskz_mov_epi16(is_finite, bits);
}

static inline TS_AVX512 __m512i sift_32(__m512i bits, __mmask16 used,
                                        range *seen, ts_tally *tally)
{
    __m512i limit = _mm512_set1_epi32(0x7f800000);
    __m512i magnitude
        = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
    __mmask16 is_nan = _mm512_mask_cmpgt_epi32_mask(used, magnitude, limit);
    __mmask16 is_inf = _mm512_mask_cmpeq_epi32_mask(used, magnitude, limit);
    __mmask16 is_finite = used & (__mmask16) ~(is_nan | is_inf);
    __m512i keys = keys_32(bits);
    seen->low = _mm512_mask_min_epi32(seen->low, is_finite, seen->low, keys);
    seen->high
        = _mm512_mask_max_epi32(seen->high, is_finite, seen->high, keys);
    tally->nan_count += (uint64_t)__builtin_popcount(is_nan);
    tally->inf_count += (uint64_t)__builtin_popcount(is_inf);
    return _mm512_maskz_mov_epi32(is_finite, bits);
}

static inline uint32_t first(size_t count, size_t width)
{
    return count >= width ? (uint32_t)((1ull << width) - 1)
                          : (1u << count) - 1;
}

/* BF16: the even elements shifted up, the odd ones where they are. */
static inline TS_AVX512 __m512 even_bf16(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

static inline TS_AVX512 __m512 odd_bf16(__m512i pairs)
{
    return _mm512_castsi512_ps(
        _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

static TS_AVX512 void bf16_careful(const uint8_t *in, size_t count,
                                   ts_tally *tally)
{
    lanes sums = load_lanes(tally);
    range seen = nothing_16();
    for (size_t i = 0; i < count; i += 32) {
        __mmask32 used = first(count - i, 32);
        __m512i bits = _mm512_maskz_loadu_epi16(used, in + 2 * i);
        bits = sift_16(bits, used, 0x7f80, &seen, tally);
        sums = add_row(sums, even_bf16(bits));
        sums = add_row(sums, odd_bf16(bits));
    }
    store_lanes(sums, tally);
    finish_16(seen, tally);
}

TS_AVX512 TS_TALLY_KERNEL(ts_bf16_tally_avx512)
{
    range total = nothing_16();
    for (; count >= TS_STRETCH; count -= TS_STRETCH, in += 2 * TS_STRETCH) {
        lanes sums = load_lanes(tally);
        ends found = no_ends();
        for (int i = 0; i < TS_STRETCH; i += 64) {
            __m512i a = ts_load_512(in + 2 * i);
            __m512i b = ts_load_512(in + 2 * i + 64);
            found = add_ends(add_ends(found, a), b);
            sums = add_rows(sums, even_bf16(a), odd_bf16(a), even_bf16(b),
                            odd_bf16(b));
        }
        range seen = ends_range(found, in);
        if (is_calm_16(seen, TS_BF16_LIMIT)) {
            store_lanes(sums, tally);
            total = join_16(total, seen);
        } else {
            bf16_careful(in, TS_STRETCH, tally);
        }
    }
    bf16_careful(in, count, tally);
    finish_16(total, tally);
}

static inline TS_AVX512 __m512 low_f16(__m512i bits)
{
    return _mm512_cvtph_ps(_mm512_castsi512_si256(bits));
}

static inline TS_AVX512 __m512 high_f16(__m512i bits)
{
    return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(bits, 1));
}

static TS_AVX512 void f16_careful(const uint8_t *in, size_t count,
                                  ts_tally *tally)
{
    lanes sums = load_lanes(tally);
    range seen = nothing_16();
    for (size_t i = 0; i < count; i += 32) {
        __mmask32 used = first(count - i, 32);
        __m512i bits = _mm512_maskz_loadu_epi16(used, in + 2 * i);
        bits = sift_16(bits, used, 0x7c00, &seen, tally);
        sums = add_row(sums, low_f16(bits));
        sums = add_row(sums, high_f16(bits));
    }
    store_lanes(sums, tally);
    finish_16(seen, tally);
}

TS_AVX512 TS_TALLY_KERNEL(ts_f16_tally_avx512)
{
    range total = nothing_16();
    for (; count >= TS_STRETCH; count -= TS_STRETCH, in += 2 * TS_STRETCH) {
        lanes sums = load_lanes(tally);
        ends found = no_ends();
        for (int i = 0; i < TS_STRETCH; i += 64) {
            __m512i a = ts_load_512(in + 2 * i);
            __m512i b = ts_load_512(in + 2 * i + 64);
            found = add_ends(add_ends(found, a), b);
            sums = add_rows(sums, low_f16(a), high_f16(a), low_f16(b),
                            high_f16(b));
        }
        range seen = ends_range(found, in);
        if (is_calm_16(seen, TS_F16_LIMIT)) {
            store_lanes(sums, tally);
            total = join_16(total, seen);
        } else {
            f16_careful(in, TS_STRETCH, tally);
        }
    }
    f16_careful(in, count, tally);
    finish_16(total, tally);
}

static TS_AVX512 void f32_careful(const uint8_t *in, size_t count,
                                  ts_tally *tally)
{
    lanes sums = load_lanes(tally);
    range seen = nothing_32();
    for (size_t i = 0; i < count; i += 16) {
        __mmask16 used = (__mmask16)first(count - i, 16);
        __m512i bits = _mm512_maskz_loadu_epi32(used, in + 4 * i);
        bits = sift_32(bits, used, &seen, tally);
        sums = add_row(sums, _mm512_castsi512_ps(bits));
    }
    store_lanes(sums, tally);
    finish_32(seen, tally);
}

TS_AVX512 TS_TALLY_KERNEL(ts_f32_tally_avx512)
{
    range total = nothing_32();
    for (; count >= TS_STRETCH; count -= TS_STRETCH, in += 4 * TS_STRETCH) {
        lanes sums = load_lanes(tally);
        range seen = nothing_32();
        for (int i = 0; i < TS_STRETCH; i += 64) {
            __m512i rows[4];
            for (int k = 0; k < 4; k++) {
                rows[k] = ts_load_512(in + 4 * i + 64 * k);
                seen = add_keys_32(seen, rows[k]);
            }
            sums = add_rows(sums, _mm512_castsi512_ps(rows[0]),
                            _mm512_castsi512_ps(rows[1]),
                            _mm512_castsi512_ps(rows[2]),
                            _mm512_castsi512_ps(rows[3]));
        }
        if (is_calm_32(seen, TS_F32_LIMIT)) {
            store_lanes(sums, tally);
            total = join_32(total, seen);
        } else {
            f32_careful(in, TS_STRETCH, tally);
        }
    }
    f32_careful(in, count, tally);
    finish_32(total, tally);
}

#endif
