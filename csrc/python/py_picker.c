/* py_picker.c -- the Picker type: a few elements of one tensor, at once.
 *
 * Belongs to one call at a time: Python keeps as many as it has threads that
 * read (checkpoint.py), and one that is busy refuses. */
#include "state.h"

#include <string.h>

#include "stream/stream.h"

typedef struct {
    PyObject_HEAD
    ts_picker *picker; /* owned */
    PyObject *catalog; /* owned Catalog, which checks row numbers */
    bool busy;         /* guarded by the GIL */
} Picker;

static PyObject *picker_new(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *catalog;
    ts_picker *picker;
    ts_error error;
    int trust;

    if (!PyArg_ParseTuple(args, "O!p:picker", state->Catalog, &catalog,
                          &trust))
        return NULL;
    if (ts_picker_new(ts_py_catalog(catalog), trust != 0, &picker, &error)
        != TS_OK)
        return ts_py_raise(state, &error);
    Picker *self = PyObject_New(Picker, state->Picker);
    if (self == NULL) {
        ts_picker_free(picker);
        return NULL;
    }
    self->picker = picker;
    self->catalog = Py_NewRef(catalog);
    self->busy = false;
    return (PyObject *)self;
}

static void Picker_dealloc(PyObject *op)
{
    Picker *self = (Picker *)op;
    PyTypeObject *type = Py_TYPE(op);
    ts_picker_free(self->picker);
    Py_DECREF(self->catalog);
    PyObject_Free(op);
    Py_DECREF(type);
}

static bool read_form(const char *name, ts_form *out)
{
    static const char *const forms[] = {"own", "raw", "floats"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, forms[i]) == 0) {
            *out = (ts_form)i;
            return true;
        }
    PyErr_Format(PyExc_ValueError, "unknown form '%s'", name);
    return false;
}

static PyObject *run(Picker *self, uint32_t row, uint64_t start, uint64_t stop,
                     ts_form form, ts_dtype dtype, Py_buffer *into)
{
    ts_state *state = ts_state_of_self((PyObject *)self);
    ts_status status;
    ts_error error;

    self->busy = true;
    Py_BEGIN_ALLOW_THREADS
    status = ts_picker_read(self->picker, row, start, stop, form, dtype,
                            into->buf, (uint64_t)into->len, &error);
    Py_END_ALLOW_THREADS
    self->busy = false;
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

static PyObject *Picker_read(PyObject *op, PyObject *args)
{
    Picker *self = (Picker *)op;
    unsigned int row;
    unsigned long long start, stop;
    const char *name;
    PyObject *target, *result = NULL;
    ts_dtype dtype = TS_F32;
    Py_buffer into;
    ts_form form;

    if (!PyArg_ParseTuple(args, "IKKsOw*:read", &row, &start, &stop, &name,
                          &target, &into))
        return NULL;
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "the picker is reading already");
    else if (row >= ts_catalog_count(ts_py_catalog(self->catalog)))
        PyErr_Format(PyExc_IndexError, "row %u of %u", row,
                     ts_catalog_count(ts_py_catalog(self->catalog)));
    else if (read_form(name, &form)
             && (target == Py_None || ts_py_dtype(target, &dtype)))
        result = run(self, row, start, stop, form, dtype, &into);
    PyBuffer_Release(&into);
    return result;
}

static PyMethodDef methods[] = {
    {"read", Picker_read, METH_VARARGS,
     "read(row, start, stop, form, dtype, into, /)\n--\n\n"
     "Elements of a row into a writable buffer of exactly their size."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Reads a few elements of one tensor, without a stream."},
    {Py_tp_dealloc, Picker_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Picker",
    .basicsize = sizeof(Picker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
           | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"picker", picker_new, METH_VARARGS,
     "picker(catalog, trust, /)\n--\n\nA Picker over a catalog."},
    {NULL, NULL, 0, NULL},
};

int ts_py_add_picker(PyObject *module, ts_state *state)
{
    state->Picker =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Picker == NULL || PyModule_AddType(module, state->Picker) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
