/* slab.h -- recycled memory under a hard limit.
 *
 *     | used: chunk 4 | free | used: chunk 6 | free ..................... |
 *     '---------------- one mapping of exactly `size` bytes --------------'
 *
 * Fresh pages cost more than the read that fills them, so a stream reserves
 * its whole budget once, touches pages as it first needs them and then uses
 * the same low addresses again and again.  A block is a ts_buffer; when the
 * last holder lets go it returns here.  A block that somebody still holds is
 * never given out again and stays counted, and the mapping outlives the slab's
 * owner until the last block is back.  In a forked child blocks stay readable
 * and nothing is given back. */
#ifndef TS_CORE_SLAB_H
#define TS_CORE_SLAB_H

#include <stdbool.h>

#include "buffer.h"

typedef struct ts_slab ts_slab;

enum { TS_SLAB_GRAIN = 4096 }; /* blocks are whole grains, so O_DIRECT fits */

/* size is rounded down to whole grains; at least one.  On a machine of several
 * NUMA nodes each gets an equal part of the addresses, bound to it. */
ts_status ts_slab_new(uint64_t size, int nodes, ts_slab **out,
                      ts_error *error);

/* The owner is done: free pages go back to the system now, blocks that are
 * still held when they are released.  NULL is fine. */
void ts_slab_close(ts_slab *slab);

/* The lowest hole in the node's part that holds size bytes, else the lowest
 * anywhere; tagged for whoever asks what is held.
 * The buffer starts lead bytes past a grain (0 <= lead < TS_SLAB_GRAIN), so
 * that it can be congruent with a file offset.  TS_BUDGET when no hole is
 * large enough. */
ts_status ts_slab_take(ts_slab *slab, uint64_t size, uint64_t lead,
                       int node, uint64_t tag, ts_buffer **out,
                       ts_error *error);

uint64_t ts_slab_size(const ts_slab *slab);
uint64_t ts_slab_used(ts_slab *slab);
uint64_t ts_slab_peak(ts_slab *slab);    /* most bytes ever used at once */
uint64_t ts_slab_touched(ts_slab *slab); /* highest byte ever given out */
uint64_t ts_slab_largest(ts_slab *slab); /* the largest free hole */

/* Called with no lock held whenever a block returns, from whichever thread let
 * go; NULL to stop.  After this returns, the old hook is not running. */
typedef void (*ts_slab_hook)(void *context);
void ts_slab_on_return(ts_slab *slab, ts_slab_hook hook, void *context);

/* Copy the tags and sizes of up to room used blocks; the number there are. */
typedef struct {
    uint64_t tag, size;
} ts_slab_block;
size_t ts_slab_held(ts_slab *slab, ts_slab_block *out, size_t room);

#endif
