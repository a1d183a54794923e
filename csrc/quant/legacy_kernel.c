#include "half.h"
#include "kernels.h"

/* The first ggml blocks: 32 elements, a half-precision scale d, for the _1
 * kinds a minimum m.  Byte j of the nibbles holds elements j and j + 16. */

TS_CONVERT_KERNEL(ts_q4_0_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 18, y += 32) {
        float d = ts_load_half(in);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)((in[2 + j] & 15) - 8);
            y[j + 16] = d * (float)((in[2 + j] >> 4) - 8);
        }
    }
}

TS_CONVERT_KERNEL(ts_q4_1_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 20, y += 32) {
        float d = ts_load_half(in), m = ts_load_half(in + 2);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)(in[4 + j] & 15) + m;
            y[j + 16] = d * (float)(in[4 + j] >> 4) + m;
        }
    }
}

/* Bit j of the 32 high bits belongs to element j. */
static int five_bits(uint32_t nibble, uint32_t high, int j)
{
    return (int)(nibble | (high >> j & 1) << 4);
}

TS_CONVERT_KERNEL(ts_q5_0_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 22, y += 32) {
        float d = ts_load_half(in);
        uint32_t high = ts_load_u32(in + 2);
        for (int j = 0; j < 16; j++) {
            uint32_t low = in[6 + j];
            y[j] = d * (float)(five_bits(low & 15, high, j) - 16);
            y[j + 16] = d * (float)(five_bits(low >> 4, high, j + 16) - 16);
        }
    }
}

TS_CONVERT_KERNEL(ts_q5_1_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 24, y += 32) {
        float d = ts_load_half(in), m = ts_load_half(in + 2);
        uint32_t high = ts_load_u32(in + 4);
        for (int j = 0; j < 16; j++) {
            uint32_t low = in[8 + j];
            y[j] = d * (float)five_bits(low & 15, high, j) + m;
            y[j + 16] = d * (float)five_bits(low >> 4, high, j + 16) + m;
        }
    }
}

TS_CONVERT_KERNEL(ts_q8_0_decode)
{
    float *y = (void *)out;
    for (; count >= 32; count -= 32, in += 34, y += 32) {
        float d = ts_load_half(in);
        for (int j = 0; j < 32; j++) y[j] = d * (float)(int8_t)in[2 + j];
    }
}
