#include "encode.h"
#include "rounding.h"

/* Blocks of 32 with a half-precision scale d, some with a minimum; the codes
 * of elements j and j + 16 share a byte.  What each byte means stands in
 * legacy_kernel.c; the rules are ggml's quantize_row_*_ref. */

static unsigned code_of(float scaled, unsigned most)
{
    unsigned code = (uint8_t)ts_truncate(scaled);
    return code < most ? code : most;
}

static void q4_0_block(const float x[32], uint8_t *out)
{
    float d = ts_peak(x, 32) / -8, inverse = ts_inverse(d);
    ts_store_half(out, d);
    for (int j = 0; j < 16; j++) {
        unsigned low = code_of(x[j] * inverse + 8.5f, 15);
        unsigned high = code_of(x[j + 16] * inverse + 8.5f, 15);
        out[2 + j] = (uint8_t)(low | high << 4);
    }
}

/* The smallest and the largest value. */
static void range_of(const float x[32], float *min, float *max)
{
    *min = *max = x[0];
    for (int j = 1; j < 32; j++) {
        if (x[j] < *min) *min = x[j];
        if (x[j] > *max) *max = x[j];
    }
}

static void q4_1_block(const float x[32], uint8_t *out)
{
    float min, max;
    range_of(x, &min, &max);
    float d = (max - min) / 15, inverse = ts_inverse(d);
    ts_store_half(out, d);
    ts_store_half(out + 2, min);
    for (int j = 0; j < 16; j++) {
        unsigned low = code_of((x[j] - min) * inverse + 0.5f, 15);
        unsigned high = code_of((x[j + 16] - min) * inverse + 0.5f, 15);
        out[4 + j] = (uint8_t)(low | high << 4);
    }
}

/* 32 codes of five bits: their fifth bits first, then the rest in pairs. */
static void store_five(const uint8_t codes[32], uint8_t *out)
{
    uint32_t fifth = 0;
    for (int j = 0; j < 32; j++) fifth |= (codes[j] >> 4 & 1u) << j;
    memcpy(out, &fifth, sizeof fifth);
    for (int j = 0; j < 16; j++)
        out[4 + j] = (uint8_t)((codes[j] & 15) | codes[j + 16] << 4);
}

static void q5_0_block(const float x[32], uint8_t *out)
{
    float d = ts_peak(x, 32) / -16, inverse = ts_inverse(d);
    uint8_t codes[32];
    ts_store_half(out, d);
    for (int j = 0; j < 32; j++)
        codes[j] = (uint8_t)code_of(x[j] * inverse + 16.5f, 31);
    store_five(codes, out + 2);
}

static void q5_1_block(const float x[32], uint8_t *out)
{
    float min, max;
    uint8_t codes[32];
    range_of(x, &min, &max);
    float d = (max - min) / 31, inverse = ts_inverse(d);
    ts_store_half(out, d);
    ts_store_half(out + 2, min);
    for (int j = 0; j < 32; j++)
        codes[j] = (uint8_t)ts_truncate((x[j] - min) * inverse + 0.5f);
    store_five(codes, out + 4);
}

static void q8_0_block(const float x[32], uint8_t *out)
{
    float d = fabsf(ts_peak(x, 32)) / 127, inverse = ts_inverse(d);
    ts_store_half(out, d);
    for (int j = 0; j < 32; j++)
        out[2 + j] = (uint8_t)ts_round_away(x[j] * inverse);
}

TS_BLOCK_QUANTIZER(ts_q4_0_quantize, 32, 18, q4_0_block)
TS_BLOCK_QUANTIZER(ts_q4_1_quantize, 32, 20, q4_1_block)
TS_BLOCK_QUANTIZER(ts_q5_0_quantize, 32, 22, q5_0_block)
TS_BLOCK_QUANTIZER(ts_q5_1_quantize, 32, 24, q5_1_block)
TS_BLOCK_QUANTIZER(ts_q8_0_quantize, 32, 34, q8_0_block)
