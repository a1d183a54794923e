/* frame.c -- reading a frame: front, table, where a chunk lies. */
#include "frame.h"

#include <stdlib.h>

#include "core/large.h"
#include "core/utf8.h"

struct ts_frame {
    ts_frame_info info;
    uint8_t *base;  /* owned; the name, not terminated */
    uint8_t *table; /* owned; info.table_size bytes, checked */
};

/* ---- names and numbers ------------------------------------------------ */

const uint8_t ts_frame_magic[4] = {0x93, 'T', 'S', 'F'};

static const char *const modes[TS_PACK_MODES] = {"raw", "fast", "portable",
                                                 "small"};

const char *ts_pack_name(ts_pack_mode mode)
{
    return (unsigned)mode < TS_PACK_MODES ? modes[mode] : "unknown";
}

bool ts_pack_find(const char *name, ts_pack_mode *out)
{
    for (unsigned i = 0; i < TS_PACK_MODES; i++)
        if (strcmp(modes[i], name) == 0) {
            *out = (ts_pack_mode)i;
            return true;
        }
    return false;
}

/* The tag is the place in this list, from 1.  It is part of the format: only
 * ever grows at its end, whatever the order of ts_dtype. */
static const uint8_t tags[] = {
    TS_BOOL,    TS_U8,      TS_I8,      TS_U16,     TS_I16,     TS_U32,
    TS_I32,     TS_U64,     TS_I64,     TS_F4,      TS_F6_E2M3, TS_F6_E3M2,
    TS_F8_E4M3, TS_F8_E5M2, TS_F8_E8M0, TS_F8_E4M3FNUZ,         TS_F8_E5M2FNUZ,
    TS_F16,     TS_BF16,    TS_F32,     TS_F64,     TS_C64,     TS_C128,
    TS_Q4_0,    TS_Q4_1,    TS_Q5_0,    TS_Q5_1,    TS_Q8_0,    TS_Q8_1,
    TS_Q2_K,    TS_Q3_K,    TS_Q4_K,    TS_Q5_K,    TS_Q6_K,    TS_Q8_K,
    TS_IQ2_XXS, TS_IQ2_XS,  TS_IQ3_XXS, TS_IQ1_S,   TS_IQ4_NL,  TS_IQ3_S,
    TS_IQ2_S,   TS_IQ4_XS,  TS_IQ1_M,   TS_TQ1_0,   TS_TQ2_0,   TS_MXFP4,
    TS_NVFP4,   TS_Q1_0,    TS_Q2_0,
};
_Static_assert(TS_COUNT_OF(tags) == TS_DTYPE_COUNT, "a dtype without a tag");

uint8_t ts_frame_tag(ts_dtype dtype)
{
    for (unsigned i = 0; i < TS_COUNT_OF(tags); i++)
        if (tags[i] == dtype) return (uint8_t)(i + 1);
    return 0;
}

bool ts_frame_dtype(uint8_t tag, ts_dtype *out)
{
    if (tag == 0 || tag > TS_COUNT_OF(tags)) return false;
    *out = (ts_dtype)tags[tag - 1];
    return true;
}

uint64_t ts_frame_hash(const uint8_t *front, size_t front_size,
                       const uint8_t *table, size_t table_size)
{
    uint8_t copy[TS_FRAME_FRONT], both[16];

    memcpy(copy, front, front_size);
    memset(copy + TS_HEAD_HASH, 0, 8);
    ts_put_u64(both, ts_xxh3_of(copy, front_size));
    ts_put_u64(both + 8, ts_xxh3_of(table, table_size));
    return ts_xxh3_of(both, sizeof both);
}

/* ---- the front -------------------------------------------------------- */

static bool count_elements(ts_frame_info *info)
{
    info->elements = 1;
    for (uint32_t i = 0; i < info->ndim; i++)
        if (!ts_mul(info->elements, info->shape[i], &info->elements))
            return false;
    return ts_dtype_bytes(info->dtype, info->elements, &info->bytes);
}

static ts_status measure_chunks(ts_frame_info *info, ts_status status,
                                ts_error *error)
{
    uint64_t bytes;

    if (info->chunk_elements == 0
        || !ts_dtype_bytes(info->dtype, info->chunk_elements, &bytes))
        return ts_fail(error, status,
                       "chunks of %u elements are no whole number of %s "
                       "blocks of %u",
                       info->chunk_elements, ts_dtype_name(info->dtype),
                       ts_dtype_block_count(info->dtype));
    if (bytes > TS_FRAME_MOST_CHUNK)
        return ts_fail(error, status,
                       "chunks of %u elements of %s take %llu bytes, more "
                       "than %d",
                       info->chunk_elements, ts_dtype_name(info->dtype),
                       (unsigned long long)bytes, TS_FRAME_MOST_CHUNK);
    info->chunk_bytes = (uint32_t)bytes;
    info->chunk_count =
        info->kind == TS_FRAME_SAME
            ? 0
            : ts_frame_chunks(info->elements, info->chunk_elements);
    if (info->chunk_count > UINT64_MAX / 2 / ts_frame_bound(bytes))
        return ts_fail(error, status, "%llu elements are too many for a frame",
                       (unsigned long long)info->elements);
    info->table_size =
        ts_round_up(info->chunk_count * TS_FRAME_ROW, TS_FRAME_ALIGN);
    return TS_OK;
}

ts_status ts_frame_measure(ts_frame_info *info, ts_status status,
                           ts_error *error)
{
    if (info->ndim > TS_FRAME_MOST_DIMS)
        return ts_fail(error, status, "a frame of %u dimensions, at most %d",
                       info->ndim, TS_FRAME_MOST_DIMS);
    if (info->base_size > TS_FRAME_MOST_NAME)
        return ts_fail(error, status,
                       "the base tensor's name has %u bytes, at most %d",
                       info->base_size, TS_FRAME_MOST_NAME);
    if ((info->kind == TS_FRAME_PLAIN) != (info->base_size == 0))
        return ts_fail(error, status,
                       "a frame of kind %d and a base name of %u bytes",
                       (int)info->kind, info->base_size);
    if (!count_elements(info))
        return ts_fail(error, status,
                       "the shape makes no whole number of %s blocks or too "
                       "many",
                       ts_dtype_name(info->dtype));
    info->base_offset = TS_FRAME_HEAD + 8 * info->ndim;
    info->front_size = (uint32_t)ts_round_up(
        info->base_offset + info->base_size, TS_FRAME_ALIGN);
    return measure_chunks(info, status, error);
}

bool ts_frame_is(const uint8_t *bytes, size_t size)
{
    return size >= TS_FRAME_HEAD
        && memcmp(bytes, ts_frame_magic, sizeof ts_frame_magic) == 0;
}

static ts_status read_head(const uint8_t *head, ts_frame_info *info,
                           ts_error *error)
{
    uint16_t version = ts_load_u16(head + TS_HEAD_VERSION);

    if (version != TS_FRAME_VERSION)
        return ts_fail(error, TS_UNSUPPORTED,
                       "a frame of version %u; version %d is known", version,
                       TS_FRAME_VERSION);
    if (!ts_frame_dtype(head[TS_HEAD_DTYPE], &info->dtype))
        return ts_fail(error, TS_FORMAT, "a frame of unknown dtype %u",
                       head[TS_HEAD_DTYPE]);
    if (head[TS_HEAD_KIND] > TS_FRAME_SAME)
        return ts_fail(error, TS_FORMAT, "a frame of unknown kind %u",
                       head[TS_HEAD_KIND]);
    if (head[TS_HEAD_MODE] >= TS_PACK_MODES)
        return ts_fail(error, TS_FORMAT, "a frame of unknown mode %u",
                       head[TS_HEAD_MODE]);
    info->kind = (ts_frame_kind)head[TS_HEAD_KIND];
    info->mode = (ts_pack_mode)head[TS_HEAD_MODE];
    info->ndim = head[TS_HEAD_NDIM];
    info->base_size = ts_load_u16(head + TS_HEAD_BASE_SIZE);
    info->chunk_elements = ts_load_u32(head + TS_HEAD_CHUNK_ELEMENTS);
    info->size = ts_load_u64(head + TS_HEAD_SIZE);
    info->table_offset = ts_load_u64(head + TS_HEAD_TABLE);
    info->digest = ts_load_u64(head + TS_HEAD_DIGEST);
    info->base_digest = ts_load_u64(head + TS_HEAD_BASE_DIGEST);
    return TS_OK;
}

static ts_status read_shape(const uint8_t *front, uint64_t extent,
                            ts_frame_info *info, ts_error *error)
{
    if (info->ndim > TS_FRAME_MOST_DIMS
        || TS_FRAME_HEAD + 8 * (uint64_t)info->ndim > extent)
        return ts_fail(error, TS_FORMAT,
                       "a frame of %u dimensions in %llu bytes", info->ndim,
                       (unsigned long long)extent);
    memcpy(info->shape, front + TS_FRAME_HEAD, 8 * (size_t)info->ndim);
    TS_TRY(ts_frame_measure(info, TS_FORMAT, error));
    uint64_t told = ts_load_u64(front + TS_HEAD_ELEMENTS);
    if (told != info->elements)
        return ts_fail(error, TS_FORMAT,
                       "a frame of %llu elements whose shape makes %llu",
                       (unsigned long long)told,
                       (unsigned long long)info->elements);
    return TS_OK;
}

/* Front, chunks and table fill the frame, the frame fits the extent. */
static ts_status check_places(const uint8_t *front, uint64_t extent,
                              const ts_frame_info *info, ts_error *error)
{
    uint64_t least = info->front_size + info->table_size
                   + info->chunk_count * TS_FRAME_ALIGN;
    uint64_t last = info->size - info->table_size;

    if (info->size > extent || info->size < least
        || info->size % TS_FRAME_ALIGN != 0)
        return ts_fail(error, TS_FORMAT,
                       "a frame of %llu bytes with %llu chunks in %llu bytes",
                       (unsigned long long)info->size,
                       (unsigned long long)info->chunk_count,
                       (unsigned long long)extent);
    if (info->table_offset != info->front_size && info->table_offset != last)
        return ts_fail(error, TS_FORMAT,
                       "the chunk table at %llu is neither at %u nor at %llu",
                       (unsigned long long)info->table_offset,
                       info->front_size, (unsigned long long)last);
    if (ts_utf8_valid(front + info->base_offset, info->base_size)
        != info->base_size)
        return ts_fail(error, TS_FORMAT,
                       "the base tensor's name is not UTF-8");
    return TS_OK;
}

ts_status ts_frame_look(const uint8_t *front, uint64_t extent,
                        ts_frame_info *out, ts_error *error)
{
    memset(out, 0, sizeof *out);
    if (!ts_frame_is(front, (size_t)ts_min(extent, TS_FRAME_HEAD)))
        return ts_fail(error, TS_FORMAT, "these %llu bytes are no frame",
                       (unsigned long long)extent);
    TS_TRY(read_head(front, out, error));
    TS_TRY(read_shape(front, extent, out, error));
    return check_places(front, extent, out, error);
}

/* ---- the table -------------------------------------------------------- */

static const uint8_t *row_of(const ts_frame *frame, uint64_t chunk)
{
    return frame->table + chunk * TS_FRAME_ROW;
}

/* A row: u64 offset, u64 hash, u64 content, u32 size, u32 flags. */
ts_frame_chunk ts_frame_find(const ts_frame *frame, uint64_t chunk)
{
    const ts_frame_info *info = &frame->info;
    const uint8_t *row = row_of(frame, chunk);
    ts_frame_chunk found = {
        .offset = ts_load_u64(row),
        .hash = ts_load_u64(row + 8),
        .content = ts_load_u64(row + 16),
        .size = ts_load_u32(row + 24),
        .first = chunk * info->chunk_elements,
        .differs = info->kind == TS_FRAME_DELTA
                && ts_load_u32(row + 28) != TS_FRAME_OWN,
    };

    found.elements =
        (uint32_t)ts_min(info->chunk_elements, info->elements - found.first);
    found.bytes = found.elements / ts_dtype_block_count(info->dtype)
                * ts_dtype_block_size(info->dtype);
    return found;
}

/* What is not known is not guessed. */
static ts_status check_flags(const ts_frame *frame, uint64_t chunk,
                             ts_error *error)
{
    uint32_t most = frame->info.kind == TS_FRAME_DELTA ? TS_FRAME_OWN : 0;
    uint32_t flags = ts_load_u32(row_of(frame, chunk) + 28);

    if (flags <= most) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "chunk %llu has the flags %u, up to %u are known",
                   (unsigned long long)chunk, flags, most);
}

/* Chunks lie one behind the other, without a gap, in their place. */
static ts_status check_rows(const ts_frame *frame, ts_error *error)
{
    const ts_frame_info *info = &frame->info;
    bool before = info->table_offset == info->front_size;
    uint64_t at = info->front_size + (before ? info->table_size : 0);
    uint64_t end = before ? info->size : info->table_offset;

    for (uint64_t i = 0; i < info->chunk_count; i++) {
        ts_frame_chunk chunk = ts_frame_find(frame, i);
        if (chunk.offset != at || chunk.size < TS_FRAME_ALIGN
            || chunk.size % TS_FRAME_ALIGN != 0
            || chunk.size > ts_frame_bound(chunk.bytes)
            || chunk.size > end - at)
            return ts_fail(error, TS_FORMAT,
                           "chunk %llu of %llu lies at %llu with %u bytes, "
                           "expected at %llu with at most %llu",
                           (unsigned long long)i,
                           (unsigned long long)info->chunk_count,
                           (unsigned long long)chunk.offset, chunk.size,
                           (unsigned long long)at,
                           (unsigned long long)ts_min(
                               end - at, ts_frame_bound(chunk.bytes)));
        TS_TRY(check_flags(frame, i, error));
        at += chunk.size;
    }
    if (at == end) return TS_OK;
    return ts_fail(error, TS_FORMAT,
                   "the chunks of the frame end at %llu instead of %llu",
                   (unsigned long long)at, (unsigned long long)end);
}

static uint64_t digest_of(const ts_frame *frame, ts_checksum *sum)
{
    ts_checksum_reset(sum);
    for (uint64_t i = 0; i < frame->info.chunk_count; i++)
        ts_checksum_add(sum, row_of(frame, i) + 16, 8);
    return ts_checksum_value(sum);
}

static ts_status check_digest(const ts_frame *frame, ts_error *error)
{
    const ts_frame_info *info = &frame->info;
    uint64_t want = info->base_digest;

    if (info->kind != TS_FRAME_SAME) {
        ts_checksum *sum;
        TS_TRY(ts_checksum_new(TS_CHECKSUM_XXH3, &sum, error));
        want = digest_of(frame, sum);
        ts_checksum_free(sum);
    }
    if (info->digest == want) return TS_OK;
    return ts_fail(error, TS_CORRUPT,
                   "the frame's digest is %016llx, its chunks make %016llx",
                   (unsigned long long)info->digest,
                   (unsigned long long)want);
}

static ts_status check_hashes(const ts_frame *frame, const uint8_t *front,
                              ts_error *error)
{
    const ts_frame_info *info = &frame->info;
    uint64_t told = ts_load_u64(front + TS_HEAD_HASH);
    uint64_t made = ts_frame_hash(front, info->front_size, frame->table,
                                  (size_t)info->table_size);

    if (told != made)
        return ts_fail(error, TS_CORRUPT,
                       "the head or the chunk table of the frame is damaged: "
                       "their XXH3 is %016llx, not %016llx",
                       (unsigned long long)made, (unsigned long long)told);
    return check_digest(frame, error);
}

/* ---- open ------------------------------------------------------------- */

/* A copy of `size` bytes, or NULL; 0 bytes take one. */
static uint8_t *copy_of(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = ts_large_new(size);
    if (copy != NULL && size > 0) memcpy(copy, bytes, size);
    return copy;
}

ts_status ts_frame_open(const uint8_t *front, const uint8_t *table,
                        uint64_t extent, bool verify, ts_frame **out,
                        ts_error *error)
{
    ts_frame_info info;
    ts_status status;

    *out = NULL;
    TS_TRY(ts_frame_look(front, extent, &info, error));
    ts_frame *frame = calloc(1, sizeof *frame);
    if (frame == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate a frame");
    frame->info = info;
    frame->base = copy_of(front + info.base_offset, info.base_size);
    frame->table = copy_of(table, (size_t)info.table_size);
    if (frame->base == NULL || frame->table == NULL)
        status = ts_fail(error, TS_NOMEM,
                         "cannot allocate %llu bytes for a chunk table",
                         (unsigned long long)info.table_size);
    else
        status = verify ? check_hashes(frame, front, error) : TS_OK;
    if (status == TS_OK) status = check_rows(frame, error);
    if (status != TS_OK) {
        ts_frame_free(frame);
        return status;
    }
    *out = frame;
    return TS_OK;
}

ts_status ts_frame_open_bytes(const uint8_t *bytes, uint64_t size, bool verify,
                              ts_frame **out, ts_error *error)
{
    ts_frame_info info;

    *out = NULL;
    TS_TRY(ts_frame_look(bytes, size, &info, error));
    return ts_frame_open(bytes, bytes + info.table_offset, size, verify, out,
                         error);
}

void ts_frame_free(ts_frame *frame)
{
    if (frame == NULL) return;
    free(frame->base);
    free(frame->table);
    free(frame);
}

const ts_frame_info *ts_frame_facts(const ts_frame *frame)
{
    return &frame->info;
}

const char *ts_frame_base(const ts_frame *frame, size_t *size)
{
    *size = frame->info.base_size;
    return (const char *)frame->base;
}

uint64_t ts_frame_memory(const ts_frame *frame)
{
    return sizeof *frame + frame->info.base_size + frame->info.table_size;
}

uint64_t ts_frame_memory_of(uint64_t chunk_count)
{
    return sizeof(ts_frame) + TS_FRAME_MOST_NAME
         + ts_round_up(chunk_count * TS_FRAME_ROW, TS_FRAME_ALIGN);
}

uint64_t ts_frame_room(uint32_t chunk_bytes)
{
    return ts_frame_bound(chunk_bytes);
}

/* ---- one chunk -------------------------------------------------------- */

/* Which chunk an error of its insides is about. */
static ts_status in_chunk(ts_status status, uint64_t chunk, ts_error *error)
{
    char inner[200];

    if (status == TS_OK || error == NULL) return status;
    memcpy(inner, error->message, sizeof inner);
    inner[sizeof inner - 1] = '\0';
    return ts_fail(error, status, "chunk %llu: %s", (unsigned long long)chunk,
                   inner);
}

static ts_status check_stored(const ts_frame_chunk *chunk,
                              const uint8_t *stored, size_t size,
                              unsigned how, ts_error *error)
{
    if (size != chunk->size)
        return ts_fail(error, TS_ARGUMENT, "%zu bytes given, %u are stored",
                       size, chunk->size);
    if (how & TS_UNPACK_TRUST) return TS_OK;
    uint64_t made = ts_xxh3_of(stored, size);
    if (made == chunk->hash) return TS_OK;
    return ts_fail(error, TS_CORRUPT,
                   "its %zu stored bytes are damaged: XXH3 %016llx, not "
                   "%016llx",
                   size, (unsigned long long)made,
                   (unsigned long long)chunk->hash);
}

static void add_base(const uint8_t *base, uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++) out[i] ^= base[i];
}

/* A wrong base shows only in what comes of it. */
static ts_status check_content(const ts_frame_chunk *chunk, const uint8_t *out,
                               unsigned how, ts_error *error)
{
    if (how & TS_UNPACK_TRUST) return TS_OK;
    uint64_t made = ts_xxh3_of(out, chunk->bytes);
    if (made == chunk->content) return TS_OK;
    return ts_fail(error, TS_CORRUPT,
                   "the base tensor is not the one it was packed against: "
                   "XXH3 of the result is %016llx, not %016llx",
                   (unsigned long long)made,
                   (unsigned long long)chunk->content);
}

static ts_status unpack(const ts_frame *frame, const ts_frame_chunk *chunk,
                        const uint8_t *stored, size_t stored_size,
                        const uint8_t *base, uint8_t *out, unsigned how,
                        ts_packer *packer, ts_error *error)
{
    if (chunk->differs && base == NULL && chunk->bytes > 0)
        return ts_fail(error, TS_ARGUMENT, "the base tensor is needed");
    TS_TRY(check_stored(chunk, stored, stored_size, how, error));
    TS_TRY(ts_chunk_unpack(frame->info.dtype, stored, stored_size,
                           chunk->elements, out,
                           (how & TS_UNPACK_BYPASS) != 0 && !chunk->differs,
                           packer, error));
    if (!chunk->differs) return TS_OK;
    add_base(base, out, chunk->bytes);
    return check_content(chunk, out, how, error);
}

static ts_status check_number(const ts_frame *frame, uint64_t chunk,
                              ts_error *error)
{
    if (chunk < frame->info.chunk_count) return TS_OK;
    return ts_fail(error, TS_ARGUMENT, "chunk %llu of a frame of %llu",
                   (unsigned long long)chunk,
                   (unsigned long long)frame->info.chunk_count);
}

ts_status ts_frame_unpack(const ts_frame *frame, uint64_t chunk,
                          const uint8_t *stored, size_t stored_size,
                          const uint8_t *base, uint8_t *out, unsigned how,
                          ts_packer *packer, ts_error *error)
{
    TS_TRY(check_number(frame, chunk, error));
    ts_frame_chunk found = ts_frame_find(frame, chunk);
    return in_chunk(unpack(frame, &found, stored, stored_size, base, out, how,
                           packer, error),
                    chunk, error);
}

static ts_status check_range(const ts_frame *frame,
                             const ts_frame_chunk *chunk, uint64_t first,
                             uint64_t count, ts_error *error)
{
    uint32_t block = ts_dtype_block_count(frame->info.dtype);

    if (first >= chunk->first && count <= chunk->elements
        && first - chunk->first <= chunk->elements - count
        && first % block == 0 && count % block == 0)
        return TS_OK;
    return ts_fail(error, TS_ARGUMENT,
                   "%llu elements from %llu are no range of blocks of its %u "
                   "from %llu",
                   (unsigned long long)count, (unsigned long long)first,
                   chunk->elements, (unsigned long long)chunk->first);
}

/* The chunk whole in scratch memory, of which the range is copied. */
static ts_status unpack_range(const ts_frame *frame,
                              const ts_frame_chunk *chunk,
                              const uint8_t *stored, size_t stored_size,
                              const uint8_t *base, uint64_t first,
                              uint64_t count, uint8_t *out, unsigned how,
                              ts_packer *packer, ts_error *error)
{
    uint64_t from, size;
    uint8_t *whole = ts_packer_part(packer, chunk->bytes);

    if (whole == NULL)
        return ts_fail(error, TS_NOMEM, "cannot allocate %u bytes",
                       chunk->bytes);
    (void)ts_dtype_bytes(frame->info.dtype, first - chunk->first, &from);
    (void)ts_dtype_bytes(frame->info.dtype, count, &size);
    if (chunk->differs && base == NULL && size > 0)
        return ts_fail(error, TS_ARGUMENT, "the base tensor is needed");
    TS_TRY(check_stored(chunk, stored, stored_size, how, error));
    TS_TRY(ts_chunk_unpack(frame->info.dtype, stored, stored_size,
                           chunk->elements, whole, false, packer, error));
    if (size > 0) memcpy(out, whole + from, (size_t)size);
    if (chunk->differs) add_base(base, out, (size_t)size);
    return TS_OK;
}

ts_status ts_frame_unpack_part(const ts_frame *frame, uint64_t chunk,
                               const uint8_t *stored, size_t stored_size,
                               const uint8_t *base, uint64_t first,
                               uint64_t count, uint8_t *out, unsigned how,
                               ts_packer *packer, ts_error *error)
{
    ts_status status;

    TS_TRY(check_number(frame, chunk, error));
    ts_frame_chunk found = ts_frame_find(frame, chunk);
    status = check_range(frame, &found, first, count, error);
    if (status == TS_OK)
        status = count == found.elements
                     ? unpack(frame, &found, stored, stored_size, base, out,
                              how, packer, error)
                     : unpack_range(frame, &found, stored, stored_size, base,
                                    first, count, out, how, packer, error);
    return in_chunk(status, chunk, error);
}
