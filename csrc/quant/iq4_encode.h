/* iq4_encode.h -- what the variants of the IQ4 encoders share. */
#ifndef TS_QUANT_IQ4_ENCODE_H
#define TS_QUANT_IQ4_ENCODE_H

#include "encode.h"
#include "rounding.h"
#include "scales.h"

/* Below this a group counts as zero. */
#define TS_IQ4_EPSILON 1e-15f

/* The first 8 bytes of an IQ4_XS block: its groups' scales become six bits of
 * the largest.  What to multiply the elements of each group by. */
static inline void ts_store_scales_iq4_xs(const float scales[8], uint8_t *out,
                                          float inverses[8])
{
    uint16_t high = 0;
    float d = -ts_peak(scales, 8) / 32, inverse = ts_inverse(d);
    ts_store_half(out, d);
    memset(out + 4, 0, 4);
    for (int k = 0; k < 8; k++) {
        int scale = ts_round_even(inverse * scales[k]);
        scale = scale < -32 ? -32 : scale > 31 ? 31 : scale;
        inverses[k] = ts_inverse(d * (float)scale);
        out[4 + k / 2] |= (uint8_t)(((scale + 32) & 15) << k % 2 * 4);
        high = (uint16_t)(high | (scale + 32) >> 4 << 2 * k);
    }
    memcpy(out + 2, &high, sizeof high);
}

#endif
