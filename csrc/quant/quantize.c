#include <assert.h>
#include <math.h>
#include <stdalign.h>
#include <string.h>

#include "core/base.h"
#include "encode.h"
#include "spans.h"

/* ---- schemes ----------------------------------------------------------- */

typedef struct {
    const char *name;
    ts_scheme_kind kind;
    ts_dtype stored;
    unsigned bits;
} scheme;

static const scheme schemes[] = {
#define XX(symbol, stem, variants) {#stem, TS_SCHEME_BLOCKS, TS_##symbol, 0},
    TS_QUANTIZER_MAP(XX)
#undef XX
    {"nf4", TS_SCHEME_NF4, TS_U8, 4},
    {"int8", TS_SCHEME_INTEGER, TS_U8, 8},
    {"int4", TS_SCHEME_INTEGER, TS_U8, 4},
    {"e4m3", TS_SCHEME_FLOAT, TS_F8_E4M3, 8},
    {"e5m2", TS_SCHEME_FLOAT, TS_F8_E5M2, 8},
};

const char *ts_scheme_name(size_t index)
{
    return index < TS_COUNT_OF(schemes) ? schemes[index].name : NULL;
}

static const scheme *find_scheme(const char *name, size_t size)
{
    for (size_t i = 0; i < TS_COUNT_OF(schemes); i++)
        if (strlen(schemes[i].name) == size
            && memcmp(schemes[i].name, name, size) == 0)
            return &schemes[i];
    return NULL;
}

/* One row a block type, one column a SIMD level, as in quant.c. */
typedef ts_quantize_kernel by_level[TS_SIMD_LEVELS];

#define ONE(name) {name}
#if defined(__x86_64__)
#define ALL(name) {name, name##_avx2, name##_avx512}
#else
#define ALL(name) {name}
#endif

static const by_level kernels[TS_DTYPE_COUNT] = {
#define XX(symbol, stem, variants)                                            \
    [TS_##symbol] = variants(ts_##stem##_quantize),
    TS_QUANTIZER_MAP(XX)
#undef XX
};

static ts_quantize_kernel block_kernel(const ts_quantize *how)
{
    ts_simd level = how->level;
    while (level > TS_SIMD_SCALAR && kernels[how->stored][level] == NULL)
        level--;
    return kernels[how->stored][level];
}

/* ---- finding ----------------------------------------------------------- */

static ts_status check_whole(const char *name, const char *what,
                             uint64_t columns, uint64_t size, ts_error *error)
{
    if (size > 0 && columns % size == 0) return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "rows of %llu elements are no whole number of %s of %llu, "
                   "which %s needs",
                   (unsigned long long)columns, what,
                   (unsigned long long)size, name);
}

static ts_status check_group(const scheme *found, uint64_t columns,
                             uint64_t group, bool has_zero, ts_error *error)
{
    bool is_apart = found->kind == TS_SCHEME_INTEGER
        || found->kind == TS_SCHEME_FLOAT;
    if (has_zero && found->kind != TS_SCHEME_INTEGER)
        return ts_fail(error, TS_ARGUMENT, "%s has no zero point",
                       found->name);
    if (group != TS_GROUP_NONE && !is_apart)
        return ts_fail(error, TS_ARGUMENT,
                       "%s has scales of its own and takes no group",
                       found->name);
    if (found->kind == TS_SCHEME_BLOCKS)
        return check_whole(found->name, "blocks", columns,
                           ts_dtype_block_count(found->stored), error);
    if (found->kind == TS_SCHEME_INTEGER && group == TS_GROUP_NONE)
        return ts_fail(error, TS_ARGUMENT,
                       "%s needs a group whose elements share a scale",
                       found->name);
    if (group == TS_GROUP_NONE || group >= TS_GROUP_ROW) return TS_OK;
    return check_whole(found->name, "groups", columns, group, error);
}

ts_status ts_quantize_find_at(const char *name, size_t name_size,
                              ts_dtype from, uint64_t columns, uint64_t group,
                              bool has_zero, ts_simd level, ts_quantize *out,
                              ts_error *error)
{
    const scheme *found = find_scheme(name, name_size);
    if (found == NULL)
        return ts_fail(error, TS_UNSUPPORTED,
                       "there is no quantisation scheme '%.*s'",
                       (int)ts_min(name_size, 40), name);
    if (from != TS_F32 && from != TS_F16 && from != TS_BF16 && from != TS_F64)
        return ts_fail(error, TS_UNSUPPORTED,
                       "%s is made of F32, F16, BF16 or F64, not of %s",
                       found->name, ts_dtype_name(from));
    TS_TRY(check_group(found, columns, group, has_zero, error));
    *out = (ts_quantize){
        .kind = found->kind,
        .stored = found->stored,
        .bits = found->bits,
        .from = from,
        .columns = columns,
        .group = group,
        .has_zero = has_zero,
        .level = level,
    };
    return TS_OK;
}

ts_status ts_quantize_find(const char *name, size_t name_size, ts_dtype from,
                           uint64_t columns, uint64_t group, bool has_zero,
                           ts_quantize *out, ts_error *error)
{
    return ts_quantize_find_at(name, name_size, from, columns, group, has_zero,
                               ts_cpu_simd(), out, error);
}

bool ts_quantize_sizes(const ts_quantize *how, uint64_t rows, uint64_t *codes,
                       uint64_t *scales)
{
    uint64_t count, row_codes = how->columns, row_scales;
    *scales = 0;
    if (!ts_mul(rows, how->columns, &count)) return false;
    if (how->kind == TS_SCHEME_BLOCKS)
        return ts_dtype_bytes(how->stored, count, codes);
    if (how->kind == TS_SCHEME_NF4) {
        *codes = count / 2 + count % 2;
        *scales = count / TS_NF4_BLOCK + (count % TS_NF4_BLOCK > 0);
        return true;
    }
    if (how->bits == 4) row_codes = how->columns / 2 + how->columns % 2;
    row_scales = how->columns > 0 ? how->columns / ts_group_size(how) : 0;
    if (how->group == TS_GROUP_TENSOR) *scales = 1;
    else if (how->group != TS_GROUP_NONE) *scales = rows * row_scales;
    return ts_mul(rows, row_codes, codes);
}

/* ---- spans of floats --------------------------------------------------- */

typedef struct {
    const ts_quantize *how;
    const uint8_t *in;
    ts_convert widen;
    alignas(64) float tile[TS_SPAN];
} source;

static ts_status source_begin(source *from, const ts_quantize *how,
                              const uint8_t *in, ts_error *error)
{
    from->how = how;
    from->in = in;
    return ts_convert_find_at(how->from, TS_F32, how->level, &from->widen,
                              error);
}

static const uint8_t *element(const source *from, uint64_t index)
{
    return from->in + index * ts_dtype_block_size(from->how->from);
}

/* Elements as F32: where they lie, if they can be used so, or in the tile. */
static const float *pull(source *from, uint64_t index, size_t count)
{
    const uint8_t *at = element(from, index);
    if (from->how->from == TS_F32 && (uintptr_t)at % alignof(float) == 0)
        return (const void *)at;
    ts_convert_run(&from->widen, at, (uint8_t *)from->tile, count);
    return from->tile;
}

/* One of the elements from start on is not finite: say which. */
static ts_status not_finite(source *from, uint64_t start, uint64_t count,
                            ts_error *error)
{
    uint64_t index = start, columns = from->how->columns;
    while (index + 1 < start + count && isfinite(*pull(from, index, 1)))
        index++;
    return ts_fail(error, TS_ARGUMENT,
                   "the element in row %llu, column %llu is %s, which cannot "
                   "be quantised",
                   (unsigned long long)(from->how->first_row
                                        + index / columns),
                   (unsigned long long)(index % columns),
                   isnan(*pull(from, index, 1)) ? "NaN" : "infinite");
}

/* ---- blocks and nf4 ---------------------------------------------------- */

/* F32 goes to the kernel as it lies; the rest by way of the tile. */
static size_t encode_blocks(source *from, uint64_t count, uint8_t *codes)
{
    const ts_quantize *how = from->how;
    ts_quantize_kernel kernel = block_kernel(how);
    if (how->from == TS_F32) return kernel(from->in, codes, (size_t)count);
    size_t step = (size_t)TS_SPAN / ts_dtype_block_count(how->stored)
        * ts_dtype_block_size(how->stored);
    for (uint64_t start = 0; start < count; start += TS_SPAN) {
        size_t n = ts_span_size(count - start);
        const float *x = pull(from, start, n);
        size_t done = kernel((const uint8_t *)x, codes, n);
        if (done < n) return (size_t)start + done;
        codes += step;
    }
    return (size_t)count;
}

static ts_status run_blocks(source *from, uint64_t count,
                            const ts_quantized *out, ts_error *error)
{
    size_t done = encode_blocks(from, count, out->codes);
    if (done == count) return TS_OK;
    return not_finite(from, done, ts_dtype_block_count(from->how->stored),
                      error);
}

static ts_nf4_kernel nf4_kernel(ts_simd level)
{
#if defined(__x86_64__)
    if (level == TS_SIMD_AVX512) return ts_nf4_quantize_avx512;
    if (level == TS_SIMD_AVX2) return ts_nf4_quantize_avx2;
#else
    (void)level;
#endif
    return ts_nf4_quantize;
}

static ts_status run_nf4(source *from, uint64_t count, const ts_quantized *out,
                         ts_error *error)
{
    ts_nf4_kernel kernel = nf4_kernel(from->how->level);
    uint8_t *codes = out->codes;
    float *scales = out->scales;
    uint64_t whole = count / TS_NF4_BLOCK * TS_NF4_BLOCK;
    for (uint64_t start = 0, n; start < whole; start += n) {
        bool is_ready = from->how->from == TS_F32;
        n = is_ready ? whole : ts_span_size(whole - start);
        const void *x = is_ready ? element(from, start)
                                 : (const void *)pull(from, start, (size_t)n);
        size_t done = kernel(x, codes, scales, (size_t)n);
        if (done < n)
            return not_finite(from, start + done, TS_NF4_BLOCK, error);
        codes += n / 2;
        scales += n / TS_NF4_BLOCK;
    }
    if (whole == count) return TS_OK;
    size_t rest = (size_t)(count - whole);
    const float *x = pull(from, whole, rest);
    if (ts_nf4_quantize_rest((const uint8_t *)x, codes, scales, rest))
        return TS_OK;
    return not_finite(from, whole, rest, error);
}

/* ---- codes with a scale apart ------------------------------------------ */

static int low_of(const ts_quantize *how)
{
    int low = how->bits == 8 ? -128 : -8;
    return how->has_zero ? low : low + 1; /* as many above 0 as below */
}

static int high_of(const ts_quantize *how)
{
    return how->bits == 8 ? 127 : 7;
}

/* The largest finite 8-bit float of either kind, or the largest code. */
static double most_of(const ts_quantize *how)
{
    if (how->kind == TS_SCHEME_INTEGER) return high_of(how);
    return how->stored == TS_F8_E4M3 ? 448 : 57344;
}

void ts_quantize_scale(const ts_quantize *how, double min, double max,
                       float *scale, int8_t *zero)
{
    int low = low_of(how), high = high_of(how);
    min = min < 0 ? min : 0;
    max = max > 0 ? max : 0;
    *zero = 0;
    *scale = (float)((-min > max ? -min : max) / most_of(how));
    if (how->has_zero) *scale = (float)((max - min) / (high - low));
    if (*scale == 0 || !isfinite(*scale)) *scale = 1; /* nothing to scale */
    if (!how->has_zero) return;
    double point = nearbyint(low - min / (double)*scale);
    *zero = (int8_t)fmin(fmax(point, low), high);
}

/* A span that begins in the middle of a byte finds its other half there. */
static void store_nibbles(const ts_affine_kernels *loops, const int8_t *codes,
                          size_t count, uint64_t column, uint8_t *row_codes)
{
    uint8_t *out = row_codes + column / 2;
    if (column % 2 == 1 && count > 0) {
        *out++ |= (uint8_t)((unsigned)*codes++ << 4);
        count--;
    }
    loops->pack(codes, out, count / 2);
    if (count % 2 == 1) out[count / 2] = (uint8_t)(codes[count - 1] & 15);
}

typedef struct {
    source *from;
    const ts_affine_kernels *loops;
    ts_convert round; /* F32 into an 8-bit float */
    const ts_quantized *out;
} writer;

static void encode_span(const writer *to, const float *x, uint64_t row,
                        uint64_t column, size_t count, float scale, float zero)
{
    const ts_quantize *how = to->from->how;
    uint8_t *codes = to->out->codes + ts_code_offset(how, row, column);
    if (how->kind == TS_SCHEME_FLOAT) {
        alignas(64) float scaled[TS_SPAN];
        to->loops->divide(x, scaled, count, scale);
        ts_convert_run(&to->round, (const uint8_t *)scaled, codes, count);
        return;
    }
    ts_affine affine = {scale, zero, (float)low_of(how), (float)high_of(how)};
    if (how->bits == 8) {
        to->loops->encode(x, (int8_t *)codes, count, &affine);
        return;
    }
    alignas(64) int8_t tile[TS_SPAN];
    to->loops->encode(x, tile, count, &affine);
    store_nibbles(to->loops, tile, count, column,
                  to->out->codes + ts_code_offset(how, row, 0));
}

/* Look at the group first, unless a scale was given, and then at each span
 * again: by then a short group is in the nearest cache. */
static ts_status encode_group(const writer *to, uint64_t row, uint64_t column,
                              uint64_t size, uint64_t number, ts_error *error)
{
    const ts_quantize *how = to->from->how;
    uint64_t index = row * how->columns + column;
    ts_extent extent = {0, 0, true};
    int8_t zero = 0, *zeros = to->out->zeros;
    for (uint64_t at = 0; at < size; at += TS_SPAN) {
        size_t n = ts_span_size(size - at);
        to->loops->extent(pull(to->from, index + at, n), n, &extent);
    }
    if (!extent.is_finite) return not_finite(to->from, index, size, error);
    if (how->group != TS_GROUP_TENSOR) {
        ts_quantize_scale(how, extent.min, extent.max,
                          to->out->scales + number, &zero);
        if (how->has_zero) zeros[number] = zero;
    }
    if (how->has_zero) zero = zeros[number];
    for (uint64_t at = 0; at < size; at += TS_SPAN) {
        size_t n = ts_span_size(size - at);
        encode_span(to, pull(to->from, index + at, n), row, column + at, n,
                    to->out->scales[number], zero);
    }
    return TS_OK;
}

static ts_status run_groups(source *from, uint64_t rows,
                            const ts_quantized *out, ts_error *error)
{
    const ts_quantize *how = from->how;
    uint64_t size = ts_group_size(how), number = 0;
    bool is_one = how->group == TS_GROUP_TENSOR;
    writer to = {.from = from, .loops = ts_affine_at(how->level), .out = out};
    if (how->kind == TS_SCHEME_FLOAT)
        TS_TRY(ts_convert_find_at(TS_F32, how->stored, how->level, &to.round,
                                  error));
    if (is_one) size = ts_min(size, TS_SPAN);
    for (uint64_t row = 0; row < rows; row++)
        for (uint64_t column = 0; column < how->columns; column += size) {
            TS_TRY(encode_group(&to, row, column,
                                ts_min(size, how->columns - column), number,
                                error));
            if (!is_one) number++;
        }
    return TS_OK;
}

/* ---- the door ---------------------------------------------------------- */

ts_status ts_quantize_run(const ts_quantize *how, const uint8_t *in,
                          uint64_t rows, const ts_quantized *out,
                          ts_error *error)
{
    source from;
    uint64_t count = rows * how->columns;
    if (count == 0) return TS_OK;
    if (how->kind == TS_SCHEME_FLOAT && how->group == TS_GROUP_NONE) {
        ts_convert round;
        TS_TRY(ts_convert_find_at(how->from, how->stored, how->level, &round,
                                  error));
        ts_convert_run(&round, in, out->codes, (size_t)count);
        return TS_OK;
    }
    TS_TRY(source_begin(&from, how, in, error));
    switch (how->kind) {
    case TS_SCHEME_BLOCKS: return run_blocks(&from, count, out, error);
    case TS_SCHEME_NF4: return run_nf4(&from, count, out, error);
    case TS_SCHEME_INTEGER:
    case TS_SCHEME_FLOAT: break;
    }
    return run_groups(&from, rows, out, error);
}

float ts_nested_mean(const float *scales, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) sum += scales[i];
    return count > 0 ? (float)(sum / (double)count) : 0;
}

void ts_nested_quantize(const float *scales, uint64_t count, float mean,
                        uint8_t *codes, float *nested)
{
    ts_nested_encode(scales, (size_t)count, mean, codes, nested);
}

void ts_nested_dequantize(const uint8_t *codes, const float *nested,
                          float mean, float *scales, uint64_t count)
{
    ts_nested_decode(codes, nested, mean, scales, (size_t)count);
}
