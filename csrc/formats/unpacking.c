#include "unpacking.h"

#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/large.h"

#define NO_CHUNK UINT64_MAX
#define RUNS (2 * TS_MIB)

struct ts_unpacking {
    ts_packer *packer;       /* owned */
    ts_unpacking *below;     /* owned; unpacks bases; NULL when none is framed */
    uint8_t *memory;         /* owned: the three that follow */
    uint8_t *stored;         /* room bytes and a page at each end */
    uint64_t run_start, run_stop; /* of the file: what lies in stored */
    uint8_t *tile;           /* an unpacked chunk */
    uint8_t *base;           /* the same range of its base; or NULL */
    uint64_t room;           /* of a stored chunk, or of a run of them */
    bool runs;               /* as needed */
    const ts_tensor *tensor; /* the open one, borrowed from the catalog */
    ts_frame *frame;         /* owned: its frame */
    uint64_t held;           /* the chunk in the tile */
    unsigned how;
};

/* ---- memory -------------------------------------------------------------- */

void ts_unpacking_need(ts_unpacking_needs *needs, const ts_tensor *tensor)
{
    const ts_framing *frame = tensor->frame;

    if (frame == NULL) return;
    needs->chunk_bytes = (uint32_t)ts_max(needs->chunk_bytes,
                                          frame->chunk_bytes);
    needs->chunk_count = ts_max(needs->chunk_count, frame->chunk_count);
    needs->bases |= frame->base_name.size > 0;
    if (frame->base_name.size == 0 || frame->home == NULL) return;
    const ts_framing *base =
        ts_catalog_tensor(frame->home, frame->base)->frame;
    if (base == NULL) return;
    needs->base_chunk_bytes = (uint32_t)ts_max(needs->base_chunk_bytes,
                                               base->chunk_bytes);
    needs->base_chunk_count = ts_max(needs->base_chunk_count,
                                     base->chunk_count);
}

/* Of the plain frames that bases are. */
static ts_unpacking_needs needs_below(const ts_unpacking_needs *needs)
{
    return (ts_unpacking_needs){.chunk_bytes = needs->base_chunk_bytes,
                                .chunk_count = needs->base_chunk_count};
}

static uint64_t tile_room(const ts_unpacking_needs *needs)
{
    return ts_round_up(needs->chunk_bytes, TS_READER_ALIGNMENT)
         * (needs->bases ? 2 : 1);
}

/* Runs fill a huge page: a read into scattered ones of 4 KiB, which a disk
 * sees as so many, took twice as long. */
static uint64_t stored_room(const ts_unpacking_needs *needs)
{
    uint64_t chunk = ts_round_up(ts_frame_room(needs->chunk_bytes),
                                 TS_READER_ALIGNMENT)
                   + 2 * TS_READER_ALIGNMENT;
    uint64_t tile = tile_room(needs);
    return needs->runs && chunk + tile < RUNS ? RUNS - tile : chunk;
}

static uint64_t buffer_size(const ts_unpacking_needs *needs)
{
    return stored_room(needs) + tile_room(needs);
}

uint64_t ts_unpacking_memory(const ts_unpacking_needs *needs)
{
    if (needs->chunk_bytes == 0) return 0;
    uint64_t all = sizeof(ts_unpacking) + TS_READER_ALIGNMENT
                 + buffer_size(needs)
                 + ts_frame_memory_of(needs->chunk_count)
                 + ts_packer_memory(needs->chunk_bytes);
    if (needs->base_chunk_bytes == 0) return all;
    ts_unpacking_needs below = needs_below(needs);
    return all + ts_unpacking_memory(&below);
}

static ts_status allocate(ts_unpacking *unpacking,
                          const ts_unpacking_needs *needs, ts_error *error)
{
    uint64_t size = buffer_size(needs);

    unpacking->memory = ts_large_new((size_t)size + TS_READER_ALIGNMENT);
    if (unpacking->memory == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %llu bytes to unpack",
                       (unsigned long long)size);
    uintptr_t start = (uintptr_t)unpacking->memory;
    unpacking->stored =
        unpacking->memory
        + (ts_round_up(start, TS_READER_ALIGNMENT) - start);
    unpacking->room = stored_room(needs) - 2 * TS_READER_ALIGNMENT;
    unpacking->tile = unpacking->stored + stored_room(needs);
    if (needs->bases)
        unpacking->base = unpacking->tile + tile_room(needs) / 2;
    return TS_OK;
}

static ts_status fill(ts_unpacking *unpacking, const ts_unpacking_needs *needs,
                      unsigned how, ts_error *error)
{
    TS_TRY(allocate(unpacking, needs, error));
    TS_TRY(ts_packer_new(&unpacking->packer, error));
    if (needs->base_chunk_bytes == 0) return TS_OK;
    ts_unpacking_needs below = needs_below(needs);
    return ts_unpacking_new(&below, how & TS_UNPACK_TRUST, &unpacking->below,
                            error);
}

ts_status ts_unpacking_new(const ts_unpacking_needs *needs, unsigned how,
                           ts_unpacking **out, ts_error *error)
{
    ts_unpacking *unpacking;

    *out = NULL;
    if (needs->chunk_bytes == 0) return TS_OK;
    unpacking = calloc(1, sizeof *unpacking);
    if (unpacking == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate an unpacker");
    unpacking->held = NO_CHUNK;
    unpacking->runs = needs->runs;
    unpacking->how = how;
    ts_status status = fill(unpacking, needs, how, error);
    if (status != TS_OK) {
        ts_unpacking_free(unpacking);
        return status;
    }
    *out = unpacking;
    return TS_OK;
}

void ts_unpacking_free(ts_unpacking *unpacking)
{
    if (unpacking == NULL) return;
    ts_unpacking_free(unpacking->below);
    ts_packer_free(unpacking->packer);
    ts_frame_free(unpacking->frame);
    free(unpacking->memory);
    free(unpacking);
}

/* ---- the frame of a tensor ----------------------------------------------- */

static ts_status open_frame(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            ts_error *error)
{
    uint8_t front[TS_FRAME_FRONT];
    ts_frame_info info;

    unpacking->held = NO_CHUNK;
    unpacking->run_start = unpacking->run_stop = 0;
    unpacking->tensor = NULL;
    ts_frame_free(unpacking->frame);
    unpacking->frame = NULL;
    TS_TRY(ts_reader_read(reader, file, tensor->offset, front,
                          (size_t)ts_min(tensor->extent, sizeof front),
                          error));
    TS_TRY(ts_frame_look(front, tensor->extent, &info, error));
    uint8_t *table = malloc((size_t)info.table_size + 1);
    if (table == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a table of %llu bytes",
                       (unsigned long long)info.table_size);
    ts_status status =
        ts_reader_read(reader, file, tensor->offset + info.table_offset, table,
                       (size_t)info.table_size, error);
    if (status == TS_OK)
        status = ts_frame_open(front, table, tensor->extent, true,
                               &unpacking->frame, error);
    free(table);
    if (status == TS_OK) unpacking->tensor = tensor;
    return status;
}

/* It must still be what the catalog saw when it was opened. */
static ts_status check_frame(const ts_unpacking *unpacking,
                             const ts_tensor *tensor, ts_error *error)
{
    const ts_frame_info *info = ts_frame_facts(unpacking->frame);

    if (info->dtype == tensor->dtype && info->elements == tensor->elements
        && info->digest == tensor->frame->digest
        && info->chunk_bytes == tensor->frame->chunk_bytes)
        return TS_OK;
    return ts_fail_at(error, TS_CHANGED, tensor->offset,
                      "its frame is not the one that was opened");
}

ts_status ts_unpacking_open(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            ts_error *error)
{
    bool repeats = tensor->frame->base_name.size > 0
                && !tensor->frame->is_delta;
    if (unpacking->tensor == tensor || repeats) return TS_OK;
    TS_TRY(open_frame(unpacking, reader, file, tensor, error));
    ts_status status = check_frame(unpacking, tensor, error);
    if (status != TS_OK) unpacking->tensor = NULL;
    return status;
}

/* ---- what it refers to --------------------------------------------------- */

static ts_status find_base(const ts_tensor *tensor, const ts_tensor **base,
                           const ts_file **file, ts_error *error)
{
    const ts_framing *frame = tensor->frame;

    if (frame->home == NULL)
        return ts_fail(error, TS_ARGUMENT,
                       "it holds only what differs from '%.*s' of %.*s: open "
                       "this one over that (base=)",
                       (int)ts_min(frame->base_name.size, 100),
                       frame->base_name.bytes,
                       (int)ts_min(frame->base_file.size, 100),
                       frame->base_file.bytes);
    *base = ts_catalog_tensor(frame->home, frame->base);
    *file = ts_catalog_file(frame->home, (*base)->file);
    return TS_OK;
}

/* Bytes [skip, skip + size) of the base. */
static ts_status read_base(ts_unpacking *unpacking, ts_reader *reader,
                           const ts_tensor *tensor, uint64_t skip,
                           uint64_t size, uint8_t *into, ts_error *error)
{
    const ts_tensor *base;
    const ts_file *file;

    if (into == NULL)
        return ts_fail(error, TS_ARGUMENT,
                       "this unpacker has no memory for what tensors refer "
                       "to");
    TS_TRY(find_base(tensor, &base, &file, error));
    ts_status status =
        base->frame == NULL
            ? ts_reader_read(reader, file, base->offset + skip, into,
                             (size_t)size, error)
            : ts_unpacking_read(unpacking->below, reader, file, base, skip,
                                size, into, error);
    ts_error_in_tensor(error, status, base->name.bytes, base->name.size);
    return ts_error_in_file(error, status, ts_file_path(file));
}

/* What is wrong may be wrong there. */
static ts_status tell_base(const ts_tensor *tensor, ts_status status,
                           ts_error *error)
{
    const ts_tensor *base;
    const ts_file *file;
    char inner[sizeof error->message];

    if (status != TS_CORRUPT || error == NULL) return status;
    TS_TRY(find_base(tensor, &base, &file, error));
    memcpy(inner, error->message, sizeof inner);
    return ts_fail_at(error, status, tensor->offset,
                      "%.180s; the base is '%.*s' of %s", inner,
                      (int)ts_min(base->name.size, 100), base->name.bytes,
                      ts_file_path(file));
}

/* ---- one chunk ----------------------------------------------------------- */

/* The tile is read at once; past the caches goes only what lies on lines. */
static unsigned how_into(const ts_unpacking *unpacking, const uint8_t *out)
{
    bool may = out != unpacking->tile && (uintptr_t)out % 64 == 0;
    return may ? unpacking->how : unpacking->how & ~(unsigned)TS_UNPACK_BYPASS;
}

/* Where the chunks end that are read together, of `number` and those that are
 * wanted behind it: frames are checked to have no gaps. */
static uint64_t end_of_run(const ts_unpacking *unpacking, uint64_t number,
                           uint64_t last)
{
    ts_frame_chunk chunk = ts_frame_find(unpacking->frame, number);
    uint64_t start = chunk.offset, end = start + chunk.size;

    while (unpacking->runs && number < last) {
        chunk = ts_frame_find(unpacking->frame, ++number);
        if (chunk.offset + chunk.size - start > unpacking->room) break;
        end = chunk.offset + chunk.size;
    }
    return end;
}

/* As far off a page as in the file: a direct read lands in place.  Runs are
 * read from disks, where the broken pages at both ends would be two more
 * reads. */
static ts_status read_run(ts_unpacking *unpacking, ts_reader *reader,
                          const ts_file *file, uint64_t start, uint64_t stop,
                          ts_error *error)
{
    if (unpacking->runs) {
        start -= start % TS_READER_ALIGNMENT;
        stop = ts_min(ts_round_up(stop, TS_READER_ALIGNMENT),
                      ts_file_size(file));
    }
    unpacking->run_start = unpacking->run_stop = 0;
    TS_TRY(ts_reader_read(reader, file, start,
                          unpacking->stored + start % TS_READER_ALIGNMENT,
                          (size_t)(stop - start), error));
    unpacking->run_start = start;
    /* One chunk alone is read anew when somebody comes back to it. */
    unpacking->run_stop = unpacking->runs ? stop : start;
    return TS_OK;
}

/* The stored bytes of a chunk, read now or with the one before. */
static ts_status bring(ts_unpacking *unpacking, ts_reader *reader,
                       const ts_file *file, const ts_frame_chunk *chunk,
                       uint64_t number, uint64_t last, uint8_t **stored,
                       ts_error *error)
{
    uint64_t tensor = unpacking->tensor->offset;
    uint64_t at = tensor + chunk->offset;

    if (chunk->size > unpacking->room)
        return ts_fail_at(error, TS_FORMAT, at,
                          "chunk %llu has %u stored bytes, room is for %llu",
                          (unsigned long long)number, chunk->size,
                          (unsigned long long)unpacking->room);
    if (at < unpacking->run_start || at + chunk->size > unpacking->run_stop) {
        uint64_t stop = tensor + end_of_run(unpacking, number, last);
        TS_TRY(read_run(unpacking, reader, file, at, stop, error));
    }
    *stored = unpacking->stored
            + unpacking->run_start % TS_READER_ALIGNMENT
            + (at - unpacking->run_start);
    return TS_OK;
}

static ts_status unpack(ts_unpacking *unpacking, ts_reader *reader,
                        const ts_file *file, const ts_frame_chunk *chunk,
                        uint64_t number, uint64_t last, uint64_t skip,
                        uint8_t *out, ts_error *error)
{
    const ts_tensor *tensor = unpacking->tensor;
    uint8_t *stored;

    TS_TRY(bring(unpacking, reader, file, chunk, number, last, &stored,
                 error));
    if (chunk->differs)
        TS_TRY(read_base(unpacking, reader, tensor, skip, chunk->bytes,
                         unpacking->base, error));
    ts_status status =
        ts_frame_unpack(unpacking->frame, number, stored, chunk->size,
                        chunk->differs ? unpacking->base : NULL, out,
                        how_into(unpacking, out), unpacking->packer, error);
    return chunk->differs ? tell_base(tensor, status, error) : status;
}

/* The chunk into the tile, unless it is there. */
static ts_status hold(ts_unpacking *unpacking, ts_reader *reader,
                      const ts_file *file, const ts_frame_chunk *chunk,
                      uint64_t number, uint64_t last, uint64_t skip,
                      ts_error *error)
{
    if (unpacking->held == number) return TS_OK;
    unpacking->held = NO_CHUNK;
    TS_TRY(unpack(unpacking, reader, file, chunk, number, last, skip,
                  unpacking->tile, error));
    unpacking->held = number;
    return TS_OK;
}

/* A repeat of a tensor that lies in the checkpoint below. */
static ts_status take_repeat(ts_unpacking *unpacking, ts_reader *reader,
                             const ts_tensor *tensor, uint64_t skip,
                             uint64_t size, uint8_t *into, uint8_t **bytes,
                             uint64_t *got, ts_error *error)
{
    *got = ts_min(size, tensor->frame->chunk_bytes);
    *bytes = into != NULL ? into : unpacking->base;
    return read_base(unpacking, reader, tensor, skip, *got, *bytes, error);
}

static ts_status take(ts_unpacking *unpacking, ts_reader *reader,
                      const ts_file *file, const ts_tensor *tensor,
                      uint64_t skip, uint64_t size, uint8_t *into,
                      uint8_t **bytes, uint64_t *got, ts_error *error)
{
    uint64_t step = tensor->frame->chunk_bytes;
    uint64_t number = skip / step, inside = skip % step;
    uint64_t last = size > 0 ? (skip + size - 1) / step : number;

    if (tensor->frame->base_name.size > 0 && !tensor->frame->is_delta)
        return take_repeat(unpacking, reader, tensor, skip, size, into, bytes,
                           got, error);
    TS_TRY(ts_unpacking_open(unpacking, reader, file, tensor, error));
    ts_frame_chunk chunk = ts_frame_find(unpacking->frame, number);
    *got = ts_min(size, chunk.bytes - inside);
    if (into != NULL && *got == chunk.bytes && unpacking->held != number) {
        *bytes = into;
        return unpack(unpacking, reader, file, &chunk, number, last, skip,
                      into, error);
    }
    TS_TRY(hold(unpacking, reader, file, &chunk, number, last, skip - inside,
                error));
    *bytes = unpacking->tile + inside;
    return TS_OK;
}

ts_status ts_unpacking_take(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            uint64_t skip, uint64_t size, uint8_t *into,
                            uint8_t **bytes, uint64_t *got, ts_error *error)
{
    ts_status status = take(unpacking, reader, file, tensor, skip, size, into,
                            bytes, got, error);
    return ts_error_in_file(error, status, ts_file_path(file));
}

ts_status ts_unpacking_read(ts_unpacking *unpacking, ts_reader *reader,
                            const ts_file *file, const ts_tensor *tensor,
                            uint64_t skip, uint64_t size, uint8_t *into,
                            ts_error *error)
{
    while (size > 0) {
        uint8_t *bytes = into;
        uint64_t got = 0;
        TS_TRY(ts_unpacking_take(unpacking, reader, file, tensor, skip, size,
                                 into, &bytes, &got, error));
        if (bytes != into) memcpy(into, bytes, (size_t)got);
        skip += got;
        into += got;
        size -= got;
    }
    return TS_OK;
}
