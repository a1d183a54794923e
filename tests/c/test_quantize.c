#include "check.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "quant/quant.h"

/* ---- helpers ----------------------------------------------------------- */

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static float uniform(void) { return (float)(draw() >> 40) * 0x1p-24f - 0.5f; }

static bool is_finite_bits(uint32_t bits)
{
    return (bits & 0x7fffffff) < 0x7f800000;
}

enum { KINDS = 8, MOST = 4096 };

/* Finite values that make every branch of a rule likely in one kind or
 * another: weights, ties, few values, zeros, one sign, all exponents. */
static void fill(float *x, size_t count, int kind)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)draw();
        switch (kind) {
        case 0: x[i] = (uniform() + uniform() + uniform()) * 0.1f; break;
        case 1: x[i] = (float)(int)(bits % 17) / 4 - 2; break;
        case 2: x[i] = bits % 8 == 0 ? uniform() : 0; break;
        case 3: x[i] = fabsf(uniform()) + 0.25f; break;
        case 4: x[i] = -fabsf(uniform()); break;
        case 5: x[i] = i / 16 % 3 == 0 ? 0.5f : uniform() * 1e-20f; break;
        case 6: x[i] = ldexpf(uniform(), (int)(i / 256 * 37 % 250) - 126); break;
        default:
            if (!is_finite_bits(bits)) bits &= 0xbfffffff;
            memcpy(x + i, &bits, sizeof bits);
        }
    }
}

typedef struct {
    const char *scheme;
    uint64_t columns, group;
    bool has_zero;
} setting;

static const setting settings[] = {
    {"q4_0", 32, 0, false},     {"q4_1", 32, 0, false},
    {"q5_0", 32, 0, false},     {"q5_1", 32, 0, false},
    {"q8_0", 32, 0, false},     {"q2_k", 256, 0, false},
    {"q3_k", 256, 0, false},    {"q4_k", 256, 0, false},
    {"q5_k", 256, 0, false},    {"q6_k", 256, 0, false},
    {"iq4_nl", 32, 0, false},   {"iq4_xs", 256, 0, false},
    {"tq1_0", 256, 0, false},   {"tq2_0", 256, 0, false},
    {"mxfp4", 32, 0, false},    {"nvfp4", 64, 0, false},
    {"nf4", 64, 0, false},      {"nf4", 33, 0, false},
    {"int8", 96, 32, false},    {"int8", 77, TS_GROUP_ROW, true},
    {"int4", 96, 32, true},     {"int4", 77, TS_GROUP_ROW, false},
    {"int4", 75, 25, true},     {"int8", 64, TS_GROUP_TENSOR, true},
    {"int4", 33, TS_GROUP_TENSOR, false},
    {"e4m3", 100, 0, false},    {"e4m3", 100, 50, false},
    {"e5m2", 77, TS_GROUP_ROW, false},
    {"e5m2", 64, TS_GROUP_TENSOR, false},
};

static ts_quantize find(const setting *of, ts_dtype from, ts_simd level)
{
    ts_quantize how = {.columns = 0};
    CHECK_OK(ts_quantize_find_at(of->scheme, strlen(of->scheme), from,
                                 of->columns, of->group, of->has_zero, level,
                                 &how, error));
    return how;
}

/* Parts at exactly their sizes, so that the sanitizer sees a byte too far. */
typedef struct {
    ts_quantized parts;
    uint64_t codes, scales;
} made;

static made make_room(const ts_quantize *how, uint64_t rows)
{
    made room = {.codes = 0};
    CHECK(ts_quantize_sizes(how, rows, &room.codes, &room.scales));
    room.parts.codes = malloc((size_t)room.codes + 1);
    room.parts.scales = malloc((size_t)room.scales * sizeof(float) + 1);
    room.parts.zeros = malloc((size_t)room.scales + 1);
    memset(room.parts.codes, 0xa5, (size_t)room.codes + 1);
    if (how->group == TS_GROUP_TENSOR)
        ts_quantize_scale(how, -0.15, 0.125, room.parts.scales,
                          room.parts.zeros);
    return room;
}

static void free_room(made *room)
{
    free(room->parts.codes);
    free(room->parts.scales);
    free(room->parts.zeros);
}

static void check_same(const setting *of, const made *want, const made *got,
                       ts_simd level, int kind)
{
    for (uint64_t i = 0; i < want->codes; i++)
        if (want->parts.codes[i] != got->parts.codes[i]) {
            CHECK(false, "%s, %s, kind %d: byte %llu", of->scheme,
                  ts_simd_name(level), kind, (unsigned long long)i);
            return;
        }
    CHECK(got->parts.codes[got->codes] == 0xa5, "%s wrote outside",
          of->scheme);
    CHECK(memcmp(want->parts.scales, got->parts.scales,
                 (size_t)want->scales * sizeof(float))
              == 0,
          "%s, %s: scales", of->scheme, ts_simd_name(level));
    if (of->has_zero)
        CHECK(memcmp(want->parts.zeros, got->parts.zeros,
                     (size_t)want->scales)
              == 0);
}

/* The floats end where their memory ends, and begin at an odd address where
 * the door allows it. */
static void compare_levels(const setting *of, ts_dtype from, uint64_t rows,
                           int kind)
{
    static float x[MOST];
    size_t count = (size_t)(rows * of->columns);
    size_t size = count * ts_dtype_block_size(from);
    uint8_t *in = malloc(size + 1);
    ts_convert narrow;
    fill(x, count, kind);
    CHECK_OK(ts_convert_find(TS_F32, from, &narrow, error));
    double *aligned = malloc(size + sizeof *aligned);
    if (from != TS_F32) /* what overflows is no test of anything */
        for (size_t i = 0; i < count; i++) x[i] = fminf(fmaxf(x[i], -6e4f), 6e4f);
    ts_convert_run(&narrow, (const uint8_t *)x, (uint8_t *)aligned, count);
    memcpy(in + 1, aligned, size);
    ts_quantize how = find(of, from, TS_SIMD_SCALAR);
    made want = make_room(&how, rows);
    CHECK_OK(ts_quantize_run(&how, in + 1, rows, &want.parts, error));
    for (int level = TS_SIMD_AVX2; level <= (int)ts_cpu_simd(); level++) {
        how = find(of, from, (ts_simd)level);
        made got = make_room(&how, rows);
        CHECK_OK(ts_quantize_run(&how, in + 1, rows, &got.parts, error));
        check_same(of, &want, &got, (ts_simd)level, kind);
        free_room(&got);
    }
    free_room(&want);
    free(aligned);
    free(in);
}

/* ---- every level, every scheme ----------------------------------------- */

static void every_level_agrees_on_every_count_of_rows(void)
{
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++)
        for (uint64_t rows = 0; rows * settings[s].columns <= MOST;
             rows += rows < 19 ? 1 : 41)
            compare_levels(&settings[s], TS_F32, rows, 0);
}

static void every_level_agrees_on_every_kind_of_values(void)
{
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int turn = 0; turn < 4; turn++)
                compare_levels(&settings[s], TS_F32,
                               MOST / settings[s].columns, kind);
}

static void every_level_agrees_on_every_source(void)
{
    static const ts_dtype sources[] = {TS_F16, TS_BF16, TS_F64};
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++)
        for (int i = 0; i < 3; i++)
            compare_levels(&settings[s], sources[i],
                           MOST / settings[s].columns, 0);
}

static void rows_may_come_in_any_number_of_calls(void)
{
    float x[512];
    fill(x, 512, 0);
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        if (settings[s].columns == 33) continue; /* nf4 would cut a block */
        uint64_t rows = 512 / settings[s].columns, codes, scales;
        ts_quantize how = find(&settings[s], TS_F32, ts_cpu_simd());
        made whole = make_room(&how, rows), parts = make_room(&how, rows);
        CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, rows, &whole.parts,
                                 error));
        for (uint64_t row = 0; row < rows; row++) {
            ts_quantized at = parts.parts;
            CHECK(ts_quantize_sizes(&how, row, &codes, &scales));
            if (how.group == TS_GROUP_TENSOR) scales = 0;
            at.codes += codes;
            at.scales += scales;
            at.zeros += scales;
            CHECK_OK(ts_quantize_run(
                &how, (const uint8_t *)(x + row * how.columns), 1, &at,
                error));
        }
        check_same(&settings[s], &whole, &parts, ts_cpu_simd(), 0);
        free_room(&whole);
        free_room(&parts);
    }
}

static void what_was_made_is_close_to_what_came(void)
{
    static float x[MOST], back[MOST];
    fill(x, MOST, 0);
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        ts_quantize how = find(&settings[s], TS_F32, ts_cpu_simd());
        uint64_t rows = MOST / how.columns;
        made room = make_room(&how, rows);
        ts_deviation lost = {0};
        double most = 0;
        CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, rows, &room.parts,
                                 error));
        CHECK_OK(ts_dequantize_run(&how, &room.parts, rows, TS_F32,
                                   (uint8_t *)back, error));
        CHECK_OK(ts_deviation_add(&lost, &how, (const uint8_t *)x,
                                  &room.parts, rows, error));
        for (uint64_t i = 0; i < rows * how.columns; i++)
            most = fmax(most, fabs((double)x[i] - (double)back[i]));
        CHECK(fabs(most - lost.max_abs) <= 1e-6 * most, "%s",
              settings[s].scheme);
        CHECK(ts_deviation_rmse(&lost) < 0.05, "%s: rmse %g",
              settings[s].scheme, ts_deviation_rmse(&lost));
        CHECK(ts_deviation_cosine(&lost) > 0.7, "%s: cosine %g",
              settings[s].scheme, ts_deviation_cosine(&lost));
        free_room(&room);
    }
}

static void every_level_decodes_any_bytes_alike(void)
{
    static float want[MOST], got[MOST];
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        ts_quantize how = find(&settings[s], TS_F32, TS_SIMD_SCALAR);
        uint64_t rows = MOST / how.columns;
        made room = make_room(&how, rows);
        for (uint64_t i = 0; i < room.codes; i++)
            room.parts.codes[i] = (uint8_t)(draw() >> 20);
        fill(room.parts.scales, (size_t)room.scales, 7);
        memset(room.parts.zeros, 0x80, (size_t)room.scales);
        CHECK_OK(ts_dequantize_run(&how, &room.parts, rows, TS_F32,
                                   (uint8_t *)want, error));
        for (int level = TS_SIMD_AVX2; level <= (int)ts_cpu_simd(); level++) {
            how = find(&settings[s], TS_F32, (ts_simd)level);
            CHECK_OK(ts_dequantize_run(&how, &room.parts, rows, TS_F32,
                                       (uint8_t *)got, error));
            for (uint64_t i = 0; i < rows * how.columns; i++)
                CHECK(memcmp(want + i, got + i, sizeof *want) == 0
                          || (isnan(want[i]) && isnan(got[i])),
                      "%s, %s: element %llu", settings[s].scheme,
                      ts_simd_name((ts_simd)level), (unsigned long long)i);
        }
        free_room(&room);
    }
}

/* Each count of elements that ends within a block, from memory that ends with
 * them. */
static void every_level_decodes_every_tail_of_nf4(void)
{
    for (uint64_t count = 1; count < 200; count++) {
        setting of = {"nf4", count, 0, false};
        ts_quantize how = find(&of, TS_F32, TS_SIMD_SCALAR);
        made room = make_room(&how, 1);
        size_t size = (size_t)count * sizeof(float);
        float *want = malloc(size), *got = malloc(size);
        for (uint64_t i = 0; i < room.codes; i++)
            room.parts.codes[i] = (uint8_t)(draw() >> 20);
        fill(room.parts.scales, (size_t)room.scales, 7);
        CHECK_OK(ts_dequantize_run(&how, &room.parts, 1, TS_F32,
                                   (uint8_t *)want, error));
        for (int level = TS_SIMD_AVX2; level <= (int)ts_cpu_simd(); level++) {
            how = find(&of, TS_F32, (ts_simd)level);
            CHECK_OK(ts_dequantize_run(&how, &room.parts, 1, TS_F32,
                                       (uint8_t *)got, error));
            CHECK(memcmp(want, got, size) == 0, "%s, %llu elements",
                  ts_simd_name((ts_simd)level), (unsigned long long)count);
        }
        free(want);
        free(got);
        free_room(&room);
    }
}

/* ---- by hand ----------------------------------------------------------- */

static void codes_are_what_the_rules_say(void)
{
    float x[64] = {127, -127, 63.5f, 0.5f, -0.5f, 0.25f};
    uint8_t out[64];
    float scale;
    ts_quantized parts = {out, &scale, NULL};
    ts_quantize how = find(&(setting){"q8_0", 32, 0, false}, TS_F32,
                           ts_cpu_simd());
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(memcmp(out, (uint8_t[]){0x00, 0x3c, 127, 0x81, 64, 1, 0xff, 0}, 8)
              == 0,
          "halves go away from zero");

    memset(x, 0, sizeof x);
    x[0] = -8, x[1] = 8, x[16] = 7, x[17] = 0.5f;
    how = find(&(setting){"q4_0", 32, 0, false}, TS_F32, ts_cpu_simd());
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(memcmp(out, (uint8_t[]){0x00, 0x3c, 0xf0, 0x9f, 0x88}, 5) == 0,
          "the first of largest magnitude has code 0; 16 is held at 15");

    memset(x, 0, sizeof x);
    x[0] = 4, x[1] = -6, x[2] = 0.25f, x[3] = 5, x[16] = -0.3f;
    how = find(&(setting){"mxfp4", 32, 0, false}, TS_F32, ts_cpu_simd());
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(memcmp(out, (uint8_t[]){127, 0x96, 0x0f, 0x00, 0x06}, 5) == 0,
          "ties go to the smaller magnitude");

    x[0] = 2, x[1] = -1, x[2] = 0.0795802f;
    how = find(&(setting){"nf4", 3, 0, false}, TS_F32, ts_cpu_simd());
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(scale == 2 && out[0] == 0xf2 && out[1] == 0x77,
          "0.5 and 0.0398 are below the midpoints %02x %02x", out[0], out[1]);
}

static void affine_codes_are_what_the_formula_says(void)
{
    const float x[6] = {-1, 0, 0.5f, 1.5f, 2.75f, 4.1f};
    uint8_t out[6];
    float scale = 0;
    int8_t zero = 0;
    ts_quantized parts = {out, &scale, &zero};
    ts_quantize how = find(&(setting){"int8", 6, TS_GROUP_ROW, true}, TS_F32,
                           ts_cpu_simd());
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(scale == (float)((4.1f + 1.0) / 255) && zero == -78);
    CHECK((int8_t)out[0] == -128 && (int8_t)out[1] == -78
          && (int8_t)out[5] == 127);

    how = find(&(setting){"int4", 6, TS_GROUP_TENSOR, false}, TS_F32,
               ts_cpu_simd());
    scale = 0.5f; /* ties: 0.5 / 0.5 is 1; 2.75 / 0.5 is 5.5, to 6 */
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(memcmp(out, (uint8_t[]){0x0e, 0x31, 0x76}, 3) == 0,
          "%02x %02x %02x", out[0], out[1], out[2]);
}

/* A product with the inverse may fall on the other side of a half than the
 * quotient: the code is the quotient's. */
static void codes_are_of_quotients_at_every_half(void)
{
    enum { COUNT = 255 * 5 };
    float x[COUNT], scale;
    uint8_t codes[COUNT];
    ts_quantized parts = {codes, &scale, NULL};
    for (int turn = 0; turn < 50; turn++) {
        setting of = {"int8", COUNT, TS_GROUP_TENSOR, false};
        scale = turn < 5 ? ldexpf(1, 60 * turn - 120)
                         : ldexpf(1 + uniform(), (int)(draw() % 40) - 20);
        for (int i = 0; i < COUNT; i++) {
            float half = ((float)(i / 5) - 127.5f) * scale;
            int32_t bits;
            memcpy(&bits, &half, sizeof bits);
            bits += i % 5 - 2;
            memcpy(x + i, &bits, sizeof bits);
        }
        for (int level = 0; level <= (int)ts_cpu_simd(); level++) {
            ts_quantize how = find(&of, TS_F32, (ts_simd)level);
            CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts,
                                     error));
            for (int i = 0; i < COUNT; i++) {
                float code = nearbyintf(x[i] / scale);
                code = fminf(fmaxf(code, -127), 127);
                CHECK((int8_t)codes[i] == (int)code, "%s: %a / %a is %d",
                      ts_simd_name((ts_simd)level), (double)x[i],
                      (double)scale, (int8_t)codes[i]);
            }
        }
    }
}

static void nothing_to_scale_is_scaled_by_one(void)
{
    const float x[4] = {0};
    uint8_t out[4];
    float scale = 0;
    int8_t zero = 1;
    ts_quantized parts = {out, &scale, &zero};
    ts_quantize how = find(&(setting){"int8", 4, 4, true}, TS_F32,
                           ts_cpu_simd());
    CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, 1, &parts, error));
    CHECK(scale == 1 && zero == -128 && out[3] == 0x80);
}

static void scales_of_scales_go_there_and_back(void)
{
    float scales[300], back[300], nested[2];
    uint8_t codes[300];
    for (int i = 0; i < 300; i++) scales[i] = 1 + fabsf(uniform());
    float mean = ts_nested_mean(scales, 300);
    CHECK(mean > 1.2f && mean < 1.3f);
    ts_nested_quantize(scales, 300, mean, codes, nested);
    ts_nested_dequantize(codes, nested, mean, back, 300);
    for (int i = 0; i < 300; i++)
        CHECK(fabsf(scales[i] - back[i]) < 0.005f, "%d: %g %g", i,
              (double)scales[i], (double)back[i]);
    CHECK(ts_nested_mean(scales, 0) == 0);
}

/* ---- refusals ---------------------------------------------------------- */

static void what_does_not_go_together_is_refused_with_numbers(void)
{
    ts_quantize how;
#define FIND(scheme, from, columns, group, zero)                              \
    ts_quantize_find(scheme, strlen(scheme), from, columns, group, zero,      \
                     &how, error)
    CHECK_FAILS(FIND("q4_k", TS_F32, 100, 0, false), TS_ARGUMENT,
                "rows of 100 elements are no whole number of blocks of 256, "
                "which q4_k needs");
    CHECK_FAILS(FIND("int8", TS_F32, 100, 64, false), TS_ARGUMENT,
                "rows of 100 elements are no whole number of groups of 64");
    CHECK_FAILS(FIND("int8", TS_F32, 100, 0, false), TS_ARGUMENT,
                "int8 needs a group");
    CHECK_FAILS(FIND("nf4", TS_F32, 64, 64, false), TS_ARGUMENT,
                "nf4 has scales of its own");
    CHECK_FAILS(FIND("e4m3", TS_F32, 64, 64, true), TS_ARGUMENT,
                "e4m3 has no zero point");
    CHECK_FAILS(FIND("q9_z", TS_F32, 64, 0, false), TS_UNSUPPORTED,
                "there is no quantisation scheme 'q9_z'");
    CHECK_FAILS(FIND("q8_0", TS_I32, 64, 0, false), TS_UNSUPPORTED,
                "q8_0 is made of F32, F16, BF16 or F64, not of I32");
#undef FIND
    uint64_t codes, scales;
    how = find(&(setting){"q8_0", 1ull << 40, 0, false}, TS_F32,
               ts_cpu_simd());
    CHECK(!ts_quantize_sizes(&how, 1ull << 40, &codes, &scales));
}

static void what_is_not_finite_is_refused_by_place(void)
{
    static float x[MOST];
    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        ts_quantize how = find(&settings[s], TS_F32, ts_cpu_simd());
        uint64_t rows = MOST / how.columns;
        made room = make_room(&how, rows);
        char place[60];
        size_t at = (size_t)((rows - 1) * how.columns + how.columns - 2);
        fill(x, MOST, 0);
        x[at] = -INFINITY;
        how.first_row = 7;
        snprintf(place, sizeof place, "row %llu, column %llu is infinite",
                 (unsigned long long)rows + 6,
                 (unsigned long long)how.columns - 2);
        if (strcmp(settings[s].scheme, "e4m3") == 0 && how.group == 0)
            CHECK_OK(ts_quantize_run(&how, (const uint8_t *)x, rows,
                                     &room.parts, error));
        else
            CHECK_FAILS(ts_quantize_run(&how, (const uint8_t *)x, rows,
                                        &room.parts, error),
                        TS_ARGUMENT, place);
        x[at] = 0;
        x[0] = NAN;
        if (!(strcmp(settings[s].scheme, "e4m3") == 0 && how.group == 0))
            CHECK_FAILS(ts_quantize_run(&how, (const uint8_t *)x, rows,
                                        &room.parts, error),
                        TS_ARGUMENT, "row 7, column 0 is NaN");
        free_room(&room);
    }
}

int main(void)
{
    RUN(every_level_agrees_on_every_count_of_rows);
    RUN(every_level_agrees_on_every_kind_of_values);
    RUN(every_level_agrees_on_every_source);
    RUN(rows_may_come_in_any_number_of_calls);
    RUN(what_was_made_is_close_to_what_came);
    RUN(every_level_decodes_any_bytes_alike);
    RUN(every_level_decodes_every_tail_of_nf4);
    RUN(codes_are_what_the_rules_say);
    RUN(affine_codes_are_what_the_formula_says);
    RUN(codes_are_of_quotients_at_every_half);
    RUN(nothing_to_scale_is_scaled_by_one);
    RUN(scales_of_scales_go_there_and_back);
    RUN(what_does_not_go_together_is_refused_with_numbers);
    RUN(what_is_not_finite_is_refused_by_place);
    CHECK_END();
}
