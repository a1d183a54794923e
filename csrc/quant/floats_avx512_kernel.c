#if defined(__x86_64__)

#include "avx512.h"
#include "f8.h"
#include "kernels.h"

/* Tails go through the same arithmetic under a mask, which neither reads nor
 * writes the lanes it leaves out. */
static inline __mmask16 tail_mask(size_t count)
{
    return (__mmask16)((1u << count) - 1);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_f16_decode_avx512)
{
    float *y = (void *)out;
    for (; count >= 16; count -= 16, in += 32, y += 16)
        _mm512_storeu_ps(y, _mm512_cvtph_ps(ts_load_256(in)));
    __mmask16 rest = tail_mask(count);
    __m256i halves = _mm256_maskz_loadu_epi16(rest, in);
    _mm512_mask_storeu_ps(y, rest, _mm512_cvtph_ps(halves));
}

static inline TS_AVX512 __m512 widen_bf16(__m256i values)
{
    __m512i words = _mm512_cvtepu16_epi32(values);
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}

TS_AVX512 TS_CONVERT_KERNEL(ts_bf16_decode_avx512)
{
    float *y = (void *)out;
    for (; count >= 16; count -= 16, in += 32, y += 16)
        _mm512_storeu_ps(y, widen_bf16(ts_load_256(in)));
    __mmask16 rest = tail_mask(count);
    __m256i values = _mm256_maskz_loadu_epi16(rest, in);
    _mm512_mask_storeu_ps(y, rest, widen_bf16(values));
}

TS_AVX512 TS_CONVERT_KERNEL(ts_f16_encode_avx512)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    for (; count >= 16; count -= 16, in += 64, out += 32)
        _mm256_storeu_si256((__m256i *)(void *)out,
                            _mm512_cvtps_ph(_mm512_loadu_ps(in), NEAREST));
    __mmask16 rest = tail_mask(count);
    __m512 values = _mm512_maskz_loadu_ps(rest, in);
    _mm256_mask_storeu_epi16(out, rest, _mm512_cvtps_ph(values, NEAREST));
}

/* The upper half of each lane is the BF16.  Not vcvtneps2bf16: it would take
 * denormals for zero. */
static inline TS_AVX512 __m512i round_bf16(__m512i bits)
{
    __m512 values = _mm512_castsi512_ps(bits);
    __mmask16 is_nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
    __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16),
                                    _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff));
    return _mm512_mask_or_epi32(_mm512_add_epi32(bits, up), is_nan, bits,
                                _mm512_set1_epi32(0x00400000));
}

static inline TS_AVX512 void store_bf16(__m512i a, __m512i b, __mmask32 used,
                                        uint8_t *out)
{
    /* The odd words of a and then of b. */
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
                                           11, 12, 13, 14, 15);
    const __m512i odd = _mm512_add_epi16(
        _mm512_mullo_epi32(lane, _mm512_set1_epi32(0x00040004)),
        _mm512_set1_epi32(0x00030001));
    __m512i both = _mm512_permutex2var_epi16(round_bf16(a), odd,
                                             round_bf16(b));
    _mm512_mask_storeu_epi16(out, used, both);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_bf16_encode_avx512)
{
    for (; count >= 32; count -= 32, in += 128, out += 64)
        store_bf16(ts_load_512(in), ts_load_512(in + 64), ~(__mmask32)0, out);
    __mmask32 rest = (__mmask32)((1ull << count) - 1);
    __m512i a = _mm512_maskz_loadu_epi32((__mmask16)rest, in);
    __m512i b = _mm512_maskz_loadu_epi32((__mmask16)(rest >> 16), in + 64);
    store_bf16(a, b, rest, out);
}

/* A table of 256 BF16 as low bytes and high bytes: four registers each, the
 * first pair for codes below 128. */
typedef struct {
    __m512i low[4], high[4];
} byte_tables;

static inline TS_AVX512 byte_tables split(const uint16_t table[256])
{
    byte_tables tables;
    for (int k = 0; k < 4; k++) {
        __m512i a = _mm512_loadu_si512(table + 64 * k);
        __m512i b = _mm512_loadu_si512(table + 64 * k + 32);
        __m256i a_high = _mm512_cvtepi16_epi8(_mm512_srli_epi16(a, 8));
        __m256i b_high = _mm512_cvtepi16_epi8(_mm512_srli_epi16(b, 8));
        tables.low[k] = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)),
            _mm512_cvtepi16_epi8(b), 1);
        tables.high[k]
            = _mm512_inserti64x4(_mm512_castsi256_si512(a_high), b_high, 1);
    }
    return tables;
}

static inline TS_AVX512 __m512i find(const __m512i tables[4], __m512i codes)
{
    __m512i lower = _mm512_permutex2var_epi8(tables[0], codes, tables[1]);
    __m512i upper = _mm512_permutex2var_epi8(tables[2], codes, tables[3]);
    return _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(codes), upper);
}

static inline TS_AVX512 void store_f8(const byte_tables *tables,
                                      __m512i codes, __mmask64 used, float *y)
{
    /* Unpacking works inside 128-bit lanes; this order of the codes makes
     * the four results come out in sequence. */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10,
                                            14, 3, 7, 11, 15);
    const __m512i zero = _mm512_setzero_si512();
    codes = _mm512_permutexvar_epi32(order, codes);
    __m512i low = find(tables->low, codes), high = find(tables->high, codes);
    __m512i a = _mm512_unpacklo_epi8(low, high);
    __m512i b = _mm512_unpackhi_epi8(low, high);
    __m512i parts[4] = {
        _mm512_unpacklo_epi16(zero, a), _mm512_unpackhi_epi16(zero, a),
        _mm512_unpacklo_epi16(zero, b), _mm512_unpackhi_epi16(zero, b)};
    for (int k = 0; k < 4; k++)
        _mm512_mask_storeu_epi32(y + 16 * k, (__mmask16)(used >> 16 * k),
                                 parts[k]);
}

static inline TS_AVX512 void f8_decode(const uint16_t table[256],
                                       const uint8_t *in, uint8_t *out,
                                       size_t count)
{
    float *y = (void *)out;
    const byte_tables tables = split(table);
    for (; count >= 64; count -= 64, in += 64, y += 64)
        store_f8(&tables, ts_load_512(in), ~(__mmask64)0, y);
    __mmask64 rest = ((__mmask64)1 << count) - 1;
    store_f8(&tables, _mm512_maskz_loadu_epi8(rest, in), rest, y);
}

#define F8_DECODER(stem)                                                      \
    TS_AVX512 TS_CONVERT_KERNEL(ts_##stem##_decode_avx512)                    \
    {                                                                         \
        f8_decode(ts_##stem##_table, in, out, count);                         \
    }
F8_DECODER(f8_e4m3)
F8_DECODER(f8_e5m2)
F8_DECODER(f8_e8m0)
F8_DECODER(f8_e4m3fnuz)
F8_DECODER(f8_e5m2fnuz)

/* Where the exponents of normal codes begin. */
static inline uint32_t first_f8(ts_f8_rule rule)
{
    return (128 - rule.bias) << rule.mantissa & 0xff;
}

/* The low bytes hold the codes of 16 magnitudes, and `first` more.
 *
 * To the power of two at or below the magnitude belongs another one whose last
 * place is that of the code: the sum of it and the magnitude rounds as the
 * code must, and ends in its mantissa.  Denormals all belong to the smallest
 * normal power.  What would exceed the largest code is cut to the next. */
static inline TS_AVX512 __m512i narrow_f8(__m512i bits, ts_f8_rule rule)
{
    const uint32_t drop = 23 - rule.mantissa;
    const __m512i normal = _mm512_set1_epi32((int)ts_f8_normal(rule));
    const __m512i over = _mm512_set1_epi32(
        (int)(((rule.largest + 1) << drop) + ((127 - rule.bias) << 23)));
    const __m512 apart
        = _mm512_castsi512_ps(_mm512_set1_epi32((int)((127 + drop) << 23)));
    __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MAX));
    __m512i least = _mm512_min_epi32(magnitude, over);
    __m512i power = _mm512_max_epi32(
        _mm512_and_si512(least, _mm512_set1_epi32(0x7f800000)), normal);
    __m512 sum = _mm512_fmadd_ps(_mm512_castsi512_ps(power), apart,
                                 _mm512_castsi512_ps(least));
    __m512i code = _mm512_add_epi32(_mm512_castps_si512(sum),
                                    _mm512_srli_epi32(power, drop));
    if (rule.nan == rule.over) return code;
    return _mm512_mask_set1_epi32(
        code,
        _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000)),
        (int)(rule.nan + first_f8(rule)));
}

/* Four registers' low bytes, or what another permutation chooses of two. */
static inline TS_AVX512 __m512i choose_bytes(const __m512i x[4], __m512i at)
{
    __m512i low = _mm512_permutex2var_epi8(x[0], at, x[1]);
    __m512i high = _mm512_permutex2var_epi8(x[2], at, x[3]);
    return _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
}

static inline TS_AVX512 __m512i narrow_64(const __m512i bits[4],
                                          ts_f8_rule rule)
{
    const __m512i low = _mm512_castsi256_si512(_mm256_setr_epi8(
        0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68,
        72, 76, 80, 84, 88, 92, 96, 100, 104, 108, 112, 116, 120, 124));
    const __m512i high = _mm512_or_si512(low, _mm512_set1_epi8(3));
    const __m512i sign = _mm512_set1_epi8(INT8_MIN);
    __m512i sums[4];
    for (int k = 0; k < 4; k++) sums[k] = narrow_f8(bits[k], rule);
    __m512i codes = _mm512_sub_epi8(
        choose_bytes(sums, low), _mm512_set1_epi8((char)first_f8(rule)));
    __m512i signs = _mm512_and_si512(choose_bytes(bits, high), sign);
    if (!rule.is_fnuz) return _mm512_or_si512(codes, signs);
    __mmask64 is_signed
        = _mm512_test_epi8_mask(codes, _mm512_set1_epi8(INT8_MAX));
    return _mm512_or_si512(codes, _mm512_maskz_mov_epi8(is_signed, signs));
}

#define F8_ENCODER(stem, RULE)                                                \
    TS_AVX512 TS_CONVERT_KERNEL(ts_##stem##_encode_avx512)                    \
    {                                                                         \
        const ts_f8_rule rule = RULE;                                         \
        __m512i x[4];                                                         \
        for (; count >= 64; count -= 64, in += 256, out += 64) {              \
            for (int k = 0; k < 4; k++) x[k] = ts_load_512(in + 64 * k);      \
            _mm512_storeu_si512(out, narrow_64(x, rule));                     \
        }                                                                     \
        __mmask64 rest = ((__mmask64)1 << count) - 1;                         \
        for (int k = 0; k < 4; k++)                                           \
            x[k] = _mm512_maskz_loadu_epi32((__mmask16)(rest >> 16 * k),      \
                                            in + 64 * k);                     \
        _mm512_mask_storeu_epi8(out, rest, narrow_64(x, rule));               \
    }
F8_ENCODER(f8_e4m3, TS_F8_E4M3_RULE)
F8_ENCODER(f8_e5m2, TS_F8_E5M2_RULE)
F8_ENCODER(f8_e4m3fnuz, TS_F8_E4M3FNUZ_RULE)
F8_ENCODER(f8_e5m2fnuz, TS_F8_E5M2FNUZ_RULE)

#endif
