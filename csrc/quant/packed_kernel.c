#include "half.h"
#include "kernels.h"

/* The values of the OCP microscaling formats: 1 sign bit, then as named.
 * Below the first exponent, steps are even. */
static const float e2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,
                               4.0f,  6.0f,  -0.0f, -0.5f, -1.0f, -1.5f,
                               -2.0f, -3.0f, -4.0f, -6.0f};

/* m mantissa bits and a bias: no code is NaN or infinite. */
static float small_float(uint32_t code, uint32_t m, uint32_t bias)
{
    uint32_t sign = (code & 0x20) << 26, magnitude = code & 0x1f;
    uint32_t exponent = magnitude >> m;
    uint32_t steps = magnitude & ((1u << m) - 1);
    if (exponent > 0) steps += 1u << m;
    if (exponent == 0) exponent = 1;
    float step = ts_f32_from_bits((127 + exponent - bias - m) << 23);
    return ts_f32_from_bits(sign | ts_f32_bits((float)steps * step));
}

TS_CONVERT_KERNEL(ts_f4_decode)
{
    float *y = (void *)out;
    for (size_t i = 0; i + 2 <= count; i += 2, in++) {
        y[i] = e2m1[*in & 15];
        y[i + 1] = e2m1[*in >> 4];
    }
}

TS_CONVERT_KERNEL(ts_f4_unpack)
{
    for (size_t i = 0; i + 2 <= count; i += 2, in++) {
        out[i] = *in & 15;
        out[i + 1] = *in >> 4;
    }
}

static uint32_t load_24_bits(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
}

TS_CONVERT_KERNEL(ts_f6_unpack)
{
    for (size_t i = 0; i + 4 <= count; i += 4, in += 3) {
        uint32_t four = load_24_bits(in);
        for (int k = 0; k < 4; k++)
            out[i + (size_t)k] = (uint8_t)(four >> 6 * k & 63);
    }
}

static void f6_decode(const uint8_t *in, uint8_t *out, size_t count,
                      uint32_t m, uint32_t bias)
{
    float *y = (void *)out;
    float values[64];
    for (uint32_t code = 0; code < 64; code++)
        values[code] = small_float(code, m, bias);
    for (size_t i = 0; i + 4 <= count; i += 4, in += 3) {
        uint32_t four = load_24_bits(in);
        for (int k = 0; k < 4; k++)
            y[i + (size_t)k] = values[four >> 6 * k & 63];
    }
}

TS_CONVERT_KERNEL(ts_f6_e2m3_decode) { f6_decode(in, out, count, 3, 1); }

TS_CONVERT_KERNEL(ts_f6_e3m2_decode) { f6_decode(in, out, count, 2, 3); }
