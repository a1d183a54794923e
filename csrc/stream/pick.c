#include "pick.h"

#include <stdlib.h>

#include "core/base.h"

enum { STAGE = 256 << 10 };

struct ts_picker {
    ts_catalog *catalog;      /* retained */
    ts_buffer *stage;         /* owned */
    ts_fetcher *fetcher;      /* owned; NULL before the first read */
    ts_unpacking_needs needs; /* that the fetcher can meet */
    bool trust;
};

ts_status ts_picker_new(ts_catalog *catalog, bool trust, ts_picker **out,
                        ts_error *error)
{
    ts_picker *picker = calloc(1, sizeof *picker);

    *out = NULL;
    if (picker == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a picker");
    picker->catalog = ts_catalog_retain(catalog);
    picker->trust = trust;
    ts_status status = ts_buffer_new(STAGE, TS_READER_ALIGNMENT,
                                     &picker->stage, error);
    if (status != TS_OK) {
        ts_picker_free(picker);
        return status;
    }
    *out = picker;
    return TS_OK;
}

void ts_picker_free(ts_picker *picker)
{
    if (picker == NULL) return;
    ts_fetcher_free(picker->fetcher);
    ts_buffer_release(picker->stage);
    ts_catalog_release(picker->catalog);
    free(picker);
}

static bool same_needs(const ts_unpacking_needs *a, const ts_unpacking_needs *b)
{
    return a->chunk_bytes == b->chunk_bytes && a->chunk_count == b->chunk_count
        && a->bases == b->bases && a->base_chunk_bytes == b->base_chunk_bytes
        && a->base_chunk_count == b->base_chunk_count;
}

/* A fetcher that can unpack this tensor: the one there is, or a larger one. */
static ts_status prepare(ts_picker *picker, const ts_tensor *tensor,
                         ts_error *error)
{
    ts_unpacking_needs needs = picker->needs;
    ts_unpacking *unpacking;

    ts_unpacking_need(&needs, tensor);
    if (picker->fetcher != NULL && same_needs(&needs, &picker->needs))
        return TS_OK;
    ts_fetcher_free(picker->fetcher);
    picker->fetcher = NULL;
    picker->needs = needs;
    TS_TRY(ts_unpacking_new(&needs, picker->trust ? TS_UNPACK_TRUST : 0,
                            &unpacking, error));
    return ts_fetcher_new(TS_ENGINE_PREAD, picker->stage, NULL, unpacking,
                          (ts_looks){0}, &picker->fetcher, error);
}

static ts_status check_range(const ts_tensor *tensor, const ts_recipe *recipe,
                             uint64_t start, uint64_t stop, uint64_t size,
                             ts_error *error)
{
    uint32_t block = recipe->widths.block;

    if (ts_tensor_is_deflated(tensor))
        return ts_fail(error, TS_UNSUPPORTED, "it is deflated");
    if (start > stop || stop > tensor->elements || start % block != 0
        || stop % block != 0)
        return ts_fail(error, TS_ARGUMENT,
                       "elements %llu to %llu of %llu are no whole blocks of "
                       "%u inside it",
                       (unsigned long long)start, (unsigned long long)stop,
                       (unsigned long long)tensor->elements, block);
    uint64_t made = (stop - start) / block * recipe->widths.out_size;
    if (made != size)
        return ts_fail(error, TS_ARGUMENT, "%llu bytes for %llu",
                       (unsigned long long)size, (unsigned long long)made);
    return TS_OK;
}

static ts_status read_range(ts_picker *picker, uint32_t row, uint64_t start,
                            uint64_t stop, ts_form form, ts_dtype dtype,
                            uint8_t *out, uint64_t size, ts_error *error)
{
    const ts_tensor *tensor = ts_catalog_tensor(picker->catalog, row);
    ts_chunk chunk = {0, row, start, stop, true};
    ts_outcome outcome;
    ts_recipe recipe;

    TS_TRY(ts_recipe_find(tensor, form, dtype, NULL, &recipe, error));
    TS_TRY(check_range(tensor, &recipe, start, stop, size, error));
    TS_TRY(prepare(picker, tensor, error));
    return ts_fetch(picker->fetcher, picker->catalog, &recipe, &chunk, out,
                    &outcome, error);
}

ts_status ts_picker_read(ts_picker *picker, uint32_t row, uint64_t start,
                         uint64_t stop, ts_form form, ts_dtype dtype,
                         uint8_t *out, uint64_t size, ts_error *error)
{
    const ts_tensor *tensor = ts_catalog_tensor(picker->catalog, row);
    ts_status status = read_range(picker, row, start, stop, form, dtype, out,
                                  size, error);
    return ts_error_in_tensor(error, status, tensor->name.bytes,
                              tensor->name.size);
}
