#include <stdbool.h>

#include "half.h"
#include "tally.h"

/* The definition: see tally.h.  The three short floats differ in how a value
 * and its key are read, in the lane of an element, and in the limit. */

typedef struct {
    int64_t low, high;
} range;

static range range_add(range seen, int64_t key)
{
    if (key < seen.low) seen.low = key;
    if (key > seen.high) seen.high = key;
    return seen;
}

static void tally_range(ts_tally *tally, range seen)
{
    if (seen.low < tally->low) tally->low = seen.low;
    if (seen.high > tally->high) tally->high = seen.high;
}

#define NOTHING (range){INT64_MAX, INT64_MIN}

/* `read_key` and `read_value` take the bits; `index(lane, row)` is where row
 * 0-3 of a lane lies in a group of 64. */
#define SHORT_FLOAT(stem, width, bits_type, read_bits, read_key, read_value,  \
                    lane_of, index, limit, infinity)                          \
    static range stem##_range(const uint8_t *in)                              \
    {                                                                         \
        range seen = NOTHING;                                                 \
        for (size_t i = 0; i < TS_STRETCH; i++)                               \
            seen = range_add(seen, read_key(read_bits(in + i * (width))));    \
        return seen;                                                          \
    }                                                                         \
                                                                              \
    static float stem##_at(const uint8_t *in, size_t i)                       \
    {                                                                         \
        return read_value(read_bits(in + i * (width)));                       \
    }                                                                         \
                                                                              \
    static void stem##_calm(const uint8_t *in, ts_tally *tally)               \
    {                                                                         \
        const uint8_t *end = in + TS_STRETCH * (width);                       \
        for (; in < end; in += 64 * (width))                                  \
            for (size_t l = 0; l < TS_LANES; l++) {                           \
                float a = stem##_at(in, index(l, 0))                          \
                    + stem##_at(in, index(l, 1));                             \
                float b = stem##_at(in, index(l, 2))                          \
                    + stem##_at(in, index(l, 3));                             \
                tally->sums[l] += (double)(a + b);                            \
            }                                                                 \
    }                                                                         \
                                                                              \
    TS_TALLY_KERNEL(ts_##stem##_tally_careful)                                \
    {                                                                         \
        range seen = NOTHING;                                                 \
        for (size_t i = 0; i < count; i++) {                                  \
            bits_type bits = read_bits(in + i * (width));                     \
            uint32_t magnitude = bits & ((infinity) | ((infinity)-1));        \
            if (magnitude > (infinity))                                       \
                tally->nan_count++;                                           \
            else if (magnitude == (infinity))                                 \
                tally->inf_count++;                                           \
            else {                                                            \
                seen = range_add(seen, read_key(bits));                       \
                tally->sums[lane_of(i)] += (double)stem##_at(in, i);          \
            }                                                                 \
        }                                                                     \
        tally_range(tally, seen);                                             \
    }                                                                         \
                                                                              \
    TS_TALLY_KERNEL(ts_##stem##_tally)                                        \
    {                                                                         \
        for (; count >= TS_STRETCH; count -= TS_STRETCH) {                    \
            range seen = stem##_range(in);                                    \
            if (seen.low >= -(limit) && seen.high < (limit)) {                \
                stem##_calm(in, tally);                                       \
                tally_range(tally, seen);                                     \
            } else {                                                          \
                ts_##stem##_tally_careful(in, TS_STRETCH, tally);             \
            }                                                                 \
            in += TS_STRETCH * (width);                                       \
        }                                                                     \
        ts_##stem##_tally_careful(in, count, tally);                          \
    }

#define LANE(i) ((i) % TS_LANES)
#define INDEX(lane, row) ((row)*TS_LANES + (lane))
#define PAIR_LANE(i) ((i) / 2 % TS_LANES)
#define PAIR_INDEX(lane, row) ((row) / 2 * 32 + 2 * (lane) + (row) % 2)

SHORT_FLOAT(bf16, 2, uint16_t, ts_load_u16, ts_key_16, ts_f32_of_bf16,
            PAIR_LANE, PAIR_INDEX, TS_BF16_LIMIT, 0x7f80u)
SHORT_FLOAT(f16, 2, uint16_t, ts_load_u16, ts_key_16, ts_f32_of_f16, LANE,
            INDEX, TS_F16_LIMIT, 0x7c00u)
SHORT_FLOAT(f32, 4, uint32_t, ts_load_u32, ts_key_32, ts_f32_from_bits, LANE,
            INDEX, TS_F32_LIMIT, 0x7f800000u)

/* Always careful: there is no wider type to be quick in. */
TS_TALLY_KERNEL(ts_f64_tally)
{
    const uint64_t infinity = 0x7ff0000000000000;
    range seen = NOTHING;
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = ts_load_u64(in + 8 * i);
        uint64_t magnitude = bits & INT64_MAX;
        if (magnitude >= infinity) {
            tally->nan_count += magnitude > infinity;
            tally->inf_count += magnitude == infinity;
            continue;
        }
        double value;
        memcpy(&value, in + 8 * i, sizeof value);
        seen = range_add(seen, ts_key_64(bits));
        tally->sums[LANE(i)] += value;
    }
    tally_range(tally, seen);
}

/* A stored bool is any byte; it counts as 0 or 1.  `part` holds the sum of a
 * few thousand elements, so that the inner loop can be narrow and fast. */
enum { PART = 4096 };

#define INTEGER(stem, type, part, value)                                      \
    static type stem##_at(const uint8_t *in, size_t i)                        \
    {                                                                         \
        type x;                                                               \
        memcpy(&x, in + i * sizeof x, sizeof x);                              \
        return (type)(value);                                                 \
    }                                                                         \
                                                                              \
    TS_INT_TALLY_KERNEL(ts_##stem##_tally)                                    \
    {                                                                         \
        type low = stem##_at(in, 0), high = low;                              \
        int64_t sum = 0;                                                      \
        while (count > 0) {                                                   \
            size_t some = count < PART ? count : PART;                        \
            part some_sum = 0;                                                \
            for (size_t i = 0; i < some; i++) {                               \
                type x = stem##_at(in, i);                                    \
                low = x < low ? x : low;                                      \
                high = x > high ? x : high;                                   \
                some_sum += (part)x;                                          \
            }                                                                 \
            sum += (int64_t)some_sum;                                         \
            in += some * sizeof(type);                                        \
            count -= some;                                                    \
        }                                                                     \
        *tally = (ts_int_tally){(double)low, (double)high, 0, sum};           \
    }

INTEGER(bool, uint8_t, uint32_t, x != 0)
INTEGER(u8, uint8_t, uint32_t, x)
INTEGER(i8, int8_t, int32_t, x)
INTEGER(u16, uint16_t, uint32_t, x)
INTEGER(i16, int16_t, int32_t, x)
INTEGER(u32, uint32_t, uint64_t, x)
INTEGER(i32, int32_t, int64_t, x)

/* Two sums of halves, as one would overflow. */
#define LONG_INTEGER(stem, type)                                              \
    TS_INT_TALLY_KERNEL(ts_##stem##_tally)                                    \
    {                                                                         \
        type low = (type)ts_load_u64(in), high = low;                         \
        int64_t high_sum = 0, low_sum = 0;                                    \
        for (size_t i = 0; i < count; i++) {                                  \
            type x = (type)ts_load_u64(in + 8 * i);                           \
            low = x < low ? x : low;                                          \
            high = x > high ? x : high;                                       \
            high_sum += (int64_t)(x >> 32);                                   \
            low_sum += (int64_t)((uint64_t)x & 0xffffffff);                   \
        }                                                                     \
        *tally = (ts_int_tally){(double)low, (double)high, high_sum,          \
                                low_sum};                                     \
    }

LONG_INTEGER(u64, uint64_t)
LONG_INTEGER(i64, int64_t)
