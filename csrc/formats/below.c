#include "below.h"

#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "core/base.h"
#include "core/large.h"

/* Chunks are read one after the other: what the kernel reads ahead is right. */
#define ENGINE TS_ENGINE_PREAD

struct ts_below {
    ts_catalog *base;        /* retained */
    ts_reader *reader;       /* owned */
    ts_unpacking *unpacking; /* owned; NULL when nothing is compressed */
    uint8_t *room;           /* owned: what was read last */
};

const ts_tensor *ts_below_find(const ts_catalog *base, ts_name name,
                               ts_dtype dtype, uint32_t ndim,
                               const uint64_t *shape)
{
    uint32_t number;

    if (!ts_catalog_find(base, name, &number)) return NULL;
    const ts_tensor *row = ts_catalog_tensor(base, number);
    if (row->dtype != dtype || row->ndim != ndim || !ts_framed_may_be_base(row)
        || (ndim > 0 && memcmp(row->shape, shape, ndim * sizeof *shape) != 0))
        return NULL;
    return row;
}

ts_status ts_below_check(const ts_catalog *base, ts_error *error)
{
    for (uint32_t i = 0; i < ts_catalog_count(base); i++) {
        const ts_tensor *row = ts_catalog_tensor(base, i);
        if (row->frame == NULL || !row->frame->is_delta) continue;
        return ts_fail(error, TS_ARGUMENT,
                       "the base holds itself only what differs from %.*s, in "
                       "'%.*s': give that one as the base",
                       (int)ts_min(row->frame->base_file.size, 100),
                       row->frame->base_file.bytes,
                       (int)ts_min(row->name.size, 100), row->name.bytes);
    }
    return TS_OK;
}

ts_unpacking_needs ts_below_needs(const ts_catalog *base)
{
    ts_unpacking_needs needs = {0};

    for (uint32_t i = 0; i < ts_catalog_count(base); i++) {
        const ts_tensor *row = ts_catalog_tensor(base, i);
        if (ts_framed_may_be_base(row)) ts_unpacking_need(&needs, row);
    }
    return needs;
}

uint64_t ts_below_memory(const ts_unpacking_needs *needs, uint64_t most)
{
    return sizeof(ts_below) + ts_reader_overhead(ENGINE)
         + ts_unpacking_memory(needs) + ts_round_up(most, 4096);
}

static ts_status fill(ts_below *below, const ts_unpacking_needs *needs,
                      uint64_t most, ts_error *error)
{
    below->room = ts_large_new((size_t)most);
    if (below->room == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %llu bytes",
                       (unsigned long long)most);
    TS_TRY(ts_reader_new(ENGINE, &below->reader, error));
    return ts_unpacking_new(needs, 0, &below->unpacking, error);
}

ts_status ts_below_new(ts_catalog *base, const ts_unpacking_needs *needs,
                       uint64_t most, ts_below **out, ts_error *error)
{
    ts_below *below = calloc(1, sizeof *below);

    *out = NULL;
    if (below == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a reader of a base");
    below->base = ts_catalog_retain(base);
    ts_status status = fill(below, needs, most, error);
    if (status != TS_OK) {
        ts_below_free(below);
        return status;
    }
    *out = below;
    return TS_OK;
}

void ts_below_free(ts_below *below)
{
    if (below == NULL) return;
    ts_unpacking_free(below->unpacking);
    ts_reader_free(below->reader);
    ts_catalog_release(below->base);
    free(below->room);
    free(below);
}

ts_status ts_below_read(ts_below *below, const ts_tensor *tensor,
                        uint64_t skip, uint64_t size, const uint8_t **bytes,
                        ts_error *error)
{
    const ts_file *file = ts_catalog_file(below->base, tensor->file);
    ts_status status;

    *bytes = below->room;
    if (tensor->frame == NULL)
        status = ts_reader_read(below->reader, file, tensor->offset + skip,
                                below->room, (size_t)size, error);
    else
        status = ts_unpacking_read(below->unpacking, below->reader, file,
                                   tensor, skip, size, below->room, error);
    ts_error_in_tensor(error, status, tensor->name.bytes, tensor->name.size);
    return ts_error_in_file(error, status, ts_file_path(file));
}
