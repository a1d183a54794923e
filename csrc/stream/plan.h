/* plan.h -- which elements come next: a cursor over the chosen ranges.
 *
 *     items   [ row 3: 0..4096 ) [ row 0: 0..10 ) [ row 7: 128..512 )
 *                      ^ at
 *
 * Chunks are cut off the cursor one by one, each as large as the caller says
 * at that moment, so a chunk size that changes meanwhile can neither skip nor
 * repeat an element.  A chunk holds no memory.  No clock, no file, no lock. */
#ifndef TS_STREAM_PLAN_H
#define TS_STREAM_PLAN_H

#include "formats/formats.h"

/* How wide an element is in the file and in what the stream delivers. */
typedef struct {
    uint32_t block;             /* elements that cannot be parted */
    uint32_t in_size, out_size; /* bytes of one such block */
} ts_widths;

/* Elements [start, stop) of one tensor, on block borders of its dtype. */
typedef struct {
    uint32_t row;
    ts_widths widths;
    uint64_t grain; /* elements that are unpacked together; 0: none are */
    uint64_t start, stop;
} ts_item;

typedef struct {
    uint32_t item, row;
    uint64_t start, stop; /* elements */
    bool is_last;         /* the last of its item */
} ts_chunk;

typedef struct {
    const ts_catalog *catalog; /* borrowed from the stream, which retains it */
    const ts_item *items;      /* borrowed from the same */
    uint32_t count;
    bool by_rows;  /* cut on rows; else on any 8 blocks */
    uint32_t item; /* the cursor */
    uint64_t at;   /* next element of items[item] */
} ts_plan;

void ts_plan_begin(ts_plan *plan, const ts_catalog *catalog,
                   const ts_item *items, uint32_t count, bool by_rows);

/* Cut the next chunk of at most limit bytes in the file and at most limit bytes
 * delivered, and at least one block.  By rows it ends on whole rows of
 * the outermost dimension that allows it; what is unpacked together stays
 * together where that and the limit allow.  Tensors without elements come as one
 * empty chunk.  False at the end. */
bool ts_plan_next(ts_plan *plan, uint64_t limit, ts_chunk *out);
/* The same without moving on. */
bool ts_plan_peek(const ts_plan *plan, uint64_t limit, ts_chunk *out);

/* The shape an array of elements [start, stop) has: whole if it is the whole
 * tensor, else rows of the outermost dimension that both ends fall on, else
 * flat.  shape has room for TS_MAX_DIMS; returns ndim. */
uint32_t ts_chunk_shape(const ts_tensor *tensor, uint64_t start, uint64_t stop,
                        uint64_t *shape);

/* ---- order and choice -------------------------------------------------- */

typedef enum {
    TS_ORDER_FILE,  /* as the bytes lie */
    TS_ORDER_LAYER, /* as a forward pass meets them */
    TS_ORDER_GIVEN, /* as the rows were given */
} ts_order;

/* Sort row numbers in place; TS_NOMEM when there is no room for the keys. */
ts_status ts_order_rows(const ts_catalog *catalog, ts_order order,
                        uint32_t *rows, uint32_t count, ts_error *error);

#endif
