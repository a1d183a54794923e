/* fp4.h -- the scales of MXFP4 and NVFP4, halved because the codes are
 * doubled. */
#ifndef TS_QUANT_FP4_H
#define TS_QUANT_FP4_H

#include "half.h"

/* 2^(x - 128).  ggml gives code 255, NaN in the standard, no meaning of its
 * own: it is 2^127 here. */
static inline float ts_fp4_half_power(uint8_t x)
{
    uint32_t bits = x < 2 ? 0x00200000u << x : (uint32_t)(x - 1) << 23;
    return ts_f32_from_bits(bits);
}

/* E4M3 without a sign; the top bit is ignored, 0x7f is 0.  Shifted into an
 * F16, the exponent is 8 too small; half of 2^8 is 128. */
static inline float ts_fp4_half_ue4m3(uint8_t x)
{
    if (x == 0x7f) return 0.0f;
    return ts_f32_of_f16((uint16_t)((x & 0x7f) << 7)) * 128.0f;
}

#endif
