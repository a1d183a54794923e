#include <math.h>
#include <stdalign.h>
#include <string.h>

#include "half.h"
#include "quant.h"
#include "tally.h"

void ts_stats_begin(ts_stats *stats)
{
    *stats = (ts_stats){.min = INFINITY, .max = -INFINITY};
}

/* What the rounding of a + b loses, is kept (Knuth's two-sum).  An F64 sum
 * that overflows is infinite, and nothing is lost of that. */
static void sum_add(ts_stats *stats, double value)
{
    double sum = stats->sum + value;
    double part = sum - stats->sum;
    double lost = (stats->sum - (sum - part)) + (value - part);
    stats->sum = sum;
    if (isfinite(sum)) stats->carry += lost;
}

/* Equal zeros: -0 is the smaller. */
static void range_add(ts_stats *stats, double min, double max)
{
    if (min < stats->min || (min == stats->min && signbit(min)))
        stats->min = min;
    if (max > stats->max || (max == stats->max && !signbit(max)))
        stats->max = max;
}

static double key_value(ts_dtype dtype, int64_t key)
{
    if (dtype == TS_BF16)
        return ts_f32_of_bf16((uint16_t)ts_key_16((uint16_t)key));
    if (dtype == TS_F16)
        return ts_f32_of_f16((uint16_t)ts_key_16((uint16_t)key));
    if (dtype == TS_F32)
        return ts_f32_from_bits((uint32_t)ts_key_32((uint32_t)key));
    int64_t bits = ts_key_64((uint64_t)key);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void float_add(ts_stats *stats, ts_dtype dtype, const ts_tally *tally)
{
    stats->nan_count += tally->nan_count;
    stats->inf_count += tally->inf_count;
    for (int l = 0; l < TS_LANES; l++) sum_add(stats, tally->sums[l]);
    if (tally->low > tally->high) return; /* no finite value */
    range_add(stats, key_value(dtype, tally->low),
              key_value(dtype, tally->high));
}

#if defined(__x86_64__)
#define ALL(name) {name, name##_avx2, name##_avx512}
#else
#define ALL(name) {name, name, name}
#endif

static ts_tally_kernel float_kernel(ts_dtype dtype, ts_simd level)
{
    static const ts_tally_kernel kernels[][TS_SIMD_LEVELS] = {
        ALL(ts_bf16_tally),
        ALL(ts_f16_tally),
        ALL(ts_f32_tally),
    };
    if (dtype == TS_BF16) return kernels[0][level];
    if (dtype == TS_F16) return kernels[1][level];
    if (dtype == TS_F32) return kernels[2][level];
    return dtype == TS_F64 ? ts_f64_tally : NULL;
}

static ts_int_tally_kernel int_kernel(ts_dtype dtype)
{
    static const ts_int_tally_kernel kernels[] = {
        [TS_BOOL] = ts_bool_tally, [TS_U8] = ts_u8_tally,
        [TS_I8] = ts_i8_tally,     [TS_U16] = ts_u16_tally,
        [TS_I16] = ts_i16_tally,   [TS_U32] = ts_u32_tally,
        [TS_I32] = ts_i32_tally,   [TS_U64] = ts_u64_tally,
        [TS_I64] = ts_i64_tally,
    };
    return dtype <= TS_I64 ? kernels[dtype] : NULL;
}

static void add_ints(ts_stats *stats, ts_dtype dtype, const uint8_t *in,
                     size_t count)
{
    ts_int_tally_kernel kernel = int_kernel(dtype);
    size_t width = ts_dtype_block_size(dtype);
    while (count > 0) {
        size_t piece = count < TS_INT_PIECE ? count : TS_INT_PIECE;
        ts_int_tally tally;
        kernel(in, piece, &tally);
        sum_add(stats, (double)tally.high_sum * 0x1p32);
        sum_add(stats, (double)tally.low_sum);
        range_add(stats, tally.min, tally.max);
        in += piece * width;
        count -= piece;
    }
}

/* A whole number of stretches and of every block. */
enum { TILE = 2 * TS_STRETCH };

static void add_converted(ts_stats *stats, const ts_convert *convert,
                          ts_tally_kernel kernel, const uint8_t *in,
                          size_t count)
{
    alignas(64) float floats[TILE];
    uint8_t *tile = (uint8_t *)floats;
    ts_tally tally = {.low = INT64_MAX, .high = INT64_MIN};
    while (count > 0) {
        size_t piece = count < TILE ? count : TILE;
        ts_convert_run(convert, in, tile, piece);
        kernel(tile, piece, &tally);
        in += piece / ts_dtype_block_count(convert->from)
            * ts_dtype_block_size(convert->from);
        count -= piece;
    }
    float_add(stats, TS_F32, &tally);
}

ts_status ts_stats_add_at(ts_stats *stats, ts_dtype dtype, ts_simd level,
                          const uint8_t *in, size_t count, ts_error *error)
{
    ts_tally_kernel kernel = float_kernel(dtype, level);
    if (kernel != NULL) {
        ts_tally tally = {.low = INT64_MAX, .high = INT64_MIN};
        kernel(in, count, &tally);
        float_add(stats, dtype, &tally);
    } else if (int_kernel(dtype) != NULL) {
        add_ints(stats, dtype, in, count);
    } else {
        ts_convert convert;
        TS_TRY(ts_convert_find_at(dtype, TS_F32, level, &convert, error));
        kernel = float_kernel(TS_F32, level);
        add_converted(stats, &convert, kernel, in, count);
    }
    stats->count += count;
    return TS_OK;
}

ts_status ts_stats_add(ts_stats *stats, ts_dtype dtype, const uint8_t *in,
                       size_t count, ts_error *error)
{
    return ts_stats_add_at(stats, dtype, ts_cpu_simd(), in, count, error);
}

void ts_stats_merge(ts_stats *into, const ts_stats *from)
{
    into->count += from->count;
    into->nan_count += from->nan_count;
    into->inf_count += from->inf_count;
    sum_add(into, from->sum);
    into->carry += from->carry;
    range_add(into, from->min, from->max);
}

double ts_stats_mean(const ts_stats *stats)
{
    uint64_t finite = stats->count - stats->nan_count - stats->inf_count;
    if (finite == 0) return NAN;
    return (stats->sum + stats->carry) / (double)finite;
}

double ts_stats_absmax(const ts_stats *stats)
{
    if (stats->min > stats->max) return 0;
    return fmax(fabs(stats->min), fabs(stats->max));
}
