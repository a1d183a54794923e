/* members.c -- the parts of an archive that carry a checksum, as byte tensors.
 *
 * A zip keeps one CRC-32 for each member, over what it holds before it was
 * deflated.  Seen as a catalog of U8 tensors, members can be checked by the
 * same stream that reads everything else. */
#include <stdlib.h>

#include "catalog.h"
#include "core/base.h"

/* Where a member begins says which one it is: several tensors may share it. */
static uint64_t begin_of(const ts_tensor *row)
{
    return ts_tensor_is_deflated(row) ? row->offset : row->member_offset;
}

static int compare(const void *left, const void *right)
{
    const ts_tensor *a = *(const ts_tensor *const *)left;
    const ts_tensor *b = *(const ts_tensor *const *)right;
    if (a->file != b->file) return a->file < b->file ? -1 : 1;
    uint64_t at = begin_of(a), other = begin_of(b);
    return at < other ? -1 : at > other;
}

static ts_status add(ts_draft *draft, const ts_tensor *row, ts_error *error)
{
    uint64_t size =
        ts_tensor_is_deflated(row) ? row->skip + row->size : row->member_size;
    ts_tensor member = {
        .name = row->name,
        .dtype = TS_U8,
        .file = row->file,
        .ndim = 1,
        .shape = &size,
        .offset = begin_of(row),
        .extent = ts_tensor_is_deflated(row) ? row->extent : 0,
        .storage = ts_tensor_is_deflated(row) ? TS_DEFLATED : TS_STORED,
        .has_crc32 = true,
        .crc32 = row->crc32,
    };
    return ts_draft_tensor(draft, &member, TS_NO_OFFSET, error);
}

static ts_status fill(const ts_catalog *catalog, ts_draft *draft,
                      const ts_tensor **rows, ts_error *error)
{
    uint32_t count = 0, index;

    for (uint32_t i = 0; i < ts_catalog_file_count(catalog); i++)
        TS_TRY(ts_draft_file(draft, ts_catalog_file(catalog, i), &index,
                             error));
    for (uint32_t i = 0; i < ts_catalog_count(catalog); i++) {
        const ts_tensor *row = ts_catalog_tensor(catalog, i);
        if (row->has_crc32) rows[count++] = row;
    }
    qsort(rows, count, sizeof *rows, compare);
    TS_TRY(ts_draft_expect(draft, count, error));
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || compare(&rows[i - 1], &rows[i]) != 0)
            TS_TRY(add(draft, rows[i], error));
    return TS_OK;
}

ts_status ts_catalog_members(const ts_catalog *catalog, ts_catalog **out,
                             ts_error *error)
{
    ts_draft *draft = NULL;
    const ts_tensor **rows =
        calloc(ts_catalog_count(catalog) + (size_t)1, sizeof(ts_tensor *));

    *out = NULL;
    if (rows == NULL)
        return ts_fail(error, TS_NOMEM, "cannot list an archive's members");
    ts_status status =
        ts_draft_new(ts_catalog_format(catalog), &draft, error);
    if (status == TS_OK) status = fill(catalog, draft, rows, error);
    if (status == TS_OK) {
        status = ts_draft_finish(draft, out, error);
        draft = NULL;
    }
    ts_draft_free(draft);
    free(rows);
    return status;
}
