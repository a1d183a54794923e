/* rounding.h -- how the quantisers turn a float into an integer.
 *
 * The published rules cast as their C compiler does; here every float has a
 * defined result, the one x86 gives: what fits no int32 becomes INT32_MIN. */
#ifndef TS_QUANT_ROUNDING_H
#define TS_QUANT_ROUNDING_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "half.h"

/* Towards zero. */
static inline int32_t ts_truncate(float value)
{
    bool fits = value >= -2147483648.0f && value < 2147483648.0f;
    return fits ? (int32_t)value : INT32_MIN;
}

/* To nearest, halves away from zero, as roundf; right below 2^23.  The number
 * added is the largest float below a half: with the half itself the sum of
 * its neighbour would round up to one. */
static inline int32_t ts_round_away(float value)
{
    return ts_truncate(value + copysignf(0x1.fffffep-2f, value));
}

/* 1.5 * 2^23: added to a float below 2^22, it leaves the nearest integer, ties
 * to even, in the low bits of the mantissa. */
#define TS_ROUNDER 12582912.0f

/* To nearest, ties to even; beyond 2^22 the low bits of it, as in ggml. */
static inline int32_t ts_round_even(float value)
{
    uint32_t bits = ts_f32_bits(value + TS_ROUNDER);
    return (int32_t)(bits & 0x007fffff) - 0x00400000;
}

#endif
