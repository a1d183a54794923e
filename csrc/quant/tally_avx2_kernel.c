#if defined(__x86_64__)

#include <stdbool.h>

#include "avx2.h"
#include "tally.h"

/* The lanes of tally.h in registers; a row of 16 is two halves.  Stretches
 * that are not calm, and the last one, go through the plain loop. */
typedef struct {
    __m256d part[4];
} lanes;

static inline TS_AVX2 lanes load_lanes(const ts_tally *tally)
{
    lanes sums;
    for (int k = 0; k < 4; k++)
        sums.part[k] = _mm256_loadu_pd(tally->sums + 4 * k);
    return sums;
}

static inline TS_AVX2 void store_lanes(lanes sums, ts_tally *tally)
{
    for (int k = 0; k < 4; k++)
        _mm256_storeu_pd(tally->sums + 4 * k, sums.part[k]);
}

/* Four values for each of lanes 8 * half to 8 * half + 7. */
static inline TS_AVX2 lanes add_rows(lanes sums, int half, __m256 a, __m256 b,
                                     __m256 c, __m256 d)
{
    __m256 row = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(row));
    __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(row, 1));
    sums.part[2 * half] = _mm256_add_pd(sums.part[2 * half], low);
    sums.part[2 * half + 1] = _mm256_add_pd(sums.part[2 * half + 1], high);
    return sums;
}

typedef struct {
    __m256i low, high;
} range;

static inline TS_AVX2 range nothing_16(void)
{
    return (range){_mm256_set1_epi16(INT16_MAX), _mm256_set1_epi16(INT16_MIN)};
}

static inline TS_AVX2 range nothing_32(void)
{
    return (range){_mm256_set1_epi32(INT32_MAX), _mm256_set1_epi32(INT32_MIN)};
}

static inline TS_AVX2 range add_keys_16(range seen, __m256i bits)
{
    __m256i sign = _mm256_srai_epi16(bits, 15);
    sign = _mm256_and_si256(sign, _mm256_set1_epi16(0x7fff));
    __m256i keys = _mm256_xor_si256(bits, sign);
    return (range){_mm256_min_epi16(seen.low, keys),
                   _mm256_max_epi16(seen.high, keys)};
}

static inline TS_AVX2 range add_keys_32(range seen, __m256i bits)
{
    __m256i sign = _mm256_srai_epi32(bits, 31);
    sign = _mm256_and_si256(sign, _mm256_set1_epi32(0x7fffffff));
    __m256i keys = _mm256_xor_si256(bits, sign);
    return (range){_mm256_min_epi32(seen.low, keys),
                   _mm256_max_epi32(seen.high, keys)};
}

/* The one range of 16 or 8 lanes; as keys of the type. */
typedef struct {
    int64_t low, high;
} bounds;

static inline TS_AVX2 bounds bounds_16(range seen)
{
    int16_t low[16], high[16];
    bounds all = {INT16_MAX, INT16_MIN};
    _mm256_storeu_si256((__m256i *)(void *)low, seen.low);
    _mm256_storeu_si256((__m256i *)(void *)high, seen.high);
    for (int i = 0; i < 16; i++) {
        if (low[i] < all.low) all.low = low[i];
        if (high[i] > all.high) all.high = high[i];
    }
    return all;
}

static inline TS_AVX2 bounds bounds_32(range seen)
{
    int32_t low[8], high[8];
    bounds all = {INT32_MAX, INT32_MIN};
    _mm256_storeu_si256((__m256i *)(void *)low, seen.low);
    _mm256_storeu_si256((__m256i *)(void *)high, seen.high);
    for (int i = 0; i < 8; i++) {
        if (low[i] < all.low) all.low = low[i];
        if (high[i] > all.high) all.high = high[i];
    }
    return all;
}

/* Keep what a stretch gave if it was calm. */
static inline TS_AVX2 bool accept(bounds seen, int64_t limit, lanes sums,
                                  ts_tally *tally)
{
    if (seen.low < -limit || seen.high >= limit) return false;
    store_lanes(sums, tally);
    if (seen.low < tally->low) tally->low = seen.low;
    if (seen.high > tally->high) tally->high = seen.high;
    return true;
}

static inline TS_AVX2 __m256 even_bf16(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

static inline TS_AVX2 __m256 odd_bf16(__m256i pairs)
{
    return _mm256_castsi256_ps(
        _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}

TS_AVX2 TS_TALLY_KERNEL(ts_bf16_tally_avx2)
{
    for (; count >= TS_STRETCH; count -= TS_STRETCH, in += 2 * TS_STRETCH) {
        lanes sums = load_lanes(tally);
        range seen = nothing_16();
        for (int i = 0; i < TS_STRETCH; i += 64)
            for (int half = 0; half < 2; half++) {
                const uint8_t *at = in + 2 * i + 32 * half;
                __m256i a = ts_load_32_bytes(at);
                __m256i b = ts_load_32_bytes(at + 64);
                seen = add_keys_16(add_keys_16(seen, a), b);
                sums = add_rows(sums, half, even_bf16(a), odd_bf16(a),
                                even_bf16(b), odd_bf16(b));
            }
        if (!accept(bounds_16(seen), TS_BF16_LIMIT, sums, tally))
            ts_bf16_tally_careful(in, TS_STRETCH, tally);
    }
    ts_bf16_tally_careful(in, count, tally);
}

static inline TS_AVX2 __m256 eight_f16(const uint8_t *at, int row)
{
    return _mm256_cvtph_ps(ts_load_16_bytes(at + 32 * row));
}

TS_AVX2 TS_TALLY_KERNEL(ts_f16_tally_avx2)
{
    for (; count >= TS_STRETCH; count -= TS_STRETCH, in += 2 * TS_STRETCH) {
        lanes sums = load_lanes(tally);
        range seen = nothing_16();
        for (int i = 0; i < TS_STRETCH; i += 64) {
            const uint8_t *at = in + 2 * i;
            for (int k = 0; k < 4; k++)
                seen = add_keys_16(seen, ts_load_32_bytes(at + 32 * k));
            for (int half = 0; half < 2; half++, at += 16)
                sums = add_rows(sums, half, eight_f16(at, 0), eight_f16(at, 1),
                                eight_f16(at, 2), eight_f16(at, 3));
        }
        if (!accept(bounds_16(seen), TS_F16_LIMIT, sums, tally))
            ts_f16_tally_careful(in, TS_STRETCH, tally);
    }
    ts_f16_tally_careful(in, count, tally);
}

TS_AVX2 TS_TALLY_KERNEL(ts_f32_tally_avx2)
{
    for (; count >= TS_STRETCH; count -= TS_STRETCH, in += 4 * TS_STRETCH) {
        lanes sums = load_lanes(tally);
        range seen = nothing_32();
        for (int i = 0; i < TS_STRETCH; i += 64)
            for (int half = 0; half < 2; half++) {
                const uint8_t *at = in + 4 * i + 32 * half;
                __m256i rows[4];
                for (int k = 0; k < 4; k++) {
                    rows[k] = ts_load_32_bytes(at + 64 * k);
                    seen = add_keys_32(seen, rows[k]);
                }
                sums = add_rows(sums, half, _mm256_castsi256_ps(rows[0]),
                                _mm256_castsi256_ps(rows[1]),
                                _mm256_castsi256_ps(rows[2]),
                                _mm256_castsi256_ps(rows[3]));
            }
        if (!accept(bounds_32(seen), TS_F32_LIMIT, sums, tally))
            ts_f32_tally_careful(in, TS_STRETCH, tally);
    }
    ts_f32_tally_careful(in, count, tally);
}

#endif
