#include "arena.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "large.h"

/* Blocks double from 4 KiB to 2 MiB, so a small file costs one page and a
 * header of 100,000 tensors a dozen calls to malloc. */
enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 2 << 20 };

typedef struct block {
    struct block *next;
    max_align_t bytes[];
} block;

struct ts_arena {
    block *blocks; /* owned, newest first */
    uint8_t *at;   /* next free byte of the newest block */
    size_t left;
    size_t next_block;
    uint64_t size;
};

ts_status ts_arena_new(ts_arena **out, ts_error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate an arena");
    (*out)->next_block = FIRST_BLOCK;
    return TS_OK;
}

void ts_arena_free(ts_arena *arena)
{
    if (arena == NULL) return;
    for (block *at = arena->blocks; at != NULL;) {
        block *next = at->next;
        free(at);
        at = next;
    }
    free(arena);
}

static ts_status grow(ts_arena *arena, size_t need, ts_error *error)
{
    size_t size = ts_max(sizeof(block) + need, arena->next_block);
    size_t room = size - sizeof(block);
    block *fresh = ts_large_new(size);
    if (fresh == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes", size);
    fresh->next = arena->blocks;
    arena->blocks = fresh;
    arena->at = (uint8_t *)fresh->bytes;
    arena->left = room;
    arena->size += size;
    if (arena->next_block < LARGEST_BLOCK) arena->next_block *= 2;
    return TS_OK;
}

/* NULL when there is no memory. */
static void *take(ts_arena *arena, uint64_t size, ts_error *error)
{
    uint64_t need = ts_round_up(ts_max(size, 1), 8);
    void *taken;

    if (size > SIZE_MAX / 2) {
        ts_fail(error, TS_NOMEM, "cannot allocate %llu bytes",
                (unsigned long long)size);
        return NULL;
    }
    if (need > arena->left && grow(arena, (size_t)need, error) != TS_OK)
        return NULL;
    taken = arena->at;
    arena->at += need;
    arena->left -= (size_t)need;
    return taken;
}

ts_status ts_arena_take(ts_arena *arena, uint64_t size, void *out,
                        ts_error *error)
{
    void *taken = take(arena, size, error);

    if (taken == NULL) return TS_NOMEM;
    memcpy(out, &taken, sizeof taken);
    return TS_OK;
}

ts_status ts_arena_take_array(ts_arena *arena, uint64_t count, size_t width,
                              void *out, ts_error *error)
{
    uint64_t size;
    void *taken;

    if (!ts_mul(count, width, &size))
        return ts_fail(error, TS_NOMEM, "cannot allocate %llu x %zu bytes",
                       (unsigned long long)count, width);
    taken = take(arena, size, error);
    if (taken == NULL) return TS_NOMEM;
    memset(taken, 0, (size_t)size);
    memcpy(out, &taken, sizeof taken);
    return TS_OK;
}

ts_status ts_arena_copy(ts_arena *arena, const void *bytes, size_t size,
                        char **out, ts_error *error)
{
    TS_TRY(ts_arena_take(arena, (uint64_t)size + 1, out, error));
    if (size > 0) memcpy(*out, bytes, size);
    (*out)[size] = '\0';
    return TS_OK;
}

uint64_t ts_arena_size(const ts_arena *arena) { return arena->size; }
