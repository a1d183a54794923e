/* convert.c -- small values across the border. */
#include "state.h"

#include "quant/quant.h"

bool ts_py_dtype(PyObject *name, ts_dtype *out)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    if (text == NULL) return false;
    if (ts_dtype_find(text, (size_t)size, out)) return true;
    PyErr_Format(PyExc_ValueError, "unknown dtype %R", name);
    return false;
}

bool ts_py_group(PyObject *value, uint64_t *out)
{
    if (PyUnicode_Check(value)) {
        bool is_row = PyUnicode_CompareWithASCIIString(value, "row") == 0;
        *out = is_row ? TS_GROUP_ROW : TS_GROUP_TENSOR;
        if (is_row
            || PyUnicode_CompareWithASCIIString(value, "tensor") == 0)
            return true;
        PyErr_Format(PyExc_ValueError,
                     "a group is 'row', 'tensor' or a number, not %R", value);
        return false;
    }
    *out = PyLong_AsUnsignedLongLong(value);
    return !PyErr_Occurred();
}

PyObject *ts_py_name(ts_name name)
{
    return PyUnicode_DecodeUTF8(name.bytes, (Py_ssize_t)name.size, "strict");
}

PyObject *ts_py_shape(const uint64_t *shape, uint32_t ndim)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)ndim);
    if (tuple == NULL) return NULL;
    for (uint32_t i = 0; i < ndim; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(shape[i]);
        if (number == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SetItem(tuple, (Py_ssize_t)i, number);
    }
    return tuple;
}

PyObject *ts_py_number_or_none(int32_t number)
{
    return number < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(number);
}

int ts_py_set(PyObject *dict, const char *key, PyObject *value)
{
    if (value == NULL) return -1;
    int failed = PyDict_SetItemString(dict, key, value);
    Py_DECREF(value);
    return failed;
}
