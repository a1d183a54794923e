/* py_writer.c -- the Writer type: a checkpoint on its way to the disk.
 *
 * One thread writes at a time.  The GIL is let go while bytes are written, so
 * a second thread may come meanwhile: it is told so. */
#include "state.h"

#include <string.h>

/* Between two of these a Ctrl-C is noticed. */
#define SLICE ((Py_ssize_t)16 << 20)

typedef struct {
    PyObject_HEAD
    ts_writer *writer; /* owned; NULL once closed */
    bool busy;         /* a thread is in it without the GIL */
} Writer;

static bool enter(Writer *self)
{
    ts_state *state = ts_state_of_self((PyObject *)self);
    if (self->busy) {
        PyErr_SetString(state->Error, "another thread is writing this file");
        return false;
    }
    if (self->writer == NULL) {
        PyErr_SetString(state->Error, "the writer is closed");
        return false;
    }
    self->busy = true;
    return true;
}

static PyObject *leave(Writer *self, ts_status status, const ts_error *error)
{
    self->busy = false;
    if (status == TS_OK) Py_RETURN_NONE;
    return ts_py_raise(ts_state_of_self((PyObject *)self), error);
}

static void free_writer(Writer *self)
{
    ts_writer *writer = self->writer;
    self->writer = NULL;
    Py_BEGIN_ALLOW_THREADS
    ts_writer_free(writer);
    Py_END_ALLOW_THREADS
}

static void Writer_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    free_writer((Writer *)op);
    PyObject_Free(op);
    Py_DECREF(type);
}

/* ---- metadata ----------------------------------------------------------- */

static bool number_of(PyObject *number, char kind, ts_value *out)
{
    switch (kind) {
    case 'b':
        out->kind = TS_VALUE_BOOL;
        out->b = PyObject_IsTrue(number) == 1;
        break;
    case 'i':
        out->kind = TS_VALUE_INT;
        out->i = PyLong_AsLongLong(number);
        break;
    case 'u':
        out->kind = TS_VALUE_UINT;
        out->u = PyLong_AsUnsignedLongLong(number);
        break;
    default:
        out->kind = TS_VALUE_FLOAT;
        out->f = PyFloat_AsDouble(number);
        break;
    }
    return !PyErr_Occurred();
}

static bool array_kind(char kind, uint8_t *out)
{
    switch (kind) {
    case 'B': *out = TS_VALUE_BOOL; return true;
    case 'I': *out = TS_VALUE_INT; return true;
    case 'U': *out = TS_VALUE_UINT; return true;
    case 'F': *out = TS_VALUE_FLOAT; return true;
    case 'S': *out = TS_VALUE_STRING; return true;
    default: return false;
    }
}

static PyObject *give_value(Writer *self, const ts_value *value)
{
    ts_error error;
    if (!enter(self)) return NULL;
    ts_status status = ts_writer_value(self->writer, value, &error);
    return leave(self, status, &error);
}

static PyObject *Writer_value(PyObject *op, PyObject *args)
{
    ts_value value = {0};
    const char *key;
    Py_ssize_t key_size;
    unsigned long long count;
    Py_buffer bytes;
    PyObject *content;
    int kind, width;

    if (!PyArg_ParseTuple(args, "s#CiOK:value", &key, &key_size, &kind, &width,
                          &content, &count))
        return NULL;
    value.key = (ts_name){key, (size_t)key_size};
    value.item_size = (uint8_t)width;
    if (kind != 's' && !array_kind((char)kind, &value.item))
        return number_of(content, (char)kind, &value)
                 ? give_value((Writer *)op, &value)
                 : NULL;
    if (PyObject_GetBuffer(content, &bytes, PyBUF_SIMPLE) < 0) return NULL;
    value.kind = kind == 's' ? TS_VALUE_STRING : TS_VALUE_ARRAY;
    if (kind != 's') value.count = count;
    value.bytes = bytes.buf;
    value.size = (uint64_t)bytes.len;
    PyObject *result = give_value((Writer *)op, &value);
    PyBuffer_Release(&bytes);
    return result;
}

/* Is it one of the str in a tuple?  -1 with an exception. */
static int is_among(ts_name name, PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(names); i++) {
        Py_ssize_t size;
        const char *text =
            PyUnicode_AsUTF8AndSize(PyTuple_GetItem(names, i), &size);
        if (text == NULL) return -1;
        if ((size_t)size == name.size
            && memcmp(text, name.bytes, name.size) == 0)
            return 1;
    }
    return 0;
}

static PyObject *Writer_copy_values(PyObject *op, PyObject *args)
{
    ts_state *state = ts_state_of_self(op);
    PyObject *catalog, *except;

    if (!PyArg_ParseTuple(args, "O!O!:copy_values", state->Catalog, &catalog,
                          &PyTuple_Type, &except))
        return NULL;
    ts_catalog *from = ts_py_catalog(catalog);
    for (uint32_t i = 0; i < ts_catalog_value_count(from); i++) {
        const ts_value *value = ts_catalog_value(from, i);
        int skip = is_among(value->key, except);
        if (skip < 0) return NULL;
        if (skip || value->kind == TS_VALUE_NONE) continue;
        PyObject *done = give_value((Writer *)op, value);
        if (done == NULL) return NULL;
        Py_DECREF(done);
    }
    Py_RETURN_NONE;
}

/* ---- tensors ------------------------------------------------------------ */

typedef struct {
    ts_name name;
    ts_dtype dtype;
    uint32_t ndim;
    uint64_t shape[TS_MAX_DIMS];
} description;

/* (name, dtype, shape); None as the first dimension: as many as will come. */
static bool parse_description(PyObject *args, const char *format,
                              description *out)
{
    PyObject *dtype, *shape;
    const char *name;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(args, format, &name, &size, &dtype, &PyTuple_Type,
                          &shape)
        || !ts_py_dtype(dtype, &out->dtype))
        return false;
    out->name = (ts_name){name, (size_t)size};
    Py_ssize_t ndim = PyTuple_Size(shape);
    if (ndim > TS_MAX_DIMS) {
        PyErr_Format(PyExc_ValueError, "%zd dimensions, at most %d", ndim,
                     TS_MAX_DIMS);
        return false;
    }
    out->ndim = (uint32_t)ndim;
    for (Py_ssize_t i = 0; i < ndim; i++) {
        PyObject *number = PyTuple_GetItem(shape, i);
        out->shape[i] = i == 0 && number == Py_None
                          ? TS_ROWS_UNKNOWN
                          : PyLong_AsUnsignedLongLong(number);
        if (PyErr_Occurred()) return false;
    }
    return true;
}

static PyObject *Writer_expect(PyObject *op, PyObject *args)
{
    Writer *self = (Writer *)op;
    description d;
    ts_error error;

    if (!parse_description(args, "s#UO!:expect", &d) || !enter(self))
        return NULL;
    ts_status status = ts_writer_expect(self->writer, d.name, d.dtype, d.ndim,
                                        d.shape, &error);
    return leave(self, status, &error);
}

static PyObject *Writer_begin(PyObject *op, PyObject *args)
{
    Writer *self = (Writer *)op;
    description d;
    ts_status status;
    ts_error error;

    if (!parse_description(args, "s#UO!:begin", &d) || !enter(self))
        return NULL;
    Py_BEGIN_ALLOW_THREADS /* the first may reserve gigabytes of disk */
    status = ts_writer_begin(self->writer, d.name, d.dtype, d.ndim, d.shape,
                             &error);
    Py_END_ALLOW_THREADS
    return leave(self, status, &error);
}

static PyObject *Writer_repeat(PyObject *op, PyObject *args)
{
    Writer *self = (Writer *)op;
    const char *name, *of;
    Py_ssize_t name_size, of_size;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, "s#s#:repeat", &name, &name_size, &of,
                          &of_size)
        || !enter(self))
        return NULL;
    status = ts_writer_repeat(self->writer, (ts_name){name, (size_t)name_size},
                              (ts_name){of, (size_t)of_size}, &error);
    return leave(self, status, &error);
}

static PyObject *write_slices(Writer *self, const char *bytes, Py_ssize_t size)
{
    ts_status status = TS_OK;
    ts_error error;

    for (Py_ssize_t at = 0; at < size && status == TS_OK; at += SLICE) {
        Py_ssize_t part = size - at < SLICE ? size - at : SLICE;
        Py_BEGIN_ALLOW_THREADS
        status = ts_writer_write(self->writer, bytes + at, (uint64_t)part,
                                 &error);
        Py_END_ALLOW_THREADS
        if (status == TS_OK && PyErr_CheckSignals() < 0) {
            self->busy = false;
            return NULL;
        }
    }
    return leave(self, status, &error);
}

static PyObject *Writer_write(PyObject *op, PyObject *bytes)
{
    Writer *self = (Writer *)op;
    Py_buffer view;

    if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *result =
        enter(self) ? write_slices(self, view.buf, view.len) : NULL;
    PyBuffer_Release(&view);
    return result;
}

/* ---- the end ------------------------------------------------------------ */

static PyObject *run(Writer *self, ts_status (*what)(ts_writer *, ts_error *))
{
    ts_status status;
    ts_error error;

    if (!enter(self)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = what(self->writer, &error);
    Py_END_ALLOW_THREADS
    return leave(self, status, &error);
}

static PyObject *Writer_end(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    return run((Writer *)op, ts_writer_end);
}

static PyObject *Writer_rest(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    return run((Writer *)op, ts_writer_rest);
}

static PyObject *Writer_finish(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    return run((Writer *)op, ts_writer_finish);
}

static PyObject *Writer_publish(PyObject *op, PyObject *args)
{
    Writer *self = (Writer *)op;
    PyObject *name = NULL;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, "|O&:publish", PyUnicode_FSConverter, &name))
        return NULL;
    if (!enter(self)) {
        Py_XDECREF(name);
        return NULL;
    }
    const char *text = name == NULL ? NULL : PyBytes_AsString(name);
    Py_BEGIN_ALLOW_THREADS
    status = ts_writer_publish(self->writer, text, &error);
    Py_END_ALLOW_THREADS
    Py_XDECREF(name);
    return leave(self, status, &error);
}

static PyObject *Writer_close(PyObject *op, PyObject *ignored)
{
    Writer *self = (Writer *)op;
    (void)ignored;
    if (self->writer == NULL) Py_RETURN_NONE;
    if (!enter(self)) return NULL;
    free_writer(self);
    self->busy = false;
    Py_RETURN_NONE;
}

/* ---- looking ------------------------------------------------------------ */

static PyObject *row_tuple(const ts_writer *writer, uint32_t number)
{
    ts_writer_row row = ts_writer_row_of(writer, number);
    PyObject *name = ts_py_name(row.name);
    if (name == NULL) return NULL;
    return Py_BuildValue("(NsKKKOO)", name, ts_dtype_name(row.dtype),
                         (unsigned long long)row.size,
                         (unsigned long long)row.stored,
                         (unsigned long long)row.digest,
                         row.repeats ? Py_True : Py_False,
                         row.differs ? Py_True : Py_False);
}

static PyObject *Writer_rows(PyObject *op, PyObject *ignored)
{
    Writer *self = (Writer *)op;
    (void)ignored;
    if (!enter(self)) return NULL;
    self->busy = false; /* the GIL is kept */
    uint32_t count = ts_writer_count(self->writer);
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (list == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *row = row_tuple(self->writer, i);
        if (row == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, row);
    }
    return list;
}

static PyObject *Writer_size(PyObject *op, void *closure)
{
    Writer *self = (Writer *)op;
    (void)closure;
    if (!enter(self)) return NULL;
    self->busy = false;
    return PyLong_FromUnsignedLongLong(ts_writer_size(self->writer));
}

/* ---- the type ----------------------------------------------------------- */

static bool find_format(const char *name, ts_format *out)
{
    for (int i = 0; i <= TS_FORMAT_MEMORY; i++)
        if (strcmp(name, ts_format_name((ts_format)i)) == 0) {
            *out = (ts_format)i;
            return true;
        }
    PyErr_Format(PyExc_ValueError, "unknown format '%s'", name);
    return false;
}

static bool find_mode(const char *name, ts_writer_options *options)
{
    options->packed = name != NULL;
    if (name == NULL || ts_pack_find(name, &options->mode)) return true;
    PyErr_Format(PyExc_ValueError,
                 "compression is 'fast', 'portable', 'small' or 'raw', not "
                 "'%s'", name);
    return false;
}

/* Borrowed from the caller, who holds it for the call. */
static bool find_base(ts_state *state, PyObject *base,
                      ts_writer_options *options)
{
    if (options->base_name == NULL) options->base_name = "another checkpoint";
    if (base == Py_None) return true;
    if (!PyObject_TypeCheck(base, (PyTypeObject *)state->Catalog)) {
        PyErr_SetString(PyExc_TypeError, "the base is a Catalog or None");
        return false;
    }
    options->base = ts_py_catalog(base);
    return true;
}

static PyObject *Writer_new(PyTypeObject *type, PyObject *args,
                            PyObject *kwargs)
{
    static char *names[] = {"path",    "format", "digests", "compression",
                            "threads", "budget", "base",    "base_name",
                            NULL};
    ts_state *state = PyType_GetModuleState(type);
    ts_writer_options options = {0};
    PyObject *path, *base = Py_None;
    const char *format, *mode = NULL;
    unsigned long long budget = 0;
    int digests = 0;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O&s|$pziKOs:Writer", names, PyUnicode_FSConverter,
            &path, &format, &digests, &mode, &options.threads, &budget, &base,
            &options.base_name))
        return NULL;
    Writer *self = NULL;
    options.budget = budget;
    if (find_format(format, &options.format) && find_mode(mode, &options)
        && find_base(state, base, &options))
        self = PyObject_New(Writer, type);
    if (self == NULL) {
        Py_DECREF(path);
        return NULL;
    }
    options.digests = digests != 0;
    self->writer = NULL;
    self->busy = false;
    const char *text = PyBytes_AsString(path);
    Py_BEGIN_ALLOW_THREADS
    status = ts_writer_new(text, &options, &self->writer, &error);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (status == TS_OK) return (PyObject *)self;
    Py_DECREF(self);
    return ts_py_raise(state, &error);
}

static PyMethodDef methods[] = {
    {"value", Writer_value, METH_VARARGS,
     "value(key, kind, width, content, count, /)\n--\n\n"
     "Metadata: kind 's' a string; 'b' 'i' 'u' 'f' a number of that width; in "
     "upper case an array of count such, packed; 'S' one of strings."},
    {"copy_values", Writer_copy_values, METH_VARARGS,
     "copy_values(catalog, besides, /)\n--\n\n"
     "All metadata of a catalog, in its own types, besides some keys."},
    {"expect", Writer_expect, METH_VARARGS,
     "expect(name, dtype, shape, /)\n--\n\nA tensor that will be written."},
    {"begin", Writer_begin, METH_VARARGS,
     "begin(name, dtype, shape, /)\n--\n\n"
     "The next tensor; None for shape[0]: as many rows as will come."},
    {"write", Writer_write, METH_O,
     "write(data, /)\n--\n\nThe next bytes of the tensor."},
    {"repeat", Writer_repeat, METH_VARARGS,
     "repeat(name, of, /)\n--\n\n"
     "One more tensor, with the bytes of a compressed one in this file."},
    {"end", Writer_end, METH_NOARGS, "end()\n--\n\nThe tensor is complete."},
    {"rest", Writer_rest, METH_NOARGS,
     "rest()\n--\n\nNothing more comes for a while: the buffer is given back."},
    {"finish", Writer_finish, METH_NOARGS,
     "finish()\n--\n\nAll of it on the disk, under its temporary name."},
    {"publish", Writer_publish, METH_VARARGS,
     "publish(name=None, /)\n--\n\n"
     "Finish, and put it at its path, or beside it under another name."},
    {"close", Writer_close, METH_NOARGS,
     "close()\n--\n\nTake away what was not published."},
    {"rows", Writer_rows, METH_NOARGS,
     "rows()\n--\n\n"
     "[(name, dtype, bytes, stored bytes, digest, repeats another, differs "
     "from the base), ...]."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"size", Writer_size, NULL, "Bytes of the file so far.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Writer(path, format, *, digests=False, compression=None, "
                "threads=0, budget=0)\n--\n\n"
                "A checkpoint that appears whole or not at all."},
    {Py_tp_new, Writer_new},
    {Py_tp_dealloc, Writer_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Writer",
    .basicsize = sizeof(Writer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- other small files -------------------------------------------------- */

static ts_status write_whole(const char *path, const Py_buffer *bytes,
                             ts_error *error)
{
    ts_output *output;

    TS_TRY(ts_output_new(path, &output, error));
    ts_status status =
        ts_output_append(output, bytes->buf, (uint64_t)bytes->len, error);
    if (status == TS_OK) status = ts_output_publish(output, NULL, error);
    ts_output_free(output);
    return status;
}

static PyObject *write_file(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *path;
    Py_buffer bytes;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, "O&y*:write_file", PyUnicode_FSConverter,
                          &path, &bytes))
        return NULL;
    const char *text = PyBytes_AsString(path);
    Py_BEGIN_ALLOW_THREADS
    status = write_whole(text, &bytes, &error);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&bytes);
    Py_DECREF(path);
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

PyMethodDef ts_py_writer_functions[] = {
    {"write_file", write_file, METH_VARARGS,
     "write_file(path, data, /)\n--\n\n"
     "A file of these bytes, which appears whole or not at all."},
    {NULL, NULL, 0, NULL},
};

int ts_py_add_writer(PyObject *module, ts_state *state)
{
    state->Writer =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Writer == NULL) return -1;
    return PyModule_AddType(module, state->Writer);
}
