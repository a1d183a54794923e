#include "kernels.h"

/* Each table is written by the compiler from the definition of its format:
 * m mantissa bits and a bias.  A denormal is one to seven steps of
 * 2^(1 - bias - m); its leading one decides the exponent. */

#define EXPONENT(e) ((uint32_t)(127 + (e)) << 7)
#define DENORMAL(v, m, bias)                                                  \
    ((v) == 0   ? 0                                                           \
     : (v) == 1 ? EXPONENT(1 - (bias) - (m))                                  \
     : (v) <= 3 ? EXPONENT(2 - (bias) - (m)) | ((v)&1) << 6                   \
                : EXPONENT(3 - (bias) - (m)) | ((v)&3) << 5)
#define MAGNITUDE(v, m, bias)                                                 \
    ((v) < 1 << (m) ? DENORMAL(v, m, bias)                                    \
                    : ((v) << (7 - (m))) + EXPONENT(-(bias)))
#define SIGNED(x, bits) (uint16_t)(((x)&0x80) << 8 | (bits))

#define E4M3(x)                                                               \
    SIGNED(x, ((x)&0x7f) == 0x7f ? 0x7fc0 : MAGNITUDE((x)&0x7f, 3, 7))
#define E5M2(x)                                                               \
    SIGNED(x, ((x)&0x7f) > 0x7c    ? 0x7fc0                                   \
              : ((x)&0x7f) == 0x7c ? 0x7f80                                   \
                                   : MAGNITUDE((x)&0x7f, 2, 15))
#define E4M3FNUZ(x)                                                           \
    SIGNED(x, (x) == 0x80 ? 0x7fc0 : MAGNITUDE((x)&0x7f, 3, 8))
#define E5M2FNUZ(x)                                                           \
    SIGNED(x, (x) == 0x80 ? 0x7fc0 : MAGNITUDE((x)&0x7f, 2, 16))
#define E8M0(x) (uint16_t)((x) == 0 ? 0x40 : (x) == 255 ? 0x7fc0 : (x) << 7)

#define CODES4(F, x) F(x), F((x) + 1), F((x) + 2), F((x) + 3)
#define CODES16(F, x)                                                         \
    CODES4(F, x), CODES4(F, (x) + 4), CODES4(F, (x) + 8), CODES4(F, (x) + 12)
#define CODES64(F, x)                                                         \
    CODES16(F, x), CODES16(F, (x) + 16), CODES16(F, (x) + 32),                \
        CODES16(F, (x) + 48)
#define CODES256(F)                                                           \
    CODES64(F, 0u), CODES64(F, 64u), CODES64(F, 128u), CODES64(F, 192u)

const uint16_t ts_f8_e4m3_table[256] = {CODES256(E4M3)};
const uint16_t ts_f8_e5m2_table[256] = {CODES256(E5M2)};
const uint16_t ts_f8_e8m0_table[256] = {CODES256(E8M0)};
const uint16_t ts_f8_e4m3fnuz_table[256] = {CODES256(E4M3FNUZ)};
const uint16_t ts_f8_e5m2fnuz_table[256] = {CODES256(E5M2FNUZ)};
