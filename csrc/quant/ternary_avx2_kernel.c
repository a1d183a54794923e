#if defined(__x86_64__)

#include "avx2.h"
#include "kernels.h"

TS_AVX2 TS_CONVERT_KERNEL(ts_tq2_0_decode_avx2)
{
    float *y = (void *)out;
    const __m128i one = _mm_set1_epi8(1);
    for (; count >= 256; count -= 256, in += 66, y += 256) {
        __m256 d = ts_half_256(in + 64);
        for (int group = 0; group < 16; group++) {
            const uint8_t *at = in + group / 8 * 32 + group % 2 * 16;
            __m128i codes
                = ts_pairs(ts_load_16_bytes(at), group / 2 % 4 * 2);
            ts_store_16(_mm_sub_epi8(codes, one), d, y + 16 * group);
        }
    }
}

#endif
