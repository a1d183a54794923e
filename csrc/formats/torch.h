/* torch.h -- private to formats/: from a checkpoint's pickle to rows.
 *
 * Both containers of torch.save (the zip of 1.6 and later, the bare stream
 * before it) hold one pickle that describes the tensors, and storages that it
 * names by keys.  The container reads the pickle with ts_torch_unpickle, says
 * where each storage lies, and ts_torch_rows does the rest.
 *
 * Tensors deep inside get dotted names: ckpt["model"]["fc.bias"] is
 * "model.fc.bias", and the third item of a list is ".2". */
#ifndef TS_FORMATS_TORCH_H
#define TS_FORMATS_TORCH_H

#include "catalog.h"
#include "pickle.h"

typedef struct {
    ts_name key;
    uint32_t width;  /* bytes an element, 1 when untyped */
    uint64_t count;  /* elements */
    uint64_t size;   /* bytes: count * width */
    bool placed;     /* the container has found it, and then: */
    uint64_t offset; /* in the file */
    bool has_crc32;
    uint32_t crc32;
    uint64_t member_offset, member_size;
} ts_torch_storage;

/* How a tensor of the tree refers to a storage. */
typedef struct {
    uint32_t storage; /* index */
    uint8_t dtype;
    bool untyped;
} ts_torch_use;

typedef struct {
    ts_pickle pickle;
    ts_torch_use *uses; /* one a persistent id */
    ts_torch_storage *storages;
    uint32_t storage_count;
    ts_names *keys; /* storage numbers by key */
} ts_torch;

/* Everything comes from the arena and points into bytes. */
ts_status ts_torch_unpickle(const uint8_t *bytes, size_t size, ts_arena *arena,
                            ts_torch *out, ts_error *error);

/* A pickle that holds no tensors: a number, a list of keys. */
ts_status ts_torch_unpickle_plain(const uint8_t *bytes, size_t size,
                                  ts_arena *arena, ts_pickle *out,
                                  ts_error *error);

/* Add rows and metadata; every storage is placed.  `size` is that of the
 * pickle: what a checkpoint may cost is a multiple of it. */
ts_status ts_torch_rows(const ts_torch *torch, uint64_t size, ts_file *file,
                        uint32_t index, ts_draft *draft, ts_arena *arena,
                        ts_error *error);

/* A bare pickle, or a tar from before 2017; the zip is ts_zip_parse's. */
bool ts_torch_matches(const uint8_t *head, size_t size);
ts_status ts_torch_parse(ts_file *file, uint32_t index, ts_draft *draft,
                         ts_error *error);

#endif
