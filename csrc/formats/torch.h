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

/* What a listed global is to us. */
typedef enum {
    TS_TORCH_PLAIN, /* nothing more than its name */
    TS_TORCH_STORAGE,
    TS_TORCH_UNTYPED,
    TS_TORCH_FOREIGN_STORAGE, /* of a type that we have no dtype for */
    TS_TORCH_DTYPE,
    TS_TORCH_FOREIGN_DTYPE,
    TS_TORCH_TENSOR_TYPE, /* Tensor, and the classes that add no data to it */
    TS_TORCH_TENSOR,      /* the functions that rebuild one */
    TS_TORCH_TENSOR_V3,
    TS_TORCH_PARAMETER,
    TS_TORCH_FROM_TYPE,
    TS_TORCH_REFUSED, /* tensors that are no strided view of one storage */
    TS_TORCH_ENCODE,
    TS_TORCH_NUMPY_SCALAR,
    TS_TORCH_NUMPY_DTYPE,
    TS_TORCH_NUMPY_ARRAY,
    TS_TORCH_DEVICE,
    TS_TORCH_COMPLEX,
    TS_TORCH_NAMESPACE,
} ts_torch_what;

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

/* The listed global that the node names or calls, or NULL. */
const ts_pickle_global *ts_torch_global(const ts_pickle_node *node);
bool ts_torch_calls(const ts_pickle_node *node, ts_torch_what what);
bool ts_torch_is_text(const ts_pickle_node *node, const char *text);

/* A tensor, or a storage that stands alone. */
bool ts_torch_is_tensor(const ts_pickle_node *node);
/* Fill a row but for its name and file; shape and strides are the arena's. */
ts_status ts_torch_tensor(const ts_torch *torch, const ts_pickle_node *node,
                          ts_arena *arena, ts_tensor *row, ts_error *error);

/* A list or tuple of plain items of one kind: it becomes one value. */
bool ts_torch_is_flat(const ts_pickle_node *node);
/* What a node that is neither tensor nor container becomes, or a flat list;
 * its key is left empty.  When it takes more than *left bytes nothing is
 * allocated and *left becomes 0; else it is lowered by what it takes. */
ts_status ts_torch_value(const ts_pickle_node *node, ts_arena *arena,
                         uint64_t *left, ts_value *out, ts_error *error);

/* Add rows and metadata; every storage is placed.  `size` is that of the
 * pickle: what a checkpoint may cost is a multiple of it. */
ts_status ts_torch_rows(const ts_torch *torch, uint64_t size, ts_file *file,
                        uint32_t index, ts_draft *draft, ts_arena *arena,
                        ts_error *error);

#endif
