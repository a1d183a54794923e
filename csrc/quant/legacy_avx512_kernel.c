#if defined(__x86_64__)

#include "avx512.h"
#include "kernels.h"

/* A four-bit code has 16 values: multiply the 16 once a block, then look the
 * products up.  Each is the very product the plain loop computes. */

TS_AVX512 TS_CONVERT_KERNEL(ts_q4_0_decode_avx512)
{
    float *y = (void *)out;
    const __m512 codes = ts_count_512(-8);
    for (; count >= 32; count -= 32, in += 18, y += 32)
        ts_lookup_512(in + 2, _mm512_mul_ps(ts_half_512(in), codes), y);
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q4_1_decode_avx512)
{
    float *y = (void *)out;
    const __m512 codes = ts_count_512(0);
    for (; count >= 32; count -= 32, in += 20, y += 32) {
        __m512 scaled = _mm512_mul_ps(ts_half_512(in), codes);
        ts_lookup_512(in + 4, _mm512_add_ps(scaled, ts_half_512(in + 2)), y);
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q5_0_decode_avx512)
{
    float *y = (void *)out;
    const __m512 lower = ts_count_512(-16), upper = ts_count_512(0);
    for (; count >= 32; count -= 32, in += 22, y += 32) {
        __m512 d = ts_half_512(in);
        uint32_t high = ts_load_u32(in + 2);
        ts_lookup_five_512(in + 6, (__mmask16)high, (__mmask16)(high >> 16),
                           _mm512_mul_ps(d, lower), _mm512_mul_ps(d, upper),
                           y);
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q5_1_decode_avx512)
{
    float *y = (void *)out;
    const __m512 lower = ts_count_512(0), upper = ts_count_512(16);
    for (; count >= 32; count -= 32, in += 24, y += 32) {
        __m512 d = ts_half_512(in), m = ts_half_512(in + 2);
        uint32_t high = ts_load_u32(in + 4);
        ts_lookup_five_512(in + 8, (__mmask16)high, (__mmask16)(high >> 16),
                           _mm512_add_ps(_mm512_mul_ps(d, lower), m),
                           _mm512_add_ps(_mm512_mul_ps(d, upper), m), y);
    }
}

TS_AVX512 TS_CONVERT_KERNEL(ts_q8_0_decode_avx512)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 34, y += 32) {
        __m512 d = ts_half_512(in);
        __m512 a = ts_floats_512(ts_load_128(in + 2));
        __m512 b = ts_floats_512(ts_load_128(in + 18));
        _mm512_storeu_ps(y, _mm512_mul_ps(d, a));
        _mm512_storeu_ps(y + 16, _mm512_mul_ps(d, b));
    }
}

#endif
