/* planes_body.h -- the definition of planes_kernel.h, written so that a
 * compiler can turn it into vectors; each kernel file includes it once. */
#ifndef TS_CODEC_PLANES_BODY_H
#define TS_CODEC_PLANES_BODY_H

#include <string.h>

#include "planes_kernel.h"

static inline uint16_t rotated_left(uint16_t x)
{
    return (uint16_t)(x << 1 | x >> 15);
}

static inline uint16_t rotated_right(uint16_t x)
{
    return (uint16_t)(x >> 1 | x << 15);
}

static inline void split1(const uint8_t *in, size_t count, bool rotated,
                          uint8_t *restrict top)
{
    if (!rotated) {
        memcpy(top, in, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        top[i] = (uint8_t)(in[i] << 1 | in[i] >> 7);
}

static inline void split2(const uint8_t *in, size_t count, bool rotated,
                          uint8_t *restrict top, uint8_t *restrict low)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t x;
        memcpy(&x, in + 2 * i, sizeof x);
        x = rotated ? rotated_left(x) : x;
        top[i] = (uint8_t)(x >> 8);
        low[i] = (uint8_t)x;
    }
}

/* The top two bytes of wider elements, then the others one by one. */
static inline void split_wide(const uint8_t *in, size_t count, unsigned width,
                              bool rotated, uint8_t *const *planes)
{
    uint8_t *restrict top = planes[0], *restrict next = planes[1];
    for (size_t i = 0; i < count; i++) {
        uint16_t x;
        memcpy(&x, in + i * width + width - 2, sizeof x);
        x = rotated ? rotated_left(x) : x;
        top[i] = (uint8_t)(x >> 8);
        next[i] = (uint8_t)x;
    }
    for (unsigned k = 2; k < width; k++) {
        uint8_t *restrict plane = planes[k];
        const uint8_t *from = in + width - 1 - k;
        for (size_t i = 0; i < count; i++) plane[i] = from[i * width];
    }
}

static void split(const uint8_t *in, size_t count, unsigned width,
                  bool rotated, uint8_t *const *planes)
{
    switch (width) {
    case 1: split1(in, count, rotated, planes[0]); break;
    case 2: split2(in, count, rotated, planes[0], planes[1]); break;
    case 4: split_wide(in, count, 4, rotated, planes); break;
    default: split_wide(in, count, 8, rotated, planes); break;
    }
}

static inline void merge1(const uint8_t *restrict top, size_t count,
                          bool rotated, uint8_t *restrict out)
{
    if (!rotated) {
        memcpy(out, top, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)(top[i] >> 1 | top[i] << 7);
}

static inline uint16_t top_two(const uint8_t *top, const uint8_t *next,
                               size_t i, bool rotated)
{
    uint16_t x = (uint16_t)(top[i] << 8 | next[i]);
    return rotated ? rotated_right(x) : x;
}

static inline void merge2(const uint8_t *restrict top,
                          const uint8_t *restrict low, size_t count,
                          bool rotated, uint8_t *restrict out)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t x = top_two(top, low, i, rotated);
        memcpy(out + 2 * i, &x, sizeof x);
    }
}

static inline void merge4(const uint8_t *const *planes, size_t count,
                          bool rotated, uint8_t *restrict out)
{
    const uint8_t *a = planes[0], *b = planes[1], *c = planes[2];
    const uint8_t *d = planes[3];
    for (size_t i = 0; i < count; i++) {
        uint32_t x = (uint32_t)top_two(a, b, i, rotated) << 16
                   | (uint32_t)c[i] << 8 | d[i];
        memcpy(out + 4 * i, &x, sizeof x);
    }
}

static inline void merge8(const uint8_t *const *planes, size_t count,
                          bool rotated, uint8_t *restrict out)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t x = top_two(planes[0], planes[1], i, rotated);
        for (unsigned k = 2; k < 8; k++) x = x << 8 | planes[k][i];
        memcpy(out + 8 * i, &x, sizeof x);
    }
}

static void merge(const uint8_t *const *planes, size_t count, unsigned width,
                  bool rotated, uint8_t *out, bool bypass)
{
    (void)bypass; /* plain C has no such stores */
    switch (width) {
    case 1: merge1(planes[0], count, rotated, out); break;
    case 2: merge2(planes[0], planes[1], count, rotated, out); break;
    case 4: merge4(planes, count, rotated, out); break;
    default: merge8(planes, count, rotated, out); break;
    }
}

static void cut(const uint8_t *in, size_t count, unsigned low, uint8_t *upper,
                uint8_t *lower)
{
    uint8_t mask = (uint8_t)((1u << low) - 1);
    for (size_t i = 0; i < count; i++) {
        uint8_t x = in[i];
        upper[i] = (uint8_t)(x >> low);
        lower[i] = x & mask;
    }
}

static void join(const uint8_t *upper, const uint8_t *lower, size_t count,
                 unsigned low, uint8_t *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)(upper[i] << low | lower[i]);
}

/* Eight symbols make `bits` whole bytes. */
static void pack(const uint8_t *in, size_t count, unsigned bits, uint8_t *out)
{
    size_t whole = count / 8 * 8;
    uint64_t word = 0;

    for (size_t i = 0; i < whole; i += 8, out += bits) {
        word = 0;
        for (unsigned k = 0; k < 8; k++)
            word |= (uint64_t)in[i + k] << k * bits;
        for (unsigned k = 0; k < bits; k++) out[k] = (uint8_t)(word >> 8 * k);
    }
    word = 0;
    for (size_t i = whole; i < count; i++)
        word |= (uint64_t)in[i] << (i - whole) * bits;
    for (unsigned k = 0; 8 * k < (count - whole) * bits; k++)
        out[k] = (uint8_t)(word >> 8 * k);
}

static void unpack(const uint8_t *in, size_t count, unsigned bits,
                   uint8_t *out)
{
    uint8_t mask = (uint8_t)((1u << bits) - 1);

    for (size_t i = 0; i < count; i += 8, in += bits) {
        size_t some = count - i < 8 ? count - i : 8;
        uint64_t word = 0;
        for (unsigned k = 0; 8 * k < some * bits; k++)
            word |= (uint64_t)in[k] << 8 * k;
        for (unsigned k = 0; k < some; k++)
            out[i + k] = (uint8_t)(word >> k * bits) & mask;
    }
}

#endif
