/* frame.h -- what the files of the frame codec share; docs/format.md is the
 * description to the byte, this is its arithmetic. */
#ifndef TS_CODEC_FRAME_H
#define TS_CODEC_FRAME_H

#include "codec.h"
#include "core/base.h"

enum {
    TS_FRAME_ALIGN = 64, /* of chunks, their sizes, front, table, frame */
    TS_FRAME_ROW = 32,   /* bytes of a row of the table */
    TS_FRAME_VERSION = 1,
    TS_FRAME_OWN = 1, /* flag of a row in a DELTA: the chunk's own elements */
};

/* Where things are in the head. */
enum {
    TS_HEAD_MAGIC = 0,
    TS_HEAD_VERSION = 4,
    TS_HEAD_DTYPE = 6,
    TS_HEAD_NDIM = 7,
    TS_HEAD_KIND = 8,
    TS_HEAD_MODE = 9,
    TS_HEAD_BASE_SIZE = 10,
    TS_HEAD_CHUNK_ELEMENTS = 12,
    TS_HEAD_ELEMENTS = 16,
    TS_HEAD_SIZE = 24,
    TS_HEAD_TABLE = 32,
    TS_HEAD_DIGEST = 40,
    TS_HEAD_BASE_DIGEST = 48,
    TS_HEAD_HASH = 56,
};

static inline void ts_put_u16(uint8_t *at, uint16_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void ts_put_u32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void ts_put_u64(uint8_t *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline uint64_t ts_xxh3_of(const void *bytes, size_t size)
{
    return ts_checksum_of(TS_CHECKSUM_XXH3, bytes, size);
}

/* The number a frame knows a dtype by, and back. */
uint8_t ts_frame_tag(ts_dtype dtype);
bool ts_frame_dtype(uint8_t tag, ts_dtype *out);

extern const uint8_t ts_frame_magic[4];

/* The hash in the head, of a front (its hash field counts as zeros) and its
 * table.  front_size is at most TS_FRAME_FRONT. */
uint64_t ts_frame_hash(const uint8_t *front, size_t front_size,
                       const uint8_t *table, size_t table_size);

/* Bytes that no stored chunk of so many unpacked bytes exceeds. */
static inline uint64_t ts_frame_bound(uint64_t bytes)
{
    return TS_FRAME_ALIGN + ts_round_up(bytes, TS_FRAME_ALIGN);
}

/* Chunks that so many elements make, and the bytes of their table. */
static inline uint64_t ts_frame_chunks(uint64_t elements, uint32_t chunk)
{
    return elements / chunk + (elements % chunk != 0);
}

/* Fill the derived fields of info (elements, bytes, chunk_bytes, chunk_count,
 * table_size, front_size) from dtype, kind, ndim, shape, chunk_elements and
 * base_size; says what is wrong with them with the given status. */
ts_status ts_frame_measure(ts_frame_info *info, ts_status status,
                           ts_error *error);

/* Scratch memory of one packer, at least `size` bytes, 64-byte aligned; NULL
 * when there is none.  What it held before is gone when it had to grow.  Two
 * of them: for the planes of a chunk, and for the chunk that a part is of. */
uint8_t *ts_packer_room(ts_packer *packer, size_t size);
uint8_t *ts_packer_part(ts_packer *packer, size_t size);

ts_ahead ts_packer_next(ts_packer *packer); /* what to expect, and forget it */

/* What a writer knows so far. */
const ts_frame_info *ts_frame_writer_facts(const ts_frame_writer *writer);

/* One chunk, without its frame: chunk.h says how it is laid out. */
ts_status ts_chunk_pack(ts_pack_mode mode, ts_dtype dtype, const uint8_t *in,
                        uint32_t elements, uint8_t *out, uint32_t *size,
                        ts_packer *packer, ts_error *error);
ts_status ts_chunk_unpack(ts_dtype dtype, const uint8_t *stored, size_t size,
                          uint32_t elements, uint8_t *out, bool bypass,
                          ts_packer *packer, ts_error *error);

#endif
