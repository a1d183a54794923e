#include "iq4_encode.h"

/* IQ4_NL and IQ4_XS: groups of 32 whose scale is searched for among 16, so
 * that the squared error, weighed by the square of the value, is least. */

/* The index of the nearest of the sixteen values, the larger one of two.  A
 * NaN, from sums that overflowed, has the last. */
static int nearest(float x)
{
    int index = 0;
    while (index < 15
           && !(x - (float)ts_iq4_codes[index]
                < (float)ts_iq4_codes[index + 1] - x))
        index++;
    return index;
}

/* The best factor for codes made with this inverse scale: sums of w q x and
 * of w q q. */
static void weigh(const float x[32], float inverse, float *qx, float *qq)
{
    *qx = *qq = 0;
    for (int j = 0; j < 32; j++) {
        float q = (float)ts_iq4_codes[nearest(inverse * x[j])];
        float w = x[j] * x[j];
        *qx += w * q * x[j];
        *qq += w * q * q;
    }
}

static float search(const float x[32])
{
    float peak = ts_peak(x, 32), qx, qq;
    if (fabsf(peak) < TS_IQ4_EPSILON) return 0;
    weigh(x, 1 / (-peak / -127), &qx, &qq);
    float d = qq > 0 ? qx / qq : 0, best = d * qx;
    for (int step = -7; step <= 7; step++) {
        weigh(x, (float)(step - 127) / peak, &qx, &qq);
        if (qq > 0 && qx * qx > best * qq) {
            d = qx / qq;
            best = d * qx;
        }
    }
    return d;
}

static void store_nearest(const float x[32], float inverse, uint8_t *out)
{
    for (int j = 0; j < 16; j++)
        out[j] = (uint8_t)(nearest(inverse * x[j])
                           | nearest(inverse * x[j + 16]) << 4);
}

static void iq4_nl_block(const float x[32], uint8_t *out)
{
    float d = search(x);
    ts_store_half(out, d);
    store_nearest(x, ts_inverse(d), out + 2);
}

static void iq4_xs_block(const float x[256], uint8_t *out)
{
    float scales[8], inverses[8];
    for (int k = 0; k < 8; k++) scales[k] = search(x + 32 * k);
    ts_store_scales_iq4_xs(scales, out, inverses);
    for (int k = 0; k < 8; k++)
        store_nearest(x + 32 * k, inverses[k], out + 8 + 16 * k);
}

TS_BLOCK_QUANTIZER(ts_iq4_nl_quantize, 32, 18, iq4_nl_block)
TS_BLOCK_QUANTIZER(ts_iq4_xs_quantize, 256, 136, iq4_xs_block)
