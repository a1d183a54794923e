#include "torch.h"

#include "core/base.h"

/* ---- the globals a checkpoint may name --------------------------------- */

#define NAMED(module, name, what, detail)                                     \
    {module, name, TS_PICKLE_NAMED, TS_TORCH_##what, detail}
#define CALLED(module, name, what)                                            \
    {module, name, TS_PICKLE_CALLED, TS_TORCH_##what, 0}
#define DICT(module, name) {module, name, TS_PICKLE_MAKES_DICT, 0, 0}
#define LIST(module, name) {module, name, TS_PICKLE_MAKES_LIST, 0, 0}

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
    CALLED("numpy.core.multiarray", "_reconstruct", NUMPY_ARRAY),
    CALLED("numpy._core.multiarray", "_reconstruct", NUMPY_ARRAY),
    CALLED("numpy.core.numeric", "_frombuffer", NUMPY_ARRAY),
    CALLED("numpy._core.numeric", "_frombuffer", NUMPY_ARRAY),
};

const ts_pickle_global *ts_torch_global(const ts_pickle_node *node)
{
    if (node == NULL) return NULL;
    if (node->kind != TS_PICKLE_GLOBAL && node->kind != TS_PICKLE_CALL)
        return NULL;
    return &globals[node->number];
}

bool ts_torch_calls(const ts_pickle_node *node, ts_torch_what what)
{
    return node != NULL && node->kind == TS_PICKLE_CALL
        && globals[node->number].what == what;
}

/* The row of the table when the node names one without calling it. */
static const ts_pickle_global *named(const ts_pickle_node *node)
{
    if (node == NULL || node->kind != TS_PICKLE_GLOBAL) return NULL;
    return &globals[node->number];
}

/* ---- storages ---------------------------------------------------------- */

bool ts_torch_is_text(const ts_pickle_node *node, const char *text)
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
    if (row != NULL && row->what == TS_TORCH_FOREIGN_STORAGE)
        return ts_fail(error, TS_FORMAT,
                       "holds a %s.%s, for which there is no dtype here",
                       row->module, row->name);
    if (row == NULL || (row->what != TS_TORCH_STORAGE
                        && row->what != TS_TORCH_UNTYPED))
        return ts_fail(error, TS_FORMAT,
                       "persistent id names no type of storage");
    use->dtype = row->detail;
    use->untyped = row->what == TS_TORCH_UNTYPED;
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
        || !ts_torch_is_text(ts_pickle_item(id, 0), "storage"))
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

/* ---- tensors ----------------------------------------------------------- */

typedef struct {
    const ts_torch *torch;
    ts_arena *arena;
    ts_error *error;
} reader;

bool ts_torch_is_tensor(const ts_pickle_node *node)
{
    if (node->kind == TS_PICKLE_PERSISTENT) return true;
    if (node->kind != TS_PICKLE_CALL) return false;
    switch (ts_torch_global(node)->what) {
    case TS_TORCH_TENSOR:
    case TS_TORCH_TENSOR_V3:
    case TS_TORCH_PARAMETER:
    case TS_TORCH_FROM_TYPE:
    case TS_TORCH_REFUSED: return true;
    default: return false;
    }
}

static ts_status bad_arguments(reader *r, const char *name)
{
    return ts_fail(r->error, TS_FORMAT, "%s has unexpected arguments", name);
}

static ts_status refuse(reader *r, const ts_pickle_global *row)
{
    return ts_fail(r->error, TS_FORMAT,
                   "is made by %s.%s: sparse, quantised, nested, meta and "
                   "subclassed tensors are not supported",
                   row->module, row->name);
}

/* One that says itself where its bytes are. */
static bool is_plain(const ts_pickle_global *row)
{
    return row->what == TS_TORCH_TENSOR || row->what == TS_TORCH_TENSOR_V3;
}

/* Parameter(tensor) and from_type(function, type, arguments, state) add
 * nothing to the bytes: find the plain rebuild inside. */
static ts_status plain_call(reader *r, const ts_pickle_node *node, int *what,
                            const ts_pickle_node **arguments)
{
    for (int wraps = 0; wraps < 8; wraps++) {
        if (node == NULL || node->kind != TS_PICKLE_CALL) break;
        const ts_pickle_global *row = ts_torch_global(node);
        *what = row->what;
        *arguments = node->arguments;
        if (is_plain(row)) return TS_OK;
        if (row->what == TS_TORCH_REFUSED) return refuse(r, row);
        if (row->what == TS_TORCH_PARAMETER) {
            node = ts_pickle_item(*arguments, 0);
            continue;
        }
        if (row->what != TS_TORCH_FROM_TYPE) break;
        const ts_pickle_global *function
            = named(ts_pickle_item(*arguments, 0));
        const ts_pickle_global *type = named(ts_pickle_item(*arguments, 1));
        *arguments = ts_pickle_item(*arguments, 2);
        if (function != NULL && function->what == TS_TORCH_REFUSED)
            return refuse(r, function);
        if (type == NULL || type->what != TS_TORCH_TENSOR_TYPE
            || function == NULL || !is_plain(function)
            || *arguments == NULL || (*arguments)->kind != TS_PICKLE_TUPLE)
            return refuse(r, row);
        *what = function->what;
        return TS_OK;
    }
    return bad_arguments(r, "tensor's wrapper");
}

static ts_status read_dims(reader *r, const ts_pickle_node *tuple,
                           uint64_t *dims, uint32_t *ndim)
{
    if (tuple == NULL
        || (tuple->kind != TS_PICKLE_TUPLE && tuple->kind != TS_PICKLE_LIST))
        return bad_arguments(r, "tensor");
    if (tuple->count > TS_MAX_DIMS)
        return ts_fail(r->error, TS_FORMAT,
                       "has %u dimensions, more than %d", tuple->count,
                       TS_MAX_DIMS);
    *ndim = tuple->count;
    for (uint32_t i = 0; i < tuple->count; i++) {
        const ts_pickle_node *item = ts_pickle_item(tuple, i);
        if (!is_count(item))
            return ts_fail(r->error, TS_FORMAT,
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

static ts_status measure(reader *r, layout *l)
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
            return ts_fail(r->error, TS_FORMAT,
                           "has sizes and strides whose product overflows");
    }
    l->contiguous = is_contiguous(l);
    return TS_OK;
}

/* An expanded tensor shows elements several times.  No more often than a
 * DEFLATE stream could repeat them: a file of a kilobyte must not become a
 * terabyte. */
enum { MAX_REPEAT = 1032 };

static ts_status place(reader *r, const ts_torch_use *use, uint64_t first,
                       layout *l, ts_tensor *row)
{
    const ts_torch_storage *storage = &r->torch->storages[use->storage];
    uint32_t width = ts_dtype_block_size(row->dtype);
    uint64_t count = storage->size / width;
    int64_t *strides;
    uint64_t *shape;

    if (first > count || l->span > count - first)
        return ts_fail(r->error, TS_FORMAT,
                       "reaches from element %llu over %llu, but its storage "
                       "'%.*s' holds %llu",
                       (unsigned long long)first,
                       (unsigned long long)l->span,
                       (int)ts_min(storage->key.size, 40), storage->key.bytes,
                       (unsigned long long)count);
    if (l->elements / MAX_REPEAT > l->span)
        return ts_fail(r->error, TS_FORMAT,
                       "shows %llu elements of storage as %llu",
                       (unsigned long long)l->span,
                       (unsigned long long)l->elements);
    TS_TRY(ts_arena_take_array(r->arena, l->ndim, sizeof *shape, &shape,
                               r->error));
    if (l->ndim > 0) memcpy(shape, l->shape, l->ndim * sizeof *shape);
    if (row->dtype == TS_F4) { /* torch counts pairs, we count elements */
        if (l->ndim == 0 || !l->contiguous
            || !ts_mul(shape[l->ndim - 1], 2, &shape[l->ndim - 1]))
            return ts_fail(r->error, TS_FORMAT,
                           "is float4_e2m1fn_x2 and not contiguous");
    }
    if (!l->contiguous) {
        TS_TRY(ts_arena_take_array(r->arena, l->ndim, sizeof *strides,
                                   &strides, r->error));
        /* A stride over one element is never taken, and may be anything. */
        for (uint32_t i = 0; i < l->ndim; i++)
            strides[i] = l->shape[i] > 1 ? (int64_t)l->strides[i] : 0;
        row->strides = strides;
    }
    row->ndim = l->ndim;
    row->shape = shape;
    row->storage = TS_STORED;
    row->offset = storage->offset + first * width;
    row->has_crc32 = storage->has_crc32;
    row->crc32 = storage->crc32;
    row->member_offset = storage->member_offset;
    row->member_size = storage->member_size;
    return TS_OK;
}

static const ts_torch_use *use_of(const reader *r, const ts_pickle_node *node)
{
    return node != NULL && node->kind == TS_PICKLE_PERSISTENT
               ? &r->torch->uses[node->number]
               : NULL;
}

/* A lazy conjugate or negative: its bytes are not its values. */
static ts_status check_flags(reader *r, const ts_pickle_node *flags)
{
    if (flags == NULL || flags->kind != TS_PICKLE_DICT) return TS_OK;
    for (uint32_t i = 0; i + 1 < ts_min(flags->count, 16); i += 2) {
        const ts_pickle_node *key = ts_pickle_item(flags, i);
        const ts_pickle_node *value = ts_pickle_item(flags, i + 1);
        if ((ts_torch_is_text(key, "conj") || ts_torch_is_text(key, "neg"))
            && value->kind == TS_PICKLE_BOOL && value->i)
            return ts_fail(r->error, TS_FORMAT,
                           "is a lazy '%.*s' view; save its .resolve_%.*s()",
                           (int)key->size, (const char *)key->bytes,
                           (int)key->size, (const char *)key->bytes);
    }
    return TS_OK;
}

/* (storage, offset, size, stride, requires_grad, hooks [, dtype] [, flags]) */
static ts_status read_tensor(reader *r, const ts_pickle_node *node,
                             ts_tensor *row)
{
    const ts_pickle_node *arguments;
    layout l;
    uint32_t strides;
    int what;

    TS_TRY(plain_call(r, node, &what, &arguments));
    const ts_torch_use *use = use_of(r, ts_pickle_item(arguments, 0));
    const ts_pickle_node *first = ts_pickle_item(arguments, 1);
    if (use == NULL || !is_count(first)) return bad_arguments(r, "tensor");
    TS_TRY(read_dims(r, ts_pickle_item(arguments, 2), l.shape, &l.ndim));
    TS_TRY(read_dims(r, ts_pickle_item(arguments, 3), l.strides, &strides));
    if (strides != l.ndim)
        return ts_fail(r->error, TS_FORMAT, "has %u sizes but %u strides",
                       l.ndim, strides);
    TS_TRY(measure(r, &l));
    row->dtype = use->dtype;
    if (what == TS_TORCH_TENSOR_V3) {
        const ts_pickle_global *dtype = named(ts_pickle_item(arguments, 6));
        if (dtype == NULL || (dtype->what != TS_TORCH_DTYPE
                              && dtype->what != TS_TORCH_FOREIGN_DTYPE))
            return bad_arguments(r, "tensor");
        if (dtype->what == TS_TORCH_FOREIGN_DTYPE)
            return ts_fail(r->error, TS_FORMAT,
                           "is of torch.%s, for which there is no dtype here",
                           dtype->name);
        row->dtype = dtype->detail;
    }
    TS_TRY(check_flags(r, ts_pickle_item(arguments,
                                         what == TS_TORCH_TENSOR_V3 ? 7 : 6)));
    return place(r, use, (uint64_t)first->i, &l, row);
}

/* A storage that stands alone is a row of its elements. */
static ts_status read_storage(reader *r, const ts_pickle_node *node,
                              ts_tensor *row)
{
    const ts_torch_use *use = use_of(r, node);
    row->dtype = use->dtype;
    layout l = {.ndim = 1, .contiguous = true};
    l.shape[0] = r->torch->storages[use->storage].size
               / ts_dtype_block_size(row->dtype);
    l.strides[0] = 1;
    l.elements = l.span = l.shape[0];
    return place(r, use, 0, &l, row);
}

ts_status ts_torch_tensor(const ts_torch *torch, const ts_pickle_node *node,
                          ts_arena *arena, ts_tensor *row, ts_error *error)
{
    reader r = {torch, arena, error};
    if (node->kind == TS_PICKLE_PERSISTENT) return read_storage(&r, node, row);
    return read_tensor(&r, node, row);
}
