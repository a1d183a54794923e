/* f8.h -- what F32 becomes in each 8-bit float: the rules of ml_dtypes.
 *
 * Round to nearest even.  What rounds beyond the largest finite code becomes
 * `over`: an infinity where the format has one, else NaN.  The FNUZ kinds
 * have one zero and one NaN, both without a sign. */
#ifndef TS_QUANT_F8_H
#define TS_QUANT_F8_H

#include <stdbool.h>
#include <stdint.h>

#include "half.h"

typedef struct {
    uint32_t mantissa, bias; /* bits, exponent offset */
    uint32_t largest;        /* finite code */
    uint32_t over, nan;      /* codes */
    bool is_fnuz;
} ts_f8_rule;

#define TS_F8_E4M3_RULE {3, 7, 0x7e, 0x7f, 0x7f, false}
#define TS_F8_E5M2_RULE {2, 15, 0x7b, 0x7c, 0x7e, false}
#define TS_F8_E4M3FNUZ_RULE {3, 8, 0x7f, 0x80, 0x80, true}
#define TS_F8_E5M2FNUZ_RULE {2, 16, 0x7f, 0x80, 0x80, true}

/* F32 bits of the smallest normal value, and of the number whose last place
 * is the smallest denormal: adding the latter rounds a denormal. */
static inline uint32_t ts_f8_normal(ts_f8_rule rule)
{
    return (128 - rule.bias) << 23;
}

static inline uint32_t ts_f8_magic(ts_f8_rule rule)
{
    return (128 - rule.bias - rule.mantissa + 23) << 23;
}

static inline uint8_t ts_f8_of_f32(float value, ts_f8_rule rule)
{
    uint32_t bits = ts_f32_bits(value), drop = 23 - rule.mantissa;
    uint32_t sign = bits >> 24 & 0x80, code = bits & 0x7fffffff;
    bool is_nan = code > 0x7f800000;
    if (code < ts_f8_normal(rule)) {
        float sum = ts_f32_from_bits(code)
            + ts_f32_from_bits(ts_f8_magic(rule));
        code = ts_f32_bits(sum) - ts_f8_magic(rule);
    } else {
        code += (1u << (drop - 1)) - 1 + (code >> drop & 1);
        code = (code >> drop) - ((127 - rule.bias) << rule.mantissa);
    }
    if (code > rule.largest) code = is_nan ? rule.nan : rule.over;
    if (rule.is_fnuz && (code == 0 || code == 0x80)) sign = 0;
    return (uint8_t)(sign | code);
}

#endif
