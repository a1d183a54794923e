#include "archive.h"

#include "core/base.h"

/* The npz of numpy.savez: one .npy a member, called by the member's name. */

static ts_status check_size(const ts_zip_member *member, const ts_npy *npy,
                            ts_error *error)
{
    uint64_t size;
    if (ts_add(npy->data, npy->size, &size) && size == member->size)
        return TS_OK;
    return ts_fail_at(error, TS_FORMAT, member->offset,
                      "array's header promises %llu bytes, its zip member "
                      "holds %llu", (unsigned long long)npy->size,
                      (unsigned long long)(member->size - npy->data));
}

static ts_storage storage_of(const ts_zip_member *member, const ts_npy *npy)
{
    if (member->deflated)
        return npy->swapped ? TS_DEFLATED_SWAPPED : TS_DEFLATED;
    return npy->swapped ? TS_SWAPPED : TS_STORED;
}

static ts_status add_array(const ts_archive *archive,
                           const ts_zip_member *member, ts_name name,
                           uint8_t *head, ts_error *error)
{
    int64_t strides[TS_MAX_DIMS];
    size_t size;
    ts_npy npy;

    TS_TRY(ts_zip_head(&archive->zip, member, head, TS_NPY_HEAD, &size,
                       error));
    TS_TRY(ts_npy_header(head, size, &npy, error));
    TS_TRY(check_size(member, &npy, error));
    ts_tensor row = {.name = name, .dtype = npy.dtype, .file = archive->index,
                     .ndim = npy.ndim, .shape = npy.shape};
    row.storage = (uint8_t)storage_of(member, &npy);
    row.offset = member->offset;
    row.has_crc32 = true;
    row.crc32 = member->crc32;
    if (member->deflated) {
        row.skip = npy.data;
        row.extent = member->packed;
    } else {
        row.offset += npy.data;
        row.member_offset = member->offset;
        row.member_size = member->size;
    }
    if (npy.fortran) {
        ts_npy_strides(&npy, strides);
        row.strides = strides;
    }
    return ts_draft_tensor(archive->draft, &row, member->header, error);
}

ts_status ts_npz_parse(const ts_archive *archive, ts_error *error)
{
    const ts_zip *zip = &archive->zip;
    uint8_t *head;

    ts_draft_format(archive->draft, TS_FORMAT_NPZ);
    TS_TRY(ts_arena_take(archive->arena, TS_NPY_HEAD, &head, error));
    TS_TRY(ts_draft_expect(archive->draft, zip->count, error));
    for (uint32_t i = 0; i < zip->count; i++) {
        const ts_zip_member *member = &zip->members[i];
        if (member->folder) continue;
        ts_name name = {member->name.bytes,
                        member->name.size - strlen(".npy")};
        ts_status status = add_array(archive, member, name, head, error);
        if (status != TS_OK)
            return ts_error_in_tensor(error, status, name.bytes, name.size);
    }
    return TS_OK;
}
