#if defined(__x86_64__)

#include "encode_avx2.h"
#include "f8.h"
#include "kernels.h"

/* The last few elements go through the plain loop. */

TS_AVX2 TS_CONVERT_KERNEL(ts_f16_decode_avx2)
{
    float *y = (void *)out;
    for (; count >= 8; count -= 8, in += 16, y += 8)
        _mm256_storeu_ps(y, _mm256_cvtph_ps(ts_load_16_bytes(in)));
    ts_f16_decode(in, (uint8_t *)y, count);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_bf16_decode_avx2)
{
    float *y = (void *)out;
    for (; count >= 8; count -= 8, in += 16, y += 8) {
        __m256i words = _mm256_cvtepu16_epi32(ts_load_16_bytes(in));
        words = _mm256_slli_epi32(words, 16);
        _mm256_storeu_ps(y, _mm256_castsi256_ps(words));
    }
    ts_bf16_decode(in, (uint8_t *)y, count);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_f16_encode_avx2)
{
    for (; count >= 8; count -= 8, in += 32, out += 16) {
        __m256 values = _mm256_castsi256_ps(ts_load_32_bytes(in));
        __m128i halves = _mm256_cvtps_ph(
            values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((__m128i *)(void *)out, halves);
    }
    ts_f16_encode(in, out, count);
}

TS_AVX2 TS_CONVERT_KERNEL(ts_bf16_encode_avx2)
{
    const __m256i infinity = _mm256_set1_epi32(0x7f800000);
    const __m256i quiet = _mm256_set1_epi32(0x00400000);
    for (; count >= 8; count -= 8, in += 32, out += 16) {
        __m256i bits = ts_load_32_bytes(in);
        __m256i magnitude
            = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
        __m256i is_nan = _mm256_cmpgt_epi32(magnitude, infinity);
        __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16),
                                        _mm256_set1_epi32(1));
        __m256i rounded = _mm256_add_epi32(
            bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
        rounded = _mm256_blendv_epi8(rounded, _mm256_or_si256(bits, quiet),
                                     is_nan);
        rounded = _mm256_srli_epi32(rounded, 16);
        __m128i low = _mm256_castsi256_si128(rounded);
        __m128i high = _mm256_extracti128_si256(rounded, 1);
        _mm_storeu_si128((__m128i *)(void *)out, _mm_packus_epi32(low, high));
    }
    ts_bf16_encode(in, out, count);
}

/* How an 8-bit float becomes a BF16: shift it, add to the exponent.  What has
 * exponent 0, eight values at most, is looked up; a code that is no number
 * (code & mask == special) is left to the plain loop. */
typedef struct {
    int shift;
    uint16_t rebias;
    uint8_t mask, special;
} f8_kind;

static inline TS_AVX2 __m256i widen_f8(__m128i codes, f8_kind kind,
                                       __m256i small)
{
    __m256i words = _mm256_cvtepu8_epi16(codes);
    __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(
        _mm256_and_si256(words, _mm256_set1_epi16(0x80)), 8);
    __m256i value
        = _mm256_sll_epi16(magnitude, _mm_cvtsi32_si128(kind.shift));
    value = _mm256_add_epi16(value, _mm256_set1_epi16((short)kind.rebias));

    /* Byte indexes 2k and 2k + 1 of the small table. */
    __m256i at = _mm256_add_epi16(
        _mm256_mullo_epi16(magnitude, _mm256_set1_epi16(0x0202)),
        _mm256_set1_epi16(0x0100));
    __m256i limit = _mm256_set1_epi16((short)(1 << (7 - kind.shift)));
    __m256i looked_up = _mm256_shuffle_epi8(small, at);
    value = _mm256_blendv_epi8(value, looked_up,
                               _mm256_cmpgt_epi16(limit, magnitude));
    return _mm256_or_si256(value, sign);
}

static inline TS_AVX2 int has_special(__m128i codes, f8_kind kind)
{
    __m128i masked = _mm_and_si128(codes, _mm_set1_epi8((char)kind.mask));
    __m128i special = _mm_set1_epi8((char)kind.special);
    return _mm_movemask_epi8(_mm_cmpeq_epi8(masked, special)) != 0;
}

static inline TS_AVX2 void store_bf16(__m128i values, float *y)
{
    __m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16);
    _mm256_storeu_ps(y, _mm256_castsi256_ps(words));
}

static inline TS_AVX2 void f8_decode(f8_kind kind, const uint16_t table[256],
                                     ts_convert_kernel plain,
                                     const uint8_t *in, uint8_t *out,
                                     size_t count)
{
    float *y = (void *)out;
    const __m256i small = _mm256_broadcastsi128_si256(
        ts_load_16_bytes((const uint8_t *)table));
    for (; count >= 16; count -= 16, in += 16, y += 16) {
        __m128i codes = ts_load_16_bytes(in);
        if (has_special(codes, kind)) {
            plain(in, (uint8_t *)y, 16);
            continue;
        }
        __m256i values = widen_f8(codes, kind, small);
        store_bf16(_mm256_castsi256_si128(values), y);
        store_bf16(_mm256_extracti128_si256(values, 1), y + 8);
    }
    plain(in, (uint8_t *)y, count);
}

#define F8_DECODER(stem, mantissa, bias, mask, special)                       \
    TS_AVX2 TS_CONVERT_KERNEL(ts_##stem##_decode_avx2)                        \
    {                                                                         \
        const f8_kind kind = {7 - (mantissa), (127 - (bias)) << 7, mask,      \
                              special};                                       \
        f8_decode(kind, ts_##stem##_table, ts_##stem##_decode, in, out,       \
                  count);                                                     \
    }
F8_DECODER(f8_e4m3, 3, 7, 0x7f, 0x7f)
F8_DECODER(f8_e5m2, 2, 15, 0x7c, 0x7c)
F8_DECODER(f8_e4m3fnuz, 3, 8, 0xff, 0x80)
F8_DECODER(f8_e5m2fnuz, 2, 16, 0xff, 0x80)

/* ---- 8-bit floats from F32 --------------------------------------------- */

static inline TS_AVX2 __m256i all_256(uint32_t bits)
{
    return _mm256_set1_epi32((int)bits);
}

/* The codes of 8 magnitudes, as floats_avx512_kernel.c explains; a product
 * with a power of two is exact, so it needs no fused addition. */
static inline TS_AVX2 __m256i narrow_f8(__m256i magnitude, ts_f8_rule rule)
{
    const uint32_t drop = 23 - rule.mantissa;
    const __m256i over = all_256(((rule.largest + 1) << drop)
                                 + ((127 - rule.bias) << 23));
    const __m256i infinity = all_256(0x7f800000);
    const __m256 apart = _mm256_castsi256_ps(all_256((127 + drop) << 23));
    __m256i least = _mm256_min_epi32(magnitude, over);
    __m256i power = _mm256_max_epi32(_mm256_and_si256(least, infinity),
                                     all_256(ts_f8_normal(rule)));
    __m256i base = _mm256_castps_si256(
        _mm256_mul_ps(_mm256_castsi256_ps(power), apart));
    __m256i sum = _mm256_castps_si256(_mm256_add_ps(
        _mm256_castsi256_ps(base), _mm256_castsi256_ps(least)));
    __m256i code = _mm256_add_epi32(_mm256_sub_epi32(sum, base),
                                    _mm256_srli_epi32(power, (int)drop));
    code = _mm256_sub_epi32(
        code, all_256((128 - rule.bias) << rule.mantissa));
    return _mm256_blendv_epi8(code, all_256(rule.nan),
                              _mm256_cmpgt_epi32(magnitude, infinity));
}

static inline TS_AVX2 __m256i narrow_signed_f8(__m256i bits, ts_f8_rule rule)
{
    __m256i code = narrow_f8(_mm256_and_si256(bits, all_256(INT32_MAX)), rule);
    __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), all_256(128));
    if (rule.is_fnuz) {
        __m256i rest = _mm256_and_si256(code, all_256(127));
        __m256i is_bare = _mm256_cmpeq_epi32(rest, _mm256_setzero_si256());
        sign = _mm256_andnot_si256(is_bare, sign);
    }
    return _mm256_or_si256(sign, code);
}

#define F8_ENCODER(stem, RULE)                                                \
    TS_AVX2 TS_CONVERT_KERNEL(ts_##stem##_encode_avx2)                        \
    {                                                                         \
        const ts_f8_rule rule = RULE;                                         \
        for (; count >= 16; count -= 16, in += 64, out += 16) {               \
            __m256i a = narrow_signed_f8(ts_load_32_bytes(in), rule);         \
            __m256i b = narrow_signed_f8(ts_load_32_bytes(in + 32), rule);    \
            ts_store_16_bytes(out, ts_low_bytes_256(a, b));                   \
        }                                                                     \
        ts_##stem##_encode(in, out, count);                                   \
    }
F8_ENCODER(f8_e4m3, TS_F8_E4M3_RULE)
F8_ENCODER(f8_e5m2, TS_F8_E5M2_RULE)
F8_ENCODER(f8_e4m3fnuz, TS_F8_E4M3FNUZ_RULE)
F8_ENCODER(f8_e5m2fnuz, TS_F8_E5M2FNUZ_RULE)

#endif
