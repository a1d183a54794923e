#include <math.h>
#include <stdbool.h>

#include "half.h"
#include "kernels.h"

/* What NumPy's astype does between the types that C has itself.
 *
 * A float out of an integer's range is undefined in C and in NumPy; here it
 * is what x86 gives: the value is cut to 64 bits (to 32 for targets below
 * that), where out of range and NaN are the smallest integer, and the low bits
 * are kept.  Unsigned 64-bit targets shift the upper half of their range down
 * first. */

static int32_t cut_32(double x)
{
    return x > -2147483649.0 && x < 2147483648.0 ? (int32_t)x : INT32_MIN;
}

#define TWO_TO_63 9223372036854775808.0

static int64_t cut_64(double x)
{
    return x >= -TWO_TO_63 && x < TWO_TO_63 ? (int64_t)x : INT64_MIN;
}

static uint64_t cut_u64(double x)
{
    if (x < TWO_TO_63 || x != x) return (uint64_t)cut_64(x);
    return (uint64_t)cut_64(x - TWO_TO_63) ^ (uint64_t)INT64_MIN;
}

/* F32 goes through F64, which holds it exactly. */
#define FLOAT_TO_BOOL(x) ((x) != 0)
#define FLOAT_TO_U8(x) (uint8_t)cut_32((double)(x))
#define FLOAT_TO_I8(x) (int8_t)cut_32((double)(x))
#define FLOAT_TO_U16(x) (uint16_t)cut_32((double)(x))
#define FLOAT_TO_I16(x) (int16_t)cut_32((double)(x))
#define FLOAT_TO_U32(x) (uint32_t)cut_64((double)(x))
#define FLOAT_TO_I32(x) cut_32((double)(x))
#define FLOAT_TO_U64(x) cut_u64((double)(x))
#define FLOAT_TO_I64(x) cut_64((double)(x))
#define FLOAT_TO_F32(x) (float)(x)
#define FLOAT_TO_F64(x) (double)(x)

#define INT_TO_BOOL(x) ((x) != 0)
#define INT_TO_U8(x) (uint8_t)(x)
#define INT_TO_I8(x) (int8_t)(x)
#define INT_TO_U16(x) (uint16_t)(x)
#define INT_TO_I16(x) (int16_t)(x)
#define INT_TO_U32(x) (uint32_t)(x)
#define INT_TO_I32(x) (int32_t)(x)
#define INT_TO_U64(x) (uint64_t)(x)
#define INT_TO_I64(x) (int64_t)(x)
#define INT_TO_F32(x) (float)(x)
#define INT_TO_F64(x) (double)(x)

/* A stored bool is any byte; only 0 is false. */
#define BOOL_TO(to, x) INT_TO_##to((x) != 0)

typedef uint8_t type_BOOL, type_U8;
typedef int8_t type_I8;
typedef uint16_t type_U16;
typedef int16_t type_I16;
typedef uint32_t type_U32;
typedef int32_t type_I32;
typedef uint64_t type_U64;
typedef int64_t type_I64;
typedef float type_F32;
typedef double type_F64;

#define CAST(from, to, value)                                                 \
    static TS_CONVERT_KERNEL(cast_##from##_##to)                              \
    {                                                                         \
        type_##to *y = (void *)out;                                           \
        for (size_t i = 0; i < count; i++) {                                  \
            type_##from x;                                                    \
            memcpy(&x, in + i * sizeof x, sizeof x);                          \
            y[i] = value;                                                     \
        }                                                                     \
    }
#define FROM_BOOL(to) CAST(BOOL, to, BOOL_TO(to, x))
#define FROM_INT(from, to) CAST(from, to, INT_TO_##to(x))
#define FROM_FLOAT(from, to) CAST(from, to, FLOAT_TO_##to(x))
#define CASTS_TO(to)                                                          \
    FROM_BOOL(to)                                                             \
    FROM_INT(U8, to)                                                          \
    FROM_INT(I8, to)                                                          \
    FROM_INT(U16, to)                                                         \
    FROM_INT(I16, to)                                                         \
    FROM_INT(U32, to)                                                         \
    FROM_INT(I32, to)                                                         \
    FROM_INT(U64, to)                                                         \
    FROM_INT(I64, to)                                                         \
    FROM_FLOAT(F32, to)                                                       \
    FROM_FLOAT(F64, to)
CASTS_TO(BOOL)
CASTS_TO(U8)
CASTS_TO(I8)
CASTS_TO(U16)
CASTS_TO(I16)
CASTS_TO(U32)
CASTS_TO(I32)
CASTS_TO(U64)
CASTS_TO(I64)
CASTS_TO(F32)
CASTS_TO(F64)

#define ENTRY(from, to) [TS_##to] = cast_##from##_##to
#define ROW(from)                                                             \
    [TS_##from] = {ENTRY(from, BOOL), ENTRY(from, U8),  ENTRY(from, I8),      \
                   ENTRY(from, U16),  ENTRY(from, I16), ENTRY(from, U32),     \
                   ENTRY(from, I32),  ENTRY(from, U64), ENTRY(from, I64),     \
                   ENTRY(from, F32),  ENTRY(from, F64)}

static const ts_convert_kernel casts[TS_F64 + 1][TS_F64 + 1] = {
    ROW(BOOL), ROW(U8),  ROW(I8),  ROW(U16), ROW(I16), ROW(U32),
    ROW(I32),  ROW(U64), ROW(I64), ROW(F32), ROW(F64),
};

ts_convert_kernel ts_cast_kernel(ts_dtype from, ts_dtype to)
{
    return from <= TS_F64 && to <= TS_F64 ? casts[from][to] : NULL;
}

/* A complex number is two floats. */
TS_CONVERT_KERNEL(ts_c64_widen) { cast_F32_F64(in, out, 2 * count); }

TS_CONVERT_KERNEL(ts_c128_narrow) { cast_F64_F32(in, out, 2 * count); }
