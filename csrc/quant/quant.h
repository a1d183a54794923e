/* quant.h -- the door of quant/: numbers from one format into another.
 *
 *     BF16, F8, Q4_K ... --convert--> F32, F16, BF16, F64 ...
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
 * TS_UNSUPPORTED, naming both types, otherwise: blocks are not made, packed
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

#endif
