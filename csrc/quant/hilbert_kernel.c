#include <stdbool.h>
#include <string.h>

#include "hilbert.h"

/* A stretch of 64 places is a square of 8 by 8, turned one of four ways: as it
 * is, with x and y exchanged, upside down, or both.  The way and the corner
 * are found once a stretch; within it a table says how far each place is from
 * the corner. */
enum { STRETCH = 64, INNER = 3 };

/* A place, and how what lies below it is turned. */
typedef struct {
    uint64_t x, y;
    unsigned swapped, flipped;
} place;

/* The classic walk from the lowest pair of bits up: each pair says in which
 * quarter of a square twice as large we are, and how that quarter is turned.
 * `low` is the level of the first pair. */
static place walk(uint64_t pairs, unsigned low, unsigned order)
{
    place at = {0};
    for (unsigned level = low; level < order; level++, pairs >>= 2) {
        uint64_t side = (uint64_t)1 << level;
        uint64_t right = pairs >> 1 & 1, up = (pairs ^ right) & 1;
        if (up == 0) {
            uint64_t x = at.x;
            at.x = right ? side - 1 - at.y : at.y;
            at.y = right ? side - 1 - x : x;
            at.swapped ^= 1;
            at.flipped ^= (unsigned)right;
        }
        at.x += right * side;
        at.y += up * side;
    }
    return at;
}

/* How far place i of a stretch is from the first, for both ways to turn. */
typedef struct {
    int64_t plain[STRETCH], swapped[STRETCH];
} offsets;

static void offsets_make(unsigned inner, unsigned order, offsets *table)
{
    for (uint64_t i = 0; i < STRETCH; i++) {
        place at = walk(i, 0, inner);
        table->plain[i] = (int64_t)(at.x + (at.y << order));
        table->swapped[i] = (int64_t)(at.y + (at.x << order));
    }
}

/* Calls move(index in the image, index in the sequence) for each element. */
#define ALONG_THE_CURVE(count, order, move)                                   \
    do {                                                                      \
        unsigned inner = (order) < INNER ? (order) : INNER;                   \
        offsets table;                                                        \
        offsets_make(inner, order, &table);                                   \
        for (size_t start = 0; start < (count); start += STRETCH) {           \
            place at = walk(start / STRETCH, inner, order);                   \
            int64_t corner = (int64_t)(at.x + (at.y << (order)));             \
            int64_t sign = at.flipped ? -1 : 1;                               \
            const int64_t *steps = at.swapped ? table.swapped : table.plain;  \
            size_t left = (count) - start;                                    \
            size_t n = left < STRETCH ? left : STRETCH;                       \
            for (size_t i = 0; i < n; i++)                                    \
                move((size_t)(corner + sign * steps[i]), start + i);          \
        }                                                                     \
    } while (0)

/* A copy of a width that the compiler knows is one move. */
#define SPREAD(to, from) memcpy(image + size * (to), in + size * (from), size)
#define COLLECT(from, to)                                                     \
    memcpy(out + size * (to), image + size * (from), size)
#define FOR_EACH_WIDTH(width, body)                                           \
    switch (width) {                                                          \
    case 1: body(1); break;                                                   \
    case 2: body(2); break;                                                   \
    case 4: body(4); break;                                                   \
    default: body(8);                                                         \
    }

void ts_hilbert_spread(const uint8_t *in, size_t count, unsigned order,
                       size_t width, uint8_t *image)
{
#define BODY(bytes)                                                           \
    do {                                                                      \
        enum { size = (bytes) };                                              \
        ALONG_THE_CURVE(count, order, SPREAD);                                \
    } while (0)
    FOR_EACH_WIDTH(width, BODY)
#undef BODY
}

void ts_hilbert_collect(const uint8_t *image, size_t count, unsigned order,
                        size_t width, uint8_t *out)
{
#define BODY(bytes)                                                           \
    do {                                                                      \
        enum { size = (bytes) };                                              \
        ALONG_THE_CURVE(count, order, COLLECT);                               \
    } while (0)
    FOR_EACH_WIDTH(width, BODY)
#undef BODY
}

/* One sum a level is open at any time: what ends with this element is written
 * and becomes part of the level above. */
void ts_hilbert_average(const float *x, size_t count, unsigned levels,
                        float *out)
{
    double sums[33] = {0};
    float *next[33];
    for (unsigned k = 1; k <= levels && k < 32; k++) {
        uint64_t run = (uint64_t)1 << 2 * k;
        next[k] = out;
        out += count / run + (count % run > 0);
    }
    for (size_t i = 0; i < count; i++) {
        sums[1] += (double)x[i];
        for (unsigned k = 1; k <= levels && k < 32; k++) {
            uint64_t run = (uint64_t)1 << 2 * k;
            bool is_end = i + 1 == count;
            if ((i + 1) % run != 0 && !is_end) break;
            uint64_t rest = (i + 1) % run;
            *next[k]++ = (float)(sums[k] / (double)(rest > 0 ? rest : run));
            sums[k + 1] += sums[k];
            sums[k] = 0;
        }
    }
}
