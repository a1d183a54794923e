/* py_sampler.c -- the Sampler type: a ts_sampler, read from Python.
 *
 * A sample is a tuple of memory_fields, in bytes, None where unknown.  The
 * sampler's own thread never comes here; who wants to hear of a threshold
 * waits in next_event, without the GIL. */
#include "state.h"

#include <stddef.h>
#include <stdlib.h>

#include "monitor/monitor.h"

typedef struct {
    PyObject_HEAD
    ts_sampler *sampler; /* owned, never NULL once the object is visible */
    uint32_t history;
} Sampler;

/* ---- samples ----------------------------------------------------------- */

/* Each name at its field's place in the struct, which history() hands out
 * whole. */
#define PLACE(field) [offsetof(ts_memory, field) / sizeof(uint64_t)] = #field

static const char *const fields[] = {
    PLACE(time_ns),      PLACE(rss),           PLACE(rss_anon),
    PLACE(rss_file),     PLACE(rss_peak),      PLACE(pss),
    PLACE(swap),         PLACE(cgroup_limit),  PLACE(cgroup_used),
    PLACE(cgroup_room),  PLACE(address_limit), PLACE(address_used),
    PLACE(available),    PLACE(total),
};

enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

_Static_assert(sizeof(ts_memory) == FIELD_COUNT * sizeof(uint64_t),
               "a field of ts_memory has no name");

static PyObject *number_of(uint64_t value)
{
    if (value == TS_MEMORY_UNKNOWN) return Py_NewRef(Py_None);
    return PyLong_FromUnsignedLongLong(value);
}

/* Gives value up; false when it is NULL. */
static bool set_item(PyObject *tuple, Py_ssize_t index, PyObject *value)
{
    return value != NULL && PyTuple_SetItem(tuple, index, value) == 0;
}

/* The fields, and the headroom behind them. */
static PyObject *tuple_of(const ts_memory *sample)
{
    const uint64_t *values = (const uint64_t *)sample;
    PyObject *tuple = PyTuple_New(FIELD_COUNT + 1);
    bool done = tuple != NULL;

    for (Py_ssize_t i = 0; done && i < FIELD_COUNT; i++)
        done = set_item(tuple, i, number_of(values[i]));
    done = done
        && set_item(tuple, FIELD_COUNT, number_of(ts_memory_headroom(sample)));
    if (!done) Py_CLEAR(tuple);
    return tuple;
}

static PyObject *memory_sample(PyObject *module, PyObject *args,
                               PyObject *kwargs)
{
    static char *names[] = {"pss", NULL};
    int pss = 0;
    ts_memory sample;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:memory_sample", names,
                                     &pss))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ts_memory_sample(pss != 0, &sample, &error);
    Py_END_ALLOW_THREADS
    if (status != TS_OK) return ts_py_raise(ts_state_of(module), &error);
    return tuple_of(&sample);
}

/* ---- lifetime ---------------------------------------------------------- */

static PyObject *Sampler_new(PyTypeObject *type, PyObject *args,
                             PyObject *kwargs)
{
    static char *names[] = {"interval", "pss", "history", NULL};
    double interval;
    int pss = 0;
    Py_ssize_t history = 4096;
    ts_sampler *sampler;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "d|pn:Sampler", names,
                                     &interval, &pss, &history))
        return NULL;
    if (history < 0 || (uint64_t)history > UINT32_MAX)
        return PyErr_Format(PyExc_ValueError,
                            "history cannot be %zd samples", history);
    ts_sampler_options options = {interval, pss != 0, (uint32_t)history};
    Py_BEGIN_ALLOW_THREADS
    status = ts_sampler_new(&options, &sampler, &error);
    Py_END_ALLOW_THREADS
    if (status != TS_OK)
        return ts_py_raise(PyType_GetModuleState(type), &error);

    Sampler *self = PyObject_New(Sampler, type);
    if (self == NULL) {
        ts_sampler_free(sampler);
        return NULL;
    }
    self->sampler = sampler;
    self->history = options.history;
    return (PyObject *)self;
}

static void Sampler_dealloc(PyObject *op)
{
    Sampler *self = (Sampler *)op;
    PyTypeObject *type = Py_TYPE(op);
    Py_BEGIN_ALLOW_THREADS
    ts_sampler_free(self->sampler);
    Py_END_ALLOW_THREADS
    PyObject_Free(op);
    Py_DECREF(type);
}

static PyObject *Sampler_stop(PyObject *op, PyObject *ignored)
{
    (void)ignored;
    Py_BEGIN_ALLOW_THREADS
    ts_sampler_stop(((Sampler *)op)->sampler);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* ---- thresholds -------------------------------------------------------- */

static PyObject *Sampler_threshold(PyObject *op, PyObject *number)
{
    uint32_t index;
    ts_status status;
    ts_error error;
    unsigned long long bytes = PyLong_AsUnsignedLongLong(number);

    if (bytes == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status =
        ts_sampler_threshold(((Sampler *)op)->sampler, bytes, &index, &error);
    Py_END_ALLOW_THREADS
    if (status != TS_OK) return ts_py_raise(ts_state_of_self(op), &error);
    return PyLong_FromUnsignedLong(index);
}

static PyObject *Sampler_next_event(PyObject *op, PyObject *args)
{
    int timeout_ms;
    bool found;
    ts_sampler_event event;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, "i:next_event", &timeout_ms)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ts_sampler_next_event(((Sampler *)op)->sampler, timeout_ms,
                                   &event, &found, &error);
    Py_END_ALLOW_THREADS
    if (status == TS_CLOSED) {
        PyErr_SetNone(PyExc_EOFError);
        return NULL;
    }
    if (status != TS_OK) return ts_py_raise(ts_state_of_self(op), &error);
    if (!found) Py_RETURN_NONE;
    PyObject *sample = tuple_of(&event.sample);
    if (sample == NULL) return NULL;
    return Py_BuildValue("(IN)", event.threshold, sample);
}

/* ---- what was sampled -------------------------------------------------- */

static PyObject *Sampler_read(PyObject *op, PyObject *ignored)
{
    ts_memory latest, peak;
    uint64_t taken;
    (void)ignored;

    Py_BEGIN_ALLOW_THREADS
    ts_sampler_read(((Sampler *)op)->sampler, &latest, &peak, &taken);
    Py_END_ALLOW_THREADS
    PyObject *first = tuple_of(&latest), *second = tuple_of(&peak);
    if (first == NULL || second == NULL) {
        Py_XDECREF(first);
        Py_XDECREF(second);
        return NULL;
    }
    return Py_BuildValue("(NNK)", first, second, (unsigned long long)taken);
}

static PyObject *Sampler_history(PyObject *op, PyObject *ignored)
{
    Sampler *self = (Sampler *)op;
    uint32_t count = 0;
    ts_memory *samples = calloc((size_t)self->history + 1, sizeof *samples);
    (void)ignored;

    if (samples == NULL) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    count = ts_sampler_history(self->sampler, samples, self->history);
    Py_END_ALLOW_THREADS
    PyObject *bytes = PyBytes_FromStringAndSize(
        (const char *)samples, (Py_ssize_t)(count * sizeof *samples));
    free(samples);
    return bytes;
}

/* ---- the type ---------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"stop", Sampler_stop, METH_NOARGS,
     "stop()\n--\n\nTake a last sample and end the thread."},
    {"threshold", Sampler_threshold, METH_O,
     "threshold(size, /)\n--\n\nWatch rss; returns the threshold's index."},
    {"next_event", Sampler_next_event, METH_VARARGS,
     "next_event(timeout_ms, /)\n--\n\n"
     "Wait for (index, sample) of a crossing; None when none came in time.\n"
     "EOFError when the sampler is stopped and all are delivered."},
    {"read", Sampler_read, METH_NOARGS,
     "read()\n--\n\n(latest sample, peak sample, samples taken)."},
    {"history", Sampler_history, METH_NOARGS,
     "history()\n--\n\n"
     "The samples kept, oldest first: memory_fields as unsigned 64-bit\n"
     "numbers each, 2**64 - 1 where unknown."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Sampler(interval, pss=False, history=4096)\n--\n\n"
                "Samples this process's memory on a thread of its own."},
    {Py_tp_new, Sampler_new},
    {Py_tp_dealloc, Sampler_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "tensorstream._core.Sampler",
    .basicsize = sizeof(Sampler),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static PyMethodDef functions[] = {
    {"memory_sample", (PyCFunction)(void (*)(void))memory_sample,
     METH_VARARGS | METH_KEYWORDS,
     "memory_sample(*, pss=False)\n--\n\n"
     "This process's memory now: memory_fields, and the headroom."},
    {NULL, NULL, 0, NULL},
};

static int add_fields(PyObject *module)
{
    PyObject *tuple = PyTuple_New(FIELD_COUNT);
    bool done = tuple != NULL;
    for (Py_ssize_t i = 0; done && i < FIELD_COUNT; i++)
        done = set_item(tuple, i, PyUnicode_FromString(fields[i]));
    int failed =
        done ? PyModule_AddObjectRef(module, "memory_fields", tuple) : -1;
    Py_XDECREF(tuple);
    return failed;
}

int ts_py_add_sampler(PyObject *module, ts_state *state)
{
    state->Sampler =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->Sampler == NULL
        || PyModule_AddType(module, state->Sampler) < 0
        || PyModule_AddFunctions(module, functions) < 0)
        return -1;
    return add_fields(module);
}
