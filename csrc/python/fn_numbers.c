/* fn_numbers.c -- functions over bytes and names: convert, unpack,
 * statistics, role.  Thin doors for tests and for tools that have bytes in
 * hand; streams call the same core functions without passing here. */
#include "state.h"

#include <math.h>

#include "monitor/monitor.h"

/* count elements of dtype must lie in size bytes exactly. */
static bool check_bytes(ts_dtype dtype, Py_ssize_t count, Py_ssize_t size)
{
    uint64_t want;
    if (count < 0 || !ts_dtype_bytes(dtype, (uint64_t)count, &want)) {
        PyErr_Format(PyExc_ValueError,
                     "%zd elements are no whole number of %s blocks", count,
                     ts_dtype_name(dtype));
        return false;
    }
    if (want != (uint64_t)size) {
        PyErr_Format(PyExc_ValueError,
                     "%zd elements of %s take %llu bytes, got %zd", count,
                     ts_dtype_name(dtype), (unsigned long long)want, size);
        return false;
    }
    return true;
}

static PyObject *run(ts_state *state, const ts_convert *convert,
                     const Py_buffer *in, size_t count, uint64_t out_size)
{
    ts_buffer *out;
    ts_error error;

    static uint8_t nothing;
    ts_status status =
        out_size > 0 ? ts_buffer_new((size_t)out_size, 64, &out, &error)
                     : ts_buffer_wrap(&nothing, 0, TS_ORIGIN_FOREIGN, NULL,
                                      NULL, &out, &error);
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_BEGIN_ALLOW_THREADS
    ts_convert_run(convert, in->buf, ts_buffer_data(out), count);
    Py_END_ALLOW_THREADS
    return ts_py_buffer_wrap(state, out);
}

static PyObject *convert(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *from_name, *to_name, *result = NULL;
    Py_buffer in;
    Py_ssize_t count;
    ts_dtype from, to;
    ts_convert found;
    ts_error error;
    uint64_t size;

    if (!PyArg_ParseTuple(args, "y*UUn:convert", &in, &from_name, &to_name,
                          &count))
        return NULL;
    if (!ts_py_dtype(from_name, &from) || !ts_py_dtype(to_name, &to)
        || !check_bytes(from, count, in.len))
        goto done;
    if (ts_convert_find(from, to, &found, &error) != TS_OK) {
        ts_py_raise(state, &error);
        goto done;
    }
    if (!ts_dtype_bytes(to, (uint64_t)count, &size)) {
        PyErr_Format(PyExc_ValueError,
                     "%zd elements are no whole number of %s blocks", count,
                     ts_dtype_name(to));
        goto done;
    }
    result = run(state, &found, &in, (size_t)count, size);
done:
    PyBuffer_Release(&in);
    return result;
}

static PyObject *unpack(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *name, *result = NULL;
    Py_buffer in;
    Py_ssize_t count;
    ts_dtype dtype;
    ts_convert found;
    ts_error error;

    if (!PyArg_ParseTuple(args, "y*Un:unpack", &in, &name, &count))
        return NULL;
    if (!ts_py_dtype(name, &dtype) || !check_bytes(dtype, count, in.len))
        goto done;
    if (ts_convert_unpack(dtype, &found, &error) != TS_OK) {
        ts_py_raise(state, &error);
        goto done;
    }
    result = run(state, &found, &in, (size_t)count, (uint64_t)count);
done:
    PyBuffer_Release(&in);
    return result;
}

PyObject *ts_py_stats(const ts_stats *stats)
{
    bool finite = stats->count > stats->nan_count + stats->inf_count;
    return Py_BuildValue(
        "{sKsKsKsdsdsdsd}", "count", (unsigned long long)stats->count,
        "nan_count", (unsigned long long)stats->nan_count, "inf_count",
        (unsigned long long)stats->inf_count, "min",
        finite ? stats->min : NAN, "max", finite ? stats->max : NAN, "mean",
        ts_stats_mean(stats), "absmax",
        finite ? ts_stats_absmax(stats) : NAN);
}

static PyObject *statistics(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *name, *result = NULL;
    Py_buffer in;
    Py_ssize_t count;
    ts_dtype dtype;
    ts_stats stats;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, "y*Un:statistics", &in, &name, &count))
        return NULL;
    if (!ts_py_dtype(name, &dtype) || !check_bytes(dtype, count, in.len))
        goto done;
    ts_stats_begin(&stats);
    Py_BEGIN_ALLOW_THREADS
    status = ts_stats_add(&stats, dtype, in.buf, (size_t)count, &error);
    Py_END_ALLOW_THREADS
    if (status == TS_OK)
        result = ts_py_stats(&stats);
    else
        ts_py_raise(state, &error);
done:
    PyBuffer_Release(&in);
    return result;
}

PyObject *ts_py_marks(unsigned marks)
{
    PyObject *list = PyList_New(0), *tuple;
    if (list == NULL) return NULL;
    for (unsigned bit = 1; bit <= TS_MARK_SCALE; bit *= 2) {
        if ((marks & bit) == 0) continue;
        PyObject *name = PyUnicode_FromString(ts_mark_name(bit));
        if (name == NULL || PyList_Append(list, name) < 0) {
            Py_XDECREF(name);
            Py_DECREF(list);
            return NULL;
        }
        Py_DECREF(name);
    }
    tuple = PyList_AsTuple(list);
    Py_DECREF(list);
    return tuple;
}

static PyObject *role(PyObject *module, PyObject *argument)
{
    (void)module;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(argument, &size);
    ts_role found;

    if (text == NULL) return NULL;
    ts_role_of((ts_name){text, (size_t)size}, &found);
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
    static const char *const phases[] = {"before", "layers", "after"};
    if (ts_py_set(dict, "kind",
                  PyUnicode_FromString(ts_kind_name((ts_kind)found.kind)))
            < 0
        || ts_py_set(dict, "marks", ts_py_marks(found.marks)) < 0
        || ts_py_set(dict, "phase", PyUnicode_FromString(phases[found.phase]))
               < 0
        || ts_py_set(dict, "layer", ts_py_number_or_none(found.layer)) < 0
        || ts_py_set(dict, "expert", ts_py_number_or_none(found.expert)) < 0
        || ts_py_set(dict, "stack",
                     PyUnicode_DecodeUTF8(text, (Py_ssize_t)found.stack,
                                          "strict"))
               < 0) {
        Py_DECREF(dict);
        return NULL;
    }
    return dict;
}

/* The two figures that every progress report shows; Sampler tells the rest. */
static PyObject *resident(PyObject *module, PyObject *ignored)
{
    ts_state *state = ts_state_of(module);
    ts_memory memory;
    ts_error error;
    (void)ignored;
    if (ts_memory_sample(false, &memory, &error) != TS_OK)
        return ts_py_raise(state, &error);
    return Py_BuildValue("(KK)", (unsigned long long)memory.rss,
                         (unsigned long long)memory.rss_peak);
}

/* The rule of StreamingConfig, for chunks that Python cuts from larger ones. */
static PyObject *classic_size(PyObject *module, PyObject *args)
{
    unsigned long long size, least, most;
    ts_adapt_window window = {0};
    ts_adapt adapt;
    (void)module;
    if (!PyArg_ParseTuple(args, "KdKK:classic_size", &size, &window.pressure,
                          &least, &most))
        return NULL;
    ts_adapt_begin(&adapt, TS_ADAPT_CLASSIC, least, most, size);
    return PyLong_FromUnsignedLongLong(ts_adapt_step(&adapt, &window));
}

PyMethodDef ts_py_numbers[] = {
    {"convert", convert, METH_VARARGS,
     "convert(data, source, target, count, /)\n--\n\n"
     "Count elements of one dtype as another, in a new Buffer."},
    {"unpack", unpack, METH_VARARGS,
     "unpack(data, dtype, count, /)\n--\n\n"
     "F4 or F6 codes, one a byte, as ml_dtypes keeps them."},
    {"statistics", statistics, METH_VARARGS,
     "statistics(data, dtype, count, /)\n--\n\n"
     "Count, NaNs, infinities, min, max, mean and absmax of the rest."},
    {"resident", resident, METH_NOARGS,
     "resident()\n--\n\n(resident bytes of this process, their peak)."},
    {"classic_size", classic_size, METH_VARARGS,
     "classic_size(size, pressure, least, most, /)\n--\n\n"
     "The next chunk size: above 90 % of memory * 0.8, below 50 % * 1.2."},
    {"role", role, METH_O,
     "role(name, /)\n--\n\nWhat a tensor's name says of its place."},
    {NULL, NULL, 0, NULL},
};
