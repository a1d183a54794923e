/* affine_body.h -- the loops of affine.h, for a file that says for which
 * processor (TS_TARGET) and under which name (TS_KERNELS). */
#ifndef TS_QUANT_AFFINE_BODY_H
#define TS_QUANT_AFFINE_BODY_H

#include <math.h>
#include <string.h>

#include "affine.h"
#include "rounding.h"

TS_TARGET static inline void extent_lanes(const float *x, int lanes,
                                          float *min, float *max,
                                          uint32_t *most)
{
    for (int l = 0; l < lanes; l++) {
        uint32_t magnitude = ts_f32_bits(x[l]) & 0x7fffffff;
        most[l] = magnitude > most[l] ? magnitude : most[l];
        min[l] = x[l] < min[l] ? x[l] : min[l];
        max[l] = x[l] > max[l] ? x[l] : max[l];
    }
}

TS_TARGET static void extent(const float *x, size_t count, ts_extent *found)
{
    float min[TS_AFFINE_LANES] = {0}, max[TS_AFFINE_LANES] = {0};
    uint32_t most[TS_AFFINE_LANES] = {0};
    size_t i = 0;
    for (; i + TS_AFFINE_LANES <= count; i += TS_AFFINE_LANES)
        extent_lanes(x + i, TS_AFFINE_LANES, min, max, most);
    extent_lanes(x + i, (int)(count - i), min, max, most);
    for (int l = 0; l < TS_AFFINE_LANES; l++) {
        found->min = min[l] < found->min ? min[l] : found->min;
        found->max = max[l] > found->max ? max[l] : found->max;
        found->is_finite = found->is_finite && most[l] < 0x7f800000;
    }
}

/* Clamped before it is rounded, so that the rounding needs no range. */
TS_TARGET static void encode(const float *x, int8_t *codes, size_t count,
                             const ts_affine *affine)
{
    const float scale = affine->scale, zero = affine->zero;
    const float low = affine->low - zero, high = affine->high - zero;
    for (size_t i = 0; i < count; i++) {
        float value = x[i] / scale;
        value = value > low ? value : low;
        value = value < high ? value : high;
        value = (value + TS_ROUNDER) - TS_ROUNDER;
        codes[i] = (int8_t)(int32_t)(value + zero);
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
    extent, encode, decode, divide, multiply, compare,
};

#endif
