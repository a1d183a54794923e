/* crc_avx2_kernel.c with registers of 64 bytes: four lanes of 16 each. */
#include "crc_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET                                                                \
    __attribute__((target("avx512f,avx512bw,avx512vl,pclmul,vpclmulqdq")))

TARGET static inline __m128i small(const uint64_t by[2])
{
    return _mm_set_epi64x((long long)by[1], (long long)by[0]);
}

TARGET static inline __m512i wide(const uint64_t by[2])
{
    return _mm512_broadcast_i32x4(small(by));
}

TARGET static inline __m128i fold_16(__m128i value, __m128i by, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(value, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(value, by, 0x11);
    return _mm_ternarylogic_epi64(low, high, next, 0x96);
}

TARGET static inline __m512i fold_64(__m512i value, __m512i by, __m512i next)
{
    __m512i low = _mm512_clmulepi64_epi128(value, by, 0x00);
    __m512i high = _mm512_clmulepi64_epi128(value, by, 0x11);
    return _mm512_ternarylogic_epi64(low, high, next, 0x96);
}

/* The four lanes of one register and the bytes that follow them. */
TARGET static uint32_t finish(const ts_crc *crc, __m512i sum,
                              const uint8_t *at, size_t size)
{
    const __m128i by_16 = small(crc->by_16);
    uint8_t last[16];
    __m128i one = _mm512_extracti32x4_epi32(sum, 0);

    one = fold_16(one, by_16, _mm512_extracti32x4_epi32(sum, 1));
    one = fold_16(one, by_16, _mm512_extracti32x4_epi32(sum, 2));
    one = fold_16(one, by_16, _mm512_extracti32x4_epi32(sum, 3));
    for (; size >= 16; at += 16, size -= 16)
        one = fold_16(one, by_16,
                      _mm_loadu_si128((const __m128i *)(const void *)at));
    _mm_storeu_si128((__m128i *)(void *)last, one);
    return ts_crc_scalar(crc, ts_crc_scalar(crc, 0, last, 16), at, size);
}

TARGET uint32_t ts_crc_avx512(const ts_crc *crc, uint32_t value,
                              const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    const __m512i by_64 = wide(crc->by_64), by_256 = wide(crc->by_256);

    if (size < 256) return ts_crc_avx2(crc, value, bytes, size);
    __m512i first = _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)value));
    __m512i a = _mm512_xor_si512(_mm512_loadu_si512(at), first);
    __m512i b = _mm512_loadu_si512(at + 64);
    __m512i c = _mm512_loadu_si512(at + 128);
    __m512i d = _mm512_loadu_si512(at + 192);
    at += 256;
    size -= 256;

    for (; size >= 256; at += 256, size -= 256) {
        a = fold_64(a, by_256, _mm512_loadu_si512(at));
        b = fold_64(b, by_256, _mm512_loadu_si512(at + 64));
        c = fold_64(c, by_256, _mm512_loadu_si512(at + 128));
        d = fold_64(d, by_256, _mm512_loadu_si512(at + 192));
    }
    b = fold_64(a, by_64, b);
    c = fold_64(b, by_64, c);
    d = fold_64(c, by_64, d);
    for (; size >= 64; at += 64, size -= 64)
        d = fold_64(d, by_64, _mm512_loadu_si512(at));
    return finish(crc, d, at, size);
}

#else
typedef int ts_crc_avx512_is_for_x86;
#endif
