/* rans_kernel.h -- an asymmetric-numeral-system coder whose tables fit into
 * registers: 16-bit states, probabilities in 1/128 or 1/256, bytes of renewal.
 *
 *     symbols of a group, 0 .. 127             x = freq * (x / M) + bias
 *       0  2  4 .. 62   states of stream 0     if (x < 256)
 *       1  3  5 .. 63   stream 1                   x = x << 8 | next byte
 *      64 66 68 .. 126  stream 2                             of the stream
 *      65 67 69 .. 127  stream 3
 *
 * 128 states run side by side, 32 to a stream of renewal bytes: with a stream
 * for each vector of states, where one reads on never waits for the others,
 * which is what bounded the speed when there was one stream for all.  Even and
 * odd symbols have different streams, so that two vectors of 16-bit states
 * are the bytes of one in order.
 *
 * A slot (x % M) gives symbol, freq and bias.  Rare symbols share one slot of
 * their own, ESC, and stand in a list that is read in the same order.  Each
 * span of 16 groups has one of up to four tables: rows of a matrix differ in
 * scale.  Idea of the interleaving: F. Giesen, "Interleaved entropy coders",
 * 2014; of rANS: J. Duda, 2013. */
#ifndef TS_CODEC_RANS_KERNEL_H
#define TS_CODEC_RANS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TS_RANS_STREAMS = 4,
    TS_RANS_LANES = 128, /* states, and symbols of a group */
    TS_RANS_SPAN = 16,   /* groups with one table */
    TS_RANS_TABLES = 4,
    TS_RANS_REACH = 32, /* bytes behind `at` that a group may read or take */
    TS_RANS_SYMBOLS = 64, /* slots' owners, ESC among them */
    TS_RANS_START = 256, /* every state, before the first and after the last */
    TS_RANS_MOST_LOW = 6, /* bits of a top byte that a sink adds */
    TS_RANS_BEYOND = (TS_RANS_SPAN + 1) * TS_RANS_LANES, /* rare symbols that
                               may be read behind the end of their list */
};

/* What the decoder needs.  Entries from M on are not used. */
typedef struct {
    _Alignas(64) uint8_t symbol[256], freq[256], bias[256];
    uint8_t first[TS_RANS_SYMBOLS]; /* slot of each owner, ascending */
    uint8_t owner[TS_RANS_SYMBOLS]; /* its symbol */
    unsigned owners;
    uint8_t escape; /* no owner's symbol: what ESC's slots say */
} ts_rans_slots;

typedef struct {
    ts_rans_slots table[TS_RANS_TABLES];
    const uint8_t *number; /* of each span's table, all in `table` */
    unsigned bits;         /* 7 or 8: M is 1 << bits */
} ts_rans_tables;

typedef struct {
    _Alignas(64) uint16_t state[TS_RANS_LANES];
    const uint8_t *at[TS_RANS_STREAMS];   /* next bytes */
    const uint8_t *safe[TS_RANS_STREAMS]; /* a group may begin up to here */
    const uint8_t *rare;  /* next symbol of the list */
    const uint8_t *rares; /* its end; TS_RANS_BEYOND more may be read */
    size_t group;         /* number of the next one */
} ts_rans_cursor;

/* Groups, at most `want`, that the cursor can surely do and that have one
 * table.  A group takes 32 bytes of each stream at most. */
static inline size_t ts_rans_ready(const ts_rans_cursor *cursor, size_t want)
{
    size_t some = TS_RANS_SPAN - cursor->group % TS_RANS_SPAN;

    some = want < some ? want : some;
    for (int k = 0; k < TS_RANS_STREAMS; k++) {
        ptrdiff_t left = cursor->safe[k] - cursor->at[k];
        size_t fit = left < 0 ? 0 : (size_t)left / TS_RANS_REACH + 1;
        some = fit < some ? fit : some;
    }
    return cursor->rare > cursor->rares ? 0 : some;
}

static inline const ts_rans_slots *ts_rans_table(const ts_rans_tables *tables,
                                                 const ts_rans_cursor *cursor)
{
    return &tables->table[tables->number[cursor->group / TS_RANS_SPAN]];
}

/* What will be worked on next: `lines` cache lines of it are fetched with
 * every group.  at is NULL when nothing is known. */
typedef struct {
    const uint8_t *at;
    unsigned lines;
} ts_rans_ahead;

/* Elements whose top bytes are being decoded, all else of them at hand: 1, 2
 * or 4 bytes, rotated or not.  Everything moves on by the groups done.  Rare
 * symbols are where they belong in the top byte (moved up by `low`), which for
 * elements of one byte is rotated back. */
typedef struct {
    const uint8_t *plane[4]; /* from 1 on: the lower bytes */
    const uint8_t *lower;    /* packed lower bits of the top byte */
    unsigned low;            /* how many, 0 to TS_RANS_MOST_LOW */
    unsigned width;
    bool rotated, bypass;    /* bypass as in planes_kernel.h */
    uint8_t *out;
    ts_rans_ahead ahead;
} ts_rans_sink;

/* What the encoder needs: which owner a symbol has, and for owner k ... */
typedef struct {
    _Alignas(64) uint8_t owner[256]; /* `escape` for rare symbols */
    _Alignas(64) uint16_t freq[TS_RANS_SYMBOLS];
    /* min(65536 / freq, 65535) */
    _Alignas(64) uint16_t inverse[TS_RANS_SYMBOLS];
    _Alignas(64) uint16_t start[TS_RANS_SYMBOLS];
    unsigned bits;
    uint8_t escape; /* the last owner */
} ts_rans_owners;

/* Where the encoder stands: all of it moves downwards.  64 bytes of room below
 * each; every state starts at TS_RANS_START. */
typedef struct {
    _Alignas(64) uint16_t state[TS_RANS_LANES];
    uint8_t *end[TS_RANS_STREAMS]; /* renewal bytes come below */
    uint8_t *rare;                 /* rare symbols, too */
    ts_rans_ahead ahead;
} ts_rans_press;

typedef struct {
    /* Up to `groups` groups; how many were done before the bytes of a stream
     * or the list were used up.  out takes 128 symbols a group. */
    size_t (*decode)(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                     size_t groups, uint8_t *out);
    /* The same, put together to elements at once while the next symbols are
     * being decoded; NULL where that brings nothing. */
    size_t (*decode_into)(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                          size_t groups, ts_rans_sink *sink);
    /* Encode groups of symbols with one table, from the last to the first. */
    void (*encode)(const ts_rans_owners *owners, const uint8_t *symbols,
                   size_t groups, ts_rans_press *press);
} ts_rans;

extern const ts_rans ts_rans_scalar;
#if defined(__x86_64__)
extern const ts_rans ts_rans_avx2, ts_rans_avx512;
#endif

#endif
