#include "f8.h"
#include "half.h"
#include "kernels.h"

TS_CONVERT_KERNEL(ts_f16_decode)
{
    float *y = (void *)out;
    for (size_t i = 0; i < count; i++)
        y[i] = ts_f32_of_f16(ts_load_u16(in + 2 * i));
}

TS_CONVERT_KERNEL(ts_bf16_decode)
{
    float *y = (void *)out;
    for (size_t i = 0; i < count; i++)
        y[i] = ts_f32_of_bf16(ts_load_u16(in + 2 * i));
}

#define F8_DECODER(stem)                                                      \
    TS_CONVERT_KERNEL(ts_##stem##_decode)                                     \
    {                                                                         \
        float *y = (void *)out;                                               \
        for (size_t i = 0; i < count; i++)                                    \
            y[i] = ts_f32_of_bf16(ts_##stem##_table[in[i]]);                  \
    }
F8_DECODER(f8_e4m3)
F8_DECODER(f8_e5m2)
F8_DECODER(f8_e8m0)
F8_DECODER(f8_e4m3fnuz)
F8_DECODER(f8_e5m2fnuz)

static float load_f32(const uint8_t *at)
{
    return ts_f32_from_bits(ts_load_u32(at));
}

TS_CONVERT_KERNEL(ts_f16_encode)
{
    uint16_t *y = (void *)out;
    for (size_t i = 0; i < count; i++)
        y[i] = ts_f16_of_f32(load_f32(in + 4 * i));
}

TS_CONVERT_KERNEL(ts_bf16_encode)
{
    uint16_t *y = (void *)out;
    for (size_t i = 0; i < count; i++)
        y[i] = ts_bf16_of_f32(load_f32(in + 4 * i));
}

#define F8_ENCODER(stem, RULE)                                                \
    TS_CONVERT_KERNEL(ts_##stem##_encode)                                     \
    {                                                                         \
        static const ts_f8_rule rule = RULE;                                  \
        for (size_t i = 0; i < count; i++)                                    \
            out[i] = ts_f8_of_f32(load_f32(in + 4 * i), rule);                \
    }
F8_ENCODER(f8_e4m3, TS_F8_E4M3_RULE)
F8_ENCODER(f8_e5m2, TS_F8_E5M2_RULE)
F8_ENCODER(f8_e4m3fnuz, TS_F8_E4M3FNUZ_RULE)
F8_ENCODER(f8_e5m2fnuz, TS_F8_E5M2FNUZ_RULE)

/* A power of two: halves round up, zero and the negative have no code and
 * become NaN.  2^-127, an F32 denormal, is code 0, and so is all below it;
 * just above it ml_dtypes rounds up at once, and so do we. */
static uint8_t e8m0_of_f32(float value)
{
    uint32_t bits = ts_f32_bits(value);
    if (bits == 0 || bits >= 0x7f400000) return 255;
    if (bits <= 0x00400000) return 0; /* 2^-127 */
    return (uint8_t)((bits + 0x00400000) >> 23);
}

TS_CONVERT_KERNEL(ts_f8_e8m0_encode)
{
    for (size_t i = 0; i < count; i++)
        out[i] = e8m0_of_f32(load_f32(in + 4 * i));
}

/* Cut towards zero, and set the last bit when something was lost: the odd
 * value stands for "a little more", so rounding once more, to a shorter type,
 * gives what rounding the original once would have given.  (Boldo and
 * Melquiond, "Emulation of FMA and correctly rounded sums", 2008.) */
static float round_odd(uint64_t bits)
{
    uint32_t sign = (uint32_t)(bits >> 32) & 0x80000000;
    uint64_t magnitude = bits & INT64_MAX;
    if (magnitude > 0x7ff0000000000000) /* NaN */
        return ts_f32_from_bits(sign | 0x7fc00000
                                | (uint32_t)(magnitude >> 29 & 0x3fffff));
    if (magnitude == 0x7ff0000000000000)
        return ts_f32_from_bits(sign | 0x7f800000);
    if (magnitude >= 0x47f0000000000000) /* 2^128 and above */
        return ts_f32_from_bits(sign | 0x7f7fffff);
    if (magnitude < 0x3810000000000000) /* F32 denormals: all 0 in F16 */
        return ts_f32_from_bits(sign | (magnitude != 0));
    uint32_t cut = (uint32_t)((magnitude - 0x3800000000000000) >> 29);
    return ts_f32_from_bits(sign | cut | ((magnitude & 0x1fffffff) != 0));
}

TS_CONVERT_KERNEL(ts_f64_round_odd)
{
    float *y = (void *)out;
    for (size_t i = 0; i < count; i++)
        y[i] = round_odd(ts_load_u64(in + 8 * i));
}
