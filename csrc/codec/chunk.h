/* chunk.h -- how a stored chunk is laid out.
 *
 *     | chunk head | section, its planes | section, its planes ... | data
 *       8 bytes      8 + 12 a plane
 *
 * A section is an array of elements of 1 to 8 bytes; most tensors have one,
 * ggml's blocks one for each field of the block.  A plane is one bit field of
 * every element of a section, packed in a way of its own.  All numbers are
 * little-endian, places count from the start of the chunk. */
#ifndef TS_CODEC_CHUNK_H
#define TS_CODEC_CHUNK_H

#include "frame.h"

/*  chunk head: u32 elements, u8 sections, 3 zeros
 *  section:    u8 form, u8 layout, u8 planes, u8 zero, u32 count
 *  plane:      u8 coder, u8 value, u16 zero, u32 place, u32 size */
enum {
    TS_CHUNK_HEAD = 8,
    TS_SECTION_HEAD = 8,
    TS_PLANE_HEAD = 12,
};

typedef enum {
    TS_CODER_RAW,   /* the packed bits of the plane */
    TS_CODER_CONST, /* every one is `value`, nothing stored */
    TS_CODERS
} ts_coder;

typedef enum {
    TS_LAYOUT_BYTES, /* one plane: the bytes of the section as they are */
    TS_LAYOUTS
} ts_layout;

typedef enum {
    TS_FORM_DENSE, /* count is that of the section's elements */
    TS_FORMS
} ts_form;

typedef struct {
    uint8_t coder, value;
    const uint8_t *bytes; /* borrowed from the stored chunk */
    size_t size;
} ts_plane;

#endif
