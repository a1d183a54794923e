/* pick.h -- one range of one tensor, now, by the calling thread.
 *
 * A stream takes threads, memory and a plan; for a few rows out of a large
 * file that costs more than the read.  A picker keeps what one thread needs
 * from call to call: the reader, the stage, and for a compressed tensor its
 * table and the chunk unpacked last.  One call at a time. */
#ifndef TS_STREAM_PICK_H
#define TS_STREAM_PICK_H

#include "fetch.h"

typedef struct ts_picker ts_picker;

/* The catalog is retained.  With trust hashes of chunks are not compared. */
ts_status ts_picker_new(ts_catalog *catalog, bool trust, ts_picker **out,
                        ts_error *error);
void ts_picker_free(ts_picker *picker); /* NULL is fine */

/* Elements [start, stop) of a row, on block borders, in the given form (not
 * SCHEME) into out, which takes size bytes: TS_ARGUMENT if that is another
 * number.  Deflated tensors, which only go in order, are TS_UNSUPPORTED. */
ts_status ts_picker_read(ts_picker *picker, uint32_t row, uint64_t start,
                         uint64_t stop, ts_form form, ts_dtype dtype,
                         uint8_t *out, uint64_t size, ts_error *error);

#endif
