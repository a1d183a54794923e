/* state.h -- what the extension module keeps, and the few helpers that every
 * file in this folder shares.  Only csrc/python/ may include Python.h. */
#ifndef TS_PYTHON_STATE_H
#define TS_PYTHON_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "core/buffer.h"
#include "core/dtype.h"
#include "core/names.h"
#include "core/status.h"
#include "stream/stream.h"

typedef struct {
    PyObject *Error;           /* tensorstream.Error, base of the rest */
    PyObject *FormatError;     /* also a ValueError */
    PyObject *CorruptionError; /* a FormatError */
    PyObject *ChangedError;    /* also an OSError */
    PyObject *BudgetError;     /* also a MemoryError */
    PyObject *UnsupportedError; /* also a NotImplementedError */
    PyObject *CancelledError;
    PyObject *make_array; /* arrays.py's function, or NULL before it came */
    PyTypeObject *Buffer;
    PyTypeObject *Catalog;
    PyTypeObject *Stream;
    PyTypeObject *Chunk;
    PyTypeObject *Sampler;
    PyTypeObject *Writer;
    PyTypeObject *Picker;
} ts_state;

static inline ts_state *ts_state_of(PyObject *module)
{
    return (ts_state *)PyModule_GetState(module);
}

/* For methods: every type of ours is final, so its type knows the module. */
static inline ts_state *ts_state_of_self(PyObject *self)
{
    return (ts_state *)PyType_GetModuleState(Py_TYPE(self));
}

/* errors.c: the one place where a ts_error becomes an exception.  Returns
 * NULL, so that
 *     if (status != TS_OK) return ts_py_raise(state, &error); */
PyObject *ts_py_raise(ts_state *state, const ts_error *error);
int ts_py_add_errors(PyObject *module, ts_state *state);

/* py_buffer.c: wrap buffer in a new Buffer object.  Takes over the caller's
 * reference, whether it succeeds or not. */
PyObject *ts_py_buffer_wrap(ts_state *state, ts_buffer *buffer);
int ts_py_add_buffer(PyObject *module, ts_state *state);

/* convert.c: small values from and to Python. */
bool ts_py_dtype(PyObject *name, ts_dtype *out); /* from a str; sets error */
/* Elements under one scale: a number, "row" or "tensor"; sets an error. */
bool ts_py_group(PyObject *group, uint64_t *out);
PyObject *ts_py_name(ts_name name);              /* UTF-8 to str */
PyObject *ts_py_shape(const uint64_t *shape, uint32_t ndim); /* a tuple */
PyObject *ts_py_number_or_none(int32_t number); /* None below 0 */
/* Set key to value and give value up; -1 with an exception when value is
 * NULL or the dict fails. */
int ts_py_set(PyObject *dict, const char *key, PyObject *value);

/* py_catalog.c */
ts_catalog *ts_py_catalog(PyObject *catalog); /* borrowed */
int ts_py_add_catalog(PyObject *module, ts_state *state);
extern PyMethodDef ts_py_catalog_functions[];

/* py_chunk.c: one delivery as a Python object; takes the buffer over. */
PyObject *ts_py_chunk_new(ts_state *state, PyObject *catalog,
                          const ts_delivery *delivery);
int ts_py_add_chunk(PyObject *module, ts_state *state);
extern PyMethodDef ts_py_chunk_functions[];

/* py_stream.c */
int ts_py_add_stream(PyObject *module, ts_state *state);
extern PyMethodDef ts_py_stream_functions[];

/* py_sampler.c: Sampler, memory_sample, memory_fields. */
int ts_py_add_sampler(PyObject *module, ts_state *state);

/* py_picker.c: Picker, picker. */
int ts_py_add_picker(PyObject *module, ts_state *state);

/* py_writer.c: Writer, write_file. */
int ts_py_add_writer(PyObject *module, ts_state *state);
extern PyMethodDef ts_py_writer_functions[];

/* fn_numbers.c: convert, unpack, statistics, role; and what they share. */
PyObject *ts_py_stats(const ts_stats *stats); /* a dict */
PyObject *ts_py_marks(unsigned marks);        /* a tuple of names */
extern PyMethodDef ts_py_numbers[];

/* fn_estimate.c: estimates, grids, and the fields they are made of. */
extern PyMethodDef ts_py_estimates[];

/* fn_quantize.c: quantize, dequantize, deviation. */
extern PyMethodDef ts_py_quantize[];

/* fn_hilbert.c: sequences along a curve. */
extern PyMethodDef ts_py_hilbert[];

/* fn_codec.c: compress, decompress, frame_facts. */
extern PyMethodDef ts_py_codec[];

#endif
