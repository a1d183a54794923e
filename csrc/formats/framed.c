/* framed.c -- files whose tensors are frames of the codec.
 *
 *     header   "w": U8 [70144]                 what other readers see
 *     front    BF16 [512, 100], 1 chunk        what the tensor is
 *
 * The header is an ordinary safetensors header.  The front of each frame says
 * dtype and shape; its table of chunks is read when somebody wants elements.
 * A frame may stand for another tensor's bytes (a repeat) or for the
 * difference to them: those are found by name once all rows are there, first
 * in the same checkpoint, then in the one it was opened over. */
#include <string.h>

#include "catalog.h"
#include "codec/codec.h"
#include "core/base.h"

/* ---- what each frame is ------------------------------------------------- */

static ts_status check_carrier(const ts_tensor *row, ts_error *error)
{
    if (row->dtype == TS_U8 && row->ndim == 1) return TS_OK;
    return ts_fail_at(error, TS_FORMAT, row->offset,
                      "the file says that its tensors are frames, this one "
                      "is %s with %u dimensions",
                      ts_dtype_name(row->dtype), row->ndim);
}

/* Lies in the draft's arena, as all its metadata does. */
static ts_name base_file(const ts_draft *draft)
{
    static const char unknown[] = "another checkpoint";
    const ts_value *value = ts_draft_find_value(draft, TS_FRAMES_BASE);

    if (value == NULL || value->kind != TS_VALUE_STRING)
        return (ts_name){unknown, sizeof unknown - 1};
    return (ts_name){(const char *)value->bytes, (size_t)value->size};
}

static ts_framing framing_of(const ts_draft *draft, const ts_tensor *row,
                             const ts_frame_info *info, const uint8_t *front)
{
    return (ts_framing){
        .digest = info->digest,
        .room = row->size,
        .chunk_count = info->chunk_count,
        .chunk_bytes = info->chunk_bytes,
        .base_name = {(const char *)front + info->base_offset,
                      info->kind == TS_FRAME_PLAIN ? 0 : info->base_size},
        .base_digest = info->base_digest,
        .base_file = base_file(draft),
        .is_delta = info->kind == TS_FRAME_DELTA,
    };
}

static ts_status adopt(ts_file *file, ts_draft *draft, uint32_t number,
                       ts_error *error)
{
    const ts_tensor *row = ts_draft_row(draft, number);
    uint8_t front[TS_FRAME_FRONT];
    ts_frame_info info;

    TS_TRY(check_carrier(row, error));
    TS_TRY(ts_file_read(file, row->offset, front,
                        (size_t)ts_min(row->size, sizeof front), error));
    TS_TRY(ts_frame_look(front, row->size, &info, error));
    ts_framing frame = framing_of(draft, row, &info, front);
    ts_tensor facts = {
        .dtype = info.dtype,
        .file = row->file,
        .ndim = info.ndim,
        .shape = info.shape,
        .offset = row->offset,
        .extent = info.size,
        .storage = TS_FRAMED,
        .frame = &frame,
    };
    return ts_draft_reveal(draft, number, &facts, row->offset, error);
}

ts_status ts_framed_adopt(ts_file *file, ts_draft *draft, uint32_t first,
                          ts_error *error)
{
    bool lenient = ts_draft_asked(draft)->lenient;

    for (uint32_t i = first; i < ts_draft_count(draft); i++) {
        ts_status status = adopt(file, draft, i, error);
        if (status == TS_OK) continue;
        if (lenient && (status == TS_FORMAT || status == TS_CORRUPT)) continue;
        const ts_tensor *row = ts_draft_row(draft, i);
        return ts_error_in_tensor(error, status, row->name.bytes,
                                  row->name.size);
    }
    return TS_OK;
}

/* ---- what they refer to ------------------------------------------------- */

static bool refers(const ts_tensor *row)
{
    return row->frame != NULL && row->frame->base_name.size > 0;
}

static bool same_name(ts_name a, ts_name b)
{
    return a.size == b.size && memcmp(a.bytes, b.bytes, a.size) == 0;
}

/* The base, in the checkpoint itself or in the one below it. */
static const ts_tensor *find_base(ts_catalog *own, ts_catalog *below,
                                  const ts_tensor *row, ts_framing *frame)
{
    ts_name name = frame->base_name;

    frame->home = NULL;
    if (!same_name(name, row->name)
        && ts_catalog_find(own, name, &frame->base))
        frame->home = own;
    else if (below != NULL && ts_catalog_find(below, name, &frame->base))
        frame->home = below;
    if (frame->home == NULL) return NULL;
    return ts_catalog_tensor(frame->home, frame->base);
}

bool ts_framed_may_be_base(const ts_tensor *row)
{
    return !refers(row) && row->strides == NULL
        && (row->storage == TS_STORED || row->storage == TS_FRAMED);
}

/* A repeat of a difference in the same checkpoint is that difference. */
static bool may_repeat(const ts_tensor *row, const ts_tensor *base,
                       const ts_catalog *own)
{
    return !row->frame->is_delta && row->frame->home == own
        && refers(base) && base->frame->is_delta;
}

static ts_status check_base(const ts_tensor *row, const ts_tensor *base,
                            const ts_catalog *own, ts_error *error)
{
    const ts_framing *frame = row->frame;
    int size = (int)ts_min(frame->base_name.size, 100);
    const char *name = frame->base_name.bytes;

    if (base->dtype != row->dtype || base->elements != row->elements)
        return ts_fail_at(error, TS_FORMAT, row->offset,
                          "it refers to '%.*s', which has %llu elements of "
                          "%s and not %llu of %s",
                          size, name, (unsigned long long)base->elements,
                          ts_dtype_name(base->dtype),
                          (unsigned long long)row->elements,
                          ts_dtype_name(row->dtype));
    if (!ts_framed_may_be_base(base) && !may_repeat(row, base, own))
        return ts_fail_at(error, TS_UNSUPPORTED, row->offset,
                          "it refers to '%.*s', which does not lie there "
                          "in order itself",
                          size, name);
    if (base->frame != NULL && base->frame->chunk_bytes == frame->chunk_bytes
        && base->frame->digest != frame->base_digest)
        return ts_fail_at(error, TS_FORMAT, row->offset,
                          "it refers to a '%.*s' of other content (digest "
                          "%016llx, found %016llx)",
                          size, name, (unsigned long long)frame->base_digest,
                          (unsigned long long)base->frame->digest);
    return TS_OK;
}

static ts_status resolve(ts_draft *draft, uint32_t number, ts_catalog *own,
                         ts_catalog *below, ts_error *error)
{
    ts_tensor facts = *ts_draft_row(draft, number);
    ts_framing frame = *facts.frame;
    const ts_tensor *base = find_base(own, below, &facts, &frame);

    if (base == NULL) return TS_OK; /* whoever reads it is told */
    facts.frame = &frame;
    TS_TRY(check_base(&facts, base, own, error));
    if (!frame.is_delta && frame.home == own) {
        /* A repeat of a tensor of the same checkpoint is that tensor. */
        facts.file = base->file;
        facts.offset = base->offset;
        facts.extent = base->extent;
        facts.storage = base->storage;
        facts.frame = base->frame;
    }
    return ts_draft_reveal(draft, number, &facts, facts.offset, error);
}

static ts_status resolve_all(ts_draft *draft, bool deltas, ts_catalog *own,
                             ts_catalog *below, ts_error *error)
{
    for (uint32_t i = 0; i < ts_draft_count(draft); i++) {
        const ts_tensor *row = ts_draft_row(draft, i);
        if (!refers(row) || row->frame->is_delta != deltas) continue;
        ts_status status = resolve(draft, i, own, below, error);
        if (status != TS_OK)
            return ts_error_in_tensor(error, status, row->name.bytes,
                                      row->name.size);
    }
    return TS_OK;
}

/* Differences first: a repeat may be of one. */
ts_status ts_framed_resolve(ts_draft *draft, ts_catalog *own,
                            ts_catalog *below, ts_error *error)
{
    TS_TRY(resolve_all(draft, true, own, below, error));
    return resolve_all(draft, false, own, below, error);
}
