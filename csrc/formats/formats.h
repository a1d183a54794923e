/* formats.h -- the door of formats/: what files mean.
 *
 *     path --ts_catalog_open--> ts_catalog    rows of (name, dtype, shape,
 *                                             where the bytes lie)
 *
 * A catalog is immutable once opened and may be read by any number of
 * threads.  Nothing a file says is believed: a row exists only after its
 * extent was found inside the real file and equal to shape x dtype. */
#ifndef TS_FORMATS_FORMATS_H
#define TS_FORMATS_FORMATS_H

#include "codec/codec.h"
#include "core/dtype.h"
#include "core/names.h"
#include "core/status.h"
#include "io/io.h"

/* Caps, the same for every format; docs/limits.md states them. */
enum {
    TS_MAX_DIMS = 32,
    TS_MAX_NAME = 4096,         /* bytes of UTF-8, no NUL */
    TS_MAX_TENSORS = 1 << 20,
    TS_MAX_FILES = 10000,       /* shards or parts of one checkpoint */
    TS_MAX_DEPTH = 64,          /* nesting of JSON, pickle, GGUF arrays */
    TS_MAX_ALIGNMENT = 1 << 20, /* general.alignment of GGUF */
};
#define TS_MAX_HEADER 100000000u /* bytes, as in safetensors */

typedef enum {
    TS_FORMAT_SAFETENSORS,
    TS_FORMAT_SHARDS, /* an index json over safetensors or torch files */
    TS_FORMAT_GGUF,
    TS_FORMAT_TORCH,
    TS_FORMAT_NPY,
    TS_FORMAT_NPZ,
    TS_FORMAT_MEMORY,
} ts_format;

const char *ts_format_name(ts_format format); /* "safetensors" */

/* How the bytes at an extent become elements. */
typedef enum {
    TS_STORED,   /* as they are, little-endian */
    TS_SWAPPED,  /* big-endian elements */
    TS_DEFLATED, /* a raw DEFLATE stream; size is its length in the file, the
                    first `skip` bytes of what it holds come before the data */
    TS_DEFLATED_SWAPPED,
    TS_FRAMED,   /* a frame of the codec (docs/format.md) within `extent` */
} ts_storage;

/* What a row that is a frame says besides. */
typedef struct {
    uint64_t digest;      /* of the unpacked bytes: ts_frame_digest */
    uint64_t room;        /* bytes from offset on that are the frame's; behind
                             the frame they are zeros */
    uint64_t chunk_count;
    uint32_t chunk_bytes; /* of a full chunk, unpacked */
    /* What a difference, or a repeat, refers to; no name for a plain frame. */
    ts_name base_name;
    uint64_t base_digest;
    ts_name base_file;    /* what the file calls the checkpoint below it, for
                             messages */
    bool is_delta;        /* XOR to the base; else it is the base's bytes */
    const struct ts_catalog *home; /* that holds the base: the row's own, or
                                      the one it was opened over; NULL when
                                      neither does */
    uint32_t base;        /* the row there */
} ts_framing;

typedef struct {
    ts_name name;
    ts_dtype dtype;
    uint32_t file; /* index into the catalog's files */
    uint32_t ndim;
    const uint64_t *shape;   /* ndim numbers; row-major, slowest first */
    const int64_t *strides;  /* NULL when C-contiguous; else ndim strides in
                                elements, none negative, plain dtypes only */
    uint64_t elements;       /* product of shape; 1 for a scalar */
    uint64_t size;           /* bytes of the elements: nbytes */
    uint64_t offset;         /* of the first element, in the file */
    uint64_t extent;         /* bytes in the file from offset that the tensor
                                may touch: size when contiguous and stored */
    uint64_t skip;           /* see TS_DEFLATED */
    uint64_t crc32;          /* of the archive member that holds it, when
                                has_crc32: over member_size bytes at
                                member_offset, before deflation */
    uint64_t member_offset, member_size; /* stored members only, in the file */
    uint32_t alias_of;       /* first row on the same bytes with the same dtype,
                                shape and strides (tied weights), or its own
                                row number */
    const ts_framing *frame; /* TS_FRAMED only, else NULL */
    uint8_t storage;         /* ts_storage */
    bool has_crc32;
} ts_tensor;

static inline bool ts_tensor_is_deflated(const ts_tensor *tensor)
{
    return tensor->storage == TS_DEFLATED
        || tensor->storage == TS_DEFLATED_SWAPPED;
}

/* Metadata: what the file says besides tensors, flat, in file order. */
typedef enum {
    TS_VALUE_NONE,
    TS_VALUE_BOOL,
    TS_VALUE_INT,    /* .i */
    TS_VALUE_UINT,   /* .u */
    TS_VALUE_FLOAT,  /* .f */
    TS_VALUE_STRING, /* .bytes, .size: UTF-8 */
    TS_VALUE_ARRAY,  /* .count elements of .item, packed at .bytes: numbers in
                        .item_size little-endian bytes each; strings as u64
                        length + bytes; see .size for the total */
} ts_value_kind;

typedef struct {
    ts_name key;
    uint8_t kind, item;
    uint8_t item_size; /* bytes of an item, or of a number itself */
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double f;
        uint64_t count;
    };
    const uint8_t *bytes; /* in the catalog's arena */
    uint64_t size;
} ts_value;

typedef struct ts_catalog ts_catalog;

/* The key of __metadata__ by which a safetensors file says that each of its
 * tensors is a frame, and the value that we write and read. */
#define TS_FRAMES_KEY "tensorstream.frames"
#define TS_FRAMES_VERSION "1"
/* And one by which it says how many bytes they are unpacked. */
#define TS_FRAMES_BYTES "tensorstream.bytes"
/* And one by which it names the checkpoint that it holds differences to. */
#define TS_FRAMES_BASE "tensorstream.base"

typedef struct {
    ts_catalog *base; /* where differences find their bases; retained; may be
                         NULL */
    bool as_stored;   /* frames stay the U8 tensors that the file says */
    bool lenient;     /* only those whose front is damaged do: to salvage */
} ts_open_options;

/* Open any one file by what is in it (magic, not suffix), the rest of a GGUF
 * split, or an index json with its shards. */
ts_status ts_catalog_open(const char *path, ts_catalog **out, ts_error *error);
ts_status ts_catalog_open_with(const char *path, const ts_open_options *options,
                               ts_catalog **out, ts_error *error);
/* The same over an open file, which is retained.  The fuzz targets' door. */
ts_status ts_catalog_open_file(ts_file *file, ts_catalog **out,
                               ts_error *error);

ts_catalog *ts_catalog_retain(ts_catalog *catalog);
void ts_catalog_release(ts_catalog *catalog); /* NULL is fine */

ts_format ts_catalog_format(const ts_catalog *catalog);
uint32_t ts_catalog_count(const ts_catalog *catalog);
const ts_tensor *ts_catalog_tensor(const ts_catalog *catalog, uint32_t row);
bool ts_catalog_find(const ts_catalog *catalog, ts_name name, uint32_t *row);
uint32_t ts_catalog_file_count(const ts_catalog *catalog);
ts_file *ts_catalog_file(const ts_catalog *catalog, uint32_t index);
uint32_t ts_catalog_value_count(const ts_catalog *catalog);
const ts_value *ts_catalog_value(const ts_catalog *catalog, uint32_t index);
uint64_t ts_catalog_memory(const ts_catalog *catalog); /* bytes it occupies */

/* The archive members that carry a CRC-32, each once, as U8 tensors named
 * after a tensor they hold, with has_crc32.  Empty for other formats. */
ts_status ts_catalog_members(const ts_catalog *catalog, ts_catalog **out,
                             ts_error *error);

/* ---- arrays that are already in memory -------------------------------- */

/* A catalog built by hand: add rows, then finish.  Used for dicts of arrays
 * and live modules.  `memory` is retained. */
typedef struct ts_catalog_builder ts_catalog_builder;
ts_status ts_catalog_builder_new(ts_format format, ts_catalog_builder **out,
                                 ts_error *error);
ts_status ts_catalog_builder_add(ts_catalog_builder *builder, ts_name name,
                                 ts_dtype dtype, uint32_t ndim,
                                 const uint64_t *shape, ts_buffer *memory,
                                 ts_error *error);
/* Takes the builder over, whether it succeeds or not. */
ts_status ts_catalog_builder_finish(ts_catalog_builder *builder,
                                    ts_catalog **out, ts_error *error);
void ts_catalog_builder_free(ts_catalog_builder *builder); /* NULL is fine */

/* ---- writing ------------------------------------------------------------ *
 *
 *     new   value*   expect*   (begin write* end)*   finish   publish
 *
 * A checkpoint that appears at its path whole or not at all, however large:
 * nothing is kept but a buffer and a row a tensor.  expect, with what will be
 * written, is optional: it saves moving the body when the header is known, and
 * lets a full disk say so at once.  After an error only free is left. */

#define TS_ROWS_UNKNOWN UINT64_MAX /* as shape[0]: as many as will come */

typedef struct ts_writer ts_writer;

typedef struct {
    ts_format format; /* SAFETENSORS, GGUF or NPZ */
    bool digests;     /* also an XXH3 of each tensor */
    /* Each tensor becomes a frame, in safetensors: */
    bool packed;
    ts_pack_mode mode;
    int threads;     /* 0: one a core */
    uint64_t budget; /* bytes, for chunks that are being packed */
    /* Over this checkpoint, unless NULL: what has a tensor of the same name,
     * dtype and shape there is written as a difference to it, chunk by chunk
     * where that is smaller.  Retained. */
    ts_catalog *base;
    const char *base_name; /* what the new file calls it; set when base is */
} ts_writer_options;

ts_status ts_writer_new(const char *path, const ts_writer_options *options,
                        ts_writer **out, ts_error *error);
/* Takes the unfinished file away.  NULL is fine. */
void ts_writer_free(ts_writer *writer);

/* Metadata: key and bytes are copied, of equal keys the last stays.  Numbers
 * have the width item_size.  Safetensors holds strings only, npz nothing. */
ts_status ts_writer_value(ts_writer *writer, const ts_value *value,
                          ts_error *error);

ts_status ts_writer_expect(ts_writer *writer, ts_name name, ts_dtype dtype,
                           uint32_t ndim, const uint64_t *shape,
                           ts_error *error);

/* One tensor: its elements come in any number of pieces.  TS_ARGUMENT when
 * they are more than the shape holds, or at the end fewer; TS_UNSUPPORTED
 * when the format has no such dtype or shape. */
ts_status ts_writer_begin(ts_writer *writer, ts_name name, ts_dtype dtype,
                          uint32_t ndim, const uint64_t *shape,
                          ts_error *error);
ts_status ts_writer_write(ts_writer *writer, const void *bytes, uint64_t size,
                          ts_error *error);
ts_status ts_writer_end(ts_writer *writer, ts_error *error);

/* One more tensor that has the bytes of one in this file.  Only of frames:
 * other formats cannot say so. */
ts_status ts_writer_repeat(ts_writer *writer, ts_name name, ts_name of,
                           ts_error *error);

/* Between two tensors, or after the last: it is not written to for a while and
 * needs no buffer. */
ts_status ts_writer_rest(ts_writer *writer, ts_error *error);

/* Header, directory, and all of it on the disk, still under its temporary
 * name. */
ts_status ts_writer_finish(ts_writer *writer, ts_error *error);
/* Finishes if need be, and puts the file at its path; or, one of several,
 * under another name in the same folder. */
ts_status ts_writer_publish(ts_writer *writer, const char *name,
                            ts_error *error);

typedef struct {
    ts_name name;
    ts_dtype dtype;
    uint64_t size, stored; /* bytes of elements, bytes in the file */
    uint64_t digest;       /* of a frame: ts_frame_digest; else XXH3 or 0 */
    bool repeats;          /* the bytes of another one in the file */
    bool differs;          /* a difference to the base */
} ts_writer_row;
uint32_t ts_writer_count(const ts_writer *writer);
ts_writer_row ts_writer_row_of(const ts_writer *writer, uint32_t row);
uint64_t ts_writer_size(const ts_writer *writer); /* of the file so far */
const char *ts_writer_path(const ts_writer *writer);

#include "unpacking.h"

#endif
