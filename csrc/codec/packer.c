/* packer.c -- the scratch memory of one packing thread. */
#include <stdlib.h>

#include "core/large.h"
#include "frame.h"

typedef struct {
    uint8_t *bytes; /* owned */
    size_t size;
} room;

struct ts_packer {
    room planes, part;
};

ts_status ts_packer_new(ts_packer **out, ts_error *error)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a packer");
    return TS_OK;
}

void ts_packer_free(ts_packer *packer)
{
    if (packer == NULL) return;
    free(packer->planes.bytes);
    free(packer->part.bytes);
    free(packer);
}

static uint8_t *grow(room *it, size_t size)
{
    if (size <= it->size) return it->bytes;
    free(it->bytes);
    size = (size_t)ts_round_up(size, 4096);
    it->bytes = size < 2 * TS_MIB ? aligned_alloc(64, size)
                                  : ts_large_new(size);
    it->size = it->bytes != NULL ? size : 0;
    return it->bytes;
}

uint8_t *ts_packer_room(ts_packer *packer, size_t size)
{
    return grow(&packer->planes, size);
}

uint8_t *ts_packer_part(ts_packer *packer, size_t size)
{
    return grow(&packer->part, size > 0 ? size : 1);
}

uint64_t ts_packer_memory(uint32_t chunk_bytes)
{
    return sizeof(ts_packer) + 2 * ts_round_up(chunk_bytes, 4096);
}
