/* fp4_encode.h -- the scales that MXFP4 and NVFP4 blocks are given. */
#ifndef TS_QUANT_FP4_ENCODE_H
#define TS_QUANT_FP4_ENCODE_H

#include <stdint.h>

#include "half.h"

/* floorf(log2f(a)) of a normal a > 0, as a correctly rounded log2f gives it:
 * just below 2^n the logarithm rounds up to n.  With a = 2^n (1 - m 2^-24) it
 * is n - m 2^-24 / ln 2, and half a unit in the last place there is
 * 2^(e - 24), 2^e being the power of two at or below n - 1 (or -n).  So m may
 * be up to 2^e ln 2: 44 at most. */
static inline int ts_floor_log2(float a)
{
    static const uint8_t most[7] = {0, 1, 2, 5, 11, 22, 44};
    uint32_t bits = ts_f32_bits(a);
    int n = (int)(bits >> 23) - 126;
    int near = n > 0 ? n - 1 : -n;
    uint32_t m = 0x00800000 - (bits & 0x007fffff);
    if (near == 0) return n - 1;
    return m <= most[31 - __builtin_clz((unsigned)near)] ? n : n - 1;
}

/* The code of 2^(k - 2), k the exponent of the block's largest magnitude, so
 * that this lands in [4, 8) of values up to 6.  ggml's cast is undefined below
 * 2^-125; the smallest exponent is right there. */
static inline uint8_t ts_mxfp4_exponent(float most)
{
    return most < 0x1p-125f ? 0 : (uint8_t)(ts_floor_log2(most) + 125);
}

/* Unsigned E4M3, halves rounded up, and from 256 on straight to 448: ggml's
 * own rule (ggml_fp32_to_ue4m3), not that of ml_dtypes. */
static inline uint8_t ts_ue4m3_of_f32(float x)
{
    if (x >= 256) return 0x7e;
    if (x < 0x1p-6f) {
        int steps = (int)(x * 512 + 0.5f);
        return (uint8_t)(steps < 7 ? steps : 7);
    }
    uint32_t code = ((ts_f32_bits(x) + 0x00080000) >> 20) - (120 << 3);
    return (uint8_t)(code < 0x78 ? code : 0x7e);
}

#endif
