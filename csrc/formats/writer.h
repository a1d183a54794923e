/* writer.h -- private to formats/: what a format does to be written.
 *
 *     | header, or room for one | tensor | tensor | ... | (directory) |
 *     0                         body
 *
 * writer.c does what all formats need: names, shapes, arithmetic, that each
 * tensor gets exactly its bytes, the file itself.  A format says what it can
 * hold, what stands around each tensor, and how it ends.  Bodies are written
 * before it is known how long the header will be; where the room left for it
 * turns out too small, the body is shifted. */
#ifndef TS_FORMATS_WRITER_H
#define TS_FORMATS_WRITER_H

#include "bytes.h"
#include "core/arena.h"
#include "formats.h"
#include "press.h"

/* One tensor of the new file. */
typedef struct {
    ts_name name;
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t *shape;   /* shape[0] TS_ROWS_UNKNOWN until it is complete */
    uint64_t size;     /* bytes of the elements; UINT64_MAX: unknown yet */
    uint64_t offset;   /* of its first byte, from the start of the body */
    uint64_t stored;   /* bytes there */
    uint64_t digest;   /* XXH3 of the elements when asked for; a frame's is
                          its own */
    ts_pressed frame;  /* when it is packed */
    char *content;     /* key of its content, in the arena */
    bool repeats;      /* its frame refers to another tensor's */
    uint64_t member;   /* npz: of the local header */
    uint64_t data;     /* npz: of the .npy within the member */
    uint32_t crc32;    /* npz: of the whole member */
} ts_written;

typedef struct ts_write_format ts_write_format;

struct ts_writer {
    const ts_write_format *format;
    ts_output *output; /* owned */
    ts_arena *arena;   /* owned: names, shapes, values */
    ts_written *rows;  /* owned */
    ts_value *values;  /* owned */
    ts_names *row_names, *value_names; /* in the arena */
    uint32_t count, room, value_count, value_room;
    uint32_t row_names_room, value_names_room;

    bool began;     /* `body` is fixed and the body begun */
    bool complete;  /* header and directory are written */
    bool packed;    /* tensors are frames */
    uint64_t body;
    uint64_t alignment; /* of GGUF's tensors */
    uint64_t expected_header, expected_body; /* of what was expected */

    bool open;              /* the last row is being written */
    uint64_t got;           /* bytes of its elements so far */
    ts_checksum *checksum;  /* owned; NULL when no digests are asked for */
    ts_checksum *crc32;     /* owned; npz only */

    ts_press *press;        /* owned; NULL when nothing is packed */
    ts_name base_name;      /* in the arena: of the checkpoint below */
    bool differs;           /* some tensor needs it */
    ts_names *contents;     /* in the arena: digest, size, dtype of frames */
    uint32_t *originals;    /* owned: the rows of those */
    uint32_t content_count, content_room, contents_room;
};

struct ts_write_format {
    ts_format format;
    /* Can it be in such a file?  Name, dtype and shape are valid as such. */
    ts_status (*admit)(const ts_writer *writer, const ts_written *row,
                       ts_error *error);
    /* Header bytes for a tensor, at most; NULL: there is no header. */
    uint64_t (*entry)(const ts_written *row);
    /* The room before the body. */
    ts_status (*begin_body)(ts_writer *writer, ts_error *error);
    ts_status (*begin)(ts_writer *writer, ts_written *row, ts_error *error);
    ts_status (*end)(ts_writer *writer, ts_written *row, ts_error *error);
    ts_status (*finish)(ts_writer *writer, ts_error *error);
};

extern const ts_write_format ts_write_safetensors, ts_write_gguf, ts_write_npz;

/* Room for a header where nothing was expected: some hundred tensors. */
#define TS_WRITE_ROOM ((uint64_t)32 << 10)

/* The body's length so far, and as many zeros as bring it to the alignment. */
uint64_t ts_writer_body_size(const ts_writer *writer);
ts_status ts_writer_align(ts_writer *writer, uint64_t alignment,
                          ts_error *error);

/* Room for `size` bytes before the body, which moves if it must. */
ts_status ts_writer_make_room(ts_writer *writer, uint64_t size,
                              ts_error *error);

const ts_value *ts_writer_find_value(const ts_writer *writer,
                                     const char *key);

#endif
