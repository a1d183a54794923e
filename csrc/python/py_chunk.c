/* py_chunk.c -- the Chunk type: one delivery of a stream.
 *
 * The array is made when it is first asked for.  It holds the memory, not the
 * chunk: either may outlive the other. */
#include "state.h"

typedef struct {
    PyObject_HEAD
    PyObject *catalog; /* owned Catalog: keeps the tensor's row alive */
    PyObject *buffer;  /* owned Buffer, or None when there are no elements */
    PyObject *array;   /* owned, NULL until asked for */
    ts_chunk chunk;
    ts_dtype to;
    bool raw, unpacks, encoded;
    ts_quantize how; /* when it is encoded */
    size_t nbytes, source_nbytes;
} Chunk;

PyObject *ts_py_chunk_new(ts_state *state, PyObject *catalog,
                          const ts_delivery *delivery)
{
    size_t nbytes =
        delivery->buffer == NULL ? 0 : ts_buffer_size(delivery->buffer);
    PyObject *buffer = delivery->buffer == NULL
                         ? Py_NewRef(Py_None)
                         : ts_py_buffer_wrap(state, delivery->buffer);
    if (buffer == NULL) return NULL;
    Chunk *self = PyObject_New(Chunk, state->Chunk);
    if (self == NULL) {
        Py_DECREF(buffer);
        return NULL;
    }
    self->catalog = Py_NewRef(catalog);
    self->buffer = buffer;
    self->array = NULL;
    self->chunk = delivery->chunk;
    self->to = delivery->recipe->to;
    self->raw = delivery->recipe->raw || delivery->recipe->encodes;
    self->unpacks = delivery->recipe->unpacks;
    self->encoded = delivery->recipe->encodes;
    self->how = delivery->recipe->how;
    self->source_nbytes = (size_t)(
        (self->chunk.stop - self->chunk.start) / delivery->recipe->widths.block
        * delivery->recipe->widths.in_size);
    self->nbytes = nbytes;
    return (PyObject *)self;
}

static void Chunk_dealloc(PyObject *op)
{
    Chunk *self = (Chunk *)op;
    PyTypeObject *type = Py_TYPE(op);
    Py_XDECREF(self->array);
    Py_DECREF(self->buffer);
    Py_DECREF(self->catalog);
    PyObject_Free(op);
    Py_DECREF(type);
}

static const ts_tensor *tensor_of(PyObject *op)
{
    Chunk *self = (Chunk *)op;
    return ts_catalog_tensor(ts_py_catalog(self->catalog), self->chunk.row);
}

static ts_role role_of(PyObject *op)
{
    ts_role role;
    ts_role_of(tensor_of(op)->name, &role);
    return role;
}

static PyObject *Chunk_name(PyObject *op, void *closure)
{
    (void)closure;
    return ts_py_name(tensor_of(op)->name);
}

static PyObject *Chunk_dtype(PyObject *op, void *closure)
{
    (void)closure;
    Chunk *self = (Chunk *)op;
    return PyUnicode_FromString(self->raw ? "U8" : ts_dtype_name(self->to));
}

static PyObject *Chunk_source_dtype(PyObject *op, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(ts_dtype_name(tensor_of(op)->dtype));
}

static PyObject *Chunk_shape(PyObject *op, void *closure)
{
    (void)closure;
    Chunk *self = (Chunk *)op;
    uint64_t shape[TS_MAX_DIMS];
    if (self->raw) return Py_BuildValue("(n)", (Py_ssize_t)self->nbytes);
    uint32_t ndim = ts_chunk_shape(tensor_of(op), self->chunk.start,
                                   self->chunk.stop, shape);
    return ts_py_shape(shape, ndim);
}

static PyObject *Chunk_tensor_shape(PyObject *op, void *closure)
{
    (void)closure;
    const ts_tensor *tensor = tensor_of(op);
    return ts_py_shape(tensor->shape, tensor->ndim);
}

static PyObject *Chunk_array(PyObject *op, void *closure)
{
    Chunk *self = (Chunk *)op;
    ts_state *state = ts_state_of_self(op);
    if (self->array != NULL) return Py_NewRef(self->array);
    if (state->make_array == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "import tensorstream first");
        return NULL;
    }
    PyObject *dtype = Chunk_dtype(op, closure);
    PyObject *shape = Chunk_shape(op, closure);
    if (dtype != NULL && shape != NULL)
        self->array = PyObject_CallFunctionObjArgs(
            state->make_array, self->buffer, dtype, shape, NULL);
    Py_XDECREF(dtype);
    Py_XDECREF(shape);
    return Py_XNewRef(self->array);
}

static PyObject *Chunk_buffer(PyObject *op, void *closure)
{
    (void)closure;
    return Py_NewRef(((Chunk *)op)->buffer);
}

static PyObject *Chunk_layer(PyObject *op, void *closure)
{
    (void)closure;
    return ts_py_number_or_none(role_of(op).layer);
}

static PyObject *Chunk_expert(PyObject *op, void *closure)
{
    (void)closure;
    return ts_py_number_or_none(role_of(op).expert);
}

static PyObject *Chunk_kind(PyObject *op, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(ts_kind_name((ts_kind)role_of(op).kind));
}

static PyObject *Chunk_marks(PyObject *op, void *closure)
{
    (void)closure;
    return ts_py_marks(role_of(op).marks);
}

static PyObject *Chunk_start(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((Chunk *)op)->chunk.start);
}

static PyObject *Chunk_stop(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((Chunk *)op)->chunk.stop);
}

static PyObject *Chunk_is_first(PyObject *op, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((Chunk *)op)->chunk.start == 0);
}

static PyObject *Chunk_is_last(PyObject *op, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((Chunk *)op)->chunk.is_last);
}

static PyObject *Chunk_row(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLong(((Chunk *)op)->chunk.row);
}

static PyObject *Chunk_nbytes(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(((Chunk *)op)->nbytes);
}

static PyObject *Chunk_source_nbytes(PyObject *op, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(((Chunk *)op)->source_nbytes);
}

static PyObject *Chunk_parts(PyObject *op, void *closure)
{
    (void)closure;
    Chunk *self = (Chunk *)op;
    uint64_t codes, scales;
    if (!self->encoded) Py_RETURN_NONE;
    uint64_t count = self->chunk.stop - self->chunk.start;
    /* They were laid out with the same sizes: they fit. */
    (void)ts_quantize_sizes(&self->how, count / self->how.columns, &codes,
                            &scales);
    uint64_t zeros = self->how.has_zero ? scales : 0;
    return Py_BuildValue("(KKK)", (unsigned long long)scales,
                         (unsigned long long)codes,
                         (unsigned long long)zeros);
}

static PyObject *Chunk_repr(PyObject *op)
{
    Chunk *self = (Chunk *)op;
    PyObject *name = Chunk_name(op, NULL), *shape = Chunk_shape(op, NULL);
    PyObject *text = NULL;
    if (name != NULL && shape != NULL)
        text = PyUnicode_FromFormat(
            "<Chunk %R %s %R elements %llu:%llu of %llu>", name,
            self->raw ? "U8" : ts_dtype_name(self->to), shape,
            (unsigned long long)self->chunk.start,
            (unsigned long long)self->chunk.stop,
            (unsigned long long)tensor_of(op)->elements);
    Py_XDECREF(name);
    Py_XDECREF(shape);
    return text;
}

static PyGetSetDef getset[] = {
    {"name", Chunk_name, NULL, "The tensor's name.", NULL},
    {"array", Chunk_array, NULL,
     "The elements as a read-only NumPy array: the whole tensor, whole rows "
     "of it, or flat. Valid for as long as you keep it.",
     NULL},
    {"buffer", Chunk_buffer, NULL,
     "The same bytes through the buffer protocol; None when empty.", NULL},
    {"dtype", Chunk_dtype, NULL, "Of the array, as in TensorInfo.", NULL},
    {"source_dtype", Chunk_source_dtype, NULL, "Of the file.", NULL},
    {"shape", Chunk_shape, NULL, "Of the array.", NULL},
    {"tensor_shape", Chunk_tensor_shape, NULL, "Of the whole tensor.", NULL},
    {"layer", Chunk_layer, NULL, "Layer number, or None.", NULL},
    {"expert", Chunk_expert, NULL, "Expert number, or None.", NULL},
    {"kind", Chunk_kind, NULL,
     "embedding, attention, mlp, normalization, output or other.", NULL},
    {"marks", Chunk_marks, NULL, "expert, lora, router, bias ...", NULL},
    {"start", Chunk_start, NULL, "First element, in the flat tensor.", NULL},
    {"stop", Chunk_stop, NULL, "One past the last element.", NULL},
    {"is_first", Chunk_is_first, NULL, "Does the tensor begin here?", NULL},
    {"is_last", Chunk_is_last, NULL,
     "Is it the last chunk of what was asked of this tensor?", NULL},
    {"row", Chunk_row, NULL, "The tensor's number in the checkpoint.", NULL},
    {"nbytes", Chunk_nbytes, NULL, "Bytes of the array.", NULL},
    {"source_nbytes", Chunk_source_nbytes, NULL,
     "Bytes of its elements in the checkpoint's own dtype.", NULL},
    {"parts", Chunk_parts, NULL,
     "(float32 scales, bytes of codes, int8 zeros), which lie one behind the "
     "other in the array that a quantisation scheme made; None of others.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A part of a tensor, delivered by a stream."},
    {Py_tp_dealloc, Chunk_dealloc},
    {Py_tp_repr, Chunk_repr},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Chunk",
    .basicsize = sizeof(Chunk),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
           | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ts_py_add_chunk(PyObject *module, ts_state *state)
{
    state->Chunk =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Chunk == NULL) return -1;
    return PyModule_AddType(module, state->Chunk);
}

static PyObject *set_array_maker(PyObject *module, PyObject *function)
{
    ts_state *state = ts_state_of(module);
    PyObject *before = state->make_array;
    state->make_array = Py_NewRef(function);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

PyMethodDef ts_py_chunk_functions[] = {
    {"set_array_maker", set_array_maker, METH_O,
     "set_array_maker(function, /)\n--\n\n"
     "function(buffer, dtype, shape) makes the arrays of chunks."},
    {NULL, NULL, 0, NULL},
};
