/* py_buffer.c -- the Buffer type: bytes from the core, lent to Python.
 *
 * A Buffer holds one ts_buffer reference for as long as it lives.  Every view
 * taken through the buffer protocol keeps the Buffer alive, so an array made
 * from it can never outlive the memory. */
#include "state.h"

typedef struct {
    PyObject_HEAD
    ts_buffer *buffer; /* owned, never NULL once the object is visible */
} Buffer;

PyObject *ts_py_buffer_wrap(ts_state *state, ts_buffer *buffer)
{
    Buffer *self = PyObject_New(Buffer, state->Buffer);
    if (self == NULL) {
        ts_buffer_release(buffer);
        return NULL;
    }
    self->buffer = buffer;
    return (PyObject *)self;
}

static void Buffer_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    ts_buffer_release(((Buffer *)op)->buffer);
    PyObject_Free(op);
    Py_DECREF(type);
}

static int Buffer_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    Buffer *self = (Buffer *)op;
    return PyBuffer_FillInfo(view, op, ts_buffer_data(self->buffer),
                             (Py_ssize_t)ts_buffer_size(self->buffer),
                             /* readonly */ 1, flags);
}

static Py_ssize_t Buffer_length(PyObject *op)
{
    return (Py_ssize_t)ts_buffer_size(((Buffer *)op)->buffer);
}

static PyObject *Buffer_origin(PyObject *op, void *closure)
{
    (void)closure;
    ts_origin origin = ts_buffer_origin(((Buffer *)op)->buffer);
    return PyUnicode_FromString(ts_origin_name(origin));
}

static PyObject *Buffer_repr(PyObject *op)
{
    Buffer *self = (Buffer *)op;
    return PyUnicode_FromFormat(
        "<tensorstream.Buffer of %zu bytes, %s>", ts_buffer_size(self->buffer),
        ts_origin_name(ts_buffer_origin(self->buffer)));
}

static PyGetSetDef getset[] = {
    {"origin", Buffer_origin, NULL,
     "Where the memory came from: 'heap', 'slab', 'map' or 'foreign'.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A read-only block of memory, lent through the buffer "
                "protocol."},
    {Py_tp_dealloc, Buffer_dealloc},
    {Py_tp_repr, Buffer_repr},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, Buffer_getbuffer},
    {Py_sq_length, Buffer_length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Buffer",
    .basicsize = sizeof(Buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
           | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ts_py_add_buffer(PyObject *module, ts_state *state)
{
    state->Buffer =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Buffer == NULL) return -1;
    return PyModule_AddType(module, state->Buffer);
}
