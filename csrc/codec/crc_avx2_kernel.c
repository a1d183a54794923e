/* A register of 128 bits is carried over the bytes: each half is multiplied
 * (carry-less) by the remainder of the power of x that it moves by, and the
 * bytes found there are added.  Four of them hide the latency.  The last 16
 * bytes and the odd ones go through the table.  Gopal et al., "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ", 2009. */
#include "crc_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,pclmul")))

TARGET static inline __m128i constants(const uint64_t by[2])
{
    return _mm_set_epi64x((long long)by[1], (long long)by[0]);
}

TARGET static inline __m128i load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

TARGET static inline __m128i fold(__m128i value, __m128i by, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(value, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(value, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

TARGET uint32_t ts_crc_avx2(const ts_crc *crc, uint32_t value,
                            const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    const __m128i by_16 = constants(crc->by_16);
    const __m128i by_64 = constants(crc->by_64);
    uint8_t last[16];

    if (size < 64) return ts_crc_scalar(crc, value, bytes, size);
    __m128i a = _mm_xor_si128(load(at), _mm_cvtsi32_si128((int)value));
    __m128i b = load(at + 16), c = load(at + 32), d = load(at + 48);
    at += 64;
    size -= 64;

    for (; size >= 64; at += 64, size -= 64) {
        a = fold(a, by_64, load(at));
        b = fold(b, by_64, load(at + 16));
        c = fold(c, by_64, load(at + 32));
        d = fold(d, by_64, load(at + 48));
    }
    d = fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
    for (; size >= 16; at += 16, size -= 16) d = fold(d, by_16, load(at));
    _mm_storeu_si128((__m128i *)(void *)last, d);
    return ts_crc_scalar(crc, ts_crc_scalar(crc, 0, last, 16), at, size);
}

#else
typedef int ts_crc_avx2_is_for_x86;
#endif
