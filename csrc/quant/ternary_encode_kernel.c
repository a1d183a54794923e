#include "encode.h"
#include "rounding.h"

/* Blocks of 256 elements of -1, 0 or 1 times their largest magnitude, laid
 * out as ternary_kernel.c says. */

static int ternary(float scaled) { return ts_round_away(scaled) + 1; }

/* `count` digits, `step` elements apart, the first the most significant of
 * five, as a fraction of 256 rounded up. */
static uint8_t digits(const float *x, float inverse, int count, int step)
{
    unsigned value = 0;
    for (int k = 0; k < 5; k++) {
        int digit = k < count ? ternary(x[k * step] * inverse) : 0;
        value = (value * 3 + (unsigned)digit) & 255;
    }
    return (uint8_t)((value * 256 + 242) / 243);
}

static void tq1_0_block(const float x[256], uint8_t *out)
{
    float d = fabsf(ts_peak(x, 256)), inverse = ts_inverse(d);
    for (int i = 0; i < 32; i++) out[i] = digits(x + i, inverse, 5, 32);
    for (int i = 0; i < 16; i++)
        out[32 + i] = digits(x + 160 + i, inverse, 5, 16);
    for (int i = 0; i < 4; i++) out[48 + i] = digits(x + 240 + i, inverse, 4, 4);
    ts_store_half(out + 52, d);
}

static void tq2_0_block(const float x[256], uint8_t *out)
{
    float d = fabsf(ts_peak(x, 256)), inverse = ts_inverse(d);
    for (int i = 0; i < 64; i++) {
        const float *at = x + i / 32 * 128 + i % 32;
        int codes = 0;
        for (int k = 0; k < 4; k++)
            codes |= (ternary(at[32 * k] * inverse) & 3) << 2 * k;
        out[i] = (uint8_t)codes;
    }
    ts_store_half(out + 64, d);
}

TS_BLOCK_QUANTIZER(ts_tq1_0_quantize, 256, 54, tq1_0_block)
TS_BLOCK_QUANTIZER(ts_tq2_0_quantize, 256, 66, tq2_0_block)
