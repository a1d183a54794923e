/* catalog.h -- private to formats/: how a parser fills a catalog.
 *
 * A parser gets an open file and an empty draft.  It reads the header into
 * memory it owns, then calls ts_draft_tensor once a tensor and ts_draft_value
 * once a key.  The draft does what every format needs: the caps, UTF-8 and
 * duplicate checks, the extent against the real file, the arithmetic. */
#ifndef TS_FORMATS_CATALOG_H
#define TS_FORMATS_CATALOG_H

#include "formats.h"

typedef struct ts_draft ts_draft;

ts_status ts_draft_new(ts_format format, ts_draft **out, ts_error *error);
void ts_draft_free(ts_draft *draft); /* NULL is fine */
/* Takes the draft over, whether it succeeds or not. */
ts_status ts_draft_finish(ts_draft *draft, ts_catalog **out, ts_error *error);

/* Expected number of tensors, before the first one: sizes the name table.
 * Already checked by the caller against the bytes that could hold them. */
ts_status ts_draft_expect(ts_draft *draft, uint64_t tensors, ts_error *error);

/* How it was asked for; all zeros unless said.  The base is retained. */
void ts_draft_options(ts_draft *draft, const ts_open_options *options);
const ts_open_options *ts_draft_asked(const ts_draft *draft);

ts_arena *ts_draft_arena(ts_draft *draft);
void ts_draft_format(ts_draft *draft, ts_format format);

/* Another file of the same checkpoint; its index for ts_tensor.file.  The
 * file is retained. */
ts_status ts_draft_file(ts_draft *draft, ts_file *file, uint32_t *index,
                        ts_error *error);

/* The name of the row that is added next, when the caller knows it some time
 * before the rest: its place in the index comes from memory meanwhile.  The
 * bytes stay where they are until then. */
ts_status ts_draft_announce(ts_draft *draft, ts_name name, ts_error *error);

/* Add a row.  The caller fills name, dtype, file, ndim, shape, strides (or
 * NULL), offset, storage, skip, extent (0: computed) and the crc32 fields; name
 * bytes, shape and strides are copied.  The draft computes elements, size and
 * extent, checks everything against the file, and finds aliases.  Errors are
 * TS_FORMAT and name the tensor; `at` is the byte of the header that the entry
 * stands at, or TS_NO_OFFSET. */
ts_status ts_draft_tensor(ts_draft *draft, const ts_tensor *row, uint64_t at,
                          ts_error *error);
uint32_t ts_draft_count(const ts_draft *draft);
/* Good until the next ts_draft_tensor.  Aliases are found at the end. */
const ts_tensor *ts_draft_row(const ts_draft *draft, uint32_t row);
bool ts_draft_find(const ts_draft *draft, ts_name name, uint32_t *row);

/* What a row turned out to be on a closer look: dtype, ndim, shape, file,
 * offset, extent, storage and frame are those of `facts`, the rest stays.  A
 * frame is copied, with its name.  at is as for ts_draft_tensor. */
ts_status ts_draft_reveal(ts_draft *draft, uint32_t row,
                          const ts_tensor *facts, uint64_t at,
                          ts_error *error);

/* Rows from `first` on are frames, of which file holds the bytes: read the
 * front of each. */
ts_status ts_framed_adopt(ts_file *file, ts_draft *draft, uint32_t first,
                          ts_error *error);
/* Can a difference refer to it?  Its bytes are its own and lie in order. */
bool ts_framed_may_be_base(const ts_tensor *row);
/* Find the bases of differences and repeats, once all rows are there: in the
 * draft's own catalog, then in the one below it (NULL is fine). */
ts_status ts_framed_resolve(ts_draft *draft, ts_catalog *own,
                            ts_catalog *below, ts_error *error);

/* Add a metadata value; key and bytes are copied.  A key that the same file
 * has given before is TS_FORMAT; of keys that several files give (each shard
 * says "format": "pt") the first value stays. */
ts_status ts_draft_value(ts_draft *draft, const ts_value *value, uint64_t at,
                         ts_error *error);
const ts_value *ts_draft_find_value(const ts_draft *draft, const char *key);

/* Valid UTF-8 (no overlong forms, surrogates, NUL), at most TS_MAX_NAME. */
ts_status ts_check_name(ts_name name, const char *what, uint64_t at,
                        ts_error *error);

/* One file that holds tensors, by its magic: every format but an index. */
ts_status ts_parse_tensors(ts_file *file, uint32_t index, ts_draft *draft,
                           ts_error *error);

/* The parsers; file is index `index` in the draft. */
bool ts_safetensors_matches(const uint8_t *head, size_t size);
/* Nothing else is likelier: a broken header, whose parser can say how. */
bool ts_safetensors_resembles(const uint8_t *head, size_t size,
                              uint64_t total);
ts_status ts_safetensors_parse(ts_file *file, uint32_t index, ts_draft *draft,
                               ts_error *error);
bool ts_shards_matches(const uint8_t *head, size_t size);
ts_status ts_shards_parse(ts_file *file, ts_draft *draft, ts_error *error);
bool ts_gguf_matches(const uint8_t *head, size_t size);
ts_status ts_gguf_parse(ts_file *file, uint32_t index, ts_draft *draft,
                        ts_error *error);
bool ts_npy_matches(const uint8_t *head, size_t size);

/* What the header of an array file says.  Reads at most TS_NPY_HEAD bytes of
 * head, which need not hold more of the file. */
enum { TS_NPY_HEAD = 10012 }; /* NumPy's own cap on the literal, plus 12 */
typedef struct {
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t shape[TS_MAX_DIMS];
    uint64_t elements, size; /* product of shape; bytes of the data */
    uint64_t data;           /* where it starts, from the start of head */
    bool fortran;            /* the first dimension is the fastest */
    bool swapped;            /* big-endian elements of more than a byte */
} ts_npy;
ts_status ts_npy_header(const uint8_t *head, size_t size, ts_npy *out,
                        ts_error *error);
/* The strides, in elements, of a fortran-ordered array. */
void ts_npy_strides(const ts_npy *npy, int64_t strides[TS_MAX_DIMS]);

/* name: the tensor's; a plain .npy is called after its file's stem. */
ts_status ts_npy_parse(ts_file *file, uint32_t index, ts_name name,
                       ts_draft *draft, ts_error *error);
bool ts_zip_matches(const uint8_t *head, size_t size);
/* npz or torch, by what the archive holds. */
ts_status ts_zip_parse(ts_file *file, uint32_t index, ts_draft *draft,
                       ts_error *error);
/* A bare pickle: what torch.save wrote before 1.6. */
bool ts_torch_matches(const uint8_t *head, size_t size);
ts_status ts_torch_parse(ts_file *file, uint32_t index, ts_draft *draft,
                         ts_error *error);

/* "weights" of "/models/weights.npy": the name of a tensor whose format gives
 * it none. */
ts_name ts_stem_of(const char *path);

#endif
