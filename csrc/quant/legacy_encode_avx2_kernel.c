#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx2.h"

/* The plain loops 8 elements at a time: the same operations, so the same
 * bits. */

/* ts_round_away of 8 floats. */
static inline TS_AVX2 __m256i round_away(__m256 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256 half = _mm256_set1_ps(0x1.fffffep-2f);
    __m256 signed_half = _mm256_or_ps(_mm256_and_ps(x, sign), half);
    return _mm256_cvttps_epi32(_mm256_add_ps(x, signed_half));
}

TS_AVX2 TS_QUANTIZE_KERNEL(ts_q8_0_quantize_avx2)
{
    size_t done = 0;
    for (; done < count; done += 32, in += 128, out += 34) {
        ts_block x = ts_load_block(in);
        __m256i codes[4];
        uint32_t most = ts_most_256(&x);
        if (most >= 0x7f800000) break;
        float d = ts_f32_from_bits(most) / 127;
        __m256 inverse = _mm256_set1_ps(ts_inverse(d));
        ts_store_half_256(out, d);
        for (int k = 0; k < 4; k++)
            codes[k] = round_away(_mm256_mul_ps(x.part[k], inverse));
        ts_store_16_bytes(out + 2, ts_low_bytes_256(codes[0], codes[1]));
        ts_store_16_bytes(out + 18, ts_low_bytes_256(codes[2], codes[3]));
    }
    return done;
}

/* ---- codes of four and five bits --------------------------------------- */

/* Where the first element is that equals `wanted`, which one does. */
static inline TS_AVX2 size_t first_of(const ts_block *x, __m256i wanted)
{
    uint32_t found = 0;
    for (int k = 0; k < 4; k++) {
        __m256i same = _mm256_cmpeq_epi32(ts_magnitude_256(x->part[k]),
                                          wanted);
        uint32_t mask = (uint32_t)_mm256_movemask_ps(
            _mm256_castsi256_ps(same));
        found |= mask << 8 * k;
    }
    return (size_t)__builtin_ctz(found);
}

static inline TS_AVX2 float value_at(const uint8_t *in, size_t index)
{
    return ts_f32_from_bits(ts_load_u32(in + 4 * index));
}

/* The first value of that magnitude; +0 of zeros. */
static inline TS_AVX2 float peak_of(const uint8_t *in, const ts_block *x,
                                    uint32_t most)
{
    size_t first = first_of(x, _mm256_set1_epi32((int)most));
    return most == 0 ? 0 : value_at(in, first);
}

/* (x - min) * inverse + middle, cut to an integer that is at most `most`; two
 * times 16 elements. */
static inline TS_AVX2 void codes_of(const ts_block *x, float min,
                                    float inverse, float middle, int most,
                                    __m128i *low, __m128i *high)
{
    __m256i codes[4];
    for (int k = 0; k < 4; k++) {
        __m256 value = _mm256_sub_ps(x->part[k], _mm256_set1_ps(min));
        value = _mm256_mul_ps(value, _mm256_set1_ps(inverse));
        value = _mm256_add_ps(value, _mm256_set1_ps(middle));
        codes[k] = _mm256_min_epi32(_mm256_cvttps_epi32(value),
                                    _mm256_set1_epi32(most));
    }
    *low = ts_low_bytes_256(codes[0], codes[1]);
    *high = ts_low_bytes_256(codes[2], codes[3]);
}

static inline TS_AVX2 void store_four(uint8_t *out, __m128i low, __m128i high)
{
    ts_store_16_bytes(out, _mm_or_si128(low, _mm_slli_epi16(high, 4)));
}

static inline TS_AVX2 void store_five(uint8_t *out, __m128i low, __m128i high)
{
    /* Bit 4 of each byte, moved to bit 7, where masks are taken. */
    uint32_t bits = (uint32_t)_mm_movemask_epi8(_mm_slli_epi16(low, 3))
        | (uint32_t)_mm_movemask_epi8(_mm_slli_epi16(high, 3)) << 16;
    memcpy(out, &bits, sizeof bits);
    store_four(out + 4, ts_low_nibbles(low), ts_low_nibbles(high));
}

#define SIGNED_BLOCKS(stem, size, half, most_code, store)                     \
    TS_AVX2 TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx2)                     \
    {                                                                         \
        size_t done = 0;                                                      \
        for (; done < count; done += 32, in += 128, out += (size)) {          \
            ts_block x = ts_load_block(in);                                   \
            __m128i low, high;                                                \
            uint32_t most = ts_most_256(&x);                                  \
            if (most >= 0x7f800000) break;                                    \
            float d = peak_of(in, &x, most) / -(half);                        \
            ts_store_half_256(out, d);                                        \
            codes_of(&x, 0, ts_inverse(d), (half) + 0.5f, most_code, &low,    \
                     &high);                                                  \
            store(out + 2, low, high);                                        \
        }                                                                     \
        return done;                                                          \
    }
SIGNED_BLOCKS(q4_0, 18, 8, 15, store_four)
SIGNED_BLOCKS(q5_0, 22, 16, 31, store_five)

/* ---- with a minimum ---------------------------------------------------- */

static inline TS_AVX2 __m128 half_min(__m256 x)
{
    return _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

static inline TS_AVX2 float min_of(__m256 x)
{
    __m128 min = half_min(x);
    min = _mm_min_ps(min, _mm_movehl_ps(min, min));
    return _mm_cvtss_f32(_mm_min_ss(min, _mm_movehdup_ps(min)));
}

/* The range of a block.  A minimum of zero has the sign of the first. */
static inline TS_AVX2 float range_of(const uint8_t *in, const ts_block *x,
                                     float *min)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 low = _mm256_min_ps(_mm256_min_ps(x->part[0], x->part[1]),
                               _mm256_min_ps(x->part[2], x->part[3]));
    __m256 high = _mm256_max_ps(_mm256_max_ps(x->part[0], x->part[1]),
                                _mm256_max_ps(x->part[2], x->part[3]));
    float max = -min_of(_mm256_xor_ps(high, sign));
    *min = min_of(low);
    if (*min == 0) *min = value_at(in, first_of(x, _mm256_setzero_si256()));
    return max == *min ? 0 : max - *min;
}

#define RANGED_BLOCKS(stem, size, most_code, store)                           \
    TS_AVX2 TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx2)                     \
    {                                                                         \
        size_t done = 0;                                                      \
        for (; done < count; done += 32, in += 128, out += (size)) {          \
            ts_block x = ts_load_block(in);                                   \
            __m128i low, high;                                                \
            float min;                                                        \
            if (ts_most_256(&x) >= 0x7f800000) break;                         \
            float d = range_of(in, &x, &min) / (most_code);                   \
            ts_store_half_256(out, d);                                        \
            ts_store_half_256(out + 2, min);                                  \
            codes_of(&x, min, ts_inverse(d), 0.5f, most_code, &low, &high);   \
            store(out + 4, low, high);                                        \
        }                                                                     \
        return done;                                                          \
    }
RANGED_BLOCKS(q4_1, 20, 15, store_four)
RANGED_BLOCKS(q5_1, 24, 31, store_five)

#endif
