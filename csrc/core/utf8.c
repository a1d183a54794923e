#include "utf8.h"

#include "base.h"

/* Bytes of the well-formed sequence at `at`, 0 when there is none.  The
 * second byte's range depends on the first: Unicode 15, table 3-7. */
static size_t sequence(const uint8_t *at, size_t left)
{
    uint8_t first = at[0], low = 0x80, high = 0xBF;
    size_t size;

    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (left < size) return 0;
    if (first == 0xE0) low = 0xA0;  /* else overlong */
    if (first == 0xED) high = 0x9F; /* else a surrogate */
    if (first == 0xF0) low = 0x90;  /* else overlong */
    if (first == 0xF4) high = 0x8F; /* else above U+10FFFF */
    if (at[1] < low || at[1] > high) return 0;
    for (size_t i = 2; i < size; i++)
        if ((at[i] & 0xC0) != 0x80) return 0;
    return size;
}

size_t ts_utf8_valid(const void *bytes, size_t size)
{
    const uint8_t *text = bytes;
    size_t at = 0;

    while (at < size) {
        if (size - at >= 8
            && (ts_load_u64(text + at) & 0x8080808080808080u) == 0) {
            at += 8;
            continue;
        }
        size_t step = sequence(text + at, size - at);
        if (step == 0) return at;
        at += step;
    }
    return at;
}

size_t ts_utf8_put(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}
