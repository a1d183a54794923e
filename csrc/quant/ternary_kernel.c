#include "half.h"
#include "kernels.h"

/* Blocks of one to two bits an element. */

/* The byte holds five base-3 digits as a fraction of 256: multiplying by 3^k
 * (mod 256) and then by 3 moves digit k before the point. */
static float digit(uint8_t fraction, int k)
{
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    uint8_t rest = (uint8_t)(fraction * powers[k]);
    return (float)((rest * 3 >> 8) - 1);
}

/* 48 bytes of five digits: 32 for elements 0-159, 16 for 160-239, each digit
 * a run of its own; 4 bytes of four digits for the last 16; d. */
TS_CONVERT_KERNEL(ts_tq1_0_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 54, y += 256) {
        float d = ts_load_half(in + 52);
        for (int i = 0; i < 160; i++) y[i] = d * digit(in[i % 32], i / 32);
        for (int i = 0; i < 80; i++)
            y[160 + i] = d * digit(in[32 + i % 16], i / 16);
        for (int i = 0; i < 16; i++)
            y[240 + i] = d * digit(in[48 + i % 4], i / 4);
    }
}

/* 64 bytes of four codes, d; in each half of 128, code k of the 32 bytes is
 * elements 32k and on. */
TS_CONVERT_KERNEL(ts_tq2_0_decode)
{
    float *y = (void *)out;
    for (; count >= 256; count -= 256, in += 66, y += 256) {
        float d = ts_load_half(in + 64);
        for (int i = 0; i < 256; i++) {
            int code = in[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
            y[i] = d * (float)(code - 1);
        }
    }
}

/* d, 16 bytes: a set bit is +d, a clear one -d. */
TS_CONVERT_KERNEL(ts_q1_0_decode)
{
    float *y = (void *)out;
    for (; count >= 128; count -= 128, in += 18, y += 128) {
        float d = ts_load_half(in);
        const float values[2] = {-d, d};
        for (int i = 0; i < 128; i++)
            y[i] = values[in[2 + i / 8] >> i % 8 & 1];
    }
}

/* d, 16 bytes of four neighbouring codes, 1 taken away. */
TS_CONVERT_KERNEL(ts_q2_0_decode)
{
    float *y = (void *)out;
    for (; count >= 64; count -= 64, in += 18, y += 64) {
        float d = ts_load_half(in);
        for (int i = 0; i < 64; i++) {
            int code = in[2 + i / 4] >> i % 4 * 2 & 3;
            y[i] = d * (float)(code - 1);
        }
    }
}
