/* fn_hilbert.c -- sequences along a Hilbert curve, in memory that Python
 * brings. */
#include "state.h"

#include "core/base.h"
#include "quant/quant.h"

static PyObject *hilbert_order(PyObject *module, PyObject *count)
{
    (void)module;
    unsigned long long elements = PyLong_AsUnsignedLongLong(count);
    if (PyErr_Occurred()) return NULL;
    return PyLong_FromUnsignedLong(ts_hilbert_order(elements));
}

/* The sequence is whole elements, the image a square of that order. */
static bool check_square(const Py_buffer *sequence, const Py_buffer *image,
                         unsigned order, Py_ssize_t width)
{
    uint64_t size;
    if (width > 0 && sequence->len % width == 0
        && order <= TS_HILBERT_MOST_ORDER
        && ts_mul((uint64_t)1 << 2 * order, (uint64_t)width, &size)
        && size == (uint64_t)image->len)
        return true;
    PyErr_Format(PyExc_ValueError,
                 "%zd bytes of sequence and %zd of image, of %zd an element, "
                 "for a square of order %u",
                 sequence->len, image->len, width, order);
    return false;
}

/* Elements of `from` to their places in `to`, one of which is the image. */
typedef ts_status way(const uint8_t *from, uint64_t count, unsigned order,
                      size_t width, uint8_t *to, ts_error *error);

static PyObject *move(PyObject *module, PyObject *args, const char *format,
                      way *go, bool to_image)
{
    Py_buffer from, to;
    unsigned order;
    Py_ssize_t width;
    PyObject *result = NULL;
    ts_status status;
    ts_error error;

    if (!PyArg_ParseTuple(args, format, &from, &to, &order, &width))
        return NULL;
    const Py_buffer *image = to_image ? &to : &from;
    const Py_buffer *sequence = to_image ? &from : &to;
    if (check_square(sequence, image, order, width)) {
        Py_BEGIN_ALLOW_THREADS
        status = go(from.buf, (uint64_t)(sequence->len / width), order,
                    (size_t)width, to.buf, &error);
        Py_END_ALLOW_THREADS
        result = status == TS_OK ? Py_NewRef(Py_None)
                                 : ts_py_raise(ts_state_of(module), &error);
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    return result;
}

static PyObject *hilbert_map(PyObject *module, PyObject *args)
{
    return move(module, args, "y*w*In:hilbert_map", ts_hilbert_map, true);
}

static PyObject *hilbert_unmap(PyObject *module, PyObject *args)
{
    return move(module, args, "y*w*In:hilbert_unmap", ts_hilbert_unmap, false);
}

static PyObject *hilbert_means(PyObject *module, PyObject *args)
{
    Py_buffer floats, means;
    unsigned levels;
    PyObject *result = NULL;
    (void)module;

    if (!PyArg_ParseTuple(args, "y*w*I:hilbert_means", &floats, &means,
                          &levels))
        return NULL;
    uint64_t count = (uint64_t)floats.len / sizeof(float);
    uint64_t want = ts_hilbert_means_count(count, levels) * sizeof(float);
    bool is_aligned = ((uintptr_t)floats.buf | (uintptr_t)means.buf)
            % sizeof(float)
        == 0;
    if (!is_aligned || (uint64_t)floats.len % sizeof(float) != 0
        || (uint64_t)means.len != want) {
        PyErr_Format(PyExc_ValueError,
                     "the means of %zd bytes of floats take %llu bytes, got "
                     "%zd",
                     floats.len, (unsigned long long)want, means.len);
    } else {
        Py_BEGIN_ALLOW_THREADS
        ts_hilbert_means(floats.buf, count, levels, means.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&floats);
    PyBuffer_Release(&means);
    return result;
}

PyMethodDef ts_py_hilbert[] = {
    {"hilbert_order", hilbert_order, METH_O,
     "hilbert_order(count, /)\n--\n\n"
     "Log2 of the side of the smallest square that holds so many."},
    {"hilbert_map", hilbert_map, METH_VARARGS,
     "hilbert_map(sequence, image, order, width, /)\n--\n\n"
     "Lay a sequence along the curve."},
    {"hilbert_unmap", hilbert_unmap, METH_VARARGS,
     "hilbert_unmap(image, sequence, order, width, /)\n--\n\n"
     "Pick a sequence up along the curve."},
    {"hilbert_means", hilbert_means, METH_VARARGS,
     "hilbert_means(floats, means, levels, /)\n--\n\n"
     "Fill means, of squares of 2, 4, ... places a side."},
    {NULL, NULL, 0, NULL},
};
