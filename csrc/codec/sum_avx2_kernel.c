#include "sum_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))

TARGET static inline __m256i load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

TARGET uint64_t ts_sum_avx2(const void *words, size_t count)
{
    const uint8_t *at = words;
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    uint64_t lane[4];

    for (; count >= 16; count -= 16, at += 128) {
        a = _mm256_add_epi64(a, load(at));
        b = _mm256_add_epi64(b, load(at + 32));
        c = _mm256_add_epi64(c, load(at + 64));
        d = _mm256_add_epi64(d, load(at + 96));
    }
    a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
    _mm256_storeu_si256((__m256i *)(void *)lane, a);
    return lane[0] + lane[1] + lane[2] + lane[3] + ts_sum_scalar(at, count);
}

#else
typedef int ts_sum_avx2_is_for_x86;
#endif
