/* rans.h -- a plane of symbols as a rANS stream: its models, its bytes.
 *
 *     u8 bits, u8 tables, u8 rare bits, u8 0, u32 rare symbols
 *     4 x u32 renewal bytes of a stream
 *     tables x (u8 first, u8 count, u8 freq of ESC, count x u8 freq)
 *     the rare symbols' names, unless they stand for themselves
 *     table numbers of the spans, 2 bits each, when there are two or more
 *     128 x u16 state | renewal bytes of 4 streams | rare symbols
 *
 * Decisions are made in integers, so that every machine makes the same. */
#ifndef TS_CODEC_RANS_H
#define TS_CODEC_RANS_H

#include "frame.h"
#include "planes_kernel.h"
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

/* Which symbols get slots of their own, in ascending order. */
typedef struct {
    unsigned owners;
    uint8_t symbol[TS_RANS_SYMBOLS];
    uint8_t freq[TS_RANS_SYMBOLS]; /* [owners] is that of ESC, 0 for none */
} ts_rans_model;

typedef struct {
    unsigned bits; /* 7 or 8 */
    unsigned tables;
    ts_rans_model model[TS_RANS_TABLES];
    const uint8_t *number; /* borrowed: of each span's table */
} ts_rans_plan;

/* The model that fits the sample best, and the bits it would take for one
 * symbol, in 1/65536.  UINT32_MAX when no model of so few slots makes sense */
uint32_t ts_rans_fit(const ts_sample *sample, unsigned bits,
                     ts_rans_model *out);

/* ---- tables.c --------------------------------------------------------- */

enum { TS_SPAN = TS_RANS_SPAN * TS_RANS_LANES, TS_CLASSES = 8 };

/* Runs of SAMPLE_RUN symbols are counted, one in each `every` of a plane. */
enum { TS_SAMPLE_RUN = 64 };
void ts_sample_plane(const uint8_t *symbols, size_t count, size_t every,
                     ts_sample *out);

/* The spans of a plane in classes of like symbols. */
typedef struct {
    ts_sample whole, of[TS_CLASSES];
    unsigned classes;
    size_t spans;
    uint8_t *number; /* of each span's class, in room */
} ts_classes;

/* room takes ts_classes_room(count) bytes, aligned as a uint64_t. */
static inline size_t ts_classes_room(size_t count)
{
    return 9 * (count / TS_SPAN + 1);
}
void ts_classes_find(const uint8_t *symbols, size_t count, size_t every,
                     void *room, ts_classes *out);

/* The tables that pay for themselves, for symbols without their `low` lower
 * bits, and the bits of one symbol as ts_rans_fit() says them.  number takes
 * a byte a span and is kept. */
uint32_t ts_rans_plan_make(const ts_classes *classes, unsigned low,
                           unsigned bits, size_t count, uint8_t *number,
                           ts_rans_plan *out);

/* ---- streams ---------------------------------------------------------- */

/* Encode count symbols of `width` bits; spare takes ts_rans_spare() bytes.  0
 * when it would take more than room. */
static inline size_t ts_rans_spare(size_t count) { return 2 * count + 1024; }
size_t ts_rans_write(const ts_rans_plan *plan, const ts_planes *with,
                     const uint8_t *symbols, size_t count, unsigned width,
                     ts_rans_ahead ahead, uint8_t *spare, uint8_t *out,
                     size_t room);

/* `next` spread over the groups of so many symbols. */
static inline ts_rans_ahead ts_rans_spread(ts_ahead next, uint64_t symbols)
{
    uint64_t groups = symbols / TS_RANS_LANES + 1, lines = next.size / 64;
    return (ts_rans_ahead){next.size > 0 ? next.bytes : NULL,
                           (unsigned)((lines + groups - 1) / groups)};
}

/* A stream being decoded. */
typedef struct {
    ts_rans_tables tables;
    ts_rans_cursor cursor;
    const uint8_t *end; /* of what may be read: that of the chunk */
    const uint8_t *begin[TS_RANS_STREAMS]; /* borrowed: renewal bytes */
    size_t size[TS_RANS_STREAMS];
    size_t before[TS_RANS_STREAMS]; /* of those, used before the tail */
    uint8_t *lists; /* borrowed: numbers and rare symbols, unpacked */
    bool in_tail[TS_RANS_STREAMS];
    uint8_t tail[TS_RANS_STREAMS][4 * TS_RANS_REACH];
} ts_rans_reader;

/* Memory for what of a stream is unpacked first, its rare symbols and table
 * numbers: what its head says, if that can be true, and as much behind as may
 * be read. */
size_t ts_rans_lists(const uint8_t *bytes, size_t size, size_t count);

/* The stream of count symbols of `width` bits is size bytes at bytes, within a
 * chunk that ends at end.  lists takes ts_rans_lists() bytes and is used until
 * the last call. */
ts_status ts_rans_open(ts_rans_reader *reader, const ts_planes *with,
                       const uint8_t *bytes, size_t size, const uint8_t *end,
                       size_t count, unsigned width, uint8_t *lists,
                       ts_error *error);
ts_status ts_rans_read(ts_rans_reader *reader, size_t groups, uint8_t *out,
                       ts_error *error);
/* Whole groups at once to elements, where the machine can: see sink. */
bool ts_rans_can_sink(unsigned low);
ts_status ts_rans_read_into(ts_rans_reader *reader, size_t groups,
                            ts_rans_sink *sink, ts_error *error);
ts_status ts_rans_close(const ts_rans_reader *reader, ts_error *error);

#endif
