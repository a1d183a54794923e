/* planes_kernel.h -- elements to byte planes and back, bytes to bits and back.
 *
 * planes[0] holds the top byte of every element, planes[width - 1] the lowest.
 * Rotated: the top 16 bits (of single bytes all 8) are rotated left by one
 * first, which brings the sign of a float behind its exponent and makes the
 * exponent of bf16 and f32 a byte of its own. */
#ifndef TS_CODEC_PLANES_KERNEL_H
#define TS_CODEC_PLANES_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    /* count elements of 1, 2, 4 or 8 bytes; bypass stores past the caches and
     * wants `out` aligned to 64. */
    void (*split)(const uint8_t *in, size_t count, unsigned width,
                  bool rotated, uint8_t *const *planes);
    void (*merge)(const uint8_t *const *planes, size_t count, unsigned width,
                  bool rotated, uint8_t *out, bool bypass);
    /* A byte is its upper bits above `low` lower ones, 1 to 7. */
    void (*cut)(const uint8_t *in, size_t count, unsigned low, uint8_t *upper,
                uint8_t *lower);
    void (*join)(const uint8_t *upper, const uint8_t *lower, size_t count,
                 unsigned low, uint8_t *out);
    /* The low `bits` (1 to 7) of each byte, one after the other from the
     * lowest bit on; (count * bits + 7) / 8 bytes, no more are touched. */
    void (*pack)(const uint8_t *in, size_t count, unsigned bits, uint8_t *out);
    void (*unpack)(const uint8_t *in, size_t count, unsigned bits,
                   uint8_t *out);
} ts_planes;

extern const ts_planes ts_planes_scalar;
#if defined(__x86_64__)
extern const ts_planes ts_planes_avx2, ts_planes_avx512;
#endif

#endif
