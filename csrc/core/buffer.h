/* buffer.h -- a shared block of memory that knows where it came from.
 *
 *     new --> [ refs 1 ] --retain--> [ refs n ] --release--> ... --> gone
 *
 * Bytes are written before a buffer is shared and only read afterwards; that
 * is what lets many threads hold it without a lock.  What "gone" means is the
 * origin's business: freed, unmapped, or given back to the slab whose budget
 * it was charged to.  It is the only memory that Python ever sees. */
#ifndef TS_CORE_BUFFER_H
#define TS_CORE_BUFFER_H

#include "status.h"

typedef struct ts_buffer ts_buffer;

typedef enum {
    TS_ORIGIN_HEAP,    /* from malloc */
    TS_ORIGIN_SLAB,    /* recycled memory under a budget */
    TS_ORIGIN_MAP,     /* pages of a file */
    TS_ORIGIN_FOREIGN, /* somebody else's, with a release function */
} ts_origin;

/* Called once, by whichever thread lets go last, with no lock held. */
typedef void (*ts_buffer_end)(void *context, uint8_t *data, size_t size);

/* Size must be positive and alignment a power of two of at least 8. */
ts_status ts_buffer_new(size_t size, size_t alignment, ts_buffer **out,
                        ts_error *error);

/* Lend memory that already exists; end may be NULL.  On failure the memory
 * stays the caller's and end is not called. */
ts_status ts_buffer_wrap(void *data, size_t size, ts_origin origin,
                         ts_buffer_end end, void *context, ts_buffer **out,
                         ts_error *error);

ts_buffer *ts_buffer_retain(ts_buffer *buffer); /* returns its argument */
void ts_buffer_release(ts_buffer *buffer);      /* NULL is fine */

uint8_t *ts_buffer_data(const ts_buffer *buffer);
size_t ts_buffer_size(const ts_buffer *buffer);
ts_origin ts_buffer_origin(const ts_buffer *buffer);
const char *ts_origin_name(ts_origin origin); /* "slab" */

#endif
