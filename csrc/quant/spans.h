/* spans.h -- what quantize.c and dequantize.c agree on: how rows are cut into
 * spans that fit the first-level cache, and where a span's codes lie. */
#ifndef TS_QUANT_SPANS_H
#define TS_QUANT_SPANS_H

#include "affine.h"
#include "nf4.h"
#include "quant.h"

/* A whole number of every block, and even, so that a span of nibbles begins
 * with a byte. */
enum { TS_SPAN = 2048 };

static inline size_t ts_span_size(uint64_t left)
{
    return left < TS_SPAN ? (size_t)left : TS_SPAN;
}

/* Elements under one scale; what has none, or one of a tensor, counts a row. */
static inline uint64_t ts_group_size(const ts_quantize *how)
{
    return how->group <= how->columns && how->group > 0 ? how->group
                                                        : how->columns;
}

/* The number of the scale of an element of a row. */
static inline uint64_t ts_group_index(const ts_quantize *how, uint64_t row,
                                      uint64_t column)
{
    if (how->group == TS_GROUP_TENSOR) return 0;
    uint64_t size = ts_group_size(how);
    return row * (how->columns / size) + column / size;
}

/* Bytes of codes before an element of a row. */
static inline uint64_t ts_code_offset(const ts_quantize *how, uint64_t row,
                                      uint64_t column)
{
    if (how->bits == 4)
        return row * (how->columns / 2 + how->columns % 2) + column / 2;
    return row * how->columns + column;
}

/* The plain loops at a level. */
static inline const ts_affine_kernels *ts_affine_at(ts_simd level)
{
#if defined(__x86_64__)
    if (level == TS_SIMD_AVX512) return &ts_affine_avx512;
    if (level == TS_SIMD_AVX2) return &ts_affine_avx2;
#else
    (void)level;
#endif
    return &ts_affine_scalar;
}

#endif
