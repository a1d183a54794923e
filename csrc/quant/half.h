/* half.h -- the two 16-bit floats and F32, one value at a time.
 *
 * What the processor's own conversions do, to the bit: round to nearest even,
 * keep denormals, make a signalling NaN quiet and keep as much of its payload
 * as fits. */
#ifndef TS_QUANT_HALF_H
#define TS_QUANT_HALF_H

#include <stdint.h>
#include <string.h>

#include "core/base.h"

static inline uint32_t ts_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float ts_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float ts_f32_of_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t magnitude = half & 0x7fff;
    if (magnitude > 0x7c00) /* NaN */
        return ts_f32_from_bits(sign | 0x7fc00000 | magnitude << 13);
    if (magnitude == 0x7c00) return ts_f32_from_bits(sign | 0x7f800000);
    if (magnitude >= 0x0400)
        return ts_f32_from_bits(sign | ((magnitude << 13) + (112u << 23)));
    float denormal = (float)magnitude * 0x1p-24f;
    return ts_f32_from_bits(sign | ts_f32_bits(denormal));
}

static inline uint16_t ts_f16_of_f32(float value)
{
    uint32_t bits = ts_f32_bits(value);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) /* rounds to 2^16 or is infinite */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: the addition rounds */
        float shifted = ts_f32_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (ts_f32_bits(shifted) - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((magnitude >> 13) - (112u << 10)));
}

static inline float ts_f32_of_bf16(uint16_t bits)
{
    return ts_f32_from_bits((uint32_t)bits << 16);
}

static inline uint16_t ts_bf16_of_f32(float value)
{
    uint32_t bits = ts_f32_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The scale of a ggml block. */
static inline float ts_load_half(const uint8_t *at)
{
    return ts_f32_of_f16(ts_load_u16(at));
}

#endif
