#if defined(__x86_64__)

#include "encode.h"
#include "encode_avx2.h"
#include "nf4.h"

/* Four comparisons halve the codes that are left: with the middle midpoint,
 * one of two, of four (in one table), of eight (in another). */
typedef struct {
    float middles[15];
    __m256 fours, eights;
} halves;

static inline TS_AVX2 halves halves_make(void)
{
    halves table;
    float fours[8] = {0}, eights[8];
    ts_nf4_midpoints(table.middles);
    for (int i = 0; i < 4; i++) fours[i] = table.middles[4 * i + 1];
    for (int i = 0; i < 8; i++) eights[i] = table.middles[2 * i];
    table.fours = _mm256_loadu_ps(fours);
    table.eights = _mm256_loadu_ps(eights);
    return table;
}

/* code * 2, and one more where the value is above the midpoint. */
static inline TS_AVX2 __m256i next_bit(__m256i code, __m256 value,
                                       __m256 middle)
{
    __m256 above = _mm256_cmp_ps(value, middle, _CMP_GT_OQ);
    return _mm256_sub_epi32(_mm256_add_epi32(code, code),
                            _mm256_castps_si256(above));
}

static inline TS_AVX2 __m256i codes_of(const halves *table, __m256 x,
                                       __m256 inverse)
{
    __m256 value = _mm256_mul_ps(x, inverse);
    __m256 middle = _mm256_set1_ps(table->middles[7]);
    __m256i code = next_bit(_mm256_setzero_si256(), value, middle);
    __m256 above = _mm256_cmp_ps(value, middle, _CMP_GT_OQ);
    middle = _mm256_blendv_ps(_mm256_set1_ps(table->middles[3]),
                              _mm256_set1_ps(table->middles[11]), above);
    code = next_bit(code, value, middle);
    code = next_bit(code, value, _mm256_permutevar8x32_ps(table->fours, code));
    return next_bit(code, value,
                    _mm256_permutevar8x32_ps(table->eights, code));
}

/* 16 codes into 8 bytes: the first of two is the high nibble. */
static inline TS_AVX2 void store_pairs(uint8_t *out, __m256i a, __m256i b)
{
    const __m128i weights = _mm_set1_epi16(0x0110); /* 16 and 1 */
    __m128i pairs = _mm_maddubs_epi16(ts_low_bytes_256(a, b), weights);
    _mm_storel_epi64((__m128i *)(void *)out, _mm_packus_epi16(pairs, pairs));
}

TS_AVX2 size_t ts_nf4_quantize_avx2(const uint8_t *in, uint8_t *out,
                                    float *scales, size_t count)
{
    const halves table = halves_make();
    size_t done = 0;
    for (; done < count; done += 64, in += 256, out += 32) {
        ts_block half[2] = {ts_load_block(in), ts_load_block(in + 128)};
        uint32_t first = ts_most_256(half), second = ts_most_256(half + 1);
        uint32_t most = first > second ? first : second;
        if (most >= 0x7f800000) break;
        float scale = ts_f32_from_bits(most);
        __m256 inverse = _mm256_set1_ps(
            1 / (scale > TS_NF4_LEAST ? scale : TS_NF4_LEAST));
        *scales++ = scale;
        for (int k = 0; k < 4; k++) {
            const __m256 *x = half[k / 2].part + k % 2 * 2;
            store_pairs(out + 8 * k, codes_of(&table, x[0], inverse),
                        codes_of(&table, x[1], inverse));
        }
    }
    return done;
}

/* Four bytes in every lane, each shifted so that its nibble comes first.  A
 * permutation looks at three bits of that, a blend at the fourth. */
static inline TS_AVX2 __m256 look_up(const uint8_t *at, __m256 lower,
                                     __m256 upper)
{
    const __m256i places = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
    __m256i codes = _mm256_srlv_epi32(
        _mm256_set1_epi32((int)ts_load_u32(at)), places);
    __m256i fourth = _mm256_slli_epi32(codes, 28);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(lower, codes),
                            _mm256_permutevar8x32_ps(upper, codes),
                            _mm256_castsi256_ps(fourth));
}

TS_AVX2 void ts_nf4_decode_avx2(const uint8_t *in, const float *scales,
                                float *out, size_t count)
{
    const __m256 lower = _mm256_loadu_ps(ts_nf4_values);
    const __m256 upper = _mm256_loadu_ps(ts_nf4_values + 8);
    for (; count >= 64; count -= 64, in += 32, out += 64) {
        __m256 scale = _mm256_set1_ps(*scales++);
        __m256 low = _mm256_mul_ps(lower, scale);
        __m256 high = _mm256_mul_ps(upper, scale);
        for (int k = 0; k < 8; k++)
            _mm256_storeu_ps(out + 8 * k, look_up(in + 4 * k, low, high));
    }
    ts_nf4_decode(in, scales, out, count);
}

#endif
