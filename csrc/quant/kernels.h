/* kernels.h -- every conversion loop of quant/, and which variants it has.
 *
 * A decoder turns its type into F32, an encoder F32 into its type, a cast one
 * plain type into another as C does.  ALL means that <name>_avx2 and
 * <name>_avx512 stand beside <name>, NARROW and WIDE that only the former or
 * the latter does, ONE that the plain loop is all there is. */
#ifndef TS_QUANT_KERNELS_H
#define TS_QUANT_KERNELS_H

#include "quant.h"

/* The type's symbol, the kernel's stem, its variants. */
#define TS_DECODER_MAP(XX)                                                    \
    XX(F4, f4, WIDE)                                                          \
    XX(F6_E2M3, f6_e2m3, ONE)                                                 \
    XX(F6_E3M2, f6_e3m2, ONE)                                                 \
    XX(F8_E4M3, f8_e4m3, ALL)                                                 \
    XX(F8_E5M2, f8_e5m2, ALL)                                                 \
    XX(F8_E8M0, f8_e8m0, WIDE)                                                \
    XX(F8_E4M3FNUZ, f8_e4m3fnuz, ALL)                                         \
    XX(F8_E5M2FNUZ, f8_e5m2fnuz, ALL)                                         \
    XX(F16, f16, ALL)                                                         \
    XX(BF16, bf16, ALL)                                                       \
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
    XX(MXFP4, mxfp4, ALL)                                                     \
    XX(NVFP4, nvfp4, ALL)                                                     \
    XX(TQ1_0, tq1_0, WIDE)                                                    \
    XX(TQ2_0, tq2_0, ALL)                                                     \
    XX(Q1_0, q1_0, WIDE)                                                      \
    XX(Q2_0, q2_0, WIDE)                                                      \
    XX(IQ1_S, iq1_s, NARROW)                                                  \
    XX(IQ1_M, iq1_m, NARROW)                                                  \
    XX(IQ2_XXS, iq2_xxs, NARROW)                                              \
    XX(IQ2_XS, iq2_xs, NARROW)                                                \
    XX(IQ2_S, iq2_s, NARROW)                                                  \
    XX(IQ3_XXS, iq3_xxs, NARROW)                                              \
    XX(IQ3_S, iq3_s, NARROW)

#define TS_ENCODER_MAP(XX)                                                    \
    XX(F8_E4M3, f8_e4m3, ALL)                                                 \
    XX(F8_E5M2, f8_e5m2, ALL)                                                 \
    XX(F8_E8M0, f8_e8m0, ONE)                                                 \
    XX(F8_E4M3FNUZ, f8_e4m3fnuz, ALL)                                         \
    XX(F8_E5M2FNUZ, f8_e5m2fnuz, ALL)                                         \
    XX(F16, f16, ALL)                                                         \
    XX(BF16, bf16, ALL)

#define TS_CONVERT_KERNEL(name)                                               \
    void name(const uint8_t *in, uint8_t *out, size_t count)

#define XX(symbol, stem, variants)                                            \
    TS_CONVERT_KERNEL(ts_##stem##_decode);                                    \
    TS_CONVERT_KERNEL(ts_##stem##_decode_avx2);                               \
    TS_CONVERT_KERNEL(ts_##stem##_decode_avx512);
TS_DECODER_MAP(XX)
#undef XX

#define XX(symbol, stem, variants)                                            \
    TS_CONVERT_KERNEL(ts_##stem##_encode);                                    \
    TS_CONVERT_KERNEL(ts_##stem##_encode_avx2);                               \
    TS_CONVERT_KERNEL(ts_##stem##_encode_avx512);
TS_ENCODER_MAP(XX)
#undef XX

/* BOOL, the integers, F32 and F64 among each other.  NULL for any other. */
ts_convert_kernel ts_cast_kernel(ts_dtype from, ts_dtype to);

TS_CONVERT_KERNEL(ts_c64_widen);   /* to C128 */
TS_CONVERT_KERNEL(ts_c128_narrow); /* to C64 */

/* F64 to an F32 that a second rounding, to F16, cannot double. */
TS_CONVERT_KERNEL(ts_f64_round_odd);

/* F4 and F6 to one code a byte. */
TS_CONVERT_KERNEL(ts_f4_unpack);
TS_CONVERT_KERNEL(ts_f6_unpack);

/* The BF16 that equals each of the 256 codes of an F8, exactly. */
extern const uint16_t ts_f8_e4m3_table[256];
extern const uint16_t ts_f8_e5m2_table[256];
extern const uint16_t ts_f8_e8m0_table[256];
extern const uint16_t ts_f8_e4m3fnuz_table[256];
extern const uint16_t ts_f8_e5m2fnuz_table[256];

#endif
