/* press.h -- private to formats/: tensors become frames on their way into a
 * file.
 *
 *     bytes --cut--> chunk 7   chunk 8   chunk 9     a ring; full means wait
 *                      |         |         |
 *                    worker    worker    the caller, when it would wait
 *                      '--> written strictly by number, by the caller
 *
 * Chunks are packed where they lie in the caller's memory, which is free again
 * when the call returns; only the ends that make no whole chunk are copied.
 * Over a base, who packs a chunk reads what lies below it.
 * One thread uses a press at a time. */
#ifndef TS_FORMATS_PRESS_H
#define TS_FORMATS_PRESS_H

#include "formats.h"

typedef struct ts_press ts_press;

enum {
    TS_PRESS_MOST_THREADS = 64,
    TS_PRESS_LEAST_BUDGET = 3 << 20, /* less is taken for this */
};

/* threads 0: one a core beside the caller; 1: the caller alone.  All memory is
 * within the budget: a small one makes fewer threads and shorter chunks.
 * TS_BUDGET when it is too small to unpack the base.  That is retained, and may
 * be NULL. */
ts_status ts_press_new(ts_pack_mode mode, int threads, uint64_t budget,
                       ts_catalog *base, ts_press **out, ts_error *error);
void ts_press_free(ts_press *press); /* stops and joins; NULL is fine */

/* A frame begins where the output ends now: of differences to the base's
 * tensor of this name, dtype and shape, where there is one.  name and shape are
 * borrowed for the call; shape[0] may be TS_FRAME_UNKNOWN.  The output is
 * borrowed until the end. */
ts_status ts_press_begin(ts_press *press, ts_output *output, ts_name name,
                         ts_dtype dtype, uint32_t ndim, const uint64_t *shape,
                         ts_error *error);
ts_status ts_press_add(ts_press *press, const void *bytes, uint64_t size,
                       ts_error *error);

typedef struct {
    uint64_t digest;         /* ts_frame_digest of the elements */
    uint32_t chunk_elements;
    uint64_t chunks, chunks_size; /* where they lie in the file, bytes */
    uint64_t base_digest;    /* of what it differs from */
    bool differs;            /* it needs the base */
} ts_pressed;
ts_status ts_press_end(ts_press *press, ts_pressed *out, ts_error *error);

/* A frame that says: the same bytes as that tensor.  base is what its end
 * told. */
ts_status ts_press_repeat(ts_press *press, ts_output *output, ts_dtype dtype,
                          uint32_t ndim, const uint64_t *shape,
                          const char *base_name, size_t base_size,
                          const ts_pressed *base, ts_error *error);

#endif
