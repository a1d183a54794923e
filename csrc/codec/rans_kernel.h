/* rans_kernel.h -- an asymmetric-numeral-system coder whose tables fit into
 * registers: 16-bit states, probabilities in 1/128 or 1/256, bytes of renewal.
 *
 *     symbol i belongs to state i % 128          x = freq * (x / M) + bias
 *     group 0: symbols 0 .. 127                  if (x < 256)
 *     group 1: symbols 128 .. 255                    x = x << 8 | next byte
 *
 * 128 states run side by side: four vectors of 32 lanes.  A slot (x % M) gives
 * symbol, freq and bias.  Rare symbols share one slot of their own, ESC, and
 * stand in a list that is read in the same order.  Idea of the interleaving:
 * F. Giesen, "Interleaved entropy coders", 2014; of rANS: J. Duda, 2013. */
#ifndef TS_CODEC_RANS_KERNEL_H
#define TS_CODEC_RANS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TS_RANS_LANES = 128,
    TS_RANS_REACH = 192, /* bytes behind `at` that a group may read */
    TS_RANS_SYMBOLS = 64, /* slots' owners, ESC among them */
    TS_RANS_START = 256, /* every state, before the first and after the last */
};

/* What the decoder needs.  Entries from M on are not used. */
typedef struct {
    _Alignas(64) uint8_t symbol[256], freq[256], bias[256];
    uint8_t first[TS_RANS_SYMBOLS]; /* slot of each owner, ascending */
    uint8_t owner[TS_RANS_SYMBOLS]; /* its symbol */
    unsigned owners;
    unsigned bits;  /* 7 or 8: M is 1 << bits */
    uint8_t escape; /* no owner's symbol: what ESC's slots say */
} ts_rans_slots;

typedef struct {
    _Alignas(64) uint16_t state[TS_RANS_LANES];
    const uint8_t *at;    /* next byte */
    const uint8_t *safe;  /* a group may begin while at <= safe */
    const uint8_t *rare;  /* next symbol of the list */
    const uint8_t *rares; /* its end; 192 bytes behind it may be read */
} ts_rans_cursor;

/* What will be worked on next: `lines` cache lines of it are fetched with
 * every group.  at is NULL when nothing is known. */
typedef struct {
    const uint8_t *at;
    unsigned lines;
} ts_rans_ahead;

/* Elements whose top bytes are being decoded, all else of them at hand: 1, 2
 * or 4 bytes, rotated or not.  Everything moves on by the groups done. */
typedef struct {
    const uint8_t *plane[4]; /* from 1 on: the lower bytes */
    const uint8_t *lower;    /* packed lower bits of the top byte */
    unsigned low;            /* how many, 0 to 7 */
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
    ts_rans_ahead ahead;
} ts_rans_owners;

typedef struct {
    /* Up to `groups` groups; how many were done before `at` or `rare` got too
     * far.  out takes 128 symbols a group. */
    size_t (*decode)(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                     size_t groups, uint8_t *out);
    /* The same, put together to elements at once while the next symbols are
     * being decoded; NULL where that brings nothing. */
    size_t (*decode_into)(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                          size_t groups, ts_rans_sink *sink);
    /* Encode groups of symbols from the last to the first, renewal bytes
     * downwards from `end`, rare symbols downwards from *rares; where the
     * bytes begin.  64 bytes of room below both; every state starts at
     * TS_RANS_START. */
    uint8_t *(*encode)(const ts_rans_owners *owners, const uint8_t *symbols,
                       size_t groups, uint16_t *state, uint8_t *end,
                       uint8_t **rares);
} ts_rans;

extern const ts_rans ts_rans_scalar;
#if defined(__x86_64__)
extern const ts_rans ts_rans_avx2, ts_rans_avx512;
#endif

#endif
