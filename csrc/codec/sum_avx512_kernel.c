#include "sum_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))

TARGET uint64_t ts_sum_avx512(const void *words, size_t count)
{
    const uint8_t *at = words;
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    uint64_t lane[8], sum = 0;

    for (; count >= 32; count -= 32, at += 256) {
        a = _mm512_add_epi64(a, _mm512_loadu_si512(at));
        b = _mm512_add_epi64(b, _mm512_loadu_si512(at + 64));
        c = _mm512_add_epi64(c, _mm512_loadu_si512(at + 128));
        d = _mm512_add_epi64(d, _mm512_loadu_si512(at + 192));
    }
    a = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d));
    _mm512_storeu_si512(lane, a); /* gcc's reduce_add adds signed numbers */
    for (int i = 0; i < 8; i++) sum += lane[i];
    return sum + ts_sum_scalar(at, count);
}

#else
typedef int ts_sum_avx512_is_for_x86;
#endif
