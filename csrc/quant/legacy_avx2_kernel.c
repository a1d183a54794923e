#if defined(__x86_64__)

#include "avx2.h"
#include "kernels.h"

TS_AVX2 TS_CONVERT_KERNEL(ts_q4_0_decode_avx2)
{
    float *y = (void *)out;
    const __m128i eight = _mm_set1_epi8(8);
    for (; count >= 32; count -= 32, in += 18, y += 32) {
        __m256 d = ts_half_256(in);
        __m128i packed = ts_load_16_bytes(in + 2);
        ts_store_16(_mm_sub_epi8(ts_low_nibbles(packed), eight), d, y);
        ts_store_16(_mm_sub_epi8(ts_high_nibbles(packed), eight), d, y + 16);
    }
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q4_1_decode_avx2)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 20, y += 32) {
        __m256 d = ts_half_256(in), m = ts_half_256(in + 2);
        __m128i packed = ts_load_16_bytes(in + 4);
        ts_store_16_plus(ts_low_nibbles(packed), d, m, y);
        ts_store_16_plus(ts_high_nibbles(packed), d, m, y + 16);
    }
}

/* 16 for each of 16 bits that is set: two bytes of bits, eight copies each. */
static inline TS_AVX2 __m128i sixteens(const uint8_t *bits)
{
    const __m128i copies
        = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m128i at = _mm_set1_epi64x((long long)0x8040201008040201ull);
    __m128i both = _mm_cvtsi32_si128(ts_load_u16(bits));
    __m128i spread = _mm_and_si128(_mm_shuffle_epi8(both, copies), at);
    return _mm_and_si128(_mm_cmpeq_epi8(spread, at), _mm_set1_epi8(16));
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q5_0_decode_avx2)
{
    float *y = (void *)out;
    const __m128i middle = _mm_set1_epi8(16);
    for (; count >= 32; count -= 32, in += 22, y += 32) {
        __m256 d = ts_half_256(in);
        __m128i packed = ts_load_16_bytes(in + 6);
        __m128i low = _mm_or_si128(ts_low_nibbles(packed), sixteens(in + 2));
        __m128i high = _mm_or_si128(ts_high_nibbles(packed), sixteens(in + 4));
        ts_store_16(_mm_sub_epi8(low, middle), d, y);
        ts_store_16(_mm_sub_epi8(high, middle), d, y + 16);
    }
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q5_1_decode_avx2)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 24, y += 32) {
        __m256 d = ts_half_256(in), m = ts_half_256(in + 2);
        __m128i packed = ts_load_16_bytes(in + 8);
        __m128i low = _mm_or_si128(ts_low_nibbles(packed), sixteens(in + 4));
        __m128i high = _mm_or_si128(ts_high_nibbles(packed), sixteens(in + 6));
        ts_store_16_plus(low, d, m, y);
        ts_store_16_plus(high, d, m, y + 16);
    }
}

TS_AVX2 TS_CONVERT_KERNEL(ts_q8_0_decode_avx2)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 34, y += 32) {
        __m256 d = ts_half_256(in);
        ts_store_16(ts_load_16_bytes(in + 2), d, y);
        ts_store_16(ts_load_16_bytes(in + 18), d, y + 16);
    }
}

#endif
