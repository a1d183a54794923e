/* errors.c -- the border where a ts_error becomes a Python exception.
 *
 * The text reads "file: tensor 'name': sentence (at byte n)"; the exception
 * also carries .filename, .tensor and .offset for programs. */
#include "state.h"

#include <errno.h>
#include <string.h>

/* A str of our own bytes, or None for "". */
static PyObject *place_of(const char *bytes)
{
    if (bytes[0] == '\0') return Py_NewRef(Py_None);
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)strlen(bytes),
                                "backslashreplace");
}

/* Gives up `text` and `place`, whatever happens; NULL in, NULL out. */
static PyObject *prefixed(const char *format, PyObject *place, PyObject *text)
{
    PyObject *longer = NULL;
    if (place == Py_None)
        longer = Py_XNewRef(text);
    else if (place != NULL && text != NULL)
        longer = PyUnicode_FromFormat(format, place, text);
    Py_XDECREF(place);
    Py_XDECREF(text);
    return longer;
}

static PyObject *text_of(const ts_error *error)
{
    PyObject *text = place_of(error->message);

    text = prefixed("tensor %R: %U", place_of(error->tensor), text);
    text = prefixed("%U: %U", place_of(error->file), text);
    if (error->offset == TS_NO_OFFSET || text == NULL) return text;
    PyObject *longer =
        PyUnicode_FromFormat("%U (at byte %llu)", text,
                             (unsigned long long)error->offset);
    Py_DECREF(text);
    return longer;
}

/* Gives up value. */
static bool set(PyObject *exception, const char *name, PyObject *value)
{
    bool done =
        value != NULL && PyObject_SetAttrString(exception, name, value) == 0;
    Py_XDECREF(value);
    return done;
}

static bool set_place(PyObject *exception, const ts_error *error)
{
    return set(exception, "filename", place_of(error->file))
        && set(exception, "tensor", place_of(error->tensor))
        && set(exception, "offset",
               error->offset == TS_NO_OFFSET
                   ? Py_NewRef(Py_None)
                   : PyLong_FromUnsignedLongLong(error->offset));
}

static PyObject *type_of(ts_state *state, ts_status status)
{
    switch (status) {
    case TS_NOMEM: return PyExc_MemoryError;
    case TS_ARGUMENT: return PyExc_ValueError;
    case TS_IO: return PyExc_OSError;
    case TS_FORMAT: return state->FormatError;
    case TS_CORRUPT: return state->CorruptionError;
    case TS_CHANGED: return state->ChangedError;
    case TS_BUDGET: return state->BudgetError;
    case TS_UNSUPPORTED: return state->UnsupportedError;
    case TS_CANCELLED: return state->CancelledError;
    default: return state->Error;
    }
}

/* An OSError with a file name and without a number would print as "None". */
static int errno_of(const ts_error *error)
{
    if (error->os_errno != 0) return error->os_errno;
    return error->status == TS_CHANGED ? ESTALE : 0;
}

PyObject *ts_py_raise(ts_state *state, const ts_error *error)
{
    PyObject *type = type_of(state, error->status);
    int os_errno = errno_of(error);
    PyObject *text = text_of(error);
    PyObject *exception = NULL;

    if (text == NULL) return NULL;
    /* OSError chooses its own subclass from errno: FileNotFoundError ... */
    if (os_errno != 0)
        exception = PyObject_CallFunction(type, "iO", os_errno, text);
    else
        exception = PyObject_CallFunctionObjArgs(type, text, NULL);
    Py_DECREF(text);
    if (exception == NULL) return NULL;
    if (set_place(exception, error))
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
    return NULL;
}

static int add(PyObject *module, PyObject **slot, const char *name,
               const char *doc, PyObject *first, PyObject *second)
{
    PyObject *bases = second == NULL ? PyTuple_Pack(1, first)
                                     : PyTuple_Pack(2, first, second);
    if (bases == NULL) return -1;
    *slot = PyErr_NewExceptionWithDoc(name, doc, bases, NULL);
    Py_DECREF(bases);
    if (*slot == NULL) return -1;
    return PyModule_AddObjectRef(module, strrchr(name, '.') + 1, *slot);
}

int ts_py_add_errors(PyObject *module, ts_state *state)
{
    if (add(module, &state->Error, "tensorstream.Error",
            "Base of everything that tensorstream raises by itself.",
            PyExc_Exception, NULL)
            < 0
        || add(module, &state->FormatError, "tensorstream.FormatError",
               "A file is not what it says it is.", state->Error,
               PyExc_ValueError)
               < 0
        || add(module, &state->CorruptionError, "tensorstream.CorruptionError",
               "Content does not match its checksum.", state->FormatError,
               NULL)
               < 0
        || add(module, &state->ChangedError, "tensorstream.ChangedError",
               "A file was replaced or cut short while it was open.",
               state->Error, PyExc_OSError)
               < 0
        || add(module, &state->BudgetError, "tensorstream.BudgetError",
               "The memory budget cannot hold what was asked for.",
               state->Error, PyExc_MemoryError)
               < 0
        || add(module, &state->UnsupportedError,
               "tensorstream.UnsupportedError",
               "A valid thing that this version or machine cannot do.",
               state->Error, PyExc_NotImplementedError)
               < 0
        || add(module, &state->CancelledError, "tensorstream.CancelledError",
               "The stream was cancelled by another thread.", state->Error,
               NULL)
               < 0)
        return -1;
    return 0;
}
