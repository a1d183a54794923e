/* affine_body.h -- the loops of affine.h, for a file that says for which
 * processor (TS_TARGET) and under which name (TS_KERNELS). */
#ifndef TS_QUANT_AFFINE_BODY_H
#define TS_QUANT_AFFINE_BODY_H

#include <math.h>
#include <string.h>

#include "affine.h"
#include "rounding.h"

/* As an integer the largest with a sign is the largest float, if one is
 * positive, and the largest without is the most negative, if one is. */
TS_TARGET static void extent(const float *x, size_t count, ts_extent *found)
{
    int32_t above = 0;
    uint32_t below = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = ts_f32_bits(x[i]);
        above = (int32_t)bits > above ? (int32_t)bits : above;
        below = bits > below ? bits : below;
    }
    float max = ts_f32_from_bits((uint32_t)above);
    float min = below > 0x80000000 ? ts_f32_from_bits(below) : 0;
    found->is_finite = found->is_finite && above < 0x7f800000
        && (below & 0x7fffffff) < 0x7f800000;
    found->min = min < found->min ? min : found->min;
    found->max = max > found->max ? max : found->max;
}

/* Clamped before it is rounded, so that the rounding needs no range. */
TS_TARGET static inline float clamp(float value, float low, float high)
{
    value = value > low ? value : low;
    return value < high ? value : high;
}

TS_TARGET static inline int8_t low_byte(float sum, float zero)
{
    return (int8_t)(uint8_t)(ts_f32_bits(sum) + (uint32_t)(int32_t)zero);
}

/* The rule: a quotient, rounded to nearest even. */
TS_TARGET static void encode_quotients(const float *x, int8_t *codes,
                                       size_t count, const ts_affine *affine)
{
    const float scale = affine->scale, zero = affine->zero;
    const float low = affine->low - zero, high = affine->high - zero;
    for (size_t i = 0; i < count; i++)
        codes[i] = low_byte(clamp(x[i] / scale, low, high) + TS_ROUNDER, zero);
}

/* The same by products with the inverse, which are off by less than
 * 255 * 2^-22.  False when one lies nearer than that to where a code ends. */
TS_TARGET static bool encode_products(const float *x, int8_t *codes,
                                      size_t count, const ts_affine *affine)
{
    const float inverse = 1 / affine->scale, zero = affine->zero;
    const float low = affine->low - zero, high = affine->high - zero;
    uint32_t most = 0;
    for (size_t i = 0; i < count; i++) {
        float value = clamp(x[i] * inverse, low, high);
        float sum = value + TS_ROUNDER;
        uint32_t off = ts_f32_bits(value - (sum - TS_ROUNDER)) & 0x7fffffff;
        most = off > most ? off : most;
        codes[i] = low_byte(sum, zero);
    }
    return most < ts_f32_bits(0.5f - 0x1p-14f);
}

TS_TARGET static void encode(const float *x, int8_t *codes, size_t count,
                             const ts_affine *affine)
{
    enum { TRY = 256 };
    bool has_inverse = affine->scale > 0x1p-125f && affine->scale < 0x1p125f;
    for (size_t n; count > 0; count -= n, x += n, codes += n) {
        n = count < TRY ? count : TRY;
        if (!has_inverse || !encode_products(x, codes, n, affine))
            encode_quotients(x, codes, n, affine);
    }
}

/* Two codes a byte, the first in the low nibble; and back, with the sign. */
TS_TARGET static void pack(const int8_t *codes, uint8_t *out, size_t pairs)
{
    for (size_t i = 0; i < pairs; i++)
        out[i] = (uint8_t)((codes[2 * i] & 15)
                           | (unsigned)codes[2 * i + 1] << 4);
}

TS_TARGET static void unpack(const uint8_t *in, int8_t *codes, size_t pairs)
{
    for (size_t i = 0; i < pairs; i++) {
        codes[2 * i] = (int8_t)(((in[i] & 15) ^ 8) - 8);
        codes[2 * i + 1] = (int8_t)(((in[i] >> 4) ^ 8) - 8);
    }
}

TS_TARGET static void decode(const int8_t *codes, float *x, size_t count,
                             float scale, float zero)
{
    for (size_t i = 0; i < count; i++)
        x[i] = ((float)codes[i] - zero) * scale;
}

TS_TARGET static void divide(const float *x, float *y, size_t count,
                             float divisor)
{
    for (size_t i = 0; i < count; i++) y[i] = x[i] / divisor;
}

TS_TARGET static void multiply(float *x, size_t count, float factor)
{
    for (size_t i = 0; i < count; i++) x[i] *= factor;
}

TS_TARGET static inline void compare_lanes(const float *before,
                                           const float *after, int lanes,
                                           ts_loss *loss)
{
    for (int l = 0; l < lanes; l++) {
        double a = before[l], b = after[l], lost = a - b;
        float off = fabsf(before[l] - after[l]);
        loss->squares[l] += lost * lost;
        loss->products[l] += a * b;
        loss->before[l] += a * a;
        loss->after[l] += b * b;
        loss->most[l] = off > loss->most[l] ? off : loss->most[l];
    }
}

TS_TARGET static void compare(const float *before, const float *after,
                              size_t count, ts_loss *loss)
{
    ts_loss sums = *loss; /* a copy: it may live in registers */
    size_t i = 0;
    for (; i + TS_AFFINE_LANES <= count; i += TS_AFFINE_LANES)
        compare_lanes(before + i, after + i, TS_AFFINE_LANES, &sums);
    compare_lanes(before + i, after + i, (int)(count - i), &sums);
    *loss = sums;
}

const ts_affine_kernels TS_KERNELS = {
    extent, encode, pack, unpack, decode, divide, multiply, compare,
};

#endif
