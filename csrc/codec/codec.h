/* codec.h -- the door of codec/: bytes checked and packed.
 *
 * Checksums over a range that arrives in pieces, DEFLATE, and frames: one
 * tensor, packed without loss.  No files here: callers own the bytes. */
#ifndef TS_CODEC_CODEC_H
#define TS_CODEC_CODEC_H

#include <stdbool.h>

#include "core/buffer.h"
#include "core/dtype.h"
#include "core/status.h"

typedef enum {
    TS_CHECKSUM_NONE,
    TS_CHECKSUM_CRC32, /* zip's and zlib's: polynomial 0xEDB88320 */
    TS_CHECKSUM_CRC32C, /* Castagnoli: polynomial 0x82F63B78, iSCSI, ext4 */
    TS_CHECKSUM_XXH3,  /* XXH3 64-bit, seed 0 */
    TS_CHECKSUM_SUM64, /* wrapping sum of little-endian 64-bit words, the last
                          one padded with zeros: only shows bytes were seen */
} ts_checksum_kind;

const char *ts_checksum_name(ts_checksum_kind kind); /* "xxh3" */
bool ts_checksum_find(const char *name, ts_checksum_kind *out);

/* One value of a whole range. */
uint64_t ts_checksum_of(ts_checksum_kind kind, const void *bytes, size_t size);

/* The running form: pieces in order, any sizes. */
typedef struct ts_checksum ts_checksum;
ts_status ts_checksum_new(ts_checksum_kind kind, ts_checksum **out,
                          ts_error *error);
void ts_checksum_free(ts_checksum *checksum); /* NULL is fine */
void ts_checksum_reset(ts_checksum *checksum);
void ts_checksum_add(ts_checksum *checksum, const void *bytes, size_t size);
uint64_t ts_checksum_value(const ts_checksum *checksum);

/* crc(a + b) from crc(a), crc(b) and the length of b, so that pieces may be
 * checked by several threads.  For CRC32 and CRC32C; SUM64 adds when every
 * piece but the last is a whole number of words; XXH3 cannot (false). */
bool ts_checksum_combine(ts_checksum_kind kind, uint64_t first,
                         uint64_t second, uint64_t second_size,
                         uint64_t *out);

/* ---- raw DEFLATE, through zlib --------------------------------------- */

typedef struct ts_inflater ts_inflater;
ts_status ts_inflater_new(ts_inflater **out, ts_error *error);
void ts_inflater_free(ts_inflater *inflater); /* NULL is fine */
void ts_inflater_reset(ts_inflater *inflater);

/* Take up to in_size bytes, make up to out_size; *done at the stream's end.
 * TS_CORRUPT when the bytes are no DEFLATE stream. */
ts_status ts_inflater_step(ts_inflater *inflater, const uint8_t *in,
                           size_t in_size, size_t *used, uint8_t *out,
                           size_t out_size, size_t *made, bool *done,
                           ts_error *error);

/* ---- frames: one tensor, packed without loss -------------------------- *
 *
 *     0        64                     front         table_offset
 *     | head   | shape, base name     | chunk 0 .. n-1    | table |
 *     '-------- front ---------------'  each a multiple of 64 bytes
 *
 * The table lies between front and chunks instead when the number of elements
 * was known before the first chunk was packed.  A chunk holds the same number
 * of elements as every other, except the last, and never needs a neighbour.
 * Every byte of a frame is under a hash: of the front and the table in the
 * head, of each chunk in the table.  docs/format.md says it to the bit. */

enum {
    TS_FRAME_HEAD = 64,     /* bytes that say what follows */
    TS_FRAME_FRONT = 4096,  /* no front is longer: one read gets it whole */
    TS_FRAME_MOST_DIMS = 32,
    TS_FRAME_MOST_NAME = 3072, /* bytes of a base tensor's name */
    TS_FRAME_CHUNK = 131072,   /* elements of a chunk unless told otherwise */
    TS_FRAME_MOST_CHUNK = 1 << 24, /* decoded bytes of a chunk */
};

typedef enum {
    TS_FRAME_PLAIN,
    TS_FRAME_DELTA, /* chunks hold the difference (XOR) to a base tensor where
                       that is smaller, else their elements */
    TS_FRAME_SAME,  /* no chunks: the bytes are those of the base tensor */
} ts_frame_kind;

typedef enum {
    TS_PACK_RAW,      /* no compression, only hashes and random access */
    TS_PACK_FAST,     /* what decodes at the speed of memory */
    TS_PACK_PORTABLE, /* every packed plane a standard zstd frame */
    TS_PACK_SMALL,    /* the best ratio */
    TS_PACK_MODES
} ts_pack_mode;

const char *ts_pack_name(ts_pack_mode mode); /* "fast" */
bool ts_pack_find(const char *name, ts_pack_mode *out);

/* What the front of a frame says, checked against itself and the extent. */
typedef struct {
    ts_dtype dtype;
    ts_frame_kind kind;
    ts_pack_mode mode; /* what the packer was asked for */
    uint32_t ndim;
    uint64_t shape[TS_FRAME_MOST_DIMS];
    uint64_t elements;
    uint64_t bytes;          /* of all elements, unpacked */
    uint32_t chunk_elements; /* a whole number of blocks */
    uint32_t chunk_bytes;    /* of a full chunk, unpacked */
    uint64_t chunk_count;
    uint64_t size;           /* of the frame; zeros fill the extent */
    uint32_t front_size;     /* head, shape and base name, padded */
    uint64_t table_offset, table_size;
    uint64_t digest;         /* of the unpacked bytes; see ts_frame_digest */
    uint64_t base_digest;    /* of the base's, 0 when PLAIN */
    uint32_t base_offset, base_size; /* its name within the front, UTF-8 */
} ts_frame_info;

typedef struct {
    uint64_t offset;   /* within the frame */
    uint32_t size;     /* stored bytes, a multiple of 64 */
    uint64_t first;    /* its first element */
    uint32_t elements;
    uint32_t bytes;    /* unpacked */
    uint64_t hash;     /* XXH3 of the stored bytes */
    uint64_t content;  /* XXH3 of the unpacked bytes */
    bool differs;      /* it is a difference: to unpack it takes the base */
} ts_frame_chunk;

/* Is this the beginning of a frame?  size bytes are there. */
bool ts_frame_is(const uint8_t *bytes, size_t size);

/* Understand the front of a frame that lies in `extent` bytes, of which the
 * first min(extent, TS_FRAME_FRONT) are given. */
ts_status ts_frame_look(const uint8_t *front, uint64_t extent,
                        ts_frame_info *out, ts_error *error);

/* Front and table checked and kept (copied); chunks can be found.  The table
 * is info->table_size bytes.  With verify, both must match the hash in the
 * head; without (to salvage) they only must make sense. */
typedef struct ts_frame ts_frame;
ts_status ts_frame_open(const uint8_t *front, const uint8_t *table,
                        uint64_t extent, bool verify, ts_frame **out,
                        ts_error *error);
/* The same for a frame that lies in memory whole. */
ts_status ts_frame_open_bytes(const uint8_t *bytes, uint64_t size, bool verify,
                              ts_frame **out, ts_error *error);
void ts_frame_free(ts_frame *frame); /* NULL is fine */
const ts_frame_info *ts_frame_facts(const ts_frame *frame);
const char *ts_frame_base(const ts_frame *frame, size_t *size); /* its name */
uint64_t ts_frame_memory(const ts_frame *frame); /* bytes that it holds */
uint64_t ts_frame_memory_of(uint64_t chunk_count); /* at most, beforehand */
uint64_t ts_frame_room(uint32_t chunk_bytes); /* a stored chunk has no more */
ts_frame_chunk ts_frame_find(const ts_frame *frame, uint64_t chunk);

/* Scratch memory of one thread, either way.  Grows to what a chunk needs and
 * keeps it: to unpack those of chunk_bytes, at most ts_packer_memory(). */
typedef struct ts_packer ts_packer;
ts_status ts_packer_new(ts_packer **out, ts_error *error);
void ts_packer_free(ts_packer *packer); /* NULL is fine */
uint64_t ts_packer_memory(uint32_t chunk_bytes);

/* Bytes that this packer's thread works on next (a stored chunk, or elements):
 * fetched into the cache while it unpacks or packs the chunk before.  A hint
 * for one chunk; they are not looked at. */
typedef struct {
    const void *bytes;
    size_t size;
} ts_ahead;

void ts_packer_expect(ts_packer *packer, ts_ahead next);

enum {
    TS_UNPACK_TRUST = 1,  /* skip the hashes: the bytes were verified before */
    TS_UNPACK_BYPASS = 2, /* store past the caches: for an output larger than
                             they are, whose start is 64-byte aligned */
};

/* Unpack chunk i of a frame from its stored bytes.  out takes chunk.bytes;
 * base holds the same range of the base tensor when the chunk is a difference.
 * Never reads outside stored and base, never writes outside out; its content
 * is unspecified after an error, which names the chunk. */
ts_status ts_frame_unpack(const ts_frame *frame, uint64_t chunk,
                          const uint8_t *stored, size_t stored_size,
                          const uint8_t *base, uint8_t *out, unsigned how,
                          ts_packer *packer, ts_error *error);

/* The elements [first, first + count) of the tensor, all of chunk i and whole
 * blocks; base and out are those of the range. */
ts_status ts_frame_unpack_part(const ts_frame *frame, uint64_t chunk,
                               const uint8_t *stored, size_t stored_size,
                               const uint8_t *base, uint64_t first,
                               uint64_t count, uint8_t *out, unsigned how,
                               ts_packer *packer, ts_error *error);

/* ---- writing a frame -------------------------------------------------- *
 *
 *     writer = new(spec)          chunks may be packed by several threads,
 *     pack -> stored bytes, row   each with its own packer;
 *     add(row) -> offset          in order, by one thread: write there
 *     finish -> front, table      write those last */

#define TS_FRAME_UNKNOWN UINT64_MAX

typedef struct {
    ts_dtype dtype;
    ts_frame_kind kind;
    ts_pack_mode mode;
    uint32_t ndim;
    const uint64_t *shape; /* shape[0] TS_FRAME_UNKNOWN: rows as they come */
    uint32_t chunk_elements; /* 0: TS_FRAME_CHUNK */
    const char *base_name;   /* of the tensor that DELTA and SAME refer to */
    size_t base_size;
    uint64_t base_digest;    /* ts_frame_digest of its bytes, same chunks; of a
                                DELTA also by ts_frame_writer_base */
} ts_frame_spec;

typedef struct ts_frame_writer ts_frame_writer;
ts_status ts_frame_writer_new(const ts_frame_spec *spec, ts_frame_writer **out,
                              ts_error *error);
void ts_frame_writer_free(ts_frame_writer *writer); /* NULL is fine */
uint32_t ts_frame_writer_chunk(const ts_frame_writer *writer); /* elements */
uint32_t ts_frame_writer_bound(const ts_frame_writer *writer); /* bytes that a
                                                 stored chunk never exceeds */

typedef struct {
    uint32_t elements, size; /* size is what is stored */
    uint64_t hash, content;  /* as in ts_frame_chunk */
    uint64_t below;          /* XXH3 of the base's bytes, of a DELTA */
    bool differs;
} ts_frame_row;

/* Pack `elements` elements; only the last chunk has fewer than the others.
 * room is at least the bound.  A chunk of a DELTA is packed both ways, and the
 * smaller one is kept.  The writer is only read. */
ts_status ts_frame_pack(const ts_frame_writer *writer, const uint8_t *in,
                        const uint8_t *base, uint32_t elements, uint8_t *out,
                        size_t room, ts_frame_row *row, ts_packer *packer,
                        ts_error *error);

/* The next chunk in order: where its stored bytes belong within the frame. */
ts_status ts_frame_add(ts_frame_writer *writer, const ts_frame_row *row,
                       uint64_t *offset, ts_error *error);

/* Of a DELTA whose base was not known as a whole: its digest, before the
 * finish. */
void ts_frame_writer_base(ts_frame_writer *writer, uint64_t digest);

/* A DELTA none of whose chunks is a difference becomes PLAIN, before the
 * finish.  Its chunks belong *by bytes before the places they were given,
 * because the base's name is gone.  False, and nothing done, for others. */
bool ts_frame_forget_base(ts_frame_writer *writer, uint64_t *by);

/* Bytes of the frame when no further chunk is added, table included. */
uint64_t ts_frame_writer_size(const ts_frame_writer *writer);

typedef struct {
    const uint8_t *front; /* the writer's, until it is freed; belongs at 0 */
    size_t front_size;
    const uint8_t *table; /* the writer's */
    size_t table_size;
    uint64_t table_offset;
    uint64_t size;   /* of the whole frame */
    uint64_t digest;
} ts_frame_ends;

ts_status ts_frame_finish(ts_frame_writer *writer, ts_frame_ends *out,
                          ts_error *error);

/* The digest that a frame of these bytes would have: XXH3 of the XXH3 of each
 * chunk.  Two tensors of one size and one digest hold the same bytes. */
ts_status ts_frame_digest(const uint8_t *bytes, uint64_t size,
                          uint32_t chunk_bytes, uint64_t *out,
                          ts_error *error);

/* ---- whole tensors in memory ------------------------------------------ */

/* A frame of a tensor, packed by up to `threads` threads (0: one a core). */
ts_status ts_compress(const ts_frame_spec *spec, const uint8_t *bytes,
                      const uint8_t *base, int threads, ts_buffer **out,
                      ts_error *error);
/* All of its elements: out takes ts_frame_facts(frame)->bytes. */
ts_status ts_decompress(const ts_frame *frame, const uint8_t *bytes,
                        const uint8_t *base, int threads, unsigned how,
                        uint8_t *out, ts_error *error);

#endif
