#include "encode.h"
#include "nf4.h"

static float clamped(float value)
{
    return value < -1 ? -1 : value > 1 ? 1 : value;
}

/* How many of the midpoints lie below. */
static int code_of(const float middles[15], float value)
{
    int code = 0;
    while (code < 15 && middles[code] < value) code++;
    return code;
}

size_t ts_nf4_quantize(const uint8_t *in, uint8_t *out, float *scales,
                       size_t count)
{
    float middles[15], x[64];
    size_t done = 0;
    ts_nf4_midpoints(middles);
    for (; done < count && ts_take_finite(in, x, 64); done += 64) {
        float most = fabsf(ts_peak(x, 64));
        float inverse = 1 / (most > TS_NF4_LEAST ? most : TS_NF4_LEAST);
        for (int j = 0; j < 32; j++) {
            int high = code_of(middles, clamped(x[2 * j] * inverse));
            int low = code_of(middles, clamped(x[2 * j + 1] * inverse));
            out[j] = (uint8_t)(high << 4 | low);
        }
        *scales++ = most;
        in += 4 * 64;
        out += 32;
    }
    return done;
}

/* Here the rule divides, stores the magnitude it divided by, and gives an odd
 * last element the code of 0 for company. */
bool ts_nf4_quantize_rest(const uint8_t *in, uint8_t *out, float *scale,
                          size_t count)
{
    float middles[15], x[64] = {0};
    if (!ts_take_finite(in, x, (int)count)) return false;
    float most = fabsf(ts_peak(x, (int)count));
    *scale = most > TS_NF4_LEAST ? most : TS_NF4_LEAST;
    ts_nf4_midpoints(middles);
    for (size_t j = 0; j < (count + 1) / 2; j++) {
        int high = code_of(middles, clamped(x[2 * j] / *scale));
        int low = code_of(middles, clamped(x[2 * j + 1] / *scale));
        out[j] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void ts_nf4_decode(const uint8_t *in, const float *scales, float *out,
                   size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int code = in[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15;
        out[i] = ts_nf4_values[code] * scales[i / TS_NF4_BLOCK];
    }
}

/* ---- scales of scales -------------------------------------------------- */

/* As code_of, among 256. */
static uint8_t nested_code(float value)
{
    int code = 0;
    for (int step = 128; step > 0; step /= 2) {
        float middle = (ts_dynamic_map[code + step - 1]
                        + ts_dynamic_map[code + step])
            / 2;
        if (middle < value) code += step;
    }
    return (uint8_t)code;
}

void ts_nested_encode(const float *scales, size_t count, float mean,
                      uint8_t *codes, float *nested)
{
    for (size_t start = 0; start < count; start += TS_NESTED_BLOCK) {
        size_t n = count - start < TS_NESTED_BLOCK ? count - start
                                                   : TS_NESTED_BLOCK;
        float most = 0;
        for (size_t i = start; i < start + n; i++)
            most = fmaxf(most, fabsf(scales[i] - mean));
        float divisor = most > TS_NF4_LEAST ? most : TS_NF4_LEAST;
        /* Of a last, shorter block the divisor itself is stored. */
        bool is_whole = n == TS_NESTED_BLOCK;
        *nested++ = is_whole ? most : divisor;
        for (size_t i = start; i < start + n; i++) {
            float less = scales[i] - mean;
            float value = is_whole ? less * (1 / divisor) : less / divisor;
            codes[i] = nested_code(clamped(value));
        }
    }
}

void ts_nested_decode(const uint8_t *codes, const float *nested, float mean,
                      float *scales, size_t count)
{
    for (size_t i = 0; i < count; i++)
        scales[i]
            = ts_dynamic_map[codes[i]] * nested[i / TS_NESTED_BLOCK] + mean;
}
