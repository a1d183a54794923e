#include <math.h>
#include <stdalign.h>
#include <string.h>

#include "core/base.h"
#include "spans.h"

/* Codes become F32 span by span; other types, and the comparison with what
 * the codes were made of, follow while the span is in cache. */

typedef struct {
    const ts_quantize *how;
    const ts_quantized *in;
    const ts_affine_kernels *loops;
    ts_convert widen; /* a block or an 8-bit float into F32 */
} reader;

static ts_status reader_begin(reader *from, const ts_quantize *how,
                              const ts_quantized *in, ts_error *error)
{
    *from = (reader){.how = how, .in = in, .loops = ts_affine_at(how->level)};
    if (how->kind != TS_SCHEME_BLOCKS && how->kind != TS_SCHEME_FLOAT)
        return TS_OK;
    return ts_convert_find_at(how->stored, TS_F32, how->level, &from->widen,
                              error);
}

static void load_nibbles(const ts_affine_kernels *loops, const uint8_t *in,
                         int8_t *codes, size_t count)
{
    int8_t last[2];
    loops->unpack(in, codes, count / 2);
    if (count % 2 == 0) return;
    loops->unpack(in + count / 2, last, 1);
    codes[count - 1] = last[0];
}

static ts_nf4_decoder nf4_decoder(ts_simd level)
{
#if defined(__x86_64__)
    if (level == TS_SIMD_AVX512) return ts_nf4_decode_avx512;
    if (level == TS_SIMD_AVX2) return ts_nf4_decode_avx2;
#else
    (void)level;
#endif
    return ts_nf4_decode;
}

/* How many of the next count elements share a scale. */
static size_t same_group(const ts_quantize *how, uint64_t column, size_t count)
{
    if (how->group == TS_GROUP_TENSOR) return count;
    uint64_t size = ts_group_size(how);
    return (size_t)ts_min(size - column % size, count);
}

static void decode_integers(const reader *from, uint64_t row, uint64_t column,
                            size_t count, float *y)
{
    const ts_quantize *how = from->how;
    const uint8_t *in = from->in->codes + ts_code_offset(how, row, column);
    alignas(64) int8_t tile[TS_SPAN];
    const int8_t *codes = (const int8_t *)in;
    if (how->bits == 4) {
        load_nibbles(from->loops, in, tile, count);
        codes = tile;
    }
    for (size_t n; count > 0; count -= n, column += n, codes += n, y += n) {
        uint64_t number = ts_group_index(how, row, column);
        n = same_group(how, column, count);
        from->loops->decode(codes, y, n, from->in->scales[number],
                            how->has_zero ? from->in->zeros[number] : 0);
    }
}

static void decode_floats(const reader *from, uint64_t row, uint64_t column,
                          size_t count, float *y)
{
    const ts_quantize *how = from->how;
    ts_convert_run(&from->widen,
                   from->in->codes + ts_code_offset(how, row, column),
                   (uint8_t *)y, count);
    if (how->group == TS_GROUP_NONE) return;
    for (size_t n; count > 0; count -= n, column += n, y += n) {
        n = same_group(how, column, count);
        from->loops->multiply(
            y, n, from->in->scales[ts_group_index(how, row, column)]);
    }
}

/* A span begins at a multiple of TS_SPAN of its row, or of all elements where
 * rows do not matter. */
static void decode(const reader *from, uint64_t row, uint64_t column,
                   size_t count, float *y)
{
    const ts_quantize *how = from->how;
    const uint8_t *codes = from->in->codes;
    switch (how->kind) {
    case TS_SCHEME_BLOCKS:
        ts_convert_run(&from->widen,
                       codes + column / ts_dtype_block_count(how->stored)
                           * ts_dtype_block_size(how->stored),
                       (uint8_t *)y, count);
        break;
    case TS_SCHEME_NF4:
        nf4_decoder(how->level)(codes + column / 2,
                                from->in->scales + column / TS_NF4_BLOCK, y,
                                count);
        break;
    case TS_SCHEME_INTEGER:
        decode_integers(from, row, column, count, y);
        break;
    case TS_SCHEME_FLOAT: decode_floats(from, row, column, count, y); break;
    }
}

/* One long row, where that is allowed: fewer, longer spans. */
static void straighten(const ts_quantize *how, uint64_t *rows,
                       uint64_t *columns)
{
    bool is_flat = how->kind == TS_SCHEME_BLOCKS || how->kind == TS_SCHEME_NF4;
    *columns = is_flat ? *rows * how->columns : how->columns;
    if (is_flat) *rows = 1;
}

ts_status ts_dequantize_run(const ts_quantize *how, const ts_quantized *in,
                            uint64_t rows, ts_dtype to, uint8_t *out,
                            ts_error *error)
{
    reader from;
    ts_convert narrow;
    uint64_t columns;
    alignas(64) float tile[TS_SPAN];
    TS_TRY(reader_begin(&from, how, in, error));
    TS_TRY(ts_convert_find_at(TS_F32, to, how->level, &narrow, error));
    straighten(how, &rows, &columns);
    for (uint64_t row = 0; row < rows; row++)
        for (uint64_t column = 0; column < columns; column += TS_SPAN) {
            size_t n = ts_span_size(columns - column);
            float *y = to == TS_F32 ? (void *)out : tile;
            decode(&from, row, column, n, y);
            if (to != TS_F32)
                ts_convert_run(&narrow, (const uint8_t *)tile, out, n);
            out += n * ts_dtype_block_size(to);
        }
    return TS_OK;
}

/* ---- what was lost ----------------------------------------------------- */

static void settle(ts_deviation *deviation, const ts_loss *loss)
{
    for (int l = 0; l < TS_AFFINE_LANES; l++) {
        deviation->squares += loss->squares[l];
        deviation->products += loss->products[l];
        deviation->before += loss->before[l];
        deviation->after += loss->after[l];
        deviation->max_abs = fmax(deviation->max_abs, (double)loss->most[l]);
    }
}

ts_status ts_deviation_add(ts_deviation *deviation, const ts_quantize *how,
                           const uint8_t *in, const ts_quantized *made,
                           uint64_t rows, ts_error *error)
{
    reader from;
    ts_convert widen;
    ts_loss loss = {.squares = {0}};
    uint64_t columns;
    alignas(64) float before[TS_SPAN], after[TS_SPAN];
    TS_TRY(reader_begin(&from, how, made, error));
    TS_TRY(ts_convert_find_at(how->from, TS_F32, how->level, &widen, error));
    deviation->count += rows * how->columns;
    straighten(how, &rows, &columns);
    for (uint64_t row = 0; row < rows; row++)
        for (uint64_t column = 0; column < columns; column += TS_SPAN) {
            size_t n = ts_span_size(columns - column);
            ts_convert_run(&widen, in, (uint8_t *)before, n);
            decode(&from, row, column, n, after);
            from.loops->compare(before, after, n, &loss);
            in += n * ts_dtype_block_size(how->from);
        }
    settle(deviation, &loss);
    return TS_OK;
}

double ts_deviation_rmse(const ts_deviation *deviation)
{
    if (deviation->count == 0) return 0;
    return sqrt(deviation->squares / (double)deviation->count);
}

double ts_deviation_cosine(const ts_deviation *deviation)
{
    double lengths = sqrt(deviation->before) * sqrt(deviation->after);
    if (lengths != 0) return deviation->products / lengths;
    return deviation->before == deviation->after ? 1 : 0;
}
