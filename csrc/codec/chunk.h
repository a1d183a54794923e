/* chunk.h -- how a stored chunk is laid out; docs/format.md says it in full.
 *
 *     | chunk head | section, its planes | section, its planes ... | data
 *       8 bytes      8 + 12 a plane
 *
 * A section is an array of elements of 1, 2, 4 or 8 bytes; most tensors have
 * one, ggml's blocks one for each field of the block.  A plane is one bit
 * field of every element of a section, packed in a way of its own.  All
 * numbers are little-endian, places count from the start of the chunk. */
#ifndef TS_CODEC_CHUNK_H
#define TS_CODEC_CHUNK_H

#include "frame.h"
#include "planes_kernel.h"

/*  chunk head: u32 elements, u8 sections, 3 zeros
 *  section:    u8 form, u8 layout, u8 planes, u8 width, u32 count
 *  plane:      u8 coder, u8 value, u16 zero, u32 place, u32 size */
enum {
    TS_CHUNK_HEAD = 8,
    TS_SECTION_HEAD = 8,
    TS_PLANE_HEAD = 12,
    TS_MOST_WIDTH = 8,
    TS_MOST_PLANES = 10, /* 8 bytes, one of them cut, and those of the form */
    TS_MOST_FIELDS = 5,
};

typedef enum {
    TS_CODER_RAW,     /* the bits of the plane, packed */
    TS_CODER_CONST,   /* every symbol is `value`, nothing stored */
    TS_CODER_RANS,    /* rans.h */
    TS_CODER_HUFFMAN, /* a zstd frame of what RAW would store, no matches */
    TS_CODER_ZSTD,    /* the same, with matches */
    TS_CODERS
} ts_coder;

typedef enum {
    TS_FORM_DENSE,   /* the elements */
    TS_FORM_SPARSE,  /* a bitmap of those that are not zero, then those */
    TS_FORM_PALETTE, /* the distinct ones, then numbers into them */
    TS_FORMS
} ts_form;

/* A layout: one of these, and in the lower bits how many low bits of the top
 * byte are a plane of their own. */
enum {
    TS_LAYOUT_PLANES = 0x00,  /* byte planes, the top one first */
    TS_LAYOUT_ROTATED = 0x10, /* the top 16 bits rotated left by one before */
    TS_LAYOUT_BYTES = 0x20,   /* one plane: the bytes as they lie */
    TS_LAYOUT_LOW = 0x07,
};

/* A field of a ggml block: what of it is an array of its own. */
typedef enum {
    TS_FIELD_HALF,  /* fp16 */
    TS_FIELD_FLOAT, /* f32 */
    TS_FIELD_WORDS, /* 16-bit integers */
    TS_FIELD_BYTES, /* 8-bit codes */
    TS_FIELD_PAIRS, /* two 4-bit codes in a byte */
} ts_field_kind;

typedef struct {
    uint8_t kind;
    uint16_t offset, size; /* within the block */
} ts_field;

/* The fields of a block, which cover it; NULL when the chunks of a dtype are
 * one array. */
const ts_field *ts_dtype_fields(ts_dtype dtype, unsigned *count);
unsigned ts_field_width(ts_field_kind kind);

/* Bytes of a plane of count symbols of so many bits, stored RAW. */
static inline uint64_t ts_plane_bytes(uint64_t count, unsigned bits)
{
    return (count * bits + 7) / 8;
}

/* Bits of a number below `entries` (1 to 256): 1, 2, 4 or 8. */
static inline unsigned ts_palette_bits(unsigned entries)
{
    return entries <= 2 ? 1 : entries <= 4 ? 2 : entries <= 16 ? 4 : 8;
}

const ts_planes *ts_planes_here(void); /* those of this machine */

/* Memory out of a packer's room, for one chunk. */
typedef struct {
    uint8_t *at, *end;
} ts_rest;

/* 64-byte aligned; NULL when the rest is too small. */
static inline uint8_t *ts_rest_take(ts_rest *rest, uint64_t size)
{
    uint8_t *at = rest->at;
    if (size > (uint64_t)(rest->end - at)) return NULL;
    size = ts_round_up(size, 64);
    if (size > (uint64_t)(rest->end - at)) return NULL;
    rest->at += size;
    return at;
}

/* Room that a chunk of so many bytes takes at most, either way. */
uint64_t ts_unpack_room(uint64_t bytes);
uint64_t ts_pack_room(uint64_t bytes);
ts_status ts_packer_rest(ts_packer *packer, uint64_t size, ts_rest *out,
                         ts_error *error);

/* ---- zstandard.c ------------------------------------------------------ */

/* Standard zstd frames; 0 when they would not be smaller than room, or when
 * there is no memory for a context. */
size_t ts_zstd_literals(ts_packer *packer, const uint8_t *in, size_t size,
                        uint8_t *out, size_t room);
size_t ts_zstd_matches(ts_packer *packer, int level, const uint8_t *in,
                       size_t size, uint8_t *out, size_t room);
ts_status ts_zstd_unpack(ts_packer *packer, const uint8_t *bytes, size_t size,
                         uint8_t *out, size_t out_size, ts_error *error);

#endif
