#include "kquants_encode.h"

/* The searches of ggml's K blocks, group by group: make_qkx2_quants,
 * make_qx_quants and make_q3_quants of ggml-quants.c say which candidates are
 * tried and in which order the sums are taken; the order decides bits. */

/* ---- scale and minimum ------------------------------------------------- */

/* Large elements matter more: the root of the mean square is added to the
 * magnitude, but for Q2_K, whose weights are magnitudes alone. */
static void weigh(const ts_min_rule *rule, const float *x, float *weights)
{
    float squares = 0, mean = 0;
    if (!rule->is_absolute) {
        for (int i = 0; i < rule->group; i++) squares += x[i] * x[i];
        mean = sqrtf(squares / (float)rule->group);
    }
    for (int i = 0; i < rule->group; i++) weights[i] = mean + fabsf(x[i]);
}

typedef struct {
    float scale, min; /* an element is about scale * code + min */
} fit;

static void round_all(const ts_min_rule *rule, const float *x, float inverse,
                      float min, uint8_t *codes)
{
    for (int i = 0; i < rule->group; i++)
        codes[i] = (uint8_t)ts_clamp(ts_round_even(inverse * (x[i] - min)), 0,
                                     rule->most);
}

static float error_of(const ts_min_rule *rule, const float *x, const float *w,
                      const uint8_t *codes, fit line)
{
    float sum = 0;
    for (int i = 0; i < rule->group; i++) {
        float off = line.scale * (float)codes[i] + line.min - x[i];
        sum += w[i] * (rule->is_absolute ? fabsf(off) : off * off);
    }
    return sum;
}

/* The weighted least-squares line through codes and elements, which meets 0
 * at or below 0.  False where all codes are alike. */
static bool fit_line(int n, const float *x, const float *w,
                     const uint8_t *codes, float sum_w, float sum_x,
                     fit *line)
{
    float l = 0, l2 = 0, xl = 0;
    for (int i = 0; i < n; i++) {
        float code = (float)codes[i];
        l += w[i] * code;
        l2 += w[i] * code * code;
        xl += w[i] * code * x[i];
    }
    float divisor = sum_w * l2 - l * l;
    if (!(divisor > 0)) return false;
    line->scale = (sum_w * xl - sum_x * l) / divisor;
    line->min = (l2 * sum_x - l * xl) / divisor;
    if (line->min > 0) *line = (fit){xl / l2, 0};
    return true;
}

float ts_search_min(const ts_min_rule *rule, const float *x, uint8_t *codes,
                    float *min)
{
    float w[32] = {0}, max = x[0];
    uint8_t trial[32];
    weigh(rule, x, w);
    fit best = {0, x[0]};
    float sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = 1; i < rule->group; i++) {
        if (x[i] < best.min) best.min = x[i];
        if (x[i] > max) max = x[i];
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    if (best.min > 0) best.min = 0;
    *min = -best.min;
    memset(codes, 0, (size_t)rule->group);
    if (max == best.min) return 0;

    float inverse = (float)rule->most / (max - best.min);
    best.scale = 1 / inverse;
    round_all(rule, x, inverse, best.min, codes);
    float least = error_of(rule, x, w, codes, best);
    for (int k = 0; k <= rule->tries; k++) {
        fit line;
        inverse = (rule->first + rule->step * (float)k + (float)rule->most)
            / (max - best.min);
        round_all(rule, x, inverse, best.min, trial);
        if (!fit_line(rule->group, x, w, trial, sum_w, sum_x, &line)) continue;
        float error = error_of(rule, x, w, trial, line);
        if (!(error < least)) continue;
        least = error;
        best = line;
        memcpy(codes, trial, (size_t)rule->group);
    }
    *min = -best.min;
    return best.scale;
}

/* ---- scale alone ------------------------------------------------------- */

/* Codes of one inverse scale, and their sums weighed by squares. */
static void try_scale(const float x[16], float inverse, int half,
                      uint8_t codes[16], float *lx, float *l2)
{
    *lx = *l2 = 0;
    for (int i = 0; i < 16; i++) {
        int code = ts_clamp(ts_round_even(inverse * x[i]), -half, half - 1);
        float w = x[i] * x[i], l = (float)code;
        codes[i] = (uint8_t)(code + half);
        *lx += w * x[i] * l;
        *l2 += w * l * l;
    }
}

float ts_search_q6(const float x[16], uint8_t codes[16])
{
    float peak = ts_peak(x, 16), lx, l2;
    uint8_t trial[16];
    memset(codes, 0, 16);
    if (fabsf(peak) < TS_GROUP_EPSILON) return 0;
    try_scale(x, -32 / peak, 32, codes, &lx, &l2);
    float scale = l2 != 0 ? lx / l2 : 0, best = scale * lx;
    for (int k = -9; k <= 9; k++) {
        if (k == 0) continue;
        try_scale(x, -(32 + 0.1f * (float)k) / peak, 32, trial, &lx, &l2);
        if (!(l2 > 0 && lx * lx > best * l2)) continue;
        memcpy(codes, trial, 16);
        scale = lx / l2;
        best = scale * lx;
    }
    return scale;
}

/* Codes are moved one at a time to where the others would have them, as long
 * as that helps, at most five times round. */
float ts_search_q3(const float x[16], uint8_t codes[16])
{
    float peak = ts_peak(x, 16), lx, l2;
    memset(codes, 0, 16);
    if (fabsf(peak) < TS_GROUP_EPSILON) return 0;
    try_scale(x, -4 / peak, 4, codes, &lx, &l2);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 16; i++) {
            float w = x[i] * x[i], l = (float)(codes[i] - 4);
            float rest_lx = lx - w * x[i] * l, rest_l2 = l2 - w * l * l;
            if (!(rest_lx > 0)) continue;
            int code = ts_clamp(ts_round_even(x[i] * rest_l2 / rest_lx), -4,
                                3);
            if (code == codes[i] - 4) continue;
            l = (float)code;
            rest_lx += w * x[i] * l;
            rest_l2 += w * l * l;
            if (!(rest_l2 > 0 && rest_lx * rest_lx * l2 > lx * lx * rest_l2))
                continue;
            codes[i] = (uint8_t)(code + 4);
            lx = rest_lx;
            l2 = rest_l2;
        }
    return l2 > 0 ? lx / l2 : 0;
}

/* ---- blocks ------------------------------------------------------------ */

#define MIN_BLOCK(stem, RULE)                                                 \
    static void stem##_block(const float x[256], uint8_t *out)                \
    {                                                                         \
        static const ts_min_rule rule = RULE;                                 \
        float scales[16], mins[16];                                           \
        uint8_t codes[32];                                                    \
        for (int k = 0; k < 256 / rule.group; k++)                            \
            scales[k] = ts_search_min(&rule, x + k * rule.group, codes,       \
                                      mins + k);                              \
        ts_finish_##stem(x, scales, mins, out);                               \
    }
MIN_BLOCK(q2_k, TS_Q2_K_RULE)
MIN_BLOCK(q4_k, TS_Q4_K_RULE)
MIN_BLOCK(q5_k, TS_Q5_K_RULE)

static void q3_k_block(const float x[256], uint8_t *out)
{
    float scales[16];
    uint8_t codes[16];
    for (int k = 0; k < 16; k++)
        scales[k] = ts_search_q3(x + 16 * k, codes);
    ts_finish_q3_k(x, scales, out);
}

static void q6_k_block(const float x[256], uint8_t *out)
{
    float scales[16];
    uint8_t codes[16];
    for (int k = 0; k < 16; k++)
        scales[k] = ts_search_q6(x + 16 * k, codes);
    ts_finish_q6_k(x, scales, out);
}

TS_BLOCK_QUANTIZER(ts_q2_k_quantize, 256, 84, q2_k_block)
TS_BLOCK_QUANTIZER(ts_q3_k_quantize, 256, 110, q3_k_block)
TS_BLOCK_QUANTIZER(ts_q4_k_quantize, 256, 144, q4_k_block)
TS_BLOCK_QUANTIZER(ts_q5_k_quantize, 256, 176, q5_k_block)
TS_BLOCK_QUANTIZER(ts_q6_k_quantize, 256, 210, q6_k_block)
