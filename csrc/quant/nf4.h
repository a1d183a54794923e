/* nf4.h -- the 4-bit normal float of QLoRA, as bitsandbytes keeps it.
 *
 *     codes: two elements a byte, the first in the high nibble
 *     scales: the largest magnitude of each 64 elements, F32
 *
 * With double quantisation the scales are themselves one byte each: their
 * mean is taken away and each 256 share a magnitude.  The rule of both is that
 * of bitsandbytes' default backend (the code whose midpoints to its
 * neighbours enclose the value, ties down); its CPU library looks bytes up in
 * a coarser table and differs from that rule near the midpoints. */
#ifndef TS_QUANT_NF4_H
#define TS_QUANT_NF4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TS_NF4_BLOCK = 64, TS_NESTED_BLOCK = 256 };

/* The quantiles of the normal distribution (Dettmers et al., "QLoRA",
 * arXiv:2305.14314, appendix E). */
static const float ts_nf4_values[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/* Halfway between neighbours: code k is for values in (k - 1, k] of these. */
static inline void ts_nf4_midpoints(float out[15])
{
    for (int i = 0; i < 15; i++)
        out[i] = (ts_nf4_values[i] + ts_nf4_values[i + 1]) / 2;
}

extern const float ts_dynamic_map[256];

/* For lookups by 16 + (15 times a value, to nearest): the midpoint among the
 * values of that place, or 2; the code of those up to it; and 32 further that
 * of those above. */
extern const float ts_nf4_stretch_middles[32];
extern const uint8_t ts_nf4_stretch_codes[64];

/* A block of less counts as zero: its reciprocal would be infinite. */
#define TS_NF4_LEAST 1e-38f

/* Whole blocks of 64.  Returns how many elements were encoded: count, or
 * those before the first block with a NaN or an infinity. */
typedef size_t (*ts_nf4_kernel)(const uint8_t *in, uint8_t *out, float *scales,
                                size_t count);
size_t ts_nf4_quantize(const uint8_t *in, uint8_t *out, float *scales,
                       size_t count);
size_t ts_nf4_quantize_avx2(const uint8_t *in, uint8_t *out, float *scales,
                            size_t count);
size_t ts_nf4_quantize_avx512(const uint8_t *in, uint8_t *out, float *scales,
                              size_t count);

/* The last count < 64 elements; false when one is not finite. */
bool ts_nf4_quantize_rest(const uint8_t *in, uint8_t *out, float *scale,
                          size_t count);

/* Any count of elements. */
typedef void (*ts_nf4_decoder)(const uint8_t *in, const float *scales,
                               float *out, size_t count);
void ts_nf4_decode(const uint8_t *in, const float *scales, float *out,
                   size_t count);
void ts_nf4_decode_avx2(const uint8_t *in, const float *scales, float *out,
                        size_t count);
void ts_nf4_decode_avx512(const uint8_t *in, const float *scales, float *out,
                          size_t count);

/* Scales less their mean into bytes and back: any count, all finite. */
void ts_nested_encode(const float *scales, size_t count, float mean,
                      uint8_t *codes, float *nested);
void ts_nested_decode(const uint8_t *codes, const float *nested, float mean,
                      float *scales, size_t count);

#endif
