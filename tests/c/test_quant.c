#include "check.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base.h"
#include "quant/quant.h"

/* ---- helpers ----------------------------------------------------------- */

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(draw() >> 24);
}

/* A NaN equals a NaN: which one comes out of a block is not promised. */
static bool same_value(ts_dtype dtype, const uint8_t *a, const uint8_t *b)
{
    size_t width = ts_dtype_block_size(dtype);
    if (memcmp(a, b, width) == 0) return true;
    float x[2];
    double y[2];
    uint16_t h[2];
    memcpy(h, a, sizeof h[0]);
    memcpy(h + 1, b, sizeof h[0]);
    switch (dtype) {
    case TS_F32:
        memcpy(x, a, 4);
        memcpy(x + 1, b, 4);
        return isnan(x[0]) && isnan(x[1]);
    case TS_F64:
        memcpy(y, a, 8);
        memcpy(y + 1, b, 8);
        return isnan(y[0]) && isnan(y[1]);
    case TS_F16: return (h[0] & 0x7fff) > 0x7c00 && (h[1] & 0x7fff) > 0x7c00;
    case TS_BF16: return (h[0] & 0x7fff) > 0x7f80 && (h[1] & 0x7fff) > 0x7f80;
    default: return false;
    }
}

enum { ROOM = 1 << 16, CANARY = 64 };

/* Convert `count` elements with the output between two runs of canaries and
 * the input at an odd address, ending where its memory ends, so that the
 * sanitizer sees a byte read too far. */
static void run_guarded(const ts_convert *convert, const uint8_t *bytes,
                        size_t count, size_t width, uint8_t *out)
{
    size_t in_size = count / ts_dtype_block_count(convert->from)
        * ts_dtype_block_size(convert->from);
    uint8_t *in = malloc(in_size + 1);
    uint8_t *guarded = malloc(count * width + 2 * CANARY);
    memcpy(in + 1, bytes, in_size);
    memset(guarded, 0xa5, count * width + 2 * CANARY);
    ts_convert_run(convert, in + 1, guarded + CANARY, count);
    for (size_t i = 0; i < CANARY; i++)
        CHECK(guarded[i] == 0xa5
                  && guarded[CANARY + count * width + i] == 0xa5,
              "%s to %s wrote outside, count %zu",
              ts_dtype_name(convert->from), ts_dtype_name(convert->to), count);
    memcpy(out, guarded + CANARY, count * width);
    free(in);
    free(guarded);
}

static void compare_levels(ts_dtype from, ts_dtype to, size_t count)
{
    static uint8_t in[ROOM], want[ROOM], got[ROOM];
    size_t width = ts_dtype_block_size(to);
    ts_convert convert;
    fill(in, sizeof in);
    CHECK_OK(ts_convert_find_at(from, to, TS_SIMD_SCALAR, &convert, error));
    run_guarded(&convert, in, count, width, want);
    for (int level = TS_SIMD_AVX2; level <= (int)ts_cpu_simd(); level++) {
        CHECK_OK(ts_convert_find_at(from, to, (ts_simd)level, &convert,
                                    error));
        run_guarded(&convert, in, count, width, got);
        for (size_t i = 0; i < count; i++)
            CHECK(same_value(to, want + i * width, got + i * width),
                  "%s to %s, %s, element %zu of %zu", ts_dtype_name(from),
                  ts_dtype_name(to), ts_simd_name((ts_simd)level), i, count);
    }
}

static bool is_known(ts_dtype from, ts_dtype to)
{
    ts_convert convert;
    return from != to && to <= TS_F64
        && ts_dtype_class_of(to) != TS_CLASS_PACKED
        && ts_convert_find(from, to, &convert, NULL) == TS_OK;
}

/* One value of `to` made of the first block of `bytes`. */
static double value_at(ts_dtype from, const void *bytes, size_t index)
{
    double out[256];
    ts_convert convert;
    CHECK_OK(ts_convert_find(from, TS_F64, &convert, error));
    ts_convert_run(&convert, bytes, (uint8_t *)out,
                   ts_dtype_block_count(from));
    return out[index];
}

/* ---- conversion -------------------------------------------------------- */

static void every_level_agrees_on_every_tail(void)
{
    for (int from = 0; from <= TS_F64; from++)
        for (int to = 0; to <= TS_F64; to++) {
            if (!is_known((ts_dtype)from, (ts_dtype)to)) continue;
            size_t step = ts_dtype_block_count((ts_dtype)from);
            for (size_t count = 0; count <= 130; count += step)
                compare_levels((ts_dtype)from, (ts_dtype)to, count);
        }
}

static void every_level_agrees_on_every_block(void)
{
    static const ts_dtype targets[] = {TS_F32, TS_F16, TS_BF16, TS_F64};
    for (int from = TS_C128 + 1; from < TS_DTYPE_COUNT; from++)
        for (size_t t = 0; t < 4; t++) {
            if (!is_known((ts_dtype)from, targets[t])) continue;
            size_t step = ts_dtype_block_count((ts_dtype)from);
            for (size_t blocks = 0; blocks <= 13; blocks++)
                compare_levels((ts_dtype)from, targets[t], blocks * step);
        }
}

static void tiles_join_without_a_seam(void)
{
    compare_levels(TS_BF16, TS_F16, 4095);
    compare_levels(TS_BF16, TS_F16, 4096);
    compare_levels(TS_F8_E4M3, TS_F64, 2049);
    compare_levels(TS_Q4_K, TS_BF16, 2048 + 256);
    compare_levels(TS_NVFP4, TS_F16, 2048 + 64);
}

static void legacy_blocks_are_what_the_layout_says(void)
{
    /* d = 0.5 (0x3800), m = 3 (0x4200) */
    uint8_t q4_0[18] = {0x00, 0x38, 0x9f, 0x30};
    CHECK(value_at(TS_Q4_0, q4_0, 0) == 0.5 * (15 - 8));
    CHECK(value_at(TS_Q4_0, q4_0, 16) == 0.5 * (9 - 8));
    CHECK(value_at(TS_Q4_0, q4_0, 1) == 0.5 * (0 - 8));
    CHECK(value_at(TS_Q4_0, q4_0, 17) == 0.5 * (3 - 8));

    uint8_t q4_1[20] = {0x00, 0x38, 0x00, 0x42, 0x2b};
    CHECK(value_at(TS_Q4_1, q4_1, 0) == 0.5 * 11 + 3);
    CHECK(value_at(TS_Q4_1, q4_1, 16) == 0.5 * 2 + 3);

    /* high bits of elements 0 and 17 */
    uint8_t q5_0[22] = {0x00, 0x38, 0x01, 0x00, 0x02, 0x00, 0x21, 0x43};
    CHECK(value_at(TS_Q5_0, q5_0, 0) == 0.5 * (17 - 16));
    CHECK(value_at(TS_Q5_0, q5_0, 16) == 0.5 * (2 - 16));
    CHECK(value_at(TS_Q5_0, q5_0, 17) == 0.5 * (20 - 16));

    uint8_t q5_1[24] = {0x00, 0x38, 0x00, 0x42, 0x01, 0x00,
                        0x02, 0x00, 0x21, 0x43};
    CHECK(value_at(TS_Q5_1, q5_1, 0) == 0.5 * 17 + 3);
    CHECK(value_at(TS_Q5_1, q5_1, 17) == 0.5 * 20 + 3);

    uint8_t q8_0[34] = {0x00, 0x38, 0x80, 0x7f};
    CHECK(value_at(TS_Q8_0, q8_0, 0) == 0.5 * -128);
    CHECK(value_at(TS_Q8_0, q8_0, 1) == 0.5 * 127);
}

static void k_blocks_are_what_the_layout_says(void)
{
    /* Scale 3, minimum 2 in group 1 (elements 16-31); element 32 + 17 has
     * code 1, in bits 2-3 of byte 17; it is in group 3. */
    uint8_t q2_k[84] = {[1] = 0x23, [3] = 0x15, [16 + 17] = 0x07};
    q2_k[81] = 0x38, q2_k[83] = 0x3c; /* d = 0.5, dmin = 1 */
    CHECK(value_at(TS_Q2_K, q2_k, 17) == 0.5 * 3 * 3 - 2);
    CHECK(value_at(TS_Q2_K, q2_k, 18) == -2);
    CHECK(value_at(TS_Q2_K, q2_k, 49) == 0.5 * 5 * 1 - 1);

    /* Group 0: scale 33 - 32; element 0 has low 2 and its high bit. */
    uint8_t q3_k[110] = {[0] = 0x01, [32] = 0x02, [96] = 0x01, [104] = 0x02};
    q3_k[109] = 0x38;
    CHECK(value_at(TS_Q3_K, q3_k, 0) == 0.5 * 1 * 2);
    CHECK(value_at(TS_Q3_K, q3_k, 1) == 0.5 * 1 * -4);
    CHECK(value_at(TS_Q3_K, q3_k, 255) == 0.5 * -32 * -4);

    /* Group 0: scale 5, minimum 7; group 4: scale 0x21, minimum 0x12. */
    uint8_t q4_k[144] = {0x00, 0x38, 0x00, 0x3c, 0x85, [8] = 0x47,
                         [12] = 0x21, [16] = 0x0b, [80] = 0x03};
    CHECK(value_at(TS_Q4_K, q4_k, 0) == 0.5 * 5 * 11 - 7);
    CHECK(value_at(TS_Q4_K, q4_k, 128) == 0.5 * 0x21 * 3 - 0x12);

    /* The same with the fifth bit of element 0 and of element 128. */
    uint8_t q5_k[176] = {0x00, 0x38, 0x00, 0x3c, 0x85, [8] = 0x47,
                         [12] = 0x21, [16] = 0x11, [48] = 0x0b, [112] = 0x03};
    CHECK(value_at(TS_Q5_K, q5_k, 0) == 0.5 * 5 * 27 - 7);
    CHECK(value_at(TS_Q5_K, q5_k, 128) == 0.5 * 0x21 * 19 - 0x12);

    /* Element 0: low 3, high 2; element 64 + 32: low 9, high 1. */
    uint8_t q6_k[210] = {[0] = 0x03, [32] = 0x90, [128] = 0x42};
    q6_k[192] = 0xfe, q6_k[198] = 0x03, q6_k[209] = 0x38;
    CHECK(value_at(TS_Q6_K, q6_k, 0) == 0.5 * -2 * (0x23 - 32));
    CHECK(value_at(TS_Q6_K, q6_k, 96) == 0.5 * 3 * (0x19 - 32));
}

static void lookup_blocks_are_what_the_layout_says(void)
{
    uint8_t iq4_nl[18] = {0x00, 0x38, 0xf0};
    CHECK(value_at(TS_IQ4_NL, iq4_nl, 0) == 0.5 * -127);
    CHECK(value_at(TS_IQ4_NL, iq4_nl, 16) == 0.5 * 113);

    /* Group 1: low scale bits 3, high bits 2: 0x23 - 32 = 3. */
    uint8_t iq4_xs[136] = {0x00, 0x38, 0x08, 0x00, 0x30, [24] = 0x81};
    CHECK(value_at(TS_IQ4_XS, iq4_xs, 32) == 0.5 * 3 * -104);
    CHECK(value_at(TS_IQ4_XS, iq4_xs, 48) == 0.5 * 3 * 1);

    /* Code 8 is +0 and not -0, though 15 is -6. */
    uint8_t mxfp4[17] = {128, 0xf8, 0x13};
    CHECK(value_at(TS_MXFP4, mxfp4, 0) == 0
          && !signbit(value_at(TS_MXFP4, mxfp4, 0)));
    CHECK(value_at(TS_MXFP4, mxfp4, 16) == 2 * -6);
    CHECK(value_at(TS_MXFP4, mxfp4, 1) == 2 * 1.5);
    CHECK(value_at(TS_MXFP4, mxfp4, 17) == 2 * 0.5);
    mxfp4[0] = 0;
    CHECK(value_at(TS_MXFP4, mxfp4, 1) == 0x1.8p-127);

    /* Scales 1 (0x38), 1.5 (0x3c), none (0x7f), the smallest (1). */
    uint8_t nvfp4[36] = {0x38, 0x3c, 0x7f, 0x01, [4] = 0x72, [12] = 0x82,
                         [20] = 0x11, [28] = 0x02};
    CHECK(value_at(TS_NVFP4, nvfp4, 0) == 1);
    CHECK(value_at(TS_NVFP4, nvfp4, 8) == 6);
    CHECK(value_at(TS_NVFP4, nvfp4, 16) == 1.5);
    CHECK(!signbit(value_at(TS_NVFP4, nvfp4, 24)));
    CHECK(value_at(TS_NVFP4, nvfp4, 32) == 0);
    CHECK(value_at(TS_NVFP4, nvfp4, 48) == 0x1p-9);
}

static void ternary_blocks_are_what_the_layout_says(void)
{
    /* 2 at the front of five digits: 2 * 81 of 243, as a fraction of 256. */
    uint8_t tq1_0[54] = {[0] = (2 * 81 * 256 + 242) / 243, [53] = 0x38};
    CHECK(value_at(TS_TQ1_0, tq1_0, 0) == 0.5);
    CHECK(value_at(TS_TQ1_0, tq1_0, 32) == -0.5);

    uint8_t tq2_0[66] = {[0] = 0x24, [65] = 0x38};
    CHECK(value_at(TS_TQ2_0, tq2_0, 0) == -0.5);
    CHECK(value_at(TS_TQ2_0, tq2_0, 32) == 0);
    CHECK(value_at(TS_TQ2_0, tq2_0, 64) == 0.5);

    uint8_t q1_0[18] = {0x00, 0x38, 0x02};
    CHECK(value_at(TS_Q1_0, q1_0, 0) == -0.5);
    CHECK(value_at(TS_Q1_0, q1_0, 1) == 0.5);

    uint8_t q2_0[18] = {0x00, 0x38, 0xe4};
    CHECK(value_at(TS_Q2_0, q2_0, 0) == -0.5);
    CHECK(value_at(TS_Q2_0, q2_0, 1) == 0);
    CHECK(value_at(TS_Q2_0, q2_0, 3) == 1);
}

static void codebook_blocks_are_what_the_layout_says(void)
{
    /* Entry 1 of the book is value 2 (43) and seven times value 0 (8); one
     * stored sign makes the eighth; scale (0.5 + 2) / 4. */
    uint8_t iq2_xxs[66] = {0x00, 0x38, 0x01, [6] = 0x01, [9] = 0x20};
    CHECK(value_at(TS_IQ2_XXS, iq2_xxs, 0) == 0.5 * 2.5 / 4 * -43);
    CHECK(value_at(TS_IQ2_XXS, iq2_xxs, 1) == 0.5 * 2.5 / 4 * 8);
    CHECK(value_at(TS_IQ2_XXS, iq2_xxs, 7) == 0.5 * 2.5 / 4 * -8);

    /* Sign 1 of elements 8-15, scale 1 + 2 * 3 of elements 32-63. */
    uint8_t iq3_s[110] = {0x00, 0x38, [75] = 0x02, [106] = 0x30};
    CHECK(value_at(TS_IQ3_S, iq3_s, 8) == 0.5);
    CHECK(value_at(TS_IQ3_S, iq3_s, 9) == -0.5);
    CHECK(value_at(TS_IQ3_S, iq3_s, 32) == 0.5 * 7);

    /* Entry 0 is eight times -1; group 1 has scale 3 and goes down. */
    uint8_t iq1_s[50] = {0x00, 0x38, [37] = 0x90};
    CHECK(value_at(TS_IQ1_S, iq1_s, 0) == 0.5 * -0.875);
    CHECK(value_at(TS_IQ1_S, iq1_s, 32) == 0.5 * 3 * -1.125);
}

static void small_floats_are_what_their_names_say(void)
{
    uint8_t code;
#define F8(dtype, x) (code = (x), value_at(dtype, &code, 0))
    CHECK(F8(TS_F8_E4M3, 0x38) == 1 && F8(TS_F8_E4M3, 0x7e) == 448);
    CHECK(F8(TS_F8_E4M3, 0x81) == -0x1p-9 && isnan(F8(TS_F8_E4M3, 0x7f)));
    CHECK(F8(TS_F8_E5M2, 0x3c) == 1 && F8(TS_F8_E5M2, 0x7b) == 57344);
    CHECK(F8(TS_F8_E5M2, 0x03) == 0x3p-16 && isinf(F8(TS_F8_E5M2, 0xfc)));
    CHECK(F8(TS_F8_E8M0, 0) == 0x1p-127 && F8(TS_F8_E8M0, 254) == 0x1p127);
    CHECK(F8(TS_F8_E4M3FNUZ, 0x40) == 1 && F8(TS_F8_E4M3FNUZ, 0x7f) == 240);
    CHECK(isnan(F8(TS_F8_E4M3FNUZ, 0x80)));
    CHECK(F8(TS_F8_E5M2FNUZ, 0x40) == 1);
    CHECK(F8(TS_F8_E5M2FNUZ, 0x7f) == 57344);
    CHECK(isnan(F8(TS_F8_E5M2FNUZ, 0x80)));
#undef F8
    const uint8_t f4[1] = {0x9f};
    CHECK(value_at(TS_F4, f4, 0) == -6 && value_at(TS_F4, f4, 1) == -0.5);
    /* codes 0x1f, 0x21, 0x08, 0x3f, six bits each from the lowest */
    const uint8_t f6[3] = {0x5f, 0x88, 0xfc};
    CHECK(value_at(TS_F6_E2M3, f6, 0) == 7.5);
    CHECK(value_at(TS_F6_E2M3, f6, 1) == -0.125);
    CHECK(value_at(TS_F6_E2M3, f6, 2) == 1);
    CHECK(value_at(TS_F6_E2M3, f6, 3) == -7.5);
    CHECK(value_at(TS_F6_E3M2, f6, 0) == 28);
    CHECK(value_at(TS_F6_E3M2, f6, 1) == -0.0625);
    CHECK(value_at(TS_F6_E3M2, f6, 2) == 0.5);
}

static uint32_t encode(ts_dtype from, const void *value, ts_dtype to)
{
    uint32_t out = 0;
    ts_convert convert;
    CHECK_OK(ts_convert_find(from, to, &convert, error));
    ts_convert_run(&convert, value, (uint8_t *)&out, 1);
    return out;
}

static void narrowing_rounds_once_to_nearest_even(void)
{
#define F32_TO(to, x) encode(TS_F32, &(float){x}, to)
#define F64_TO(to, x) encode(TS_F64, &(double){x}, to)
    CHECK(F32_TO(TS_F16, 65519.996f) == 0x7bff);
    CHECK(F32_TO(TS_F16, 65520) == 0x7c00);
    CHECK(F32_TO(TS_F16, 0x1p-25f) == 0 && F32_TO(TS_F16, 0x3p-26f) == 1);
    CHECK(F32_TO(TS_F16, 0x1.ffep-15f) == 0x0400);
    CHECK(F32_TO(TS_F16, -1 - 0x1p-11f) == 0xbc00);
    CHECK(F32_TO(TS_F16, -1 - 0x3p-11f) == 0xbc02);
    /* Through F32 the last bit would be lost and the tie go down. */
    CHECK(F64_TO(TS_F16, 1 + 0x1p-11 + 0x1p-40) == 0x3c01);
    CHECK(F64_TO(TS_F16, 1e300) == 0x7c00);
    CHECK(F64_TO(TS_F16, -1e-300) == 0x8000);
    CHECK(F32_TO(TS_BF16, 1 + 0x1p-8f) == 0x3f80);
    CHECK(F32_TO(TS_BF16, 1 + 0x3p-8f) == 0x3f82);
    CHECK(F32_TO(TS_BF16, 0x1.fffffep127f) == 0x7f80);
    uint32_t quiet_me = 0x7f800001;
    CHECK(encode(TS_F32, &quiet_me, TS_BF16) == 0x7fc0);
    CHECK(encode(TS_F32, &quiet_me, TS_F16) == 0x7e00);
    CHECK(F32_TO(TS_F8_E4M3, 464) == 0x7e && F32_TO(TS_F8_E4M3, 465) == 0x7f);
    CHECK(F32_TO(TS_F8_E5M2, 61440) == 0x7c);
    CHECK(F32_TO(TS_F8_E4M3FNUZ, -1e-9f) == 0);
    CHECK(F32_TO(TS_F8_E4M3FNUZ, INFINITY) == 0x80);
    CHECK(F32_TO(TS_F8_E8M0, 3) == 129 && F32_TO(TS_F8_E8M0, 0) == 255);
}

static void floats_out_of_range_become_what_x86_makes_of_them(void)
{
    CHECK(F32_TO(TS_I32, 3e9f) == 0x80000000u);
    CHECK(F32_TO(TS_I32, NAN) == 0x80000000u);
    CHECK(F32_TO(TS_I32, -1.9f) == 0xffffffffu);
    CHECK(F32_TO(TS_U8, 300) == 44 && F32_TO(TS_U8, -1) == 255);
    CHECK(F32_TO(TS_U8, 1e20f) == 0);
    CHECK(F64_TO(TS_U32, 4294967295.9) == 0xffffffffu);
    CHECK(F64_TO(TS_I32, -2147483648.9) == 0x80000000u);
    CHECK(F32_TO(TS_BOOL, NAN) == 1 && F32_TO(TS_BOOL, -0.0f) == 0);
    CHECK(encode(TS_BOOL, &(uint8_t){7}, TS_U8) == 1);
    CHECK(encode(TS_I8, &(int8_t){-1}, TS_U32) == 0xffffffffu);
#undef F32_TO
#undef F64_TO
}

static void packed_codes_come_apart(void)
{
    const uint8_t f4[2] = {0x21, 0x43}, f6[3] = {0x5f, 0x88, 0xfc};
    uint8_t out[4];
    ts_convert convert;
    CHECK_OK(ts_convert_unpack(TS_F4, &convert, error));
    ts_convert_run(&convert, f4, out, 4);
    CHECK(memcmp(out, (uint8_t[]){1, 2, 3, 4}, 4) == 0);
    CHECK_OK(ts_convert_unpack(TS_F6_E3M2, &convert, error));
    ts_convert_run(&convert, f6, out, 4);
    CHECK(memcmp(out, (uint8_t[]){0x1f, 0x21, 0x08, 0x3f}, 4) == 0);
    CHECK_FAILS(ts_convert_unpack(TS_F32, &convert, error), TS_UNSUPPORTED,
                "F32 is not a packed type");
}

static void the_same_type_is_copied(void)
{
    uint8_t in[292], out[292];
    fill(in, sizeof in);
    for (int i = 0; i < TS_DTYPE_COUNT; i++) {
        ts_dtype dtype = (ts_dtype)i;
        ts_convert convert;
        CHECK_OK(ts_convert_find(dtype, dtype, &convert, error));
        CHECK(convert.first == NULL);
        memset(out, 0, sizeof out);
        ts_convert_run(&convert, in, out, ts_dtype_block_count(dtype));
        CHECK(memcmp(in, out, ts_dtype_block_size(dtype)) == 0);
    }
}

static void complex_numbers_stay_complex(void)
{
    const float in[4] = {1, -2, 3.5f, INFINITY};
    double out[4];
    float back[4];
    ts_convert convert;
    CHECK_OK(ts_convert_find(TS_C64, TS_C128, &convert, error));
    ts_convert_run(&convert, (const uint8_t *)in, (uint8_t *)out, 2);
    CHECK(out[0] == 1 && out[1] == -2 && out[2] == 3.5 && isinf(out[3]));
    CHECK_OK(ts_convert_find(TS_C128, TS_C64, &convert, error));
    ts_convert_run(&convert, (const uint8_t *)out, (uint8_t *)back, 2);
    CHECK(memcmp(in, back, sizeof in) == 0);
    CHECK_FAILS(ts_convert_find(TS_C64, TS_F32, &convert, error),
                TS_UNSUPPORTED, "no conversion from C64 to F32");
}

static void what_cannot_be_done_is_refused_by_name(void)
{
    ts_convert convert;
    CHECK_FAILS(ts_convert_find(TS_Q8_K, TS_F32, &convert, error),
                TS_UNSUPPORTED, "no conversion from Q8_K to F32");
    CHECK_FAILS(ts_convert_find(TS_F32, TS_Q4_0, &convert, error),
                TS_UNSUPPORTED, "no conversion from F32 to Q4_0");
    CHECK_FAILS(ts_convert_find(TS_Q4_0, TS_I32, &convert, error),
                TS_UNSUPPORTED, "no conversion from Q4_0 to I32");
    CHECK_FAILS(ts_convert_find(TS_F64, TS_F4, &convert, error),
                TS_UNSUPPORTED, "no conversion from F64 to F4");
}

static void bytes_swap_in_place(void)
{
    uint8_t bytes[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    ts_swap_bytes(bytes + 1, 2, 2);
    CHECK(memcmp(bytes, (uint8_t[]){1, 3, 2, 5, 4, 6, 7, 8, 9}, 9) == 0);
    ts_swap_bytes(bytes + 1, 2, 4);
    CHECK(memcmp(bytes, (uint8_t[]){1, 4, 5, 2, 3, 9, 8, 7, 6}, 9) == 0);
    ts_swap_bytes(bytes, 1, 8);
    CHECK(memcmp(bytes, (uint8_t[]){7, 8, 9, 3, 2, 5, 4, 1, 6}, 9) == 0);
}

/* ---- statistics -------------------------------------------------------- */

/* One value at a time, and a sum in long double: what the fast loops must
 * come close to, and agree with in everything else. */
static void check_stats(ts_dtype dtype, const uint8_t *in, size_t count,
                        const ts_stats *got)
{
    ts_stats want;
    long double sum = 0, magnitudes = 0;
    ts_stats_begin(&want);
    for (size_t i = 0; i < count; i++) {
        double x = value_at(dtype, in + i * ts_dtype_block_size(dtype), 0);
        want.nan_count += isnan(x) != 0;
        want.inf_count += isinf(x) != 0;
        if (!isfinite(x)) continue;
        want.min = fmin(want.min, x);
        want.max = fmax(want.max, x);
        sum += x;
        magnitudes += fabs(x);
    }
    CHECK(got->count == count);
    CHECK(got->nan_count == want.nan_count && got->inf_count == want.inf_count,
          "%s of %zu: %llu NaN, want %llu", ts_dtype_name(dtype), count,
          (unsigned long long)got->nan_count,
          (unsigned long long)want.nan_count);
    CHECK(got->min == want.min && got->max == want.max, "%s of %zu: %g %g",
          ts_dtype_name(dtype), count, got->min, got->max);
    long double off = (long double)got->sum + got->carry - sum;
    CHECK(fabsl(off) <= 1.2e-7L * magnitudes, "%s of %zu: off by %Lg of %Lg",
          ts_dtype_name(dtype), count, off, magnitudes);
}

static void compare_stats(ts_dtype dtype, const uint8_t *in, size_t count)
{
    ts_stats plain, fast;
    size_t size = count * ts_dtype_block_size(dtype);
    uint8_t *odd = malloc(size + 1);
    memcpy(odd + 1, in, size);
    ts_stats_begin(&plain);
    CHECK_OK(ts_stats_add_at(&plain, dtype, TS_SIMD_SCALAR, odd + 1, count,
                             error));
    check_stats(dtype, in, count, &plain);
    for (int level = TS_SIMD_AVX2; level <= (int)ts_cpu_simd(); level++) {
        ts_stats_begin(&fast);
        CHECK_OK(ts_stats_add_at(&fast, dtype, (ts_simd)level, odd + 1, count,
                                 error));
        CHECK(memcmp(&plain, &fast, sizeof plain) == 0,
              "%s of %zu at %s: sum %.17g, want %.17g", ts_dtype_name(dtype),
              count, ts_simd_name((ts_simd)level), fast.sum, plain.sum);
    }
    free(odd);
}

static bool has_stats(ts_dtype dtype)
{
    ts_dtype_class class = ts_dtype_class_of(dtype);
    return class == TS_CLASS_BOOL || class == TS_CLASS_UINT
        || class == TS_CLASS_INT || class == TS_CLASS_FLOAT;
}

static void statistics_agree_on_every_tail(void)
{
    static uint8_t in[8 * 3200];
    for (int i = 0; i < TS_DTYPE_COUNT; i++) {
        if (!has_stats((ts_dtype)i)) continue;
        fill(in, sizeof in);
        /* F64s of all sizes overflow their sum; that has its own test. */
        for (size_t k = 7; i == TS_F64 && k < sizeof in; k += 8) in[k] &= 0xbf;
        for (size_t count = 0; count <= 130; count++)
            compare_stats((ts_dtype)i, in, count);
        compare_stats((ts_dtype)i, in, 3195);
    }
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void statistics_agree_on_calm_stretches(void)
{
    enum { N = 9 * 1024 + 77 };
    static float f32[N];
    static uint16_t bf16[N], f16[N];
    for (int i = 0; i < N; i++) {
        f32[i] = (float)(int64_t)draw() * 0x1p-60f;
        bf16[i] = (uint16_t)(bits_of(f32[i]) >> 16);
        f16[i] = (uint16_t)(draw() % 0x7c00 | (draw() & 0x8000));
    }
    compare_stats(TS_F32, (const uint8_t *)f32, N);
    compare_stats(TS_BF16, (const uint8_t *)bf16, N);
    compare_stats(TS_F16, (const uint8_t *)f16, N);
    /* One special in the middle of a stretch, and one just too large. */
    f32[1500] = NAN, f32[4000] = 0x1p124f, f32[7000] = -INFINITY;
    bf16[1500] = 0x7fc0, bf16[4000] = 0x7d80, bf16[7000] = 0xff80;
    f16[1500] = 0x7e00, f16[7000] = 0xfc00;
    compare_stats(TS_F32, (const uint8_t *)f32, N);
    compare_stats(TS_BF16, (const uint8_t *)bf16, N);
    compare_stats(TS_F16, (const uint8_t *)f16, N);
}

/* Positive and negative values are told apart by their own loops where both
 * are there: stretches of one sign, of one value, with a single stranger. */
static void statistics_agree_whatever_the_signs(void)
{
    enum { N = 2 * 1024 };
    static const uint16_t signs[] = {0, 0x8000}, strangers[] = {
        0, 0x8000, 1, 0x8001, 0x3c00, 0xbc00, 0x7bff, 0xfbff};
    static uint16_t values[N];
    for (size_t s = 0; s < TS_COUNT_OF(signs); s++)
        for (int constant = 0; constant < 2; constant++)
            for (size_t k = 0; k < TS_COUNT_OF(strangers); k++) {
                for (int i = 0; i < N; i++)
                    values[i] = (uint16_t)((constant ? 0 : draw() % 0x7000)
                                           | signs[s]);
                values[1024 + 37 * (k + 1)] = strangers[k];
                compare_stats(TS_BF16, (const uint8_t *)values, N);
                compare_stats(TS_F16, (const uint8_t *)values, N);
            }
}

static void statistics_of_nothing_are_empty(void)
{
    ts_stats stats;
    ts_stats_begin(&stats);
    CHECK(isnan(ts_stats_mean(&stats)) && ts_stats_absmax(&stats) == 0);
    CHECK_OK(ts_stats_add(&stats, TS_F32, (const uint8_t *)"", 0, error));
    CHECK_OK(ts_stats_add(&stats, TS_I64, (const uint8_t *)"", 0, error));
    CHECK(stats.count == 0 && stats.min == INFINITY && stats.max == -INFINITY);
    const float nan = NAN;
    CHECK_OK(ts_stats_add(&stats, TS_F32, (const uint8_t *)&nan, 1, error));
    CHECK(stats.nan_count == 1 && isnan(ts_stats_mean(&stats)));
    CHECK_FAILS(ts_stats_add(&stats, TS_C64, (const uint8_t *)"", 0, error),
                TS_UNSUPPORTED, "no conversion from C64 to F32");
}

static void large_sums_stay_sums(void)
{
    enum { N = 4096 };
    static double large[N];
    static uint64_t ints[N];
    static float floats[N];
    ts_stats stats;
    for (int i = 0; i < N; i++) {
        large[i] = 1e308;
        floats[i] = 3e38f;
        ints[i] = UINT64_MAX - (uint64_t)i;
    }
    ts_stats_begin(&stats);
    CHECK_OK(ts_stats_add(&stats, TS_F64, (uint8_t *)large, N, error));
    CHECK(stats.max == 1e308 && isinf(ts_stats_mean(&stats)));
    ts_stats_begin(&stats);
    CHECK_OK(ts_stats_add(&stats, TS_F32, (uint8_t *)floats, N, error));
    CHECK(ts_stats_mean(&stats) == (double)3e38f);
    ts_stats_begin(&stats);
    CHECK_OK(ts_stats_add(&stats, TS_U64, (uint8_t *)ints, N, error));
    /* 2^12 * (2^64 - 1) - (2^12 - 1) * 2^11, to the last unit */
    CHECK((long double)stats.sum + stats.carry == 0x1p76L - 4096 - 8386560,
          "%.17g + %.17g", stats.sum, stats.carry);
}

static void merging_is_adding(void)
{
    enum { N = 5000 };
    static float values[N];
    ts_stats all, part, merged;
    for (int i = 0; i < N; i++)
        values[i] = (float)(int64_t)draw() * 0x1p-63f;
    values[3] = NAN, values[4321] = INFINITY;
    ts_stats_begin(&all);
    ts_stats_begin(&merged);
    CHECK_OK(ts_stats_add(&all, TS_F32, (uint8_t *)values, N, error));
    for (int from = 0; from < N; from += 1250) {
        ts_stats_begin(&part);
        CHECK_OK(ts_stats_add(&part, TS_F32, (uint8_t *)(values + from), 1250,
                              error));
        ts_stats_merge(&merged, &part);
    }
    CHECK(merged.count == all.count && merged.nan_count == 1
          && merged.inf_count == 1 && merged.min == all.min
          && merged.max == all.max);
    CHECK(fabs(ts_stats_mean(&merged) - ts_stats_mean(&all)) < 1e-9);
    CHECK(ts_stats_absmax(&all) == fmax(-all.min, all.max));
}

static void blocks_have_statistics(void)
{
    uint8_t blocks[3 * 18] = {0};
    ts_stats stats;
    for (int i = 0; i < 3; i++) blocks[18 * i + 1] = 0x3c; /* d = 1 */
    blocks[18 + 2] = 0xf0;
    ts_stats_begin(&stats);
    CHECK_OK(ts_stats_add(&stats, TS_Q4_0, blocks, 96, error));
    CHECK(stats.count == 96 && stats.min == -8 && stats.max == 7);
    CHECK(stats.sum == -8 * 95 + 7);
}

int main(void)
{
    RUN(every_level_agrees_on_every_tail);
    RUN(every_level_agrees_on_every_block);
    RUN(tiles_join_without_a_seam);
    RUN(legacy_blocks_are_what_the_layout_says);
    RUN(k_blocks_are_what_the_layout_says);
    RUN(lookup_blocks_are_what_the_layout_says);
    RUN(ternary_blocks_are_what_the_layout_says);
    RUN(codebook_blocks_are_what_the_layout_says);
    RUN(small_floats_are_what_their_names_say);
    RUN(narrowing_rounds_once_to_nearest_even);
    RUN(floats_out_of_range_become_what_x86_makes_of_them);
    RUN(packed_codes_come_apart);
    RUN(the_same_type_is_copied);
    RUN(complex_numbers_stay_complex);
    RUN(what_cannot_be_done_is_refused_by_name);
    RUN(bytes_swap_in_place);
    RUN(statistics_agree_on_every_tail);
    RUN(statistics_agree_on_calm_stretches);
    RUN(statistics_agree_whatever_the_signs);
    RUN(statistics_of_nothing_are_empty);
    RUN(large_sums_stay_sums);
    RUN(merging_is_adding);
    RUN(blocks_have_statistics);
    CHECK_END();
}
