/* unpack.c -- a stored chunk to elements.  Nothing it says is believed. */
#include "chunk.h"

typedef struct {
    const uint8_t *bytes; /* borrowed: the stored chunk */
    size_t size;
    size_t at; /* of the next head */
} cursor;

static ts_status take(cursor *it, size_t size, const uint8_t **out,
                      ts_error *error)
{
    if (size > it->size - it->at)
        return ts_fail(error, TS_FORMAT,
                       "a head of %zu bytes at %zu of %zu stored", size,
                       it->at, it->size);
    *out = it->bytes + it->at;
    it->at += size;
    return TS_OK;
}

static ts_status take_plane(cursor *it, ts_plane *out, ts_error *error)
{
    const uint8_t *head;

    TS_TRY(take(it, TS_PLANE_HEAD, &head, error));
    uint32_t place = ts_load_u32(head + 4), size = ts_load_u32(head + 8);
    if (head[0] >= TS_CODERS)
        return ts_fail(error, TS_FORMAT, "unknown coder %u", head[0]);
    if (place > it->size || size > it->size - place)
        return ts_fail(error, TS_FORMAT,
                       "a plane of %u bytes at %u of %zu stored", size, place,
                       it->size);
    *out = (ts_plane){head[0], head[1], it->bytes + place, size};
    return TS_OK;
}

static ts_status unpack_bytes(const ts_plane *plane, size_t size, uint8_t *out,
                              ts_error *error)
{
    if (plane->coder == TS_CODER_CONST) {
        memset(out, plane->value, size);
        return TS_OK;
    }
    if (plane->size != size)
        return ts_fail(error, TS_FORMAT,
                       "a raw plane of %zu bytes instead of %zu", plane->size,
                       size);
    memcpy(out, plane->bytes, size);
    return TS_OK;
}

static ts_status take_section(cursor *it, size_t bytes, uint8_t *out,
                              ts_error *error)
{
    const uint8_t *head;
    ts_plane plane;

    TS_TRY(take(it, TS_SECTION_HEAD, &head, error));
    uint32_t count = ts_load_u32(head + 4);
    if (head[0] >= TS_FORMS || head[1] >= TS_LAYOUTS || head[2] != 1
        || count != bytes)
        return ts_fail(error, TS_FORMAT,
                       "a section of form %u, layout %u, %u planes and %u "
                       "elements for %zu bytes",
                       head[0], head[1], head[2], count, bytes);
    TS_TRY(take_plane(it, &plane, error));
    return unpack_bytes(&plane, bytes, out, error);
}

ts_status ts_chunk_unpack(ts_dtype dtype, const uint8_t *stored, size_t size,
                          uint32_t elements, uint8_t *out, bool bypass,
                          ts_packer *packer, ts_error *error)
{
    cursor at = {stored, size, 0};
    const uint8_t *head;
    uint64_t bytes;

    (void)bypass;
    (void)packer;
    TS_TRY(take(&at, TS_CHUNK_HEAD, &head, error));
    if (ts_load_u32(head) != elements || head[4] != 1)
        return ts_fail(error, TS_FORMAT,
                       "%u elements in %u sections instead of %u in 1",
                       ts_load_u32(head), head[4], elements);
    (void)ts_dtype_bytes(dtype, elements, &bytes);
    return take_section(&at, (size_t)bytes, out, error);
}
