/* fn_quantize.c -- quantise rows into memory that Python brings, and back.
 *
 * Every function takes what ts_quantize_find takes, as the first arguments:
 * scheme, dtype of the floats, elements of a row, elements of a group ("row",
 * "tensor", a number, 0 for none), whether there is a zero point. */
#include "state.h"

#include "core/base.h"
#include "quant/quant.h"

static bool find(ts_state *state, PyObject *scheme, PyObject *dtype,
                 Py_ssize_t columns, PyObject *group, int has_zero,
                 ts_quantize *how)
{
    Py_ssize_t size;
    const char *name = PyUnicode_AsUTF8AndSize(scheme, &size);
    ts_dtype from;
    uint64_t together;
    ts_error error;

    if (name == NULL || !ts_py_dtype(dtype, &from)
        || !ts_py_group(group, &together))
        return false;
    if (columns < 0) {
        PyErr_Format(PyExc_ValueError, "rows of %zd elements", columns);
        return false;
    }
    if (ts_quantize_find(name, (size_t)size, from, (uint64_t)columns,
                         together, has_zero != 0, how, &error)
        == TS_OK)
        return true;
    ts_py_raise(state, &error);
    return false;
}

static bool has_size(const char *what, const Py_buffer *view, uint64_t count,
                     uint64_t width)
{
    uint64_t want;
    if (ts_mul(count, width, &want) && (uint64_t)view->len == want)
        return true;
    PyErr_Format(PyExc_ValueError, "%s take %llu times %llu bytes, got %zd",
                 what, (unsigned long long)count, (unsigned long long)width,
                 view->len);
    return false;
}

static bool is_aligned(const char *what, const Py_buffer *view, size_t width)
{
    if ((uintptr_t)view->buf % width == 0) return true;
    PyErr_Format(PyExc_ValueError, "%s do not lie at a multiple of %zu bytes",
                 what, width);
    return false;
}

/* One call on rows: the floats, and the parts they become or come from. */
typedef struct {
    Py_buffer floats, codes, scales, zeros;
    ts_quantize how;
    ts_quantized parts; /* in the buffers */
    uint64_t rows;
} work;

static void work_end(work *held)
{
    PyBuffer_Release(&held->floats);
    PyBuffer_Release(&held->codes);
    PyBuffer_Release(&held->scales);
    PyBuffer_Release(&held->zeros);
}

/* All parts have the sizes that so many rows need. */
static bool check_work(work *held, Py_ssize_t rows)
{
    uint64_t codes, scales, count;
    size_t width = ts_dtype_block_size(held->how.from);
    held->rows = (uint64_t)rows;
    if (rows < 0
        || !ts_quantize_sizes(&held->how, held->rows, &codes, &scales)
        || !ts_mul(held->rows, held->how.columns, &count)) {
        PyErr_Format(PyExc_ValueError, "%zd rows", rows);
        return false;
    }
    held->parts = (ts_quantized){held->codes.buf, held->scales.buf,
                                 held->zeros.buf};
    return has_size("floats", &held->floats, count, width)
        && has_size("codes", &held->codes, codes, 1)
        && has_size("scales", &held->scales, scales, sizeof(float))
        && has_size("zeros", &held->zeros, held->how.has_zero ? scales : 0, 1)
        && is_aligned("scales", &held->scales, sizeof(float))
        && is_aligned("floats", &held->floats, width);
}

/* The format says which of the buffers are written. */
static bool work_begin(ts_state *state, PyObject *args, const char *format,
                       work *held)
{
    PyObject *scheme, *dtype, *group;
    Py_ssize_t columns, first, rows;
    int has_zero;

    *held = (work){.rows = 0};
    if (!PyArg_ParseTuple(args, format, &scheme, &dtype, &columns, &group,
                          &has_zero, &first, &rows, &held->floats,
                          &held->codes, &held->scales, &held->zeros))
        return false;
    if (find(state, scheme, dtype, columns, group, has_zero, &held->how)
        && check_work(held, rows)) {
        held->how.first_row = (uint64_t)first;
        return true;
    }
    work_end(held);
    return false;
}

static PyObject *quantize(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    work held;
    ts_status status;
    ts_error error;

    if (!work_begin(state, args, "UUnOpnny*w*w*w*:quantize", &held))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ts_quantize_run(&held.how, held.floats.buf, held.rows,
                             &held.parts, &error);
    Py_END_ALLOW_THREADS
    work_end(&held);
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

static PyObject *dequantize(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    work held;
    ts_status status;
    ts_error error;

    if (!work_begin(state, args, "UUnOpnnw*y*y*y*:dequantize", &held))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ts_dequantize_run(&held.how, &held.parts, held.rows,
                               held.how.from, held.floats.buf, &error);
    Py_END_ALLOW_THREADS
    work_end(&held);
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

static PyObject *deviation(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    work held;
    ts_deviation found = {0};
    ts_status status;
    ts_error error;

    if (!work_begin(state, args, "UUnOpnny*y*y*y*:deviation", &held))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ts_deviation_add(&found, &held.how, held.floats.buf, &held.parts,
                              held.rows, &error);
    Py_END_ALLOW_THREADS
    work_end(&held);
    if (status != TS_OK) return ts_py_raise(state, &error);
    return Py_BuildValue("(ddddd)", found.max_abs, found.squares,
                         found.products, found.before, found.after);
}

static PyObject *quantized_sizes(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *scheme, *dtype, *group;
    Py_ssize_t columns, rows;
    int has_zero;
    ts_quantize how;
    uint64_t codes, scales;

    if (!PyArg_ParseTuple(args, "UUnOpn:quantized_sizes", &scheme, &dtype,
                          &columns, &group, &has_zero, &rows)
        || !find(state, scheme, dtype, columns, group, has_zero, &how))
        return NULL;
    if (rows < 0
        || !ts_quantize_sizes(&how, (uint64_t)rows, &codes, &scales)) {
        PyErr_Format(PyExc_ValueError, "%zd rows", rows);
        return NULL;
    }
    return Py_BuildValue("(KK)", (unsigned long long)codes,
                         (unsigned long long)scales);
}

static PyObject *quantize_scale(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *scheme, *dtype, *group;
    Py_ssize_t columns;
    int has_zero;
    double min, max;
    float scale;
    int8_t zero;
    ts_quantize how;

    if (!PyArg_ParseTuple(args, "UUnOpdd:quantize_scale", &scheme, &dtype,
                          &columns, &group, &has_zero, &min, &max)
        || !find(state, scheme, dtype, columns, group, has_zero, &how))
        return NULL;
    ts_quantize_scale(&how, min, max, &scale, &zero);
    return Py_BuildValue("(di)", (double)scale, (int)zero);
}

/* A code for each scale, a nested scale for each 256 of them. */
static bool check_nested(const Py_buffer *scales, const Py_buffer *codes,
                         const Py_buffer *nested)
{
    uint64_t count = (uint64_t)codes->len;
    uint64_t above = count / 256 + (count % 256 > 0);
    return has_size("scales", scales, count, sizeof(float))
        && has_size("nested scales", nested, above, sizeof(float))
        && is_aligned("scales", scales, sizeof(float))
        && is_aligned("nested scales", nested, sizeof(float));
}

static PyObject *nested_quantize(PyObject *module, PyObject *args)
{
    Py_buffer scales, codes, nested;
    PyObject *result = NULL;
    float mean = 0;
    (void)module;

    if (!PyArg_ParseTuple(args, "y*w*w*:nested_quantize", &scales, &codes,
                          &nested))
        return NULL;
    if (check_nested(&scales, &codes, &nested)) {
        mean = ts_nested_mean(scales.buf, (uint64_t)codes.len);
        ts_nested_quantize(scales.buf, (uint64_t)codes.len, mean, codes.buf,
                           nested.buf);
        result = PyFloat_FromDouble((double)mean);
    }
    PyBuffer_Release(&scales);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&nested);
    return result;
}

static PyObject *nested_dequantize(PyObject *module, PyObject *args)
{
    Py_buffer scales, codes, nested;
    PyObject *result = NULL;
    float mean;
    (void)module;

    if (!PyArg_ParseTuple(args, "w*y*y*f:nested_dequantize", &scales, &codes,
                          &nested, &mean))
        return NULL;
    if (check_nested(&scales, &codes, &nested)) {
        ts_nested_dequantize(codes.buf, nested.buf, mean, scales.buf,
                             (uint64_t)codes.len);
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&scales);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&nested);
    return result;
}

static PyObject *scheme_names(PyObject *module, PyObject *ignored)
{
    PyObject *list = PyList_New(0), *tuple;
    (void)module;
    (void)ignored;
    if (list == NULL) return NULL;
    for (size_t i = 0; ts_scheme_name(i) != NULL; i++) {
        PyObject *name = PyUnicode_FromString(ts_scheme_name(i));
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

#define HOW "scheme, dtype, columns, group, has_zero"

PyMethodDef ts_py_quantize[] = {
    {"quantize", quantize, METH_VARARGS,
     "quantize(" HOW ", first_row, rows, floats, codes, scales, zeros, /)\n--\n\n"
     "Fill codes, scales and zeros from rows of floats."},
    {"dequantize", dequantize, METH_VARARGS,
     "dequantize(" HOW ", first_row, rows, floats, codes, scales, zeros, /)\n--\n\n"
     "Fill rows of floats from codes, scales and zeros."},
    {"deviation", deviation, METH_VARARGS,
     "deviation(" HOW ", first_row, rows, floats, codes, scales, zeros, /)\n--\n\n"
     "(largest difference, squares of differences, products, squares before, "
     "after)"},
    {"quantized_sizes", quantized_sizes, METH_VARARGS,
     "quantized_sizes(" HOW ", rows, /)\n--\n\n"
     "(bytes of codes, number of scales) of so many rows."},
    {"quantize_scale", quantize_scale, METH_VARARGS,
     "quantize_scale(" HOW ", min, max, /)\n--\n\n"
     "(scale, zero) of values in that range."},
    {"nested_quantize", nested_quantize, METH_VARARGS,
     "nested_quantize(scales, codes, nested, /)\n--\n\n"
     "Fill codes and nested from scales; returns their mean."},
    {"nested_dequantize", nested_dequantize, METH_VARARGS,
     "nested_dequantize(scales, codes, nested, mean, /)\n--\n\n"
     "Fill scales from codes and nested."},
    {"scheme_names", scheme_names, METH_NOARGS,
     "scheme_names()\n--\n\nEvery scheme, in one order."},
    {NULL, NULL, 0, NULL},
};
