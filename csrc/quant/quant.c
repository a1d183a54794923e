#include "quant.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

#include "core/base.h"
#include "kernels.h"

/* One row a type, one column a SIMD level; an empty column takes the one on
 * its left. */
typedef ts_convert_kernel row[TS_SIMD_LEVELS];

#define ONE(name) {name}
#if defined(__x86_64__)
#define NARROW(name) {name, name##_avx2}
#define WIDE(name) {name, NULL, name##_avx512}
#define ALL(name) {name, name##_avx2, name##_avx512}
#else
#define NARROW(name) {name}
#define WIDE(name) {name}
#define ALL(name) {name}
#endif

static const row decoders[TS_DTYPE_COUNT] = {
#define XX(symbol, stem, variants)                                            \
    [TS_##symbol] = variants(ts_##stem##_decode),
    TS_DECODER_MAP(XX)
#undef XX
};

static const row encoders[TS_DTYPE_COUNT] = {
#define XX(symbol, stem, variants)                                            \
    [TS_##symbol] = variants(ts_##stem##_encode),
    TS_ENCODER_MAP(XX)
#undef XX
};

static ts_convert_kernel best(const row kernels, ts_simd level)
{
    while (level > TS_SIMD_SCALAR && kernels[level] == NULL) level--;
    return kernels[level];
}

/* To F32, from F32: NULL where there is no such step. */
static ts_convert_kernel decoder(ts_dtype from, ts_simd level)
{
    ts_convert_kernel cast = ts_cast_kernel(from, TS_F32);
    return cast != NULL ? cast : best(decoders[from], level);
}

static ts_convert_kernel encoder(ts_dtype to, ts_simd level)
{
    ts_convert_kernel cast = ts_cast_kernel(TS_F32, to);
    return cast != NULL ? cast : best(encoders[to], level);
}

/* A scaled or packed float becomes a float: an integer would drop what the
 * scale was for. */
static bool is_allowed(ts_dtype from, ts_dtype to)
{
    ts_dtype_class class = ts_dtype_class_of(from);
    return (class != TS_CLASS_PACKED && class != TS_CLASS_BLOCK)
        || ts_dtype_class_of(to) == TS_CLASS_FLOAT;
}

static ts_convert_kernel direct(ts_dtype from, ts_dtype to)
{
    if (from == TS_C64 && to == TS_C128) return ts_c64_widen;
    if (from == TS_C128 && to == TS_C64) return ts_c128_narrow;
    return ts_cast_kernel(from, to);
}

/* NumPy rounds F64 to F16 once; ml_dtypes goes through F32 to its types. */
static void find_steps(ts_dtype from, ts_dtype to, ts_simd level,
                       ts_convert *out)
{
    out->first = direct(from, to);
    if (out->first != NULL || !is_allowed(from, to)) return;
    out->first = from == TS_F64 && to == TS_F16 ? ts_f64_round_odd
                                                : decoder(from, level);
    if (to == TS_F32 || out->first == NULL) return;
    out->second = encoder(to, level);
    if (out->second == NULL) out->first = NULL;
    if (from == TS_F32) {
        out->first = out->second;
        out->second = NULL;
    }
}

ts_status ts_convert_find_at(ts_dtype from, ts_dtype to, ts_simd level,
                             ts_convert *out, ts_error *error)
{
    *out = (ts_convert){.from = from, .to = to};
    if (from == to) return TS_OK;
    find_steps(from, to, level, out);
    if (out->first != NULL) return TS_OK;
    return ts_fail(error, TS_UNSUPPORTED, "no conversion from %s to %s",
                   ts_dtype_name(from), ts_dtype_name(to));
}

ts_status ts_convert_find(ts_dtype from, ts_dtype to, ts_convert *out,
                          ts_error *error)
{
    return ts_convert_find_at(from, to, ts_cpu_simd(), out, error);
}

ts_status ts_convert_unpack(ts_dtype packed, ts_convert *out, ts_error *error)
{
    *out = (ts_convert){.from = packed, .to = packed};
    if (packed == TS_F4) out->first = ts_f4_unpack;
    if (packed == TS_F6_E2M3 || packed == TS_F6_E3M2)
        out->first = ts_f6_unpack;
    if (out->first != NULL) return TS_OK;
    return ts_fail(error, TS_UNSUPPORTED, "%s is not a packed type",
                   ts_dtype_name(packed));
}

/* Small enough to stay in the first-level cache with what it comes from and
 * goes to; a whole number of every block. */
enum { TILE = 2048 };

#define XX(symbol, name, count, size, class)                                  \
    _Static_assert(TILE % (count) == 0, "a tile cuts a block of " name);
TS_DTYPE_MAP(XX)
#undef XX

static void run_two(const ts_convert *convert, const uint8_t *in, uint8_t *out,
                    size_t count)
{
    alignas(64) float floats[TILE];
    uint8_t *tile = (uint8_t *)floats;
    size_t in_step = (size_t)TILE / ts_dtype_block_count(convert->from)
        * ts_dtype_block_size(convert->from);
    size_t out_step = (size_t)TILE * ts_dtype_block_size(convert->to);
    for (; count > TILE; count -= TILE, in += in_step, out += out_step) {
        convert->first(in, tile, TILE);
        convert->second(tile, out, TILE);
    }
    convert->first(in, tile, count);
    convert->second(tile, out, count);
}

void ts_convert_run(const ts_convert *convert, const uint8_t *in, uint8_t *out,
                    size_t count)
{
    assert(count % ts_dtype_block_count(convert->from) == 0);
    if (count == 0) return;
    if (convert->first == NULL)
        memcpy(out, in,
               count / ts_dtype_block_count(convert->from)
                   * ts_dtype_block_size(convert->from));
    else if (convert->second == NULL)
        convert->first(in, out, count);
    else
        run_two(convert, in, out, count);
}
