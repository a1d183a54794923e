/* encode.h -- every loop that makes blocks of F32, and which variants it has.
 *
 * The rule of each block is ggml's reference (ggml_quantize_chunk without an
 * importance matrix), to the bit; where that leaves a cast undefined, see
 * rounding.h.  A block with a NaN or an infinity has no rule: the loop stops
 * before it. */
#ifndef TS_QUANT_ENCODE_H
#define TS_QUANT_ENCODE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "half.h"

/* in: count F32 at any address; out: their blocks.  count is a multiple of
 * the block.  Returns how many elements were encoded: count, or those before
 * the first block that is not finite. */
typedef size_t (*ts_quantize_kernel)(const uint8_t *in, uint8_t *out,
                                     size_t count);

#define TS_QUANTIZE_KERNEL(name)                                              \
    size_t name(const uint8_t *in, uint8_t *out, size_t count)

/* The type's symbol, the kernel's stem, its variants (as in kernels.h). */
#define TS_QUANTIZER_MAP(XX)                                                  \
    XX(Q4_0, q4_0, ALL)                                                       \
    XX(Q4_1, q4_1, ALL)                                                       \
    XX(Q5_0, q5_0, ALL)                                                       \
    XX(Q5_1, q5_1, ALL)                                                       \
    XX(Q8_0, q8_0, ALL)                                                       \
    XX(Q2_K, q2_k, ALL)                                                       \
    XX(Q3_K, q3_k, ALL)                                                       \
    XX(Q4_K, q4_k, ALL)                                                       \
    XX(Q5_K, q5_k, ALL)                                                       \
    XX(Q6_K, q6_k, ALL)                                                       \
    XX(IQ4_NL, iq4_nl, ALL)                                                   \
    XX(IQ4_XS, iq4_xs, ALL)                                                   \
    XX(TQ1_0, tq1_0, ONE)                                                     \
    XX(TQ2_0, tq2_0, ONE)                                                     \
    XX(MXFP4, mxfp4, ALL)                                                     \
    XX(NVFP4, nvfp4, ALL)

#define XX(symbol, stem, variants)                                            \
    TS_QUANTIZE_KERNEL(ts_##stem##_quantize);                                 \
    TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx2);                            \
    TS_QUANTIZE_KERNEL(ts_##stem##_quantize_avx512);
TS_QUANTIZER_MAP(XX)
#undef XX

/* Copy n floats; false when one of them is a NaN or infinite. */
static inline bool ts_take_finite(const uint8_t *in, float *x, int n)
{
    uint32_t most = 0;
    memcpy(x, in, sizeof(float) * (size_t)n);
    for (int i = 0; i < n; i++) {
        uint32_t magnitude = ts_f32_bits(x[i]) & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
    }
    return most < 0x7f800000;
}

/* The loop around a function that makes one block: n elements, size bytes. */
#define TS_BLOCK_QUANTIZER(name, n, size, make)                               \
    TS_QUANTIZE_KERNEL(name)                                                  \
    {                                                                         \
        float x[n];                                                           \
        size_t done = 0;                                                      \
        for (; done < count && ts_take_finite(in, x, n); done += (n)) {       \
            make(x, out);                                                     \
            in += 4 * (n);                                                    \
            out += (size);                                                    \
        }                                                                     \
        return done;                                                          \
    }

static inline void ts_store_half(uint8_t *at, float value)
{
    uint16_t half = ts_f16_of_f32(value);
    memcpy(at, &half, sizeof half);
}

/* The first of the values of largest magnitude, with its sign; 0 for n 0. */
static inline float ts_peak(const float *x, int n)
{
    float most = 0, peak = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > most) {
            most = fabsf(x[i]);
            peak = x[i];
        }
    return peak;
}

static inline float ts_inverse(float d) { return d != 0 ? 1 / d : 0; }

#endif
