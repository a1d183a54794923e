/* quant.h -- the door of quant/: numbers from one format into another.
 *
 *     BF16, F8, Q4_K ... --convert--> F32, F16, BF16, F64 ...
 *     F32, F16, BF16, F64 --quantize--> q8_0, q4_k, nf4, int8 ...
 *
 * Decoding is bit-identical to ggml's reference for its blocks and to
 * ml_dtypes for the small floats.  Every conversion has a scalar definition;
 * faster paths agree with it to the bit.  The one exception is NaN: that a
 * value is NaN is promised, its sign and payload are not. */
#ifndef TS_QUANT_QUANT_H
#define TS_QUANT_QUANT_H

#include <stdbool.h>

#include "core/cpu.h"
#include "core/dtype.h"
#include "core/status.h"

/* ---- conversion ------------------------------------------------------ */

/* in: whole blocks of the source type, any alignment.  out: count elements,
 * aligned to their width.  No overlap.  count is a multiple of the source's
 * block count. */
typedef void (*ts_convert_kernel)(const uint8_t *in, uint8_t *out,
                                  size_t count);

typedef struct {
    ts_dtype from, to;
    ts_convert_kernel first;  /* NULL: the bytes are copied */
    ts_convert_kernel second; /* NULL, or runs after first over an F32 tile */
} ts_convert;

/* How to get from one type to the other with this machine's best kernels.
 *
 *     any plain, packed or block type     F64 F32 F16 BF16 and the F8s
 *     BOOL, integers, floats              each other, as NumPy's astype
 *     C64, C128                           each other
 *     anything                            itself: the bytes are copied
 *
 * Floats narrow to nearest even, once from F32; F64 goes to F16 at once, and
 * to BF16 and the F8s by way of F32, as NumPy and ml_dtypes do.  A float out
 * of an integer's range, undefined in NumPy, becomes what x86 makes of it
 * (casts_kernel.c).  For F4 and F6 to one code a byte see ts_convert_unpack.
 * TS_UNSUPPORTED, naming both types, otherwise: blocks are made below, packed
 * and block types do not become integers, and Q8_1 and Q8_K, which ggml uses
 * inside its products and never in a file, are not read. */
ts_status ts_convert_find(ts_dtype from, ts_dtype to, ts_convert *out,
                          ts_error *error);
/* The same at one SIMD level, for tests. */
ts_status ts_convert_find_at(ts_dtype from, ts_dtype to, ts_simd level,
                             ts_convert *out, ts_error *error);

/* One code a byte, as ml_dtypes keeps F4, F6_E2M3 and F6_E3M2. */
ts_status ts_convert_unpack(ts_dtype packed, ts_convert *out,
                            ts_error *error);

/* Run it: in holds whole blocks, out gets count elements. */
void ts_convert_run(const ts_convert *convert, const uint8_t *in,
                    uint8_t *out, size_t count);

/* Reverse the bytes of each element of width 2, 4, 8 (a complex number is two
 * elements), in place. */
void ts_swap_bytes(uint8_t *bytes, size_t count, size_t width);

/* ---- statistics ------------------------------------------------------ */

/* NaN and infinities are counted, and left out of min, max and the sum.  The
 * sum is kept in two doubles, so that the order of merging changes no more
 * than the last bit; min and max order -0 below +0.  Integers beyond 2^53 are
 * rounded to a double in min and max, and not in the sum.  No squares: nobody
 * asks for a deviation yet, and they would not fit the F32 of the fast path
 * (see tally.h for how exact the sum is). */
typedef struct {
    uint64_t count, nan_count, inf_count;
    double min, max;   /* +inf and -inf while no finite value was seen */
    double sum, carry; /* sum + carry is the sum */
} ts_stats;

void ts_stats_begin(ts_stats *stats);
/* Add count elements of any type but a complex one, at any alignment; block
 * and packed types are converted to F32 first, and come as whole blocks.  The
 * same calls give the same bits on every machine.  TS_UNSUPPORTED, naming the
 * type, where it has no conversion to F32. */
ts_status ts_stats_add(ts_stats *stats, ts_dtype dtype, const uint8_t *in,
                       size_t count, ts_error *error);
/* The same at one SIMD level, for tests. */
ts_status ts_stats_add_at(ts_stats *stats, ts_dtype dtype, ts_simd level,
                          const uint8_t *in, size_t count, ts_error *error);
void ts_stats_merge(ts_stats *into, const ts_stats *from);

/* The mean of the finite values, NaN when there is none. */
double ts_stats_mean(const ts_stats *stats);
/* Their largest magnitude, 0 when there is none. */
double ts_stats_absmax(const ts_stats *stats);

/* ---- quantisation ---------------------------------------------------- */

/* A scheme is a rule for making few bits of floats, by its lower-case name:
 *
 *     q8_0 q4_0 q4_1 q5_0 q5_1 q2_k ... iq4_nl iq4_xs tq1_0 tq2_0 mxfp4 nvfp4
 *         ggml's blocks: a row is whole blocks, scales lie among the codes;
 *         bit-identical to ggml's reference rule
 *     nf4
 *         bitsandbytes' blocks of 64, their scales apart; rows are ignored,
 *         and the end of the last one may be shorter
 *     int8 int4
 *         codes with a scale, and if asked for a zero, for each group
 *     e4m3 e5m2
 *         8-bit floats as ml_dtypes rounds them, with or without a scale
 *
 * A group is what shares a scale that is stored apart: so many elements of a
 * row, the whole row, or the whole tensor; the last needs a first pass over
 * the tensor (ts_stats_add) and ts_quantize_scale. */
typedef enum {
    TS_SCHEME_BLOCKS,
    TS_SCHEME_NF4,
    TS_SCHEME_INTEGER,
    TS_SCHEME_FLOAT,
} ts_scheme_kind;

#define TS_GROUP_NONE 0
#define TS_GROUP_ROW (UINT64_MAX - 1)
#define TS_GROUP_TENSOR UINT64_MAX

typedef struct {
    ts_scheme_kind kind;
    ts_dtype stored; /* of a block or an 8-bit float; else U8 */
    unsigned bits;   /* of a code: 8 or 4; of blocks 0 */
    ts_dtype from;
    uint64_t columns; /* elements of a row */
    uint64_t group;   /* elements under one scale, or one of the above */
    bool has_zero;
    uint64_t first_row; /* what messages call the first row: 0 if not set */
    ts_simd level;
} ts_quantize;

/* Where the parts lie.  scales and zeros may be NULL where the scheme has
 * none.  Scales of a whole tensor are one, given and not made. */
typedef struct {
    uint8_t *codes;
    float *scales;
    int8_t *zeros;
} ts_quantized;

/* Fill *out, after checking that everything goes together.  TS_ARGUMENT with
 * the numbers when a row is no whole number of blocks or groups;
 * TS_UNSUPPORTED, naming it, for an unknown scheme or source type. */
ts_status ts_quantize_find(const char *scheme, size_t scheme_size,
                           ts_dtype from, uint64_t columns, uint64_t group,
                           bool has_zero, ts_quantize *out, ts_error *error);
/* The same at one SIMD level, for tests. */
ts_status ts_quantize_find_at(const char *scheme, size_t scheme_size,
                              ts_dtype from, uint64_t columns, uint64_t group,
                              bool has_zero, ts_simd level, ts_quantize *out,
                              ts_error *error);
/* The name of scheme number `index`, NULL beyond the last. */
const char *ts_scheme_name(size_t index);

/* Bytes of codes and number of scales (and of zeros, if it has them) of so
 * many rows.  False when that does not fit 64 bits. */
bool ts_quantize_sizes(const ts_quantize *how, uint64_t rows, uint64_t *codes,
                       uint64_t *scales);

/* The scale, and the zero or 0, for values between min and max. */
void ts_quantize_scale(const ts_quantize *how, double min, double max,
                       float *scale, int8_t *zero);

/* Make rows of codes; in is row-major and without gaps, at any alignment.
 * Needs no memory but some KiB of stack.  Rows may come in any number of
 * calls (nf4: of whole blocks but for the last).  TS_ARGUMENT, with row and
 * column, for a NaN or an infinity, of which only e4m3 and e5m2 without a
 * scale have codes; what was made of other rows then holds. */
ts_status ts_quantize_run(const ts_quantize *how, const uint8_t *in,
                          uint64_t rows, const ts_quantized *out,
                          ts_error *error);

/* The other way: rows of `to` (F32, F16, BF16, F64).  Never reads outside the
 * sizes that ts_quantize_sizes tells, whatever the bytes. */
ts_status ts_dequantize_run(const ts_quantize *how, const ts_quantized *in,
                            uint64_t rows, ts_dtype to, uint8_t *out,
                            ts_error *error);

/* The scales of nf4 in a byte each, less their mean, which is rounded once
 * from a double sum; 256 of them share a new scale.  Scales are finite. */
float ts_nested_mean(const float *scales, uint64_t count);
void ts_nested_quantize(const float *scales, uint64_t count, float mean,
                        uint8_t *codes, float *nested);
void ts_nested_dequantize(const uint8_t *codes, const float *nested,
                          float mean, float *scales, uint64_t count);

/* ---- what quantisation lost ------------------------------------------ */

/* Of the values as F32, in one pass; sums in F64. */
typedef struct {
    uint64_t count;
    double max_abs; /* the largest difference */
    double squares; /* of the differences: rmse is sqrt(squares / count) */
    double products, before, after; /* sums: a * b, a * a, b * b */
} ts_deviation;

/* Add rows of the originals beside what came of them.  Begin with zeros. */
ts_status ts_deviation_add(ts_deviation *deviation, const ts_quantize *how,
                           const uint8_t *in, const ts_quantized *made,
                           uint64_t rows, ts_error *error);
double ts_deviation_rmse(const ts_deviation *deviation); /* 0 of nothing */
/* Of the angle between both as vectors: 1 when both are 0, 0 when one is. */
double ts_deviation_cosine(const ts_deviation *deviation);

/* ---- along a Hilbert curve ------------------------------------------- */

/* 2^16 places a side: 4 Gi elements. */
#define TS_HILBERT_MOST_ORDER 16

/* Of the smallest square, 2^order places a side, that holds so many elements;
 * the largest there is when none does. */
unsigned ts_hilbert_order(uint64_t count);

/* Element d of in goes to the d-th place along the curve through the square
 * image, 4^order elements of width bytes (1, 2, 4, 8) in rows; and back.
 * Neighbours in the sequence are neighbours in the image.  Places beyond
 * count are left alone.  TS_ARGUMENT when the elements do not fit. */
ts_status ts_hilbert_map(const uint8_t *in, uint64_t count, unsigned order,
                         size_t width, uint8_t *image, ts_error *error);
ts_status ts_hilbert_unmap(const uint8_t *image, uint64_t count,
                           unsigned order, size_t width, uint8_t *out,
                           ts_error *error);

/* Means of runs of 4, 16, ... 4^levels elements, which are the squares of 2,
 * 4, ... 2^levels places a side: one level after the other, a last, shorter
 * run by what it holds.  Sums are F64. */
uint64_t ts_hilbert_means_count(uint64_t count, unsigned levels);
void ts_hilbert_means(const float *x, uint64_t count, unsigned levels,
                      float *out);

#endif
