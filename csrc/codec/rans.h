/* rans.h -- a plane of symbols as a rANS stream: its model, its bytes.
 *
 *     u8 bits, u8 owners, u8 freq of ESC, u8 listed, u32 rare symbols
 *     owners x (u8 symbol, u8 freq), listed x u8 symbol
 *     128 x u16 state | renewal bytes | rare symbols
 *
 * Rare symbols are 4-bit numbers in the list when it has entries, else bytes.
 * Decisions are made in integers, so that every machine makes the same. */
#ifndef TS_CODEC_RANS_H
#define TS_CODEC_RANS_H

#include "frame.h"
#include "rans_kernel.h"

/* How often each symbol was seen in a sample of a plane. */
typedef struct {
    uint32_t seen[256];
    uint32_t total;
    bool whole; /* no symbol was left out */
} ts_sample;

/* log2(x) in 1/65536, for x > 0, rounded down to what 8 bits behind the
 * leading one can say. */
uint32_t ts_log2(uint32_t x);

/* Which symbols get slots of their own, most frequent first. */
typedef struct {
    unsigned bits;    /* 7 or 8 */
    unsigned owners;
    uint8_t symbol[TS_RANS_SYMBOLS];
    uint8_t freq[TS_RANS_SYMBOLS]; /* [owners] is that of ESC, 0 for none */
} ts_rans_model;

/* The model that fits the sample best, and the bits it would take for one
 * symbol, in 1/65536.  UINT32_MAX when no model of so few slots makes sense */
uint32_t ts_rans_fit(const ts_sample *sample, unsigned bits,
                     ts_rans_model *out);

/* Encode count symbols; spare takes 2 * count + 512 bytes.  0 when it would
 * take more than room. */
size_t ts_rans_write(const ts_rans_model *model, const uint8_t *symbols,
                     size_t count, ts_rans_ahead ahead, uint8_t *spare,
                     uint8_t *out, size_t room);

/* `next` spread over the groups of so many symbols. */
static inline ts_rans_ahead ts_rans_spread(ts_ahead next, uint64_t symbols)
{
    uint64_t groups = symbols / TS_RANS_LANES + 1, lines = next.size / 64;
    return (ts_rans_ahead){next.size > 0 ? next.bytes : NULL,
                           (unsigned)((lines + groups - 1) / groups)};
}

/* A stream being decoded. */
typedef struct {
    ts_rans_slots slots;
    ts_rans_cursor cursor;
    const uint8_t *begin; /* borrowed: of the renewal bytes */
    const uint8_t *end;   /* of what may be read: that of the chunk */
    size_t size;          /* renewal bytes */
    size_t before;        /* of those, used before the tail */
    bool in_tail;
    uint8_t tail[2 * TS_RANS_REACH + TS_RANS_LANES];
} ts_rans_reader;

/* Memory for the rare symbols of a stream: what its head says, if that can be
 * true, and as much behind them as a group may read. */
size_t ts_rans_rares(const uint8_t *bytes, size_t size, size_t count);

/* The stream is size bytes at bytes, within a chunk that ends at end.  rares
 * takes ts_rans_rares() bytes and is used until the last call. */
ts_status ts_rans_open(ts_rans_reader *reader, const uint8_t *bytes,
                       size_t size, const uint8_t *end, size_t count,
                       uint8_t *rares, ts_error *error);
ts_status ts_rans_read(ts_rans_reader *reader, size_t groups, uint8_t *out,
                       ts_error *error);
/* Whole groups at once to elements, where the machine can: see sink. */
bool ts_rans_has_sink(void);
ts_status ts_rans_read_into(ts_rans_reader *reader, size_t groups,
                            ts_rans_sink *sink, ts_error *error);
ts_status ts_rans_close(const ts_rans_reader *reader, ts_error *error);

#endif
