/* arena.h -- memory that is given out piece by piece and freed all at once.
 *
 * An open file's metadata lives in one arena: names, shapes, rows.  Pieces are
 * never freed alone and never move.  One thread fills an arena; afterwards any
 * number may read what is in it. */
#ifndef TS_CORE_ARENA_H
#define TS_CORE_ARENA_H

#include "status.h"

typedef struct ts_arena ts_arena;

ts_status ts_arena_new(ts_arena **out, ts_error *error);
void ts_arena_free(ts_arena *arena); /* NULL is fine */

/* size bytes aligned to 8, not cleared; never NULL on success, even for 0. */
ts_status ts_arena_take(ts_arena *arena, uint64_t size, void *out,
                        ts_error *error);

/* count * width bytes, cleared; the product is checked. */
ts_status ts_arena_take_array(ts_arena *arena, uint64_t count, size_t width,
                              void *out, ts_error *error);

/* A copy of size bytes with a NUL behind it. */
ts_status ts_arena_copy(ts_arena *arena, const void *bytes, size_t size,
                        char **out, ts_error *error);

uint64_t ts_arena_size(const ts_arena *arena); /* bytes taken from the heap */

#endif
