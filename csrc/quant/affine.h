/* affine.h -- the plain loops of quantising with a scale and a zero that are
 * stored apart, and of measuring what was lost.
 *
 *     code = clamp(round(x / scale) + zero)      x is about (code - zero) * scale
 *
 * They are written once, in affine_body.h, in a form that compilers turn into
 * vector code, and compiled for each SIMD level: without contraction IEEE
 * arithmetic leaves no room for different bits. */
#ifndef TS_QUANT_AFFINE_H
#define TS_QUANT_AFFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The finest code is 8 bits: beyond this the rounding trick would fail. */
typedef struct {
    float scale;     /* positive */
    float zero;      /* an integer within low and high */
    float low, high; /* integers: the codes there are */
} ts_affine;

/* Begins as {0, 0, true} and grows. */
typedef struct {
    float min, max; /* of all values and 0; of no use when not finite */
    bool is_finite;
} ts_extent;

/* Sums are kept in as many lanes as the widest register, so that all levels
 * add in the same order. */
enum { TS_AFFINE_LANES = 16 };

typedef struct {
    double squares[TS_AFFINE_LANES];  /* of what was lost */
    double products[TS_AFFINE_LANES]; /* before times after */
    double before[TS_AFFINE_LANES];   /* squares */
    double after[TS_AFFINE_LANES];    /* squares */
    float most[TS_AFFINE_LANES]; /* largest magnitude of what was lost */
} ts_loss;

typedef struct {
    void (*extent)(const float *x, size_t count, ts_extent *extent);
    void (*encode)(const float *x, int8_t *codes, size_t count,
                   const ts_affine *affine);
    void (*pack)(const int8_t *codes, uint8_t *out, size_t pairs);
    void (*unpack)(const uint8_t *in, int8_t *codes, size_t pairs);
    void (*decode)(const int8_t *codes, float *x, size_t count, float scale,
                   float zero);
    void (*divide)(const float *x, float *y, size_t count, float divisor);
    void (*multiply)(float *x, size_t count, float factor);
    void (*compare)(const float *before, const float *after, size_t count,
                    ts_loss *loss);
} ts_affine_kernels;

extern const ts_affine_kernels ts_affine_scalar;
extern const ts_affine_kernels ts_affine_avx2;
extern const ts_affine_kernels ts_affine_avx512;

#endif
