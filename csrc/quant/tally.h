/* tally.h -- what the statistics loops keep: counts, order and sums.
 *
 * Values are ordered by integer keys, which agree with the order of the
 * numbers (and put -0 below +0), so that minimum and maximum come out the
 * same however the work is split.  The sum is kept in 16 lanes of F64:
 *
 *     element i of F32, F16, F64      lane i % 16
 *     element i of BF16               lane i / 2 % 16
 *
 * A stretch of 1024 finite values below 2^124 is calm: 64 at a time, each
 * lane adds four of them in F32, as (a + b) + (c + d), and that sum to its
 * F64.  Two F32 roundings, each of at most 2^-24 of the magnitudes added, is
 * all that is lost: at most 1.2e-7 of the sum of magnitudes, on real data
 * orders of magnitude less, as roundings cancel.  Anything else, and the last
 * stretch, is careful: each value on its own, in order, in F64. */
#ifndef TS_QUANT_TALLY_H
#define TS_QUANT_TALLY_H

#include <stddef.h>
#include <stdint.h>

enum { TS_STRETCH = 1024, TS_LANES = 16 };

typedef struct {
    uint64_t nan_count, inf_count;
    int64_t low, high; /* keys of the type; INT64_MAX, INT64_MIN: none yet */
    double sums[TS_LANES];
} ts_tally;

/* What a 16 or 32-bit float sums safely in F32: keys from -limit to
 * limit - 1.  F16 has no larger finite values. */
#define TS_BF16_LIMIT 0x7d80
#define TS_F16_LIMIT 0x7c00
#define TS_F32_LIMIT 0x7d800000

/* Two's complement order from sign and magnitude, and back: the same step. */
static inline int16_t ts_key_16(uint16_t bits)
{
    return (int16_t)(bits ^ (bits & 0x8000 ? 0x7fff : 0));
}

static inline int32_t ts_key_32(uint32_t bits)
{
    return (int32_t)(bits ^ (bits & 0x80000000 ? 0x7fffffff : 0));
}

static inline int64_t ts_key_64(uint64_t bits)
{
    return (int64_t)(bits ^ (bits >> 63 ? INT64_MAX : 0));
}

typedef void (*ts_tally_kernel)(const uint8_t *in, size_t count,
                                ts_tally *tally);

#define TS_TALLY_KERNEL(name)                                                 \
    void name(const uint8_t *in, size_t count, ts_tally *tally)

TS_TALLY_KERNEL(ts_bf16_tally);
TS_TALLY_KERNEL(ts_bf16_tally_avx2);
TS_TALLY_KERNEL(ts_bf16_tally_avx512);
TS_TALLY_KERNEL(ts_f16_tally);
TS_TALLY_KERNEL(ts_f16_tally_avx2);
TS_TALLY_KERNEL(ts_f16_tally_avx512);
TS_TALLY_KERNEL(ts_f32_tally);
TS_TALLY_KERNEL(ts_f32_tally_avx2);
TS_TALLY_KERNEL(ts_f32_tally_avx512);
TS_TALLY_KERNEL(ts_f64_tally);

/* The careful way alone. */
TS_TALLY_KERNEL(ts_bf16_tally_careful);
TS_TALLY_KERNEL(ts_f16_tally_careful);
TS_TALLY_KERNEL(ts_f32_tally_careful);

/* Integers, at least one and at most 2^20: the sum is exactly
 * high_sum * 2^32 + low_sum. */
typedef struct {
    double min, max;
    int64_t high_sum, low_sum;
} ts_int_tally;

enum { TS_INT_PIECE = 1 << 20 };

typedef void (*ts_int_tally_kernel)(const uint8_t *in, size_t count,
                                    ts_int_tally *tally);

#define TS_INT_TALLY_KERNEL(name)                                             \
    void name(const uint8_t *in, size_t count, ts_int_tally *tally)

TS_INT_TALLY_KERNEL(ts_bool_tally);
TS_INT_TALLY_KERNEL(ts_u8_tally);
TS_INT_TALLY_KERNEL(ts_i8_tally);
TS_INT_TALLY_KERNEL(ts_u16_tally);
TS_INT_TALLY_KERNEL(ts_i16_tally);
TS_INT_TALLY_KERNEL(ts_u32_tally);
TS_INT_TALLY_KERNEL(ts_i32_tally);
TS_INT_TALLY_KERNEL(ts_u64_tally);
TS_INT_TALLY_KERNEL(ts_i64_tally);

#endif
