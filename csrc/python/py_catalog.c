/* py_catalog.c -- the Catalog type: what an opened file holds.
 *
 * Rows become Python objects only when somebody asks for them: a header of
 * 72,000 tensors opens in milliseconds and stays in C. */
#include "state.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    ts_catalog *catalog; /* owned, never NULL once visible */
} Catalog;

ts_catalog *ts_py_catalog(PyObject *catalog)
{
    return ((Catalog *)catalog)->catalog;
}

static PyObject *wrap(ts_state *state, ts_catalog *catalog)
{
    Catalog *self = PyObject_New(Catalog, state->Catalog);
    if (self == NULL) {
        ts_catalog_release(catalog);
        return NULL;
    }
    self->catalog = catalog;
    return (PyObject *)self;
}

static void Catalog_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    ts_catalog_release(((Catalog *)op)->catalog);
    PyObject_Free(op);
    Py_DECREF(type);
}

static Py_ssize_t Catalog_length(PyObject *op)
{
    return (Py_ssize_t)ts_catalog_count(ts_py_catalog(op));
}

/* A row number from Python, checked. */
static const ts_tensor *row_of(PyObject *op, PyObject *number)
{
    ts_catalog *catalog = ts_py_catalog(op);
    Py_ssize_t row = PyLong_AsSsize_t(number);
    if (row == -1 && PyErr_Occurred()) return NULL;
    if (row < 0 || row >= (Py_ssize_t)ts_catalog_count(catalog)) {
        PyErr_Format(PyExc_IndexError, "row %zd of %u", row,
                     ts_catalog_count(catalog));
        return NULL;
    }
    return ts_catalog_tensor(catalog, (uint32_t)row);
}

static PyObject *Catalog_name(PyObject *op, PyObject *number)
{
    const ts_tensor *tensor = row_of(op, number);
    return tensor == NULL ? NULL : ts_py_name(tensor->name);
}

static PyObject *Catalog_names(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_catalog *catalog = ts_py_catalog(op);
    uint32_t count = ts_catalog_count(catalog);
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (list == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *name = ts_py_name(ts_catalog_tensor(catalog, i)->name);
        if (name == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, name);
    }
    return list;
}

static PyObject *Catalog_find(PyObject *op, PyObject *name)
{
    Py_ssize_t size;
    uint32_t row;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    if (text == NULL) return NULL;
    if (ts_catalog_find(ts_py_catalog(op), (ts_name){text, (size_t)size},
                        &row))
        return PyLong_FromUnsignedLong(row);
    Py_RETURN_NONE;
}

static PyObject *strides_of(const ts_tensor *tensor)
{
    if (tensor->strides == NULL) return Py_NewRef(Py_None);
    /* None is negative, so they are shapes to the helper. */
    return ts_py_shape((const uint64_t *)tensor->strides, tensor->ndim);
}

static PyObject *Catalog_tensor(PyObject *op, PyObject *number)
{
    const ts_tensor *tensor = row_of(op, number);
    static const char *const storages[] = {"stored", "swapped", "deflated",
                                           "deflated-swapped", "framed"};
    if (tensor == NULL) return NULL;
    PyObject *name = ts_py_name(tensor->name);
    PyObject *shape = ts_py_shape(tensor->shape, tensor->ndim);
    PyObject *strides = strides_of(tensor);
    if (name == NULL || shape == NULL || strides == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(shape);
        Py_XDECREF(strides);
        return NULL;
    }
    return Py_BuildValue("(NsNKKIKNsIK)", name, ts_dtype_name(tensor->dtype),
                         shape, (unsigned long long)tensor->elements,
                         (unsigned long long)tensor->size, tensor->file,
                         (unsigned long long)tensor->offset, strides,
                         storages[tensor->storage], tensor->alias_of,
                         (unsigned long long)tensor->extent);
}

static PyObject *Catalog_role(PyObject *op, PyObject *number)
{
    const ts_tensor *tensor = row_of(op, number);
    ts_role role;
    if (tensor == NULL) return NULL;
    ts_role_of(tensor->name, &role);
    PyObject *marks = ts_py_marks(role.marks);
    PyObject *stack =
        ts_py_name((ts_name){tensor->name.bytes, role.stack});
    if (marks == NULL || stack == NULL) {
        Py_XDECREF(marks);
        Py_XDECREF(stack);
        return NULL;
    }
    return Py_BuildValue("(sNiiN)", ts_kind_name((ts_kind)role.kind), marks,
                         role.layer, role.expert, stack);
}

/* ---- files and metadata ---------------------------------------------------- */

static PyObject *file_dict(const ts_file *file)
{
    ts_file_identity id;
    ts_file_identity_of(file, &id);
    PyObject *path = PyUnicode_DecodeFSDefault(ts_file_path(file));
    if (path == NULL) return NULL;
    return Py_BuildValue(
        "{sNsKsKsKsLsO}", "path", path, "size", (unsigned long long)id.size,
        "device", (unsigned long long)id.device, "inode",
        (unsigned long long)id.inode, "mtime_ns", (long long)id.mtime_ns,
        "memory", ts_file_memory(file) != NULL ? Py_True : Py_False);
}

static PyObject *Catalog_files(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_catalog *catalog = ts_py_catalog(op);
    uint32_t count = ts_catalog_file_count(catalog);
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (list == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *one = file_dict(ts_catalog_file(catalog, i));
        if (one == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, one);
    }
    return list;
}

static PyObject *text_of(const uint8_t *bytes, uint64_t size)
{
    return PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)size,
                                "surrogateescape");
}

static PyObject *string_list(const ts_value *value)
{
    PyObject *list = PyList_New((Py_ssize_t)value->count);
    const uint8_t *at = value->bytes;
    if (list == NULL) return NULL;
    for (uint64_t i = 0; i < value->count; i++) {
        uint64_t size;
        memcpy(&size, at, sizeof size);
        PyObject *text = text_of(at + sizeof size, size);
        if (text == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, text);
        at += sizeof size + size;
    }
    return list;
}

/* Numbers go to arrays.py as (kind letter, width, bytes), which makes a NumPy
 * array of them. */
static PyObject *number_array(const ts_value *value)
{
    char kind[2] = {0};
    switch (value->item) {
    case TS_VALUE_BOOL: kind[0] = 'b'; break;
    case TS_VALUE_INT: kind[0] = 'i'; break;
    case TS_VALUE_UINT: kind[0] = 'u'; break;
    default: kind[0] = 'f'; break;
    }
    return Py_BuildValue("(siy#)", kind, value->item_size,
                         (const char *)value->bytes, (Py_ssize_t)value->size);
}

static PyObject *value_of(const ts_value *value)
{
    switch (value->kind) {
    case TS_VALUE_BOOL: return PyBool_FromLong(value->b);
    case TS_VALUE_INT: return PyLong_FromLongLong(value->i);
    case TS_VALUE_UINT: return PyLong_FromUnsignedLongLong(value->u);
    case TS_VALUE_FLOAT: return PyFloat_FromDouble(value->f);
    case TS_VALUE_STRING: return text_of(value->bytes, value->size);
    case TS_VALUE_ARRAY:
        return value->item == TS_VALUE_STRING ? string_list(value)
                                              : number_array(value);
    default: Py_RETURN_NONE;
    }
}

static PyObject *Catalog_metadata(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_catalog *catalog = ts_py_catalog(op);
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
    for (uint32_t i = 0; i < ts_catalog_value_count(catalog); i++) {
        const ts_value *value = ts_catalog_value(catalog, i);
        PyObject *key = ts_py_name(value->key), *one = value_of(value);
        if (key == NULL || one == NULL || PyDict_SetItem(dict, key, one) < 0) {
            Py_XDECREF(key);
            Py_XDECREF(one);
            Py_DECREF(dict);
            return NULL;
        }
        Py_DECREF(key);
        Py_DECREF(one);
    }
    return dict;
}

static PyObject *Catalog_totals(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_catalog *catalog = ts_py_catalog(op);
    unsigned long long bytes = 0, elements = 0;
    for (uint32_t i = 0; i < ts_catalog_count(catalog); i++) {
        const ts_tensor *tensor = ts_catalog_tensor(catalog, i);
        if (tensor->alias_of != i) continue; /* tied: counted once */
        bytes += tensor->size;
        elements += tensor->elements;
    }
    return Py_BuildValue("(KK)", bytes, elements);
}

static PyObject *Catalog_order(PyObject *op, PyObject *args)
{
    ts_state *state = ts_state_of_self(op);
    ts_catalog *catalog = ts_py_catalog(op);
    const char *order;
    Py_buffer rows;
    ts_error error;

    if (!PyArg_ParseTuple(args, "w*s:order", &rows, &order)) return NULL;
    uint32_t *numbers = rows.buf;
    uint32_t count = (uint32_t)(rows.len / (Py_ssize_t)sizeof *numbers);
    ts_order how = strcmp(order, "layer") == 0 ? TS_ORDER_LAYER
                                               : TS_ORDER_FILE;
    ts_status status = TS_OK;
    for (uint32_t i = 0; i < count; i++)
        if (numbers[i] >= ts_catalog_count(catalog))
            status = ts_fail(&error, TS_ARGUMENT, "row %u of %u", numbers[i],
                             ts_catalog_count(catalog));
    if (status == TS_OK)
        status = ts_order_rows(catalog, how, numbers, count, &error);
    PyBuffer_Release(&rows);
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

static PyObject *Catalog_check(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_state *state = ts_state_of_self(op);
    ts_catalog *catalog = ts_py_catalog(op);
    ts_error error;
    ts_status status = TS_OK;

    Py_BEGIN_ALLOW_THREADS
    for (uint32_t i = 0;
         status == TS_OK && i < ts_catalog_file_count(catalog); i++)
        status = ts_file_check(ts_catalog_file(catalog, i), &error);
    Py_END_ALLOW_THREADS
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

static PyObject *Catalog_drop_cache(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_catalog *catalog = ts_py_catalog(op);
    for (uint32_t i = 0; i < ts_catalog_file_count(catalog); i++)
        ts_file_drop_cache(ts_catalog_file(catalog, i));
    Py_RETURN_NONE;
}

static PyObject *Catalog_cached(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_catalog *catalog = ts_py_catalog(op);
    uint64_t all = 0;
    for (uint32_t i = 0; i < ts_catalog_file_count(catalog); i++) {
        uint64_t one;
        ts_file *file = ts_catalog_file(catalog, i);
        if (!ts_file_cached(file, 0, ts_file_size(file), &one))
            Py_RETURN_NONE;
        all += one;
    }
    return PyLong_FromUnsignedLongLong(all);
}

static PyObject *Catalog_members(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    ts_state *state = ts_state_of_self(op);
    ts_catalog *members;
    ts_error error;
    if (ts_catalog_members(ts_py_catalog(op), &members, &error) != TS_OK)
        return ts_py_raise(state, &error);
    return wrap(state, members);
}

static PyObject *Catalog_crc32(PyObject *op, PyObject *number)
{
    const ts_tensor *tensor = row_of(op, number);
    if (tensor == NULL) return NULL;
    if (!tensor->has_crc32) Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(tensor->crc32);
}

/* (digest, chunk bytes, chunks, base or None, is a difference). */
static PyObject *Catalog_frame(PyObject *op, PyObject *number)
{
    const ts_tensor *tensor = row_of(op, number);
    if (tensor == NULL) return NULL;
    const ts_framing *frame = tensor->frame;
    if (frame == NULL) Py_RETURN_NONE;
    PyObject *base = frame->base_name.size > 0 ? ts_py_name(frame->base_name)
                                               : Py_NewRef(Py_None);
    if (base == NULL) return NULL;
    return Py_BuildValue("(KIKNO)", (unsigned long long)frame->digest,
                         frame->chunk_bytes,
                         (unsigned long long)frame->chunk_count, base,
                         frame->is_delta ? Py_True : Py_False);
}

static PyObject *damage_list(const ts_damages *damages)
{
    PyObject *list = PyList_New((Py_ssize_t)damages->count);
    if (list == NULL) return NULL;
    for (size_t i = 0; i < damages->count; i++) {
        const ts_damage *one = &damages->items[i];
        PyObject *item;
        if (one->chunk >= TS_DAMAGE_PADDING)
            item = Py_BuildValue("(OKKs)", Py_None,
                                 (unsigned long long)one->first,
                                 (unsigned long long)one->elements,
                                 one->error.message);
        else
            item = Py_BuildValue("(KKKs)", (unsigned long long)one->chunk,
                                 (unsigned long long)one->first,
                                 (unsigned long long)one->elements,
                                 one->error.message);
        if (item == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *Catalog_damage(PyObject *op, PyObject *number)
{
    ts_state *state = ts_state_of_self(op);
    ts_damages damages = {0};
    ts_status status;
    ts_error error;

    if (row_of(op, number) == NULL) return NULL;
    uint32_t row = (uint32_t)PyLong_AsUnsignedLong(number);
    Py_BEGIN_ALLOW_THREADS
    status = ts_damage_find(ts_py_catalog(op), row, &damages, &error);
    Py_END_ALLOW_THREADS
    PyObject *list = status == TS_OK ? damage_list(&damages)
                                     : ts_py_raise(state, &error);
    ts_damages_free(&damages);
    return list;
}

static PyObject *Catalog_format(PyObject *op, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(
        ts_format_name(ts_catalog_format(ts_py_catalog(op))));
}

static PyObject *Catalog_memory(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(ts_catalog_memory(ts_py_catalog(op)));
}

static PyGetSetDef getset[] = {
    {"format", Catalog_format, NULL, "What kind of file it is.", NULL},
    {"memory", Catalog_memory, NULL, "Bytes that the catalog occupies.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"name", Catalog_name, METH_O, "name(row, /)\n--\n\nIts name."},
    {"names", Catalog_names, METH_NOARGS, "names()\n--\n\nAll, by row."},
    {"find", Catalog_find, METH_O,
     "find(name, /)\n--\n\nThe row of that name, or None."},
    {"tensor", Catalog_tensor, METH_O,
     "tensor(row, /)\n--\n\n(name, dtype, shape, elements, nbytes, file, "
     "offset, strides, storage, alias_of, extent)."},
    {"role", Catalog_role, METH_O,
     "role(row, /)\n--\n\n(kind, marks, layer, expert, stack)."},
    {"files", Catalog_files, METH_NOARGS,
     "files()\n--\n\nPath and identity of each file."},
    {"metadata", Catalog_metadata, METH_NOARGS,
     "metadata()\n--\n\nWhat the files say besides tensors."},
    {"totals", Catalog_totals, METH_NOARGS,
     "totals()\n--\n\n(bytes, elements) of all tensors, tied ones once."},
    {"order", Catalog_order, METH_VARARGS,
     "order(rows, how, /)\n--\n\nSort uint32 row numbers in place."},
    {"check", Catalog_check, METH_NOARGS,
     "check()\n--\n\nRaise ChangedError if a file is not what it was."},
    {"drop_cache", Catalog_drop_cache, METH_NOARGS,
     "drop_cache()\n--\n\nAsk the kernel to forget the cached pages."},
    {"cached", Catalog_cached, METH_NOARGS,
     "cached()\n--\n\nBytes in the page cache, or None if unknown."},
    {"members", Catalog_members, METH_NOARGS,
     "members()\n--\n\nA catalog of the archive members with a checksum."},
    {"crc32", Catalog_crc32, METH_O,
     "crc32(row, /)\n--\n\nThe checksum that the file carries, or None."},
    {"frame", Catalog_frame, METH_O,
     "frame(row, /)\n--\n\n(digest, bytes of a chunk, chunks, name of the "
     "base or None, is a difference) of a compressed tensor, or None."},
    {"damage", Catalog_damage, METH_O,
     "damage(row, /)\n--\n\n[(chunk or None, first element, elements, "
     "sentence), ...]: what cannot be read of a compressed tensor."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "What an opened checkpoint holds, by row."},
    {Py_tp_dealloc, Catalog_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_sq_length, Catalog_length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Catalog",
    .basicsize = sizeof(Catalog),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
           | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ts_py_add_catalog(PyObject *module, ts_state *state)
{
    state->Catalog =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Catalog == NULL) return -1;
    return PyModule_AddType(module, state->Catalog);
}

/* ---- ways to a catalog ------------------------------------------------------ */

static PyObject *open_catalog(PyObject *module, PyObject *args,
                              PyObject *kwargs)
{
    static char *names[] = {"", "base", "as_stored", "lenient", NULL};
    ts_state *state = ts_state_of(module);
    PyObject *path, *base = Py_None;
    int as_stored = 0, lenient = 0;
    ts_catalog *catalog;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$Opp:open_catalog",
                                     names, PyUnicode_FSConverter, &path,
                                     &base, &as_stored, &lenient))
        return NULL;
    if (base != Py_None && !Py_IS_TYPE(base, state->Catalog)) {
        Py_DECREF(path);
        PyErr_SetString(PyExc_TypeError, "base must be a Catalog or None");
        return NULL;
    }
    ts_open_options options = {
        .base = base != Py_None ? ts_py_catalog(base) : NULL,
        .as_stored = as_stored != 0,
        .lenient = lenient != 0,
    };
    Py_BEGIN_ALLOW_THREADS
    status = ts_catalog_open_with(PyBytes_AsString(path), &options, &catalog,
                                  &error);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (status != TS_OK) return ts_py_raise(state, &error);
    return wrap(state, catalog);
}

/* A view that C threads read from; the last release needs the GIL, which
 * whoever drops a catalog or a Buffer has. */
static void end_view(void *context, uint8_t *data, size_t size)
{
    (void)data;
    (void)size;
    PyGILState_STATE gil = PyGILState_Ensure();
    PyBuffer_Release(context);
    PyMem_Free(context);
    PyGILState_Release(gil);
}

static ts_status wrap_view(PyObject *object, ts_buffer **out, ts_error *error)
{
    static uint8_t nothing;
    Py_buffer *view = PyMem_Malloc(sizeof *view);

    if (view == NULL) return ts_fail(error, TS_NOMEM, "no memory for a view");
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0) {
        PyMem_Free(view);
        return ts_fail(error, TS_ARGUMENT, "not a contiguous buffer");
    }
    ts_status status = ts_buffer_wrap(
        view->len > 0 ? view->buf : &nothing, (size_t)view->len,
        TS_ORIGIN_FOREIGN, end_view, view, out, error);
    if (status != TS_OK) {
        PyBuffer_Release(view);
        PyMem_Free(view);
    }
    return status;
}

static bool read_shape(PyObject *tuple, uint64_t *shape, uint32_t *ndim)
{
    Py_ssize_t size = PyTuple_Size(tuple);
    if (size < 0) return false;
    if (size > TS_MAX_DIMS) {
        PyErr_Format(PyExc_ValueError, "%zd dimensions, at most %d", size,
                     TS_MAX_DIMS);
        return false;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        shape[i] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(tuple, i));
        if (PyErr_Occurred()) return false;
    }
    *ndim = (uint32_t)size;
    return true;
}

/* One (name, dtype, shape, buffer). */
static bool add_array(ts_state *state, ts_catalog_builder *builder,
                      PyObject *row)
{
    PyObject *name_object, *dtype_name, *shape_object, *object;
    uint64_t shape[TS_MAX_DIMS];
    uint32_t ndim;
    ts_dtype dtype;
    ts_buffer *memory;
    ts_error error;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(row, "UUO!O:memory_catalog", &name_object,
                          &dtype_name, &PyTuple_Type, &shape_object, &object))
        return false;
    const char *name = PyUnicode_AsUTF8AndSize(name_object, &size);
    if (name == NULL || !ts_py_dtype(dtype_name, &dtype)
        || !read_shape(shape_object, shape, &ndim))
        return false;
    ts_status status = wrap_view(object, &memory, &error);
    if (status == TS_OK) {
        status = ts_catalog_builder_add(builder,
                                        (ts_name){name, (size_t)size}, dtype,
                                        ndim, shape, memory, &error);
        ts_buffer_release(memory);
    }
    if (status != TS_OK && !PyErr_Occurred()) ts_py_raise(state, &error);
    return status == TS_OK;
}

static PyObject *memory_catalog(PyObject *module, PyObject *rows)
{
    ts_state *state = ts_state_of(module);
    ts_catalog_builder *builder;
    ts_catalog *catalog;
    ts_error error;

    if (!PyList_Check(rows)) {
        PyErr_SetString(PyExc_TypeError, "a list of tuples is needed");
        return NULL;
    }
    if (ts_catalog_builder_new(TS_FORMAT_MEMORY, &builder, &error) != TS_OK)
        return ts_py_raise(state, &error);
    for (Py_ssize_t i = 0; i < PyList_Size(rows); i++)
        if (!add_array(state, builder, PyList_GetItem(rows, i))) {
            ts_catalog_builder_free(builder);
            return NULL;
        }
    if (ts_catalog_builder_finish(builder, &catalog, &error) != TS_OK)
        return ts_py_raise(state, &error);
    return wrap(state, catalog);
}

PyMethodDef ts_py_catalog_functions[] = {
    {"open_catalog", (PyCFunction)(void (*)(void))open_catalog,
     METH_VARARGS | METH_KEYWORDS,
     "open_catalog(path, /, *, base=None, as_stored=False, lenient=False)"
     "\n--\n\nOpen a checkpoint file by its content.  base: a Catalog where "
     "differences find what they differ from.  as_stored: compressed tensors "
     "stay the U8 tensors of the file; lenient: damaged ones do."},
    {"memory_catalog", memory_catalog, METH_O,
     "memory_catalog(rows, /)\n--\n\n"
     "A catalog over arrays: [(name, dtype, shape, buffer), ...]."},
    {NULL, NULL, 0, NULL},
};
