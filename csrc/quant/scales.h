/* scales.h -- the six-bit scales of the K blocks, unpacked eight bytes at a
 * time, and the fixed tables that several families share. */
#ifndef TS_QUANT_SCALES_H
#define TS_QUANT_SCALES_H

#include <stdint.h>
#include <string.h>

#include "core/base.h"

/* Q4_K and Q5_K: 12 bytes hold 8 scales and then 8 minima.
 *
 *     bytes 0-3    low 6 bits: scales 0-3   top 2 bits: top of scales 4-7
 *     bytes 4-7    low 6 bits: minima 0-3   top 2 bits: top of minima 4-7
 *     bytes 8-11   low nibble: low of scales 4-7, high: low of minima 4-7 */
static inline void ts_scales_q4_k(const uint8_t in[12], uint8_t out[16])
{
    uint32_t a = ts_load_u32(in), b = ts_load_u32(in + 4);
    uint32_t c = ts_load_u32(in + 8);
    uint32_t words[4] = {
        a & 0x3f3f3f3f,
        (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030),
        b & 0x3f3f3f3f,
        (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030),
    };
    memcpy(out, words, sizeof words);
}

/* Q3_K: 12 bytes hold 16 scales, to be read with 32 subtracted.
 *
 *     bytes 0-7    low nibble: low of scales 0-7, high: low of 8-15
 *     bytes 8-11   two bits each: top of scales k, k+4, k+8, k+12 */
static inline void ts_scales_q3_k(const uint8_t in[12], int8_t out[16])
{
    uint32_t a = ts_load_u32(in), b = ts_load_u32(in + 4);
    uint32_t top = ts_load_u32(in + 8);
    uint32_t words[4] = {
        (a & 0x0f0f0f0f) | (top << 4 & 0x30303030),
        (b & 0x0f0f0f0f) | (top << 2 & 0x30303030),
        (a >> 4 & 0x0f0f0f0f) | (top & 0x30303030),
        (b >> 4 & 0x0f0f0f0f) | (top >> 2 & 0x30303030),
    };
    memcpy(out, words, sizeof words);
    for (int i = 0; i < 16; i++) out[i] = (int8_t)(out[i] - 32);
}

/* IQ4_XS: 8 scales of six bits, four in the bytes and two in the word; 32 is
 * subtracted. */
static inline void ts_scales_iq4_xs(const uint8_t low[4], uint16_t high,
                                    int8_t out[8])
{
    for (int i = 0; i < 8; i++)
        out[i] = (int8_t)(((low[i / 2] >> i % 2 * 4 & 15)
                           | (high >> 2 * i & 3) << 4)
                          - 32);
}

/* The non-linear four-bit codebook of IQ4_NL and IQ4_XS. */
static const int8_t ts_iq4_codes[16] = {-127, -104, -83, -65, -49, -35,
                                        -22,  -10,  1,   13,  25,  38,
                                        53,   69,   89,  113};

/* Twice the values of E2M1, as ggml keeps them: as integers, so that code 8
 * is +0 and not -0. */
static const int8_t ts_fp4_codes[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                        0, -1, -2, -3, -4, -6, -8, -12};

#endif
