#include "torch.h"

#include <stdio.h>

#include "core/base.h"

/* ---- the globals a checkpoint may name --------------------------------- */

enum {
    PLAIN, /* nothing more than its name */
    STORAGE,
    UNTYPED,
    FOREIGN_STORAGE, /* of a type that we have no dtype for */
    DTYPE,
    FOREIGN_DTYPE,
    TENSOR_TYPE, /* torch.Tensor and the classes that add no data to it */
    TENSOR,      /* the functions that rebuild one */
    TENSOR_V3,
    PARAMETER,
    FROM_TYPE,
    REFUSED, /* tensors that are not a strided view of one storage */
    ENCODE,
    NUMPY_SCALAR,
    NUMPY_DTYPE,
    DEVICE,
    COMPLEX,
    NAMESPACE,
};

#define NAMED(module, name, what, detail)                                     \
    {module, name, TS_PICKLE_NAMED, what, detail}
#define CALLED(module, name, what) {module, name, TS_PICKLE_CALLED, what, 0}
#define DICT(module, name) {module, name, TS_PICKLE_MAKES_DICT, PLAIN, 0}
#define LIST(module, name) {module, name, TS_PICKLE_MAKES_LIST, PLAIN, 0}

static const ts_pickle_global globals[] = {
    CALLED("torch._utils", "_rebuild_tensor", TENSOR),
    CALLED("torch._utils", "_rebuild_tensor_v2", TENSOR),
    CALLED("torch._utils", "_rebuild_tensor_v3", TENSOR_V3),
    CALLED("torch._utils", "_rebuild_parameter", PARAMETER),
    CALLED("torch._utils", "_rebuild_parameter_with_state", PARAMETER),
    CALLED("torch._tensor", "_rebuild_from_type_v2", FROM_TYPE),
    CALLED("torch._utils", "_rebuild_sparse_tensor", REFUSED),
    CALLED("torch._utils", "_rebuild_sparse_csr_tensor", REFUSED),
    CALLED("torch._utils", "_rebuild_nested_tensor", REFUSED),
    CALLED("torch._utils", "_rebuild_qtensor", REFUSED),
    CALLED("torch._utils", "_rebuild_meta_tensor_no_storage", REFUSED),
    CALLED("torch._utils", "_rebuild_wrapper_subclass", REFUSED),
    CALLED("torch._utils", "_rebuild_device_tensor_from_numpy", REFUSED),
    CALLED("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", REFUSED),
    CALLED("torch.serialization", "_get_layout", PLAIN),
    NAMED("torch", "FloatStorage", STORAGE, TS_F32),
    NAMED("torch", "DoubleStorage", STORAGE, TS_F64),
    NAMED("torch", "HalfStorage", STORAGE, TS_F16),
    NAMED("torch", "BFloat16Storage", STORAGE, TS_BF16),
    NAMED("torch", "LongStorage", STORAGE, TS_I64),
    NAMED("torch", "IntStorage", STORAGE, TS_I32),
    NAMED("torch", "ShortStorage", STORAGE, TS_I16),
    NAMED("torch", "CharStorage", STORAGE, TS_I8),
    NAMED("torch", "ByteStorage", STORAGE, TS_U8),
    NAMED("torch", "BoolStorage", STORAGE, TS_BOOL),
    NAMED("torch", "ComplexFloatStorage", STORAGE, TS_C64),
    NAMED("torch", "ComplexDoubleStorage", STORAGE, TS_C128),
    NAMED("torch", "UntypedStorage", UNTYPED, TS_U8),
    NAMED("torch.storage", "UntypedStorage", UNTYPED, TS_U8),
    NAMED("torch", "QInt8Storage", FOREIGN_STORAGE, 0),
    NAMED("torch", "QUInt8Storage", FOREIGN_STORAGE, 0),
    NAMED("torch", "QInt32Storage", FOREIGN_STORAGE, 0),
    NAMED("torch", "QUInt4x2Storage", FOREIGN_STORAGE, 0),
    NAMED("torch", "QUInt2x4Storage", FOREIGN_STORAGE, 0),
    NAMED("torch", "ComplexHalfStorage", FOREIGN_STORAGE, 0),
    NAMED("torch", "float32", DTYPE, TS_F32),
    NAMED("torch", "float64", DTYPE, TS_F64),
    NAMED("torch", "float16", DTYPE, TS_F16),
    NAMED("torch", "bfloat16", DTYPE, TS_BF16),
    NAMED("torch", "int64", DTYPE, TS_I64),
    NAMED("torch", "int32", DTYPE, TS_I32),
    NAMED("torch", "int16", DTYPE, TS_I16),
    NAMED("torch", "int8", DTYPE, TS_I8),
    NAMED("torch", "uint8", DTYPE, TS_U8),
    NAMED("torch", "uint16", DTYPE, TS_U16),
    NAMED("torch", "uint32", DTYPE, TS_U32),
    NAMED("torch", "uint64", DTYPE, TS_U64),
    NAMED("torch", "bool", DTYPE, TS_BOOL),
    NAMED("torch", "complex64", DTYPE, TS_C64),
    NAMED("torch", "complex128", DTYPE, TS_C128),
    NAMED("torch", "float8_e4m3fn", DTYPE, TS_F8_E4M3),
    NAMED("torch", "float8_e5m2", DTYPE, TS_F8_E5M2),
    NAMED("torch", "float8_e4m3fnuz", DTYPE, TS_F8_E4M3FNUZ),
    NAMED("torch", "float8_e5m2fnuz", DTYPE, TS_F8_E5M2FNUZ),
    NAMED("torch", "float8_e8m0fnu", DTYPE, TS_F8_E8M0),
    NAMED("torch", "float4_e2m1fn_x2", DTYPE, TS_F4),
    NAMED("torch", "complex32", FOREIGN_DTYPE, 0),
    NAMED("torch", "bits8", FOREIGN_DTYPE, 0),
    NAMED("torch", "bits16", FOREIGN_DTYPE, 0),
    NAMED("torch", "qint8", FOREIGN_DTYPE, 0),
    NAMED("torch", "quint8", FOREIGN_DTYPE, 0),
    NAMED("torch", "qint32", FOREIGN_DTYPE, 0),
    NAMED("torch", "per_tensor_affine", PLAIN, 0),
    NAMED("torch", "per_channel_affine", PLAIN, 0),
    NAMED("torch", "per_channel_affine_float_qparams", PLAIN, 0),
    NAMED("torch", "Tensor", TENSOR_TYPE, 0),
    NAMED("torch.nn.parameter", "Parameter", TENSOR_TYPE, 0),
    NAMED("torch.nn.parameter", "Buffer", TENSOR_TYPE, 0),
    CALLED("torch", "device", DEVICE),
    LIST("torch", "Size"),
    DICT("collections", "OrderedDict"),
    DICT("collections", "defaultdict"),
    DICT("collections", "Counter"),
    DICT("__builtin__", "dict"),
    DICT("builtins", "dict"),
    LIST("__builtin__", "list"),
    LIST("builtins", "list"),
    LIST("__builtin__", "tuple"),
    LIST("builtins", "tuple"),
    LIST("__builtin__", "set"),
    LIST("builtins", "set"),
    LIST("__builtin__", "frozenset"),
    LIST("builtins", "frozenset"),
    NAMED("__builtin__", "int", PLAIN, 0),
    NAMED("builtins", "int", PLAIN, 0),
    NAMED("__builtin__", "float", PLAIN, 0),
    NAMED("builtins", "float", PLAIN, 0),
    CALLED("__builtin__", "complex", COMPLEX),
    CALLED("builtins", "complex", COMPLEX),
    CALLED("_codecs", "encode", ENCODE),
    CALLED("argparse", "Namespace", NAMESPACE),
    CALLED("numpy", "dtype", NUMPY_DTYPE),
    NAMED("numpy", "ndarray", PLAIN, 0),
    CALLED("numpy.core.multiarray", "scalar", NUMPY_SCALAR),
    CALLED("numpy._core.multiarray", "scalar", NUMPY_SCALAR),
    CALLED("numpy.core.multiarray", "_reconstruct", PLAIN),
    CALLED("numpy._core.multiarray", "_reconstruct", PLAIN),
};

static const ts_pickle_global *global_of(const ts_pickle_node *node)
{
    return &globals[node->number];
}

/* The row of the table when the node names or calls one; else NULL. */
static const ts_pickle_global *named(const ts_pickle_node *node)
{
    if (node == NULL || node->kind != TS_PICKLE_GLOBAL) return NULL;
    return global_of(node);
}

static bool calls(const ts_pickle_node *node, int what)
{
    return node->kind == TS_PICKLE_CALL && global_of(node)->what == what;
}

/* ---- storages ---------------------------------------------------------- */

static bool is_text(const ts_pickle_node *node, const char *text)
{
    return node != NULL && node->kind == TS_PICKLE_STRING
        && node->size == strlen(text)
        && memcmp(node->bytes, text, node->size) == 0;
}

static bool is_count(const ts_pickle_node *node)
{
    return node != NULL && node->kind == TS_PICKLE_INT && node->i >= 0;
}

static ts_name name_of(const ts_pickle_node *node)
{
    return (ts_name){(const char *)node->bytes, (size_t)node->size};
}

static ts_status storage_type(const ts_pickle_node *type, ts_torch_use *use,
                              ts_error *error)
{
    const ts_pickle_global *row = named(type);
    if (row != NULL && row->what == FOREIGN_STORAGE)
        return ts_fail(error, TS_FORMAT,
                       "holds a %s.%s, for which there is no dtype here",
                       row->module, row->name);
    if (row == NULL || (row->what != STORAGE && row->what != UNTYPED))
        return ts_fail(error, TS_FORMAT,
                       "persistent id names no type of storage");
    use->dtype = row->detail;
    use->untyped = row->what == UNTYPED;
    return TS_OK;
}

/* ("storage", type, key, location, count), and before 1.6 a view or None. */
static ts_status read_use(ts_torch *torch, const ts_pickle_node *node,
                          ts_error *error)
{
    const ts_pickle_node *id = node->arguments;
    ts_torch_use *use = &torch->uses[node->number];
    bool added;

    if (id->kind != TS_PICKLE_TUPLE || id->count < 5 || id->count > 6
        || !is_text(ts_pickle_item(id, 0), "storage"))
        return ts_fail(error, TS_FORMAT,
                       "persistent id is not one of a storage");
    TS_TRY(storage_type(ts_pickle_item(id, 1), use, error));
    const ts_pickle_node *key = ts_pickle_item(id, 2);
    const ts_pickle_node *count = ts_pickle_item(id, 4);
    const ts_pickle_node *view = ts_pickle_item(id, 5);
    if (key->kind != TS_PICKLE_STRING || key->size > TS_MAX_NAME)
        return ts_fail(error, TS_FORMAT, "storage has no usable key");
    if (!is_count(count))
        return ts_fail(error, TS_FORMAT, "storage '%.*s' has no size",
                       (int)key->size, (const char *)key->bytes);
    if (view != NULL && view->kind != TS_PICKLE_NONE)
        return ts_fail(error, TS_FORMAT,
                       "storage '%.*s' is a view of another, as torch wrote "
                       "before 0.4; save it again with a newer torch",
                       (int)key->size, (const char *)key->bytes);

    ts_torch_storage fresh = {.key = name_of(key), .count = (uint64_t)count->i,
                              .width = ts_dtype_block_size(use->dtype)};
    if (!ts_mul(fresh.count, fresh.width, &fresh.size))
        return ts_fail(error, TS_FORMAT,
                       "storage '%.*s' of %llu elements is too large",
                       (int)key->size, (const char *)key->bytes,
                       (unsigned long long)fresh.count);
    ts_names_add(torch->keys, fresh.key, &use->storage, &added);
    if (added) {
        torch->storages[torch->storage_count++] = fresh;
        return TS_OK;
    }
    if (torch->storages[use->storage].size != fresh.size)
        return ts_fail(error, TS_FORMAT,
                       "storage '%.*s' is said to hold %llu and %llu bytes",
                       (int)key->size, (const char *)key->bytes,
                       (unsigned long long)fresh.size,
                       (unsigned long long)
                           torch->storages[use->storage].size);
    return TS_OK;
}

ts_status ts_torch_unpickle(const uint8_t *bytes, size_t size, ts_arena *arena,
                            ts_torch *out, ts_error *error)
{
    *out = (ts_torch){0};
    TS_TRY(ts_pickle_read(bytes, size, globals, TS_COUNT_OF(globals), arena,
                          &out->pickle, error));
    uint32_t count = out->pickle.persistent_count;
    TS_TRY(ts_arena_take_array(arena, count, sizeof *out->uses, &out->uses,
                               error));
    TS_TRY(ts_arena_take_array(arena, count, sizeof *out->storages,
                               &out->storages, error));
    TS_TRY(ts_names_new(arena, count, &out->keys, error));
    for (const ts_pickle_node *node = out->pickle.persistent; node != NULL;
         node = node->next)
        TS_TRY(read_use(out, node, error));
    return TS_OK;
}

ts_status ts_torch_unpickle_plain(const uint8_t *bytes, size_t size,
                                  ts_arena *arena, ts_pickle *out,
                                  ts_error *error)
{
    return ts_pickle_read(bytes, size, NULL, 0, arena, out, error);
}

/* ---- the walk ---------------------------------------------------------- */

typedef struct {
    ts_pickle_node *node;
    ts_pickle_run *run;
    uint64_t at;       /* in the run */
    uint64_t position; /* in the container */
    size_t name_size;  /* of the container's own name */
} level;

typedef struct {
    const ts_torch *torch;
    ts_file *file;
    uint32_t index;
    ts_draft *draft; /* NULL: only count rows */
    ts_arena *arena;
    uint64_t left; /* bytes that names and values may still take */
    uint32_t rows; /* seen so far */
    uint32_t stop_at; /* TS_CANCELLED at this row, standing on it */
    level levels[TS_MAX_DEPTH];
    size_t depth;
    char name[TS_MAX_NAME + 1];
    size_t name_size;
    ts_error *error;
} walker;

/* Through its memo a small pickle may show one object in many places, and a
 * long key may stand before many values.  What a checkpoint costs stays in
 * proportion to its pickle all the same. */
enum { COST_A_BYTE = 32, COST_FREE = 1 << 16 };

static ts_status charge(walker *w, uint64_t size)
{
    if (size > w->left)
        return ts_fail(w->error, TS_FORMAT,
                       "pickle shows the same objects in so many places that "
                       "names and values grow past %d times its size",
                       COST_A_BYTE);
    w->left -= size;
    return TS_OK;
}

static ts_name current(const walker *w)
{
    return (ts_name){w->name, w->name_size};
}

static ts_status extend(walker *w, const char *bytes, uint64_t size)
{
    size_t dot = w->name_size > 0;
    if (size > TS_MAX_NAME || w->name_size + dot + size > TS_MAX_NAME)
        return ts_fail(w->error, TS_FORMAT,
                       "dotted name is longer than %d bytes", TS_MAX_NAME);
    if (dot == 1) w->name[w->name_size++] = '.';
    memcpy(w->name + w->name_size, bytes, (size_t)size);
    w->name_size += (size_t)size;
    return TS_OK;
}

static ts_status extend_by_key(walker *w, const ts_pickle_node *key,
                               uint64_t position)
{
    char text[40];
    if (key != NULL && key->kind == TS_PICKLE_STRING)
        return extend(w, (const char *)key->bytes, key->size);
    if (key == NULL)
        snprintf(text, sizeof text, "%llu", (unsigned long long)position);
    else if (key->kind == TS_PICKLE_INT)
        snprintf(text, sizeof text, "%lld", (long long)key->i);
    else if (key->kind == TS_PICKLE_FLOAT)
        snprintf(text, sizeof text, "%.17g", key->f);
    else if (key->kind == TS_PICKLE_BOOL)
        snprintf(text, sizeof text, "%s", key->i ? "True" : "False");
    else if (key->kind == TS_PICKLE_NONE)
        snprintf(text, sizeof text, "None");
    else /* a tuple or the like has no short name but its place */
        snprintf(text, sizeof text, "#%llu", (unsigned long long)position);
    return extend(w, text, strlen(text));
}

/* ---- tensors ----------------------------------------------------------- */

static bool is_tensor(const ts_pickle_node *node)
{
    if (node->kind == TS_PICKLE_PERSISTENT) return true;
    if (node->kind != TS_PICKLE_CALL) return false;
    switch (global_of(node)->what) {
    case TENSOR:
    case TENSOR_V3:
    case PARAMETER:
    case FROM_TYPE:
    case REFUSED: return true;
    default: return false;
    }
}

static ts_status bad_arguments(walker *w, const char *name)
{
    return ts_fail(w->error, TS_FORMAT, "%s has unexpected arguments", name);
}

static ts_status refuse(walker *w, const ts_pickle_global *row)
{
    return ts_fail(w->error, TS_FORMAT,
                   "is made by %s.%s: sparse, quantised, nested, meta and "
                   "subclassed tensors are not supported",
                   row->module, row->name);
}

/* Parameter(tensor) and from_type(function, type, arguments, state) add
 * nothing to the bytes: find the plain rebuild inside. */
static ts_status plain_call(walker *w, const ts_pickle_node *node, int *what,
                            const ts_pickle_node **arguments)
{
    for (int wraps = 0; wraps < 8; wraps++) {
        if (node == NULL || node->kind != TS_PICKLE_CALL) break;
        const ts_pickle_global *row = global_of(node);
        *what = row->what;
        *arguments = node->arguments;
        if (row->what == TENSOR || row->what == TENSOR_V3) return TS_OK;
        if (row->what == REFUSED) return refuse(w, row);
        if (row->what == PARAMETER) {
            node = ts_pickle_item(*arguments, 0);
            continue;
        }
        if (row->what != FROM_TYPE) break;
        const ts_pickle_global *function
            = named(ts_pickle_item(*arguments, 0));
        const ts_pickle_global *type = named(ts_pickle_item(*arguments, 1));
        *arguments = ts_pickle_item(*arguments, 2);
        if (function != NULL && function->what == REFUSED)
            return refuse(w, function);
        if (type == NULL || type->what != TENSOR_TYPE || function == NULL
            || *arguments == NULL || (*arguments)->kind != TS_PICKLE_TUPLE
            || (function->what != TENSOR && function->what != TENSOR_V3))
            return refuse(w, row);
        *what = function->what;
        return TS_OK;
    }
    return bad_arguments(w, "tensor's wrapper");
}

static ts_status read_dims(walker *w, const ts_pickle_node *tuple,
                           uint64_t *dims, uint32_t *ndim)
{
    if (tuple == NULL
        || (tuple->kind != TS_PICKLE_TUPLE && tuple->kind != TS_PICKLE_LIST))
        return bad_arguments(w, "tensor");
    if (tuple->count > TS_MAX_DIMS)
        return ts_fail(w->error, TS_FORMAT,
                       "has %u dimensions, more than %d", tuple->count,
                       TS_MAX_DIMS);
    *ndim = tuple->count;
    for (uint32_t i = 0; i < tuple->count; i++) {
        const ts_pickle_node *item = ts_pickle_item(tuple, i);
        if (!is_count(item))
            return ts_fail(w->error, TS_FORMAT,
                           "has a size or stride that is no count");
        dims[i] = (uint64_t)item->i;
    }
    return TS_OK;
}

typedef struct {
    uint32_t ndim;
    uint64_t shape[TS_MAX_DIMS];
    uint64_t strides[TS_MAX_DIMS];
    uint64_t elements;
    uint64_t span; /* elements of the storage from the first to the last */
    bool contiguous;
} layout;

static bool is_contiguous(const layout *l)
{
    uint64_t step = 1;
    if (l->elements == 0) return true;
    for (uint32_t i = l->ndim; i-- > 0;) {
        if (l->shape[i] == 1) continue;
        if (l->strides[i] != step) return false;
        step *= l->shape[i]; /* the product of all was checked */
    }
    return true;
}

static ts_status measure(walker *w, layout *l)
{
    l->elements = 1;
    for (uint32_t i = 0; i < l->ndim; i++)
        if (l->shape[i] == 0) l->elements = 0;
    l->span = l->elements;
    for (uint32_t i = 0; l->elements > 0 && i < l->ndim; i++) {
        uint64_t reach;
        if (!ts_mul(l->elements, l->shape[i], &l->elements)
            || !ts_mul(l->shape[i] - 1, l->strides[i], &reach)
            || !ts_add(l->span, reach, &l->span))
            return ts_fail(w->error, TS_FORMAT,
                           "has sizes and strides whose product overflows");
    }
    l->contiguous = is_contiguous(l);
    return TS_OK;
}

/* An expanded tensor shows elements several times.  No more often than a
 * DEFLATE stream could repeat them: a file of a kilobyte must not become a
 * terabyte. */
enum { MAX_REPEAT = 1032 };

static ts_status place(walker *w, const ts_torch_use *use, uint64_t first,
                       layout *l, ts_tensor *row)
{
    const ts_torch_storage *storage = &w->torch->storages[use->storage];
    uint32_t width = ts_dtype_block_size(row->dtype);
    uint64_t count = storage->size / width;
    int64_t *strides;
    uint64_t *shape;

    if (first > count || l->span > count - first)
        return ts_fail(w->error, TS_FORMAT,
                       "reaches from element %llu over %llu, but its storage "
                       "'%.*s' holds %llu",
                       (unsigned long long)first,
                       (unsigned long long)l->span,
                       (int)ts_min(storage->key.size, 40), storage->key.bytes,
                       (unsigned long long)count);
    if (l->elements / MAX_REPEAT > l->span)
        return ts_fail(w->error, TS_FORMAT,
                       "shows %llu elements of storage as %llu",
                       (unsigned long long)l->span,
                       (unsigned long long)l->elements);
    TS_TRY(ts_arena_take_array(w->arena, l->ndim, sizeof *shape, &shape,
                               w->error));
    if (l->ndim > 0) memcpy(shape, l->shape, l->ndim * sizeof *shape);
    if (row->dtype == TS_F4) { /* torch counts pairs, we count elements */
        if (l->ndim == 0 || !l->contiguous
            || !ts_mul(shape[l->ndim - 1], 2, &shape[l->ndim - 1]))
            return ts_fail(w->error, TS_FORMAT,
                           "is float4_e2m1fn_x2 and not contiguous");
    }
    if (!l->contiguous) {
        TS_TRY(ts_arena_take_array(w->arena, l->ndim, sizeof *strides,
                                   &strides, w->error));
        /* A stride over one element is never taken, and may be anything. */
        for (uint32_t i = 0; i < l->ndim; i++)
            strides[i] = l->shape[i] > 1 ? (int64_t)l->strides[i] : 0;
        row->strides = strides;
    }
    row->ndim = l->ndim;
    row->shape = shape;
    row->file = w->index;
    row->storage = TS_STORED;
    row->offset = storage->offset + first * width;
    row->has_crc32 = storage->has_crc32;
    row->crc32 = storage->crc32;
    row->member_offset = storage->member_offset;
    row->member_size = storage->member_size;
    return TS_OK;
}

static const ts_torch_use *use_of(const walker *w, const ts_pickle_node *node)
{
    return node != NULL && node->kind == TS_PICKLE_PERSISTENT
               ? &w->torch->uses[node->number]
               : NULL;
}

/* A lazy conjugate or negative: its bytes are not its values. */
static ts_status check_flags(walker *w, const ts_pickle_node *flags)
{
    if (flags == NULL || flags->kind != TS_PICKLE_DICT) return TS_OK;
    for (uint32_t i = 0; i + 1 < ts_min(flags->count, 16); i += 2) {
        const ts_pickle_node *key = ts_pickle_item(flags, i);
        const ts_pickle_node *value = ts_pickle_item(flags, i + 1);
        if ((is_text(key, "conj") || is_text(key, "neg"))
            && value->kind == TS_PICKLE_BOOL && value->i)
            return ts_fail(w->error, TS_FORMAT,
                           "is a lazy '%.*s' view; save its .resolve_%.*s()",
                           (int)key->size, (const char *)key->bytes,
                           (int)key->size, (const char *)key->bytes);
    }
    return TS_OK;
}

/* (storage, offset, size, stride, requires_grad, hooks [, dtype] [, flags]) */
static ts_status read_tensor(walker *w, const ts_pickle_node *node,
                             ts_tensor *row)
{
    const ts_pickle_node *arguments;
    layout l;
    uint32_t strides;
    int what;

    TS_TRY(plain_call(w, node, &what, &arguments));
    const ts_torch_use *use = use_of(w, ts_pickle_item(arguments, 0));
    const ts_pickle_node *first = ts_pickle_item(arguments, 1);
    if (use == NULL || !is_count(first)) return bad_arguments(w, "tensor");
    TS_TRY(read_dims(w, ts_pickle_item(arguments, 2), l.shape, &l.ndim));
    TS_TRY(read_dims(w, ts_pickle_item(arguments, 3), l.strides, &strides));
    if (strides != l.ndim)
        return ts_fail(w->error, TS_FORMAT, "has %u sizes but %u strides",
                       l.ndim, strides);
    TS_TRY(measure(w, &l));
    row->dtype = use->dtype;
    if (what == TENSOR_V3) {
        const ts_pickle_global *dtype = named(ts_pickle_item(arguments, 6));
        if (dtype == NULL || (dtype->what != DTYPE
                              && dtype->what != FOREIGN_DTYPE))
            return bad_arguments(w, "tensor");
        if (dtype->what == FOREIGN_DTYPE)
            return ts_fail(w->error, TS_FORMAT,
                           "is of torch.%s, for which there is no dtype here",
                           dtype->name);
        row->dtype = dtype->detail;
    }
    TS_TRY(check_flags(w, ts_pickle_item(arguments,
                                         what == TENSOR_V3 ? 7 : 6)));
    return place(w, use, (uint64_t)first->i, &l, row);
}

/* A storage that stands alone is a row of its elements. */
static ts_status read_storage(walker *w, const ts_pickle_node *node,
                              ts_tensor *row)
{
    const ts_torch_use *use = use_of(w, node);
    row->dtype = use->dtype;
    layout l = {.ndim = 1, .contiguous = true};
    l.shape[0] = w->torch->storages[use->storage].size
               / ts_dtype_block_size(row->dtype);
    l.strides[0] = 1;
    l.elements = l.span = l.shape[0];
    return place(w, use, 0, &l, row);
}

/* ---- two tensors of one name ------------------------------------------- */

static ts_status walk(walker *w, ts_pickle_node *root);

/* The place where the walker stands, key by key: 'a' > 'b.c' */
static void describe(const walker *w, char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < w->depth && used < room; i++) {
        size_t from = w->levels[i].name_size;
        size_t to = i + 1 < w->depth ? w->levels[i + 1].name_size
                                     : w->name_size;
        if (from > 0) from++; /* the dot */
        int more = snprintf(out + used, room - used, "%s'%.*s'",
                            i > 0 ? " > " : "",
                            to > from ? (int)(to - from) : 0, w->name + from);
        used += more > 0 ? (size_t)more : 0;
    }
}

/* The draft has refused a row.  If that was for its name, say which two
 * objects would share it: walk again, to the first of them. */
static ts_status explain(walker *w, ts_status status)
{
    uint32_t count = ts_draft_count(w->draft), twin = count;
    for (uint32_t i = count - w->rows; i < count; i++) {
        ts_name name = ts_draft_row(w->draft, i)->name;
        if (name.size == w->name_size
            && memcmp(name.bytes, w->name, name.size) == 0)
            twin = i;
    }
    if (twin == count) return status;

    char here[100], there[100];
    walker *again;
    describe(w, here, sizeof here);
    TS_TRY(ts_arena_take_array(w->arena, 1, sizeof *again, &again, w->error));
    again->torch = w->torch;
    again->arena = w->arena;
    again->error = w->error;
    again->left = UINT64_MAX; /* this far it has been walked already */
    again->stop_at = twin - (count - w->rows);
    for (size_t i = 0; i < w->depth; i++) w->levels[i].node->entered = false;
    if (walk(again, w->torch->pickle.root) != TS_CANCELLED) return status;
    describe(again, there, sizeof there);
    return ts_fail(w->error, TS_FORMAT,
                   "%s and %s would both be the tensor '%.*s'", there, here,
                   (int)ts_min(w->name_size, 60), w->name);
}

static ts_status emit_tensor(walker *w, const ts_pickle_node *node)
{
    ts_tensor row = {.name = current(w)};
    ts_status status;

    if (w->rows == w->stop_at) return TS_CANCELLED;
    if (w->draft == NULL) {
        if (w->rows == TS_MAX_TENSORS)
            return ts_fail(w->error, TS_FORMAT, "holds more than %d tensors",
                           TS_MAX_TENSORS);
        w->rows++;
        return TS_OK;
    }
    TS_TRY(ts_check_name(row.name, "tensor", TS_NO_OFFSET, w->error));
    TS_TRY(charge(w, sizeof row + row.name.size));
    if (node->kind == TS_PICKLE_PERSISTENT)
        status = read_storage(w, node, &row);
    else status = read_tensor(w, node, &row);
    if (status == TS_OK) {
        status = ts_draft_tensor(w->draft, &row, TS_NO_OFFSET, w->error);
        if (status == TS_FORMAT) status = explain(w, status);
    }
    w->rows++;
    return ts_error_in_tensor(w->error, status, w->name, w->name_size);
}

/* ---- metadata ---------------------------------------------------------- */

static ts_status add_value(walker *w, ts_value *value)
{
    value->key = current(w);
    TS_TRY(charge(w, sizeof *value + value->key.size + value->size));
    return ts_draft_value(w->draft, value, TS_NO_OFFSET, w->error);
}

static ts_status add_text(walker *w, const char *text, size_t size)
{
    ts_value value = {.kind = TS_VALUE_STRING, .size = size};
    value.bytes = (const uint8_t *)text;
    return add_value(w, &value);
}

static ts_status add_bytes(walker *w, const uint8_t *bytes, uint64_t size)
{
    ts_value value = {.kind = TS_VALUE_ARRAY, .item = TS_VALUE_UINT,
                      .item_size = 1, .count = size, .bytes = bytes,
                      .size = size};
    return add_value(w, &value);
}

/* An integer beyond 64 bits, as Python's hex() shows it. */
static ts_status add_big(walker *w, const ts_pickle_node *node)
{
    char *text, *at;
    bool negative = node->bytes[node->size - 1] >= 0x80;
    unsigned carry = negative;

    TS_TRY(charge(w, 2 * node->size));
    TS_TRY(ts_arena_take(w->arena, 2 * node->size + 4, &text, w->error));
    at = text + 2 * node->size + 3;
    *at = '\0';
    for (uint64_t i = 0; i < node->size; i++) {
        unsigned byte = node->bytes[i];
        if (negative) byte = (byte ^ 0xFF) + carry;
        carry = byte >> 8;
        *--at = "0123456789abcdef"[byte & 15];
        *--at = "0123456789abcdef"[byte >> 4 & 15];
    }
    while (*at == '0' && at[1] != '\0') at++;
    *--at = 'x';
    *--at = '0';
    if (negative) *--at = '-';
    return add_text(w, at, strlen(at));
}

/* What Python 2 protocols do to bytes: encode(text, "latin1").  NULL bytes
 * when it is something else. */
static ts_status latin1(walker *w, const ts_pickle_node *call,
                        const uint8_t **bytes, uint64_t *size)
{
    const ts_pickle_node *text = ts_pickle_item(call->arguments, 0);
    uint8_t *out;

    *bytes = NULL;
    if (text == NULL || text->kind != TS_PICKLE_STRING
        || !is_text(ts_pickle_item(call->arguments, 1), "latin1"))
        return TS_OK;
    TS_TRY(charge(w, text->size));
    TS_TRY(ts_arena_take(w->arena, text->size, &out, w->error));
    *size = 0;
    for (uint64_t i = 0; i < text->size; i++) {
        unsigned byte = text->bytes[i];
        if (byte >= 0x80) { /* two bytes of UTF-8: U+0080 to U+00FF */
            if ((byte != 0xC2 && byte != 0xC3) || ++i == text->size)
                return TS_OK;
            byte = (byte & 3) << 6 | (text->bytes[i] & 0x3F);
        }
        out[(*size)++] = (uint8_t)byte;
    }
    *bytes = out;
    return TS_OK;
}

/* scalar(dtype("f8"), bytes): the numbers that training scripts leave behind,
 * such as the best loss.  False when it is of another type. */
static bool number_of(const char *type, const uint8_t *bytes, ts_value *value)
{
    size_t width = (size_t)(type[1] - '0');
    uint64_t bits = 0;
    float single;

    memcpy(&bits, bytes, width);
    switch (type[0]) {
    case 'b': value->kind = TS_VALUE_BOOL; value->b = bits != 0; return true;
    case 'u': value->kind = TS_VALUE_UINT; value->u = bits; return true;
    case 'i':
        value->kind = TS_VALUE_INT;
        value->i = (int64_t)(bits << (64 - 8 * width)) >> (64 - 8 * width);
        return true;
    case 'f':
        if (width != 4 && width != 8) return false;
        value->kind = TS_VALUE_FLOAT;
        memcpy(&value->f, &bits, sizeof value->f);
        memcpy(&single, &bits, sizeof single);
        if (width == 4) value->f = (double)single;
        return true;
    default: return false;
    }
}

static ts_status numpy_scalar(walker *w, const ts_pickle_node *node,
                              ts_value *value, bool *known)
{
    static const char *const types[] = {"b1", "u1", "u2", "u4", "u8", "i1",
                                        "i2", "i4", "i8", "f4", "f8"};
    const ts_pickle_node *dtype = ts_pickle_item(node->arguments, 0);
    const ts_pickle_node *data = ts_pickle_item(node->arguments, 1);
    const uint8_t *bytes = NULL;
    uint64_t size = 0;

    *known = false;
    if (dtype == NULL || data == NULL || !calls(dtype, NUMPY_DTYPE)
        || (dtype->state != NULL && dtype->state->kind == TS_PICKLE_TUPLE
            && is_text(ts_pickle_item(dtype->state, 1), ">")))
        return TS_OK;
    if (calls(data, ENCODE)) TS_TRY(latin1(w, data, &bytes, &size));
    else if (data->kind == TS_PICKLE_BYTES
             || data->kind == TS_PICKLE_STRING) {
        bytes = data->bytes;
        size = data->size;
    }
    for (size_t i = 0; bytes != NULL && i < TS_COUNT_OF(types); i++)
        if (is_text(ts_pickle_item(dtype->arguments, 0), types[i])
            && size == (uint64_t)(types[i][1] - '0'))
            *known = number_of(types[i], bytes, value);
    return TS_OK;
}

/* What has no value of its own is shown by its type: "<numpy.ndarray>". */
static ts_status add_opaque(walker *w, const ts_pickle_node *node)
{
    char text[96];
    const ts_pickle_global *row = global_of(node);
    int size = snprintf(text, sizeof text,
                        node->kind == TS_PICKLE_GLOBAL ? "%s.%s" : "<%s.%s>",
                        row->module, row->name);
    return add_text(w, text, ts_min((uint64_t)size, sizeof text - 1));
}

static ts_status add_device(walker *w, const ts_pickle_node *node)
{
    char text[64];
    const ts_pickle_node *type = ts_pickle_item(node->arguments, 0);
    const ts_pickle_node *number = ts_pickle_item(node->arguments, 1);
    if (type == NULL || type->kind != TS_PICKLE_STRING || type->size > 32)
        return add_opaque(w, node);
    if (number == NULL || number->kind != TS_PICKLE_INT)
        return add_text(w, (const char *)type->bytes, (size_t)type->size);
    int size = snprintf(text, sizeof text, "%.*s:%lld", (int)type->size,
                        (const char *)type->bytes, (long long)number->i);
    return add_text(w, text, ts_min((uint64_t)size, sizeof text - 1));
}

static ts_status add_complex(walker *w, const ts_pickle_node *node)
{
    const ts_pickle_node *real = ts_pickle_item(node->arguments, 0);
    const ts_pickle_node *imaginary = ts_pickle_item(node->arguments, 1);
    double parts[2];
    if (real == NULL || imaginary == NULL || real->kind != TS_PICKLE_FLOAT
        || imaginary->kind != TS_PICKLE_FLOAT)
        return add_opaque(w, node);
    parts[0] = real->f;
    parts[1] = imaginary->f;
    ts_value value = {.kind = TS_VALUE_ARRAY, .item = TS_VALUE_FLOAT,
                      .item_size = 8, .count = 2,
                      .bytes = (const uint8_t *)parts, .size = sizeof parts};
    return add_value(w, &value);
}

static ts_status add_call(walker *w, const ts_pickle_node *node)
{
    ts_value value = {0};
    bool known;
    switch (global_of(node)->what) {
    case DEVICE: return add_device(w, node);
    case COMPLEX: return add_complex(w, node);
    case NUMPY_SCALAR:
        TS_TRY(numpy_scalar(w, node, &value, &known));
        if (known) return add_value(w, &value);
        break;
    case ENCODE:
        TS_TRY(latin1(w, node, &value.bytes, &value.size));
        if (value.bytes != NULL)
            return add_bytes(w, value.bytes, value.size);
        break;
    default: break;
    }
    return add_opaque(w, node);
}

static ts_status emit_value(walker *w, const ts_pickle_node *node)
{
    ts_value value = {.kind = TS_VALUE_NONE};
    if (w->draft == NULL) return charge(w, 1);
    switch ((ts_pickle_kind)node->kind) {
    case TS_PICKLE_BOOL: value.kind = TS_VALUE_BOOL; value.b = node->i; break;
    case TS_PICKLE_INT: value.kind = TS_VALUE_INT; value.i = node->i; break;
    case TS_PICKLE_FLOAT:
        value.kind = TS_VALUE_FLOAT;
        value.f = node->f;
        break;
    case TS_PICKLE_STRING:
        return add_text(w, (const char *)node->bytes, (size_t)node->size);
    case TS_PICKLE_BYTES: return add_bytes(w, node->bytes, node->size);
    case TS_PICKLE_BIG: return add_big(w, node);
    case TS_PICKLE_GLOBAL: return add_opaque(w, node);
    case TS_PICKLE_CALL: return add_call(w, node);
    default: break;
    }
    return add_value(w, &value);
}

/* The kind that all items of a list share, if they are plain: such a list is
 * one value.  The lists of an optimizer hold a number for each parameter. */
static bool is_flat(const ts_pickle_node *list, uint8_t *kind)
{
    *kind = TS_PICKLE_NONE;
    if (list->kind == TS_PICKLE_DICT) return false;
    if (list->count == 0) return true;
    *kind = list->first->items[0]->kind;
    if (*kind != TS_PICKLE_BOOL && *kind != TS_PICKLE_INT
        && *kind != TS_PICKLE_FLOAT && *kind != TS_PICKLE_STRING)
        return false;
    for (ts_pickle_run *run = list->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++)
            if (run->items[i]->kind != *kind) return false;
    return true;
}

static uint8_t *pack(uint8_t *at, const ts_pickle_node *item)
{
    if (item->kind == TS_PICKLE_BOOL) {
        *at = item->i != 0;
        return at + 1;
    }
    memcpy(at, &item->i, 8); /* also f; a string's bytes follow its size */
    if (item->kind != TS_PICKLE_STRING) return at + 8;
    memcpy(at, &item->size, 8);
    if (item->size > 0) memcpy(at + 8, item->bytes, (size_t)item->size);
    return at + 8 + item->size;
}

static ts_status emit_list(walker *w, const ts_pickle_node *list, uint8_t kind)
{
    static const uint8_t items[] = {
        [TS_PICKLE_NONE] = TS_VALUE_NONE, [TS_PICKLE_BOOL] = TS_VALUE_BOOL,
        [TS_PICKLE_INT] = TS_VALUE_INT, [TS_PICKLE_FLOAT] = TS_VALUE_FLOAT,
        [TS_PICKLE_STRING] = TS_VALUE_STRING,
    };
    ts_value value = {.kind = TS_VALUE_ARRAY, .item = items[kind],
                      .count = list->count};
    uint8_t *bytes;

    if (kind != TS_PICKLE_STRING)
        value.item_size = kind == TS_PICKLE_BOOL ? 1 : 8;
    for (ts_pickle_run *run = list->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++)
            value.size += kind == TS_PICKLE_STRING ? 8 + run->items[i]->size
                                                   : value.item_size;
    if (w->draft == NULL) return charge(w, list->count);
    TS_TRY(charge(w, value.size));
    TS_TRY(ts_arena_take(w->arena, value.size, &bytes, w->error));
    value.bytes = bytes;
    for (ts_pickle_run *run = list->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++)
            bytes = pack(bytes, run->items[i]);
    return add_value(w, &value);
}

/* ---- walking ----------------------------------------------------------- */

static ts_status enter(walker *w, ts_pickle_node *node)
{
    if (node->entered)
        return ts_fail(w->error, TS_FORMAT,
                       "pickle holds a container that is inside itself, at "
                       "'%.*s'", (int)ts_min(w->name_size, 100), w->name);
    if (w->depth == TS_MAX_DEPTH)
        return ts_fail(w->error, TS_FORMAT,
                       "pickle nests containers deeper than %d",
                       TS_MAX_DEPTH);
    node->entered = true;
    w->levels[w->depth++] = (level){.node = node, .run = node->first,
                                    .name_size = w->name_size};
    return TS_OK;
}

static bool is_container(const ts_pickle_node *node)
{
    return node->kind == TS_PICKLE_DICT || node->kind == TS_PICKLE_LIST
        || node->kind == TS_PICKLE_TUPLE;
}

static ts_status visit(walker *w, ts_pickle_node *node)
{
    uint8_t kind;

    TS_TRY(charge(w, 1));
    if (is_tensor(node)) return emit_tensor(w, node);
    if (calls(node, NAMESPACE) && node->state != NULL
        && node->state->kind == TS_PICKLE_DICT)
        node = node->state;
    if (!is_container(node)) return emit_value(w, node);
    if (is_flat(node, &kind)) return emit_list(w, node, kind);
    return enter(w, node);
}

/* One step: the next item of the innermost container, or out of it. */
static ts_status advance(walker *w)
{
    level *top = &w->levels[w->depth - 1];
    ts_pickle_node *key = NULL;

    if (top->run != NULL && top->at == top->run->count) {
        top->run = top->run->next;
        top->at = 0;
    }
    if (top->run == NULL) {
        top->node->entered = false;
        w->depth--;
        return TS_OK;
    }
    if (top->node->kind == TS_PICKLE_DICT) key = top->run->items[top->at++];
    ts_pickle_node *item = top->run->items[top->at++];
    w->name_size = top->name_size;
    TS_TRY(extend_by_key(w, key, top->position++));
    return visit(w, item);
}

static ts_status walk(walker *w, ts_pickle_node *root)
{
    ts_status status = visit(w, root);
    while (status == TS_OK && w->depth > 0) status = advance(w);
    for (size_t i = 0; i < w->depth; i++) w->levels[i].node->entered = false;
    return status;
}

/* A checkpoint that is one tensor has no name for it; its file has one. */
static void name_after_file(walker *w)
{
    const char *path = ts_file_path(w->file);
    const char *slash = strrchr(path, '/');
    const char *stem = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(stem, '.');
    size_t size = dot != NULL && dot > stem ? (size_t)(dot - stem)
                                            : strlen(stem);
    w->name_size = (size_t)ts_min(size, TS_MAX_NAME);
    memcpy(w->name, stem, w->name_size);
}

static ts_status walk_once(walker *w, uint64_t size)
{
    ts_pickle_node *root = w->torch->pickle.root;

    w->left = (uint64_t)COST_A_BYTE * size + COST_FREE;
    w->rows = 0;
    w->stop_at = UINT32_MAX;
    w->name_size = 0;
    if (is_tensor(root)) name_after_file(w);
    else if (!is_container(root) && !calls(root, NAMESPACE))
        return ts_fail(w->error, TS_FORMAT,
                       "pickle holds neither a tensor nor a container");
    return walk(w, root);
}

ts_status ts_torch_rows(const ts_torch *torch, uint64_t size, ts_file *file,
                        uint32_t index, ts_draft *draft, ts_arena *arena,
                        ts_error *error)
{
    walker *w;

    TS_TRY(ts_arena_take_array(arena, 1, sizeof *w, &w, error));
    w->torch = torch;
    w->file = file;
    w->index = index;
    w->arena = arena;
    w->error = error;
    TS_TRY(walk_once(w, size));
    TS_TRY(ts_draft_expect(draft, w->rows, error));
    w->draft = draft;
    return walk_once(w, size);
}
