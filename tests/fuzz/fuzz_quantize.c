/* Any bytes as floats to quantise, as codes to decode, and as ggml's blocks:
 * no level may crash, read or write outside, or differ from the plain loops.
 *
 *     byte 0: the scheme   byte 1: source type, group, zero   byte 2: columns
 *     the rest: floats, codes, blocks */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* More would be slow and no other. */
enum { MOST = 3000 };

static void fail(const char *what, const char *name, ts_simd level)
{
    fprintf(stderr, "%s: %s, %s\n", what, name, ts_simd_name(level));
    abort();
}

/* ---- quantise ---------------------------------------------------------- */

typedef struct {
    ts_quantized parts;
    uint64_t codes, scales;
} made;

static bool make_room(const ts_quantize *how, uint64_t rows, made *room)
{
    if (!ts_quantize_sizes(how, rows, &room->codes, &room->scales))
        return false;
    room->parts.codes = calloc(1, (size_t)room->codes + 1);
    room->parts.scales = calloc((size_t)room->scales + 1, sizeof(float));
    room->parts.zeros = calloc(1, (size_t)room->scales + 1);
    if (room->parts.codes == NULL || room->parts.scales == NULL
        || room->parts.zeros == NULL)
        abort();
    if (how->group == TS_GROUP_TENSOR)
        ts_quantize_scale(how, -3, 2, room->parts.scales, room->parts.zeros);
    return true;
}

static void free_room(made *room)
{
    free(room->parts.codes);
    free(room->parts.scales);
    free(room->parts.zeros);
}

static bool is_same(const made *a, const made *b)
{
    size_t scales = (size_t)a->scales;
    return memcmp(a->parts.codes, b->parts.codes, (size_t)a->codes) == 0
        && memcmp(a->parts.scales, b->parts.scales, 4 * scales) == 0
        && memcmp(a->parts.zeros, b->parts.zeros, scales) == 0;
}

static void judge_quantize(const char *name, ts_quantize how,
                           const uint8_t *in, uint64_t rows)
{
    made want, got;
    ts_error want_error = {0}, got_error = {0};
    ts_deviation lost = {0};
    how.level = TS_SIMD_SCALAR;
    if (!make_room(&how, rows, &want)) return;
    ts_status status = ts_quantize_run(&how, in, rows, &want.parts,
                                       &want_error);
    for (int level = TS_SIMD_AVX2; level <= (int)ts_cpu_simd(); level++) {
        how.level = (ts_simd)level;
        if (!make_room(&how, rows, &got)) abort();
        if (ts_quantize_run(&how, in, rows, &got.parts, &got_error) != status
            || strcmp(want_error.message, got_error.message) != 0)
            fail("another outcome", name, how.level);
        if (status == TS_OK && !is_same(&want, &got))
            fail("other bytes", name, how.level);
        free_room(&got);
    }
    if (status == TS_OK
        && ts_deviation_add(&lost, &how, in, &want.parts, rows, NULL) != TS_OK)
        fail("no comparison", name, how.level);
    free_room(&want);
}

/* ---- dequantise -------------------------------------------------------- */

static bool same_floats(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0
            && !(isnan(a[i]) && isnan(b[i])))
            return false;
    return true;
}

/* The parts are whatever bytes there are. */
static void fill(made *room, const uint8_t *data, size_t size)
{
    for (uint64_t i = 0; i < room->codes && size > 0; i++)
        room->parts.codes[i] = data[i % size];
    for (uint64_t i = 0; i < room->scales && size >= 4; i++)
        memcpy(room->parts.scales + i, data + i * 4 % (size - 3), 4);
    for (uint64_t i = 0; i < room->scales && size > 0; i++)
        room->parts.zeros[i] = (int8_t)data[size - 1 - i % size];
}

static void judge_dequantize(const char *name, ts_quantize how,
                             const uint8_t *data, size_t size, uint64_t rows)
{
    made room;
    size_t count = (size_t)(rows * how.columns);
    if (!make_room(&how, rows, &room)) return;
    fill(&room, data, size);
    float *want = malloc(count * sizeof *want + 1);
    float *got = malloc(count * sizeof *got + 1);
    for (int level = 0; level <= (int)ts_cpu_simd(); level++) {
        how.level = (ts_simd)level;
        float *out = level == 0 ? want : got;
        if (ts_dequantize_run(&how, &room.parts, rows, TS_F32, (uint8_t *)out,
                              NULL)
            != TS_OK)
            fail("not decoded", name, how.level);
        if (!same_floats(want, out, count))
            fail("other values", name, how.level);
    }
    free(want);
    free(got);
    free_room(&room);
}

/* ---- every block type -------------------------------------------------- */

static void judge_blocks(const uint8_t *data, size_t size)
{
    for (int i = 0; i < TS_DTYPE_COUNT; i++) {
        ts_dtype dtype = (ts_dtype)i;
        ts_convert convert;
        size_t blocks = size / ts_dtype_block_size(dtype);
        size_t count = blocks * ts_dtype_block_count(dtype);
        if (ts_convert_find(dtype, TS_F32, &convert, NULL) != TS_OK) continue;
        uint8_t *in = malloc(blocks * ts_dtype_block_size(dtype) + 1);
        float *want = malloc(count * sizeof *want + 1);
        float *got = malloc(count * sizeof *got + 1);
        memcpy(in, data, blocks * ts_dtype_block_size(dtype));
        for (int level = 0; level <= (int)ts_cpu_simd(); level++) {
            float *out = level == 0 ? want : got;
            if (ts_convert_find_at(dtype, TS_F32, (ts_simd)level, &convert,
                                   NULL)
                != TS_OK)
                abort();
            ts_convert_run(&convert, in, (uint8_t *)out, count);
            if (!same_floats(want, out, count))
                fail("other values", ts_dtype_name(dtype), (ts_simd)level);
        }
        free(in);
        free(want);
        free(got);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ts_dtype sources[4] = {TS_F32, TS_F16, TS_BF16, TS_F64};
    static const uint64_t groups[8]
        = {0, 1, 2, 32, 33, 256, TS_GROUP_ROW, TS_GROUP_TENSOR};
    size_t schemes = 0;
    ts_quantize how;
    if (size < 3) return 0;
    while (ts_scheme_name(schemes) != NULL) schemes++;
    const char *name = ts_scheme_name(data[0] % schemes);
    ts_dtype from = sources[data[1] & 3];
    uint64_t group = groups[data[1] >> 2 & 7], columns = data[2];
    bool has_zero = data[1] >> 5 & 1;
    if (data[1] >> 6 & 1) columns *= 32;
    data += 3;
    size -= 3;
    if (size > MOST) size = MOST;
    judge_blocks(data, size);
    if (columns == 0
        || ts_quantize_find(name, strlen(name), from, columns, group, has_zero,
                            &how, NULL)
               != TS_OK)
        return 0;
    uint64_t rows = size / ts_dtype_block_size(from) / columns;
    uint8_t *in = malloc(size + 1); /* the sanitizer watches its end */
    memcpy(in, data, size);
    judge_quantize(name, how, in, rows);
    judge_dequantize(name, how, in, size, rows);
    free(in);
    return 0;
}
