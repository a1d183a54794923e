#include "damage.h"

#include <stdlib.h>

#include "core/base.h"

typedef struct {
    const ts_tensor *tensor;
    const ts_file *file;
    ts_reader *reader;       /* owned */
    ts_unpacking *unpacking; /* owned */
    ts_damages *out;         /* the caller's */
} search;

void ts_damages_free(ts_damages *damages)
{
    free(damages->items);
    *damages = (ts_damages){0};
}

/* Everything else is a failure of the search itself. */
static bool is_damage(ts_status status)
{
    return status == TS_FORMAT || status == TS_CORRUPT
        || status == TS_UNSUPPORTED;
}

static ts_status fail_with(ts_error *error, const ts_error *found)
{
    if (error != NULL) *error = *found;
    return found->status;
}

static ts_status add(search *at, uint64_t chunk, uint64_t first,
                     uint64_t elements, const ts_error *found,
                     ts_error *error)
{
    ts_damages *out = at->out;

    if (out->count == out->room) {
        size_t room = out->room > 0 ? 2 * out->room : 8;
        ts_damage *grown = realloc(out->items, room * sizeof *grown);
        if (grown == NULL)
            return ts_fail(error, TS_NOMEM, "cannot list %zu damages", room);
        out->items = grown;
        out->room = room;
    }
    out->items[out->count++] = (ts_damage){chunk, first, elements, *found};
    return TS_OK;
}

static ts_status check_chunks(search *at, ts_error *error)
{
    const ts_tensor *tensor = at->tensor;
    uint32_t step = tensor->frame->chunk_bytes;
    uint32_t block = ts_dtype_block_count(tensor->dtype);
    uint32_t block_size = ts_dtype_block_size(tensor->dtype);

    for (uint64_t skip = 0; skip < tensor->size; skip += step) {
        uint64_t size = ts_min(tensor->size - skip, step), got;
        uint8_t *bytes;
        ts_error found;
        ts_status status = ts_unpacking_take(
            at->unpacking, at->reader, at->file, tensor, skip, size, NULL,
            &bytes, &got, &found);
        if (status == TS_OK) continue;
        if (!is_damage(status)) return fail_with(error, &found);
        TS_TRY(add(at, skip / step, skip / block_size * block,
                   size / block_size * block, &found, error));
    }
    return TS_OK;
}

/* Nothing but zeros up to where the next tensor begins. */
static ts_status check_padding(search *at, ts_error *error)
{
    const ts_tensor *tensor = at->tensor;
    uint64_t end = tensor->offset + tensor->frame->room;
    uint8_t bytes[4096];

    for (uint64_t from = tensor->offset + tensor->extent; from < end;) {
        size_t size = (size_t)ts_min(end - from, sizeof bytes);
        TS_TRY(ts_reader_read(at->reader, at->file, from, bytes, size, error));
        for (size_t i = 0; i < size; i++) {
            if (bytes[i] == 0) continue;
            ts_error found;
            ts_fail_at(&found, TS_CORRUPT, from + i,
                       "byte %llu behind its frame is 0x%02x, not zero",
                       (unsigned long long)(from + i - tensor->offset
                                            - tensor->extent),
                       bytes[i]);
            return add(at, TS_DAMAGE_PADDING, 0, 0, &found, error);
        }
        from += size;
    }
    return TS_OK;
}

static ts_status check_all(search *at, ts_error *error)
{
    ts_error found;
    ts_status status = ts_unpacking_open(at->unpacking, at->reader, at->file,
                                         at->tensor, &found);

    if (status != TS_OK && !is_damage(status))
        return fail_with(error, &found);
    if (status != TS_OK)
        TS_TRY(add(at, TS_DAMAGE_FRAME, 0, at->tensor->elements, &found,
                   error));
    else
        TS_TRY(check_chunks(at, error));
    return check_padding(at, error);
}

static ts_status begin(search *at, ts_error *error)
{
    ts_unpacking_needs needs = {0};

    ts_unpacking_need(&needs, at->tensor);
    TS_TRY(ts_reader_new(TS_ENGINE_AUTO, &at->reader, error));
    return ts_unpacking_new(&needs, 0, &at->unpacking, error);
}

ts_status ts_damage_find(const ts_catalog *catalog, uint32_t row,
                         ts_damages *out, ts_error *error)
{
    const ts_tensor *tensor = ts_catalog_tensor(catalog, row);
    search at = {.tensor = tensor,
                 .file = ts_catalog_file(catalog, tensor->file),
                 .out = out};

    if (tensor->frame == NULL) return TS_OK;
    ts_status status = begin(&at, error);
    if (status == TS_OK) status = check_all(&at, error);
    ts_unpacking_free(at.unpacking);
    ts_reader_free(at.reader);
    return ts_error_in_tensor(error, status, tensor->name.bytes,
                              tensor->name.size);
}
