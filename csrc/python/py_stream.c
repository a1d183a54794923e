/* py_stream.c -- the Stream type: a ts_stream, driven from Python.
 *
 * Waiting happens without the GIL in slices of 50 ms, between which Python
 * may handle signals; that is what makes Ctrl-C work at once. */
#include "state.h"

#include <string.h>

enum { SLICE_MS = 50 };

typedef struct {
    PyObject_HEAD
    ts_stream *stream; /* owned; NULL once closed */
    PyObject *catalog; /* owned Catalog */
    Py_buffer *views;  /* owned: the destinations of INTO */
    Py_ssize_t view_count;
    uint32_t count; /* items */
    int waiting;    /* calls inside the core right now; guarded by the GIL */
} Stream;

static void release_views(Stream *self)
{
    for (Py_ssize_t i = 0; i < self->view_count; i++)
        PyBuffer_Release(&self->views[i]);
    PyMem_Free(self->views);
    self->views = NULL;
    self->view_count = 0;
}

static void end(Stream *self)
{
    ts_stream *stream = self->stream;
    self->stream = NULL;
    Py_BEGIN_ALLOW_THREADS
    ts_stream_free(stream);
    Py_END_ALLOW_THREADS
    release_views(self);
}

static void Stream_dealloc(PyObject *op)
{
    Stream *self = (Stream *)op;
    PyTypeObject *type = Py_TYPE(op);
    end(self);
    Py_XDECREF(self->catalog);
    PyObject_Free(op);
    Py_DECREF(type);
}

static ts_stream *open_stream(Stream *self)
{
    if (self->stream == NULL)
        PyErr_SetString(PyExc_ValueError, "the stream is closed");
    return self->stream;
}

/* One slice of ts_stream_next.  The caller's reference keeps self alive, and
 * close() only cancels while `waiting`. */
static ts_status next_slice(Stream *self, ts_next *next, ts_error *error)
{
    ts_status status;
    self->waiting++;
    Py_BEGIN_ALLOW_THREADS
    status = ts_stream_next(self->stream, SLICE_MS, next, error);
    Py_END_ALLOW_THREADS
    self->waiting--;
    return status;
}

/* gc.collect(): unlike PyGC_Collect, also where collection is disabled. */
static bool collect_garbage(void)
{
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *found =
        gc == NULL ? NULL : PyObject_CallMethod(gc, "collect", NULL);
    bool done = found != NULL;
    Py_XDECREF(gc);
    Py_XDECREF(found);
    return done;
}

static PyObject *Stream_next(PyObject *op)
{
    Stream *self = (Stream *)op;
    ts_state *state = ts_state_of_self(op);
    bool collected = false;
    ts_next next;
    ts_error error;

    if (open_stream(self) == NULL) return NULL;
    for (;;) {
        ts_status status = next_slice(self, &next, &error);
        if (status == TS_BUDGET && !collected) {
            /* Arrays that wait in reference cycles are not in use. */
            collected = true;
            if (!collect_garbage()) return NULL;
            continue;
        }
        if (status != TS_OK) return ts_py_raise(state, &error);
        if (!next.pending) break;
        if (PyErr_CheckSignals() < 0) return NULL;
        if (open_stream(self) == NULL) return NULL;
    }
    if (next.done) return NULL; /* StopIteration */
    return ts_py_chunk_new(state, self->catalog, &next.delivery);
}

static PyObject *Stream_wait(PyObject *op, PyObject *args)
{
    Stream *self = (Stream *)op;
    ts_state *state = ts_state_of_self(op);
    PyObject *tick = Py_None;
    bool done = false;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, "|O:wait", &tick)) return NULL;
    while (!done) {
        if (open_stream(self) == NULL) return NULL;
        self->waiting++;
        Py_BEGIN_ALLOW_THREADS
        status = ts_stream_wait(self->stream, SLICE_MS, &done, &error);
        Py_END_ALLOW_THREADS
        self->waiting--;
        if (status != TS_OK) return ts_py_raise(state, &error);
        if (PyErr_CheckSignals() < 0) return NULL;
        if (tick == Py_None) continue;
        PyObject *result = PyObject_CallNoArgs(tick);
        if (result == NULL) return NULL;
        Py_DECREF(result);
    }
    Py_RETURN_NONE;
}

static PyObject *Stream_cancel(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    Stream *self = (Stream *)op;
    if (self->stream != NULL) ts_stream_cancel(self->stream);
    Py_RETURN_NONE;
}

static PyObject *Stream_close(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    Stream *self = (Stream *)op;
    if (self->stream == NULL) Py_RETURN_NONE;
    if (self->waiting > 0) { /* another thread is inside: it will end */
        ts_stream_cancel(self->stream);
        Py_RETURN_NONE;
    }
    end(self);
    Py_RETURN_NONE;
}

static PyObject *engines_of(const ts_reader_stats *stats)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
    for (int i = 0; i < TS_ENGINE_COUNT; i++) {
        if (stats->bytes[i] == 0) continue;
        PyObject *pair =
            Py_BuildValue("(KK)", (unsigned long long)stats->bytes[i],
                          (unsigned long long)stats->ns[i]);
        if (ts_py_set(dict, ts_engine_name((ts_engine)i), pair) < 0) {
            Py_DECREF(dict);
            return NULL;
        }
    }
    return dict;
}

static PyObject *Stream_progress(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    Stream *self = (Stream *)op;
    ts_progress now;
    if (open_stream(self) == NULL) return NULL;
    ts_stream_progress(self->stream, &now);
    PyObject *engines = engines_of(&now.reading);
    if (engines == NULL) return NULL;
    typedef unsigned long long u64;
    return Py_BuildValue(
        "{sKsKsKsKsIsIsKsKsIsKsKsKsKsKsdsKsN}", "bytes", (u64)now.file_bytes,
        "bytes_total", (u64)now.file_bytes_total, "elements",
        (u64)now.elements, "elements_total", (u64)now.elements_total,
        "tensors", now.items, "tensors_total", now.items_total, "chunks",
        (u64)now.chunks, "chunk_size", (u64)now.chunk_size, "depth", now.depth,
        "chunk_changes", (u64)now.chunk_changes, "memory_used",
        (u64)now.memory_used, "memory_peak", (u64)now.memory_peak, "budget",
        (u64)now.budget, "starved", (u64)now.starved, "seconds",
        (double)now.ns / 1e9, "read_calls", (u64)now.reading.calls, "engines",
        engines);
}

static PyObject *Stream_position(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    Stream *self = (Stream *)op;
    uint32_t item;
    uint64_t element;
    if (open_stream(self) == NULL) return NULL;
    ts_stream_position(self->stream, &item, &element);
    return Py_BuildValue("(IK)", item, (unsigned long long)element);
}

static PyObject *Stream_outcome(PyObject *op, PyObject *number)
{
    Stream *self = (Stream *)op;
    ts_outcome outcome;
    Py_ssize_t item = PyLong_AsSsize_t(number);

    if (item == -1 && PyErr_Occurred()) return NULL;
    if (open_stream(self) == NULL) return NULL;
    if (item < 0 || item >= (Py_ssize_t)self->count) {
        PyErr_Format(PyExc_IndexError, "item %zd of %u", item, self->count);
        return NULL;
    }
    ts_stream_outcome(self->stream, (uint32_t)item, &outcome);
    PyObject *stats = ts_py_stats(&outcome.stats);
    if (stats == NULL) return NULL;
    return Py_BuildValue("(NKK)", stats, (unsigned long long)outcome.checksum,
                         (unsigned long long)outcome.file_bytes);
}

static PyMethodDef methods[] = {
    {"wait", Stream_wait, METH_VARARGS,
     "wait(tick=None, /)\n--\n\n"
     "Until all is done; calls tick() about 20 times a second."},
    {"cancel", Stream_cancel, METH_NOARGS,
     "cancel()\n--\n\nStop; whoever waits gets CancelledError."},
    {"close", Stream_close, METH_NOARGS,
     "close()\n--\n\nStop the threads and give the memory back."},
    {"progress", Stream_progress, METH_NOARGS,
     "progress()\n--\n\nHow far it is, as a dict."},
    {"position", Stream_position, METH_NOARGS,
     "position()\n--\n\n(item, element) of what comes next."},
    {"outcome", Stream_outcome, METH_O,
     "outcome(item, /)\n--\n\n(statistics, checksum, file bytes)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Chosen tensors, coming past in order inside a budget."},
    {Py_tp_dealloc, Stream_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, Stream_next},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Stream",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
           | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ts_py_add_stream(PyObject *module, ts_state *state)
{
    state->Stream =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Stream == NULL) return -1;
    return PyModule_AddType(module, state->Stream);
}

/* ---- making one ------------------------------------------------------------- */

static bool choose(const char *what, const char *name,
                   const char *const *names, int count, int *out)
{
    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return true;
        }
    PyErr_Format(PyExc_ValueError, "unknown %s '%s'", what, name);
    return false;
}

static bool read_names(ts_stream_options *options, const char *sink,
                       const char *form, const char *engine,
                       const char *checksum, PyObject *dtype)
{
    static const char *const sinks[] = {"arrays", "into", "look"};
    static const char *const forms[] = {"own", "raw", "floats", "scheme"};
    int which;

    if (!choose("sink", sink, sinks, 3, &which)) return false;
    options->sink = (ts_sink)which;
    if (!choose("form", form, forms, 4, &which)) return false;
    options->form = (ts_form)which;
    if (!ts_engine_find(engine, &options->engine)) {
        PyErr_Format(PyExc_ValueError,
                     "unknown engine '%s': auto, pread, direct, mmap or io_uring",
                     engine);
        return false;
    }
    if (!ts_checksum_find(checksum, &options->looks.checksum)) {
        PyErr_Format(PyExc_ValueError,
                     "unknown checksum '%s': crc32, crc32c, xxh3 or sum64",
                     checksum);
        return false;
    }
    return dtype == Py_None || ts_py_dtype(dtype, &options->dtype);
}

/* Fill one wanted row; a fourth entry is a writable buffer of exactly the
 * bytes that will be delivered; check_views() sees to it. */
static bool read_wanted(Stream *self, PyObject *tuple, ts_wanted *out)
{
    PyObject *into = NULL;
    unsigned int row;
    unsigned long long start, stop;

    if (!PyArg_ParseTuple(tuple, "IKK|O:stream", &row, &start, &stop, &into))
        return false;
    if (row >= ts_catalog_count(ts_py_catalog(self->catalog))) {
        PyErr_Format(PyExc_IndexError, "row %u of %u", row,
                     ts_catalog_count(ts_py_catalog(self->catalog)));
        return false;
    }
    *out = (ts_wanted){row, start, stop, NULL};
    if (into == NULL || self->views == NULL) return true;
    Py_buffer *view = &self->views[self->view_count];
    if (PyObject_GetBuffer(into, view, PyBUF_SIMPLE | PyBUF_WRITABLE) < 0)
        return false;
    self->view_count++;
    out->into = view->buf;
    return true;
}

/* Does each destination have room for what it was asked to take? */
static bool check_views(Stream *self, const ts_wanted *wanted)
{
    for (Py_ssize_t i = 0; i < self->view_count; i++) {
        const ts_widths *widths =
            &ts_stream_recipe(self->stream, (uint32_t)i)->widths;
        uint64_t size = (wanted[i].stop - wanted[i].start) / widths->block
                      * widths->out_size;
        if (size == (uint64_t)self->views[i].len) continue;
        PyErr_Format(PyExc_ValueError,
                     "destination %zd has %zd bytes, %llu are needed", i,
                     self->views[i].len, (unsigned long long)size);
        return false;
    }
    return true;
}

static bool start(ts_state *state, Stream *self, PyObject *rows,
                  const ts_stream_options *options)
{
    Py_ssize_t count = PyList_Size(rows);
    bool made = false;
    ts_error error;
    ts_wanted *wanted = PyMem_Calloc((size_t)count + 1, sizeof *wanted);

    self->views = PyMem_Calloc((size_t)count + 1, sizeof *self->views);
    if (wanted == NULL || self->views == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!read_wanted(self, PyList_GetItem(rows, i), &wanted[i])) goto done;
    if (options->sink == TS_SINK_INTO && self->view_count != count) {
        PyErr_SetString(PyExc_ValueError, "a destination is missing");
        goto done;
    }
    if (ts_stream_new(ts_py_catalog(self->catalog), wanted, (uint32_t)count,
                      options, &self->stream, &error)
        != TS_OK) {
        ts_py_raise(state, &error);
        goto done;
    }
    self->count = (uint32_t)count;
    made = check_views(self, wanted);
done:
    PyMem_Free(wanted);
    return made;
}

static PyObject *forecast_of(ts_state *state, Stream *self, PyObject *rows,
                             const ts_stream_options *options)
{
    Py_ssize_t count = PyList_Size(rows);
    ts_forecast out;
    ts_status status;
    ts_error error;
    ts_wanted *wanted = PyMem_Calloc((size_t)count + 1, sizeof *wanted);

    if (wanted == NULL) return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        if (!read_wanted(self, PyList_GetItem(rows, i), &wanted[i])) {
            PyMem_Free(wanted);
            return NULL;
        }
    Py_BEGIN_ALLOW_THREADS
    status = ts_stream_forecast(ts_py_catalog(self->catalog), wanted,
                                (uint32_t)count, options, &out, &error);
    Py_END_ALLOW_THREADS
    PyMem_Free(wanted);
    if (status != TS_OK) return ts_py_raise(state, &error);
    typedef unsigned long long u64;
    return Py_BuildValue("{sKsKsKsKsKsKsi}", "file_bytes", (u64)out.file_bytes,
                         "delivered_bytes", (u64)out.delivered_bytes,
                         "elements", (u64)out.elements, "chunks",
                         (u64)out.chunks, "chunk_size", (u64)out.chunk_size,
                         "peak_bytes", (u64)out.peak_memory, "threads",
                         out.threads);
}

/* (scheme, group, has zero) or None. */
static bool read_encoding(ts_encoding *out, PyObject *tuple)
{
    const char *scheme;
    PyObject *group;
    int has_zero;

    if (tuple == Py_None) return true;
    if (!PyArg_ParseTuple(tuple, "sOp:encoding", &scheme, &group, &has_zero)
        || !ts_py_group(group, &out->group))
        return false;
    if (strlen(scheme) >= sizeof out->scheme) {
        PyErr_Format(PyExc_ValueError, "unknown scheme '%s'", scheme);
        return false;
    }
    memcpy(out->scheme, scheme, strlen(scheme) + 1);
    out->has_zero = has_zero != 0;
    return true;
}

static PyObject *make(PyObject *module, PyObject *args, PyObject *kwargs,
                      bool forecast)
{
    static char *names[] = {"catalog", "wanted",     "sink",    "form",
                            "dtype",   "budget",     "threads", "engine",
                            "chunk_size", "stats", "checksum", "trust",
                            "encoding", NULL};
    ts_state *state = ts_state_of(module);
    ts_stream_options options = {0};
    PyObject *catalog, *rows, *dtype = Py_None, *encoding = Py_None;
    PyObject *result = NULL;
    const char *sink, *form, *engine, *checksum;
    unsigned long long budget, chunk_size;
    int stats, trust;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O!O!$ssOKisKpspO:stream", names, state->Catalog,
            &catalog, &PyList_Type, &rows, &sink, &form, &dtype, &budget,
            &options.threads, &engine, &chunk_size, &stats, &checksum,
            &trust, &encoding)
        || !read_names(&options, sink, form, engine, checksum, dtype)
        || !read_encoding(&options.encoding, encoding))
        return NULL;
    options.budget = budget;
    options.chunk_size = chunk_size;
    options.looks.stats = stats != 0;
    options.trust = trust != 0;

    Stream *self = PyObject_New(Stream, state->Stream);
    if (self == NULL) return NULL;
    self->stream = NULL;
    self->views = NULL;
    self->view_count = 0;
    self->waiting = 0;
    self->catalog = Py_NewRef(catalog);
    if (forecast)
        result = forecast_of(state, self, rows, &options);
    else if (start(state, self, rows, &options))
        return (PyObject *)self;
    Py_DECREF(self);
    return result;
}

static PyObject *stream(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return make(module, args, kwargs, false);
}

static PyObject *forecast(PyObject *module, PyObject *args, PyObject *kwargs)
{
    return make(module, args, kwargs, true);
}

PyMethodDef ts_py_stream_functions[] = {
    {"stream", (PyCFunction)(void (*)(void))stream,
     METH_VARARGS | METH_KEYWORDS,
     "stream(catalog, wanted, *, sink, form, dtype, budget, threads, engine, "
     "chunk_size, stats, checksum, trust, encoding)\n--\n\n"
     "A Stream over [(row, start, stop), ...] or, into memory, "
     "[(row, start, stop, buffer), ...]."},
    {"forecast", (PyCFunction)(void (*)(void))forecast,
     METH_VARARGS | METH_KEYWORDS,
     "forecast(catalog, wanted, *, sink, form, dtype, budget, threads, "
     "engine, chunk_size, stats, checksum, trust, encoding)\n--\n\n"
     "What such a stream would do, before a byte is read."},
    {NULL, NULL, 0, NULL},
};
