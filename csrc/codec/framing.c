/* framing.c -- writing a frame: chunks in, front and table out. */
#include <stdlib.h>

#include "core/large.h"
#include "core/utf8.h"
#include "frame.h"

struct ts_frame_writer {
    ts_frame_info info;  /* elements and what follows from them are final only
                            when the rows are known */
    bool growing;        /* shape[0] was unknown */
    bool finished;
    uint64_t added;      /* chunks */
    uint64_t differing;  /* of them, those that need the base */
    uint64_t elements;   /* in them */
    uint64_t at;         /* where the next chunk belongs */
    uint64_t room;       /* rows that the table has room for */
    uint8_t *table;      /* owned, room rows */
    uint8_t front[TS_FRAME_FRONT];
};

/* ---- begin ------------------------------------------------------------ */

static ts_status check_spec(const ts_frame_spec *spec, ts_error *error)
{
    if ((unsigned)spec->mode >= TS_PACK_MODES
        || (unsigned)spec->kind > TS_FRAME_SAME
        || (unsigned)spec->dtype >= TS_DTYPE_COUNT)
        return ts_fail(error, TS_ARGUMENT,
                       "no frame of dtype %d, kind %d, mode %d",
                       (int)spec->dtype, (int)spec->kind, (int)spec->mode);
    if (spec->ndim > TS_FRAME_MOST_DIMS
        || spec->base_size > TS_FRAME_MOST_NAME)
        return ts_fail(error, TS_ARGUMENT,
                       "a frame has at most %d dimensions and a base name of "
                       "%d bytes, not %u and %zu",
                       TS_FRAME_MOST_DIMS, TS_FRAME_MOST_NAME, spec->ndim,
                       spec->base_size);
    if (ts_utf8_valid(spec->base_name, spec->base_size) != spec->base_size)
        return ts_fail(error, TS_ARGUMENT,
                       "the base tensor's name is not UTF-8");
    return TS_OK;
}

static void fill_info(const ts_frame_spec *spec, ts_frame_info *info)
{
    info->dtype = spec->dtype;
    info->kind = spec->kind;
    info->mode = spec->mode;
    info->ndim = spec->ndim;
    info->base_size = (uint32_t)spec->base_size;
    info->base_digest = spec->kind == TS_FRAME_PLAIN ? 0 : spec->base_digest;
    info->chunk_elements =
        spec->chunk_elements > 0 ? spec->chunk_elements : TS_FRAME_CHUNK;
    for (uint32_t i = 0; i < spec->ndim; i++) info->shape[i] = spec->shape[i];
}

/* Magic to base name; finish adds what is only known then. */
static void begin_front(ts_frame_writer *writer, const ts_frame_spec *spec)
{
    const ts_frame_info *info = &writer->info;
    uint8_t *front = writer->front;

    memcpy(front, ts_frame_magic, sizeof ts_frame_magic);
    ts_put_u16(front + TS_HEAD_VERSION, TS_FRAME_VERSION);
    front[TS_HEAD_DTYPE] = ts_frame_tag(info->dtype);
    front[TS_HEAD_NDIM] = (uint8_t)info->ndim;
    front[TS_HEAD_KIND] = (uint8_t)info->kind;
    front[TS_HEAD_MODE] = (uint8_t)info->mode;
    ts_put_u16(front + TS_HEAD_BASE_SIZE, (uint16_t)info->base_size);
    ts_put_u32(front + TS_HEAD_CHUNK_ELEMENTS, info->chunk_elements);
    ts_put_u64(front + TS_HEAD_BASE_DIGEST, info->base_digest);
    if (info->base_size > 0)
        memcpy(front + info->base_offset, spec->base_name, info->base_size);
}

static ts_status reserve(ts_frame_writer *writer, uint64_t rows,
                         ts_error *error)
{
    uint64_t size;
    uint8_t *table = NULL;

    if (ts_mul(rows, TS_FRAME_ROW, &size) && size <= SIZE_MAX / 2)
        table = ts_large_new((size_t)ts_round_up(size, TS_FRAME_ALIGN));
    if (table == NULL)
        return ts_fail(error, TS_NOMEM,
                       "cannot allocate a table of %llu chunks",
                       (unsigned long long)rows);
    memset(table, 0, (size_t)ts_round_up(size, TS_FRAME_ALIGN));
    if (writer->added > 0)
        memcpy(table, writer->table, (size_t)writer->added * TS_FRAME_ROW);
    free(writer->table);
    writer->table = table;
    writer->room = rows;
    return TS_OK;
}

static ts_status begin(ts_frame_writer *writer, const ts_frame_spec *spec,
                       ts_error *error)
{
    ts_frame_info *info = &writer->info;

    fill_info(spec, info);
    writer->growing = info->ndim > 0 && info->shape[0] == TS_FRAME_UNKNOWN;
    if (writer->growing && info->kind == TS_FRAME_SAME)
        return ts_fail(error, TS_ARGUMENT,
                       "a frame without chunks needs its whole shape");
    if (writer->growing) info->shape[0] = 0;
    TS_TRY(ts_frame_measure(info, TS_ARGUMENT, error));
    TS_TRY(reserve(writer, writer->growing ? 64 : info->chunk_count, error));
    begin_front(writer, spec);
    writer->at = info->front_size;
    if (!writer->growing) writer->at += info->table_size;
    return TS_OK;
}

ts_status ts_frame_writer_new(const ts_frame_spec *spec, ts_frame_writer **out,
                              ts_error *error)
{
    *out = NULL;
    TS_TRY(check_spec(spec, error));
    ts_frame_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a frame writer");
    ts_status status = begin(writer, spec, error);
    if (status != TS_OK) {
        ts_frame_writer_free(writer);
        return status;
    }
    *out = writer;
    return TS_OK;
}

void ts_frame_writer_free(ts_frame_writer *writer)
{
    if (writer == NULL) return;
    free(writer->table);
    free(writer);
}

const ts_frame_info *ts_frame_writer_facts(const ts_frame_writer *writer)
{
    return &writer->info;
}

uint32_t ts_frame_writer_chunk(const ts_frame_writer *writer)
{
    return writer->info.chunk_elements;
}

uint32_t ts_frame_writer_bound(const ts_frame_writer *writer)
{
    return (uint32_t)ts_frame_bound(writer->info.chunk_bytes);
}

uint64_t ts_frame_writer_size(const ts_frame_writer *writer)
{
    if (!writer->growing) return writer->at;
    return writer->at
         + ts_round_up(writer->added * TS_FRAME_ROW, TS_FRAME_ALIGN);
}

/* ---- chunks ----------------------------------------------------------- */

/* The difference, and then the elements themselves in the memory that held it:
 * the smaller of both.  Nothing is smaller than a chunk of equal bytes, which
 * is what two equal chunks differ by. */
static ts_status pack_difference(const ts_frame_info *info, const uint8_t *in,
                                 const uint8_t *base, size_t bytes,
                                 uint8_t *out, ts_frame_row *row,
                                 ts_packer *packer, ts_error *error)
{
    size_t bound = (size_t)ts_frame_bound(bytes);
    uint8_t *other = ts_packer_part(packer, bound);
    uint32_t size;

    if (other == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %zu bytes", bound);
    row->below = ts_xxh3_of(base, bytes);
    row->differs = true;
    for (size_t i = 0; i < bytes; i++) other[i] = in[i] ^ base[i];
    TS_TRY(ts_chunk_pack(info->mode, info->dtype, other, row->elements, out,
                         &row->size, packer, error));
    if (row->size == TS_FRAME_ALIGN) return TS_OK;
    TS_TRY(ts_chunk_pack(info->mode, info->dtype, in, row->elements, other,
                         &size, packer, error));
    if (row->size < size) return TS_OK;
    memcpy(out, other, size);
    row->size = size;
    row->differs = false;
    return TS_OK;
}

ts_status ts_frame_pack(const ts_frame_writer *writer, const uint8_t *in,
                        const uint8_t *base, uint32_t elements, uint8_t *out,
                        size_t room, ts_frame_row *row, ts_packer *packer,
                        ts_error *error)
{
    const ts_frame_info *info = &writer->info;
    uint64_t bytes;

    if (elements == 0 || elements > info->chunk_elements
        || !ts_dtype_bytes(info->dtype, elements, &bytes))
        return ts_fail(error, TS_ARGUMENT,
                       "a chunk of %u elements of %s; it holds 1 to %u",
                       elements, ts_dtype_name(info->dtype),
                       info->chunk_elements);
    if (room < ts_frame_bound(bytes))
        return ts_fail(error, TS_ARGUMENT,
                       "%zu bytes of room for a chunk that may take %llu",
                       room, (unsigned long long)ts_frame_bound(bytes));
    if ((info->kind == TS_FRAME_DELTA) != (base != NULL))
        return ts_fail(error, TS_ARGUMENT,
                       "a base belongs to every chunk of a DELTA frame and to "
                       "no other");
    *row = (ts_frame_row){
        .elements = elements, .content = ts_xxh3_of(in, (size_t)bytes)};
    if (base != NULL)
        TS_TRY(pack_difference(info, in, base, (size_t)bytes, out, row, packer,
                               error));
    else
        TS_TRY(ts_chunk_pack(info->mode, info->dtype, in, elements, out,
                             &row->size, packer, error));
    row->hash = ts_xxh3_of(out, row->size);
    return TS_OK;
}

/* Every chunk but the last is full, and known shapes are filled exactly. */
static ts_status check_row(const ts_frame_writer *writer,
                           const ts_frame_row *row, ts_error *error)
{
    const ts_frame_info *info = &writer->info;

    if (writer->finished || info->kind == TS_FRAME_SAME)
        return ts_fail(error, TS_ARGUMENT, "the frame takes no chunks");
    if (writer->elements % info->chunk_elements != 0)
        return ts_fail(error, TS_ARGUMENT,
                       "chunk %llu follows one that was not full",
                       (unsigned long long)writer->added);
    if (row->elements == 0 || row->elements > info->chunk_elements
        || row->size % TS_FRAME_ALIGN != 0
        || (!writer->growing
            && row->elements > info->elements - writer->elements))
        return ts_fail(error, TS_ARGUMENT,
                       "a chunk of %u elements after %llu of %llu",
                       row->elements, (unsigned long long)writer->elements,
                       (unsigned long long)info->elements);
    return TS_OK;
}

ts_status ts_frame_add(ts_frame_writer *writer, const ts_frame_row *row,
                       uint64_t *offset, ts_error *error)
{
    TS_TRY(check_row(writer, row, error));
    if (writer->added == writer->room)
        TS_TRY(reserve(writer, writer->room * 2, error));
    uint8_t *at = writer->table + writer->added * TS_FRAME_ROW;
    ts_put_u64(at, writer->at);
    ts_put_u64(at + 8, row->hash);
    ts_put_u64(at + 16, row->content);
    ts_put_u32(at + 24, row->size);
    if (writer->info.kind == TS_FRAME_DELTA && !row->differs)
        ts_put_u32(at + 28, TS_FRAME_OWN);
    writer->differing += row->differs;
    *offset = writer->at;
    writer->at += row->size;
    writer->elements += row->elements;
    writer->added++;
    return TS_OK;
}

void ts_frame_writer_base(ts_frame_writer *writer, uint64_t digest)
{
    writer->info.base_digest = digest;
    ts_put_u64(writer->front + TS_HEAD_BASE_DIGEST, digest);
}

bool ts_frame_forget_base(ts_frame_writer *writer, uint64_t *by)
{
    ts_frame_info *info = &writer->info;
    uint64_t before = info->front_size;

    if (info->kind != TS_FRAME_DELTA || writer->differing > 0
        || writer->finished)
        return false;
    memset(writer->front + info->base_offset, 0, info->base_size);
    info->kind = TS_FRAME_PLAIN;
    info->base_size = 0;
    ts_frame_writer_base(writer, 0);
    writer->front[TS_HEAD_KIND] = TS_FRAME_PLAIN;
    ts_put_u16(writer->front + TS_HEAD_BASE_SIZE, 0);
    info->front_size =
        (uint32_t)ts_round_up(info->base_offset, TS_FRAME_ALIGN);
    *by = before - info->front_size;
    for (uint64_t i = 0; i < writer->added; i++) {
        uint8_t *row = writer->table + i * TS_FRAME_ROW;
        ts_put_u64(row, ts_load_u64(row) - *by);
        ts_put_u32(row + 28, 0);
    }
    writer->at -= *by;
    return true;
}

/* ---- finish ----------------------------------------------------------- */

static ts_status settle_rows(ts_frame_writer *writer, ts_error *error)
{
    ts_frame_info *info = &writer->info;
    uint64_t row = 1;

    for (uint32_t i = 1; i < info->ndim; i++)
        if (!ts_mul(row, info->shape[i], &row)) row = UINT64_MAX;
    if (row == 0 ? writer->elements > 0 : writer->elements % row != 0)
        return ts_fail(error, TS_ARGUMENT,
                       "%llu elements make no whole number of rows of %llu",
                       (unsigned long long)writer->elements,
                       (unsigned long long)row);
    info->shape[0] = row == 0 ? 0 : writer->elements / row;
    return ts_frame_measure(info, TS_ARGUMENT, error);
}

static ts_status settle(ts_frame_writer *writer, ts_error *error)
{
    ts_frame_info *info = &writer->info;

    if (writer->growing && info->kind != TS_FRAME_SAME)
        return settle_rows(writer, error);
    if (info->kind == TS_FRAME_SAME || writer->elements == info->elements)
        return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "%llu elements were added, the shape makes %llu",
                   (unsigned long long)writer->elements,
                   (unsigned long long)info->elements);
}

static ts_status digest_of(const ts_frame_writer *writer, uint64_t *out,
                           ts_error *error)
{
    ts_checksum *sum;

    *out = writer->info.base_digest;
    if (writer->info.kind == TS_FRAME_SAME) return TS_OK;
    TS_TRY(ts_checksum_new(TS_CHECKSUM_XXH3, &sum, error));
    for (uint64_t i = 0; i < writer->added; i++)
        ts_checksum_add(sum, writer->table + i * TS_FRAME_ROW + 16, 8);
    *out = ts_checksum_value(sum);
    ts_checksum_free(sum);
    return TS_OK;
}

static void end_front(ts_frame_writer *writer)
{
    ts_frame_info *info = &writer->info;
    uint8_t *front = writer->front;

    info->table_offset = writer->growing ? writer->at : info->front_size;
    info->size = writer->at + (writer->growing ? info->table_size : 0);
    ts_put_u64(front + TS_HEAD_ELEMENTS, info->elements);
    ts_put_u64(front + TS_HEAD_SIZE, info->size);
    ts_put_u64(front + TS_HEAD_TABLE, info->table_offset);
    ts_put_u64(front + TS_HEAD_DIGEST, info->digest);
    memcpy(front + TS_FRAME_HEAD, info->shape, 8 * (size_t)info->ndim);
    ts_put_u64(front + TS_HEAD_HASH,
               ts_frame_hash(front, info->front_size, writer->table,
                             (size_t)info->table_size));
}

ts_status ts_frame_finish(ts_frame_writer *writer, ts_frame_ends *out,
                          ts_error *error)
{
    if (!writer->finished) {
        TS_TRY(settle(writer, error));
        TS_TRY(digest_of(writer, &writer->info.digest, error));
        end_front(writer);
        writer->finished = true;
    }
    *out = (ts_frame_ends){
        .front = writer->front,
        .front_size = writer->info.front_size,
        .table = writer->table,
        .table_size = (size_t)writer->info.table_size,
        .table_offset = writer->info.table_offset,
        .size = writer->info.size,
        .digest = writer->info.digest,
    };
    return TS_OK;
}

ts_status ts_frame_digest(const uint8_t *bytes, uint64_t size,
                          uint32_t chunk_bytes, uint64_t *out, ts_error *error)
{
    ts_checksum *sum;

    TS_TRY(ts_checksum_new(TS_CHECKSUM_XXH3, &sum, error));
    for (uint64_t at = 0; at < size; at += chunk_bytes) {
        uint64_t content =
            ts_xxh3_of(bytes + at, (size_t)ts_min(chunk_bytes, size - at));
        ts_checksum_add(sum, &content, sizeof content);
    }
    *out = ts_checksum_value(sum);
    ts_checksum_free(sum);
    return TS_OK;
}
