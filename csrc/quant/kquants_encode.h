/* kquants_encode.h -- from the searched scales of a K block to its bytes.
 *
 * Encoding 256 elements has two halves.  A search finds a scale, and for some
 * kinds a minimum, for each group of 16 or 32: nearly all the time goes there
 * and it has fast variants.  What follows, rounding the scales under a common
 * one and the elements under those, is written once, here.
 *
 * A group whose rounded scale is 0 keeps the codes its search ended with.
 * They decode to the same value whatever they are, but the bytes are
 * promised; so for these few groups the plain search is run for its codes. */
#ifndef TS_QUANT_KQUANTS_ENCODE_H
#define TS_QUANT_KQUANTS_ENCODE_H

#include "encode.h"
#include "rounding.h"
#include "scales.h"

/* ---- the searches (kquants_encode_kernel.c) ---------------------------- */

/* How a scale and a minimum are sought, for codes 0 to most: inverse scales
 * (first + k * step + most) / range for k = 0 to tries, each corrected by
 * least squares; the least error, absolute or squared, wins. */
typedef struct {
    int group, most, tries;
    float first, step;
    bool is_absolute;
} ts_min_rule;

#define TS_Q2_K_RULE {16, 3, 15, -0.5f, 0.1f, true}
#define TS_Q4_K_RULE {32, 15, 20, -1.0f, 0.1f, false}
#define TS_Q5_K_RULE {32, 31, 15, -0.5f, 0.1f, false}

/* x - *min is about scale * code; *min is what ggml stores, not negative but
 * for rounding.  Returns the scale. */
float ts_search_min(const ts_min_rule *rule, const float *x, uint8_t *codes,
                    float *min);
/* Q6_K's and Q3_K's, of 16 elements; codes have 32 or 4 added. */
float ts_search_q6(const float x[16], uint8_t codes[16]);
float ts_search_q3(const float x[16], uint8_t codes[16]);

/* Below this a group counts as zero. */
#define TS_GROUP_EPSILON 1e-15f

/* ---- pieces ------------------------------------------------------------ */

static inline int ts_clamp(int value, int least, int most)
{
    return value < least ? least : value > most ? most : value;
}

static inline float ts_largest(const float *values, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++)
        if (values[i] > most) most = values[i];
    return most;
}

/* Codes of a group under its final scale and minimum. */
static inline void ts_codes_min(const float *x, int n, float d, float m,
                                int most, uint8_t *codes)
{
    for (int i = 0; i < n; i++)
        codes[i] = (uint8_t)ts_clamp(ts_round_even((x[i] + m) / d), 0, most);
}

static inline void ts_codes_signed(const float *x, float d, int half,
                                   uint8_t *codes)
{
    for (int i = 0; i < 16; i++)
        codes[i] = (uint8_t)(ts_clamp(ts_round_even(x[i] / d), -half, half - 1)
                             + half);
}

/* Four two-bit codes a byte; in each half of 128 elements they are 32 apart. */
static inline void ts_store_pairs(const uint8_t codes[256], uint8_t out[64])
{
    for (int i = 0; i < 64; i++) {
        const uint8_t *at = codes + i / 32 * 128 + i % 32;
        out[i] = (uint8_t)((at[0] & 3) | (at[32] & 3) << 2 | (at[64] & 3) << 4
                           | (at[96] & 3) << 6);
    }
}

/* ---- blocks ------------------------------------------------------------ */

static inline void ts_finish_q2_k(const float x[256], const float scales[16],
                                  const float mins[16], uint8_t *out)
{
    static const ts_min_rule rule = TS_Q2_K_RULE;
    float scale = ts_largest(scales, 16), min = ts_largest(mins, 16);
    float by_scale = scale > 0 ? 15.0f / scale : 0;
    float by_min = min > 0 ? 15.0f / min : 0;
    uint8_t codes[256];
    ts_store_half(out + 80, scale / 15.0f);
    ts_store_half(out + 82, min / 15.0f);
    float d = ts_load_half(out + 80), dmin = ts_load_half(out + 82);
    for (int k = 0; k < 16; k++) {
        unsigned low = (unsigned)ts_round_even(by_scale * scales[k]);
        unsigned high = (unsigned)ts_round_even(by_min * mins[k]);
        out[k] = (uint8_t)(low | high << 4);
        float step = d * (float)(out[k] & 15), unused;
        if (step != 0)
            ts_codes_min(x + 16 * k, 16, step, dmin * (float)(out[k] >> 4), 3,
                         codes + 16 * k);
        else
            ts_search_min(&rule, x + 16 * k, codes + 16 * k, &unused);
    }
    ts_store_pairs(codes, out + 16);
}

/* The inverse of ts_scales_q3_k: 32 was added already. */
static inline void ts_store_scales_q3_k(const uint8_t scales[16], uint8_t *out)
{
    memset(out, 0, 12);
    for (int k = 0; k < 16; k++) {
        out[k % 8] |= (uint8_t)((scales[k] & 15) << k / 8 * 4);
        out[8 + k % 4] |= (uint8_t)(scales[k] >> 4 << k / 4 * 2);
    }
}

static inline void ts_finish_q3_k(const float x[256], const float scales[16],
                                  uint8_t *out)
{
    float peak = ts_peak(scales, 16);
    float inverse = peak != 0 ? -32.0f / peak : 0;
    uint8_t stored[16], codes[256];
    ts_store_half(out + 108, peak != 0 ? 1 / inverse : 0);
    float d = ts_load_half(out + 108);
    for (int k = 0; k < 16; k++) {
        int scale = (int8_t)ts_round_even(inverse * scales[k]);
        scale = peak != 0 ? ts_clamp(scale, -32, 31) : -32;
        stored[k] = (uint8_t)(scale + 32);
        float step = d * (float)scale;
        if (step != 0)
            ts_codes_signed(x + 16 * k, step, 4, codes + 16 * k);
        else
            ts_search_q3(x + 16 * k, codes + 16 * k);
    }
    if (peak != 0) ts_store_scales_q3_k(stored, out + 96);
    else memset(out + 96, 0, 12);
    memset(out, 0, 32);
    for (int i = 0; i < 256; i++)
        out[i % 32] |= (uint8_t)((codes[i] >> 2) << i / 32);
    ts_store_pairs(codes, out + 32);
}

/* The inverse of ts_scales_q4_k. */
static inline void ts_store_scales_q4_k(const uint8_t scales[8],
                                        const uint8_t mins[8], uint8_t *out)
{
    for (int k = 0; k < 4; k++) {
        out[k] = (uint8_t)(scales[k] | scales[k + 4] >> 4 << 6);
        out[k + 4] = (uint8_t)(mins[k] | mins[k + 4] >> 4 << 6);
        out[k + 8] = (uint8_t)((scales[k + 4] & 15) | (mins[k + 4] & 15) << 4);
    }
}

/* What Q4_K and Q5_K share: d, dmin and 12 bytes of scales into out, codes
 * into codes. */
static inline void ts_finish_codes(const ts_min_rule *rule, const float *x,
                                   const float scales[8], const float mins[8],
                                   uint8_t *out, uint8_t codes[256])
{
    float scale = ts_largest(scales, 8), min = ts_largest(mins, 8);
    float by_scale = scale > 0 ? 63.0f / scale : 0;
    float by_min = min > 0 ? 63.0f / min : 0;
    uint8_t low[8], high[8];
    ts_store_half(out, scale / 63.0f);
    ts_store_half(out + 2, min / 63.0f);
    float d = ts_load_half(out), dmin = ts_load_half(out + 2);
    for (int k = 0; k < 8; k++) {
        uint8_t s = (uint8_t)ts_round_even(by_scale * scales[k]);
        uint8_t m = (uint8_t)ts_round_even(by_min * mins[k]);
        low[k] = s < 63 ? s : 63;
        high[k] = m < 63 ? m : 63;
        float step = d * (float)low[k], unused;
        if (step != 0)
            ts_codes_min(x + 32 * k, 32, step, dmin * (float)high[k],
                         rule->most, codes + 32 * k);
        else
            ts_search_min(rule, x + 32 * k, codes + 32 * k, &unused);
    }
    ts_store_scales_q4_k(low, high, out + 4);
}

/* Low nibbles: 32 bytes hold two groups. */
static inline void ts_store_nibbles(const uint8_t codes[256], uint8_t out[128])
{
    for (int i = 0; i < 128; i++) {
        const uint8_t *at = codes + i / 32 * 64 + i % 32;
        out[i] = (uint8_t)((at[0] & 15) | (at[32] & 15) << 4);
    }
}

static inline void ts_finish_q4_k(const float x[256], const float scales[8],
                                  const float mins[8], uint8_t *out)
{
    static const ts_min_rule rule = TS_Q4_K_RULE;
    uint8_t codes[256];
    ts_finish_codes(&rule, x, scales, mins, out, codes);
    ts_store_nibbles(codes, out + 16);
}

static inline void ts_finish_q5_k(const float x[256], const float scales[8],
                                  const float mins[8], uint8_t *out)
{
    static const ts_min_rule rule = TS_Q5_K_RULE;
    uint8_t codes[256];
    ts_finish_codes(&rule, x, scales, mins, out, codes);
    memset(out + 16, 0, 32);
    for (int i = 0; i < 256; i++)
        out[16 + i % 32] |= (uint8_t)((codes[i] >> 4) << i / 32);
    ts_store_nibbles(codes, out + 48);
}

static inline void ts_finish_q6_k(const float x[256], const float scales[16],
                                  uint8_t *out)
{
    float peak = ts_peak(scales, 16);
    uint8_t codes[256];
    memset(out, 0, 210);
    if (fabsf(peak) < TS_GROUP_EPSILON) return;
    float inverse = -128.0f / peak;
    ts_store_half(out + 208, 1 / inverse);
    float d = ts_load_half(out + 208);
    for (int k = 0; k < 16; k++) {
        int scale = ts_round_even(inverse * scales[k]);
        scale = (int8_t)(scale < 127 ? scale : 127);
        out[192 + k] = (uint8_t)scale;
        float step = d * (float)scale;
        if (step != 0)
            ts_codes_signed(x + 16 * k, step, 32, codes + 16 * k);
        else
            ts_search_q6(x + 16 * k, codes + 16 * k);
    }
    for (int i = 0; i < 128; i++) {
        const uint8_t *at = codes + i / 64 * 128 + i % 64;
        out[i] = (uint8_t)((at[0] & 15) | (at[64] & 15) << 4);
    }
    for (int i = 0; i < 256; i++) codes[i] >>= 4;
    ts_store_pairs(codes, out + 128);
}

#endif
