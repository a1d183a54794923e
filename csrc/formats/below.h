/* below.h -- private to formats/: the tensors that new ones may differ little
 * from, read by the threads that pack.
 *
 *     base checkpoint --read, unpack--> the bytes below the chunk in hand
 *
 * A ts_below belongs to one thread and takes all its memory at the start. */
#ifndef TS_FORMATS_BELOW_H
#define TS_FORMATS_BELOW_H

#include "formats.h"

typedef struct ts_below ts_below;

/* The tensor of a checkpoint that one of this name, dtype and shape can be a
 * difference to; NULL when there is none. */
const ts_tensor *ts_below_find(const ts_catalog *base, ts_name name,
                               ts_dtype dtype, uint32_t ndim,
                               const uint64_t *shape);

/* TS_ARGUMENT when it holds differences itself: who reads one would need two
 * checkpoints below it. */
ts_status ts_below_check(const ts_catalog *base, ts_error *error);

/* What unpacking any tensor of the base takes: of nothing when none is
 * compressed. */
ts_unpacking_needs ts_below_needs(const ts_catalog *base);

/* For ranges of at most `most` bytes. */
uint64_t ts_below_memory(const ts_unpacking_needs *needs, uint64_t most);
ts_status ts_below_new(ts_catalog *base, const ts_unpacking_needs *needs,
                       uint64_t most, ts_below **out, ts_error *error);
void ts_below_free(ts_below *below); /* NULL is fine */

/* size bytes from skip on of a tensor that was found: in memory of ours until
 * the next call. */
ts_status ts_below_read(ts_below *below, const ts_tensor *tensor,
                        uint64_t skip, uint64_t size, const uint8_t **bytes,
                        ts_error *error);

#endif
