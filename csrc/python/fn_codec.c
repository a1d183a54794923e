/* fn_codec.c -- frames of arrays in memory: compress, decompress, look. */
#include "state.h"

#include "codec/codec.h"

enum { LARGER_THAN_CACHES = 16 << 20 }; /* bytes of an output */

/* ---- compress --------------------------------------------------------- */

/* A tuple of at most TS_FRAME_MOST_DIMS numbers. */
static bool read_shape(PyObject *shape, uint64_t *out, uint32_t *ndim)
{
    Py_ssize_t count = PyTuple_Size(shape);
    if (count < 0) return false;
    if (count > TS_FRAME_MOST_DIMS) {
        PyErr_Format(PyExc_ValueError,
                     "a frame has at most %d dimensions, not %zd",
                     TS_FRAME_MOST_DIMS, count);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        out[i] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(shape, i));
        if (out[i] == UINT64_MAX && PyErr_Occurred()) return false;
    }
    *ndim = (uint32_t)count;
    return true;
}

/* Do the bytes have the size that dtype and shape make? */
static bool check_size(const ts_frame_spec *spec, Py_ssize_t size)
{
    uint64_t elements = 1, bytes;
    bool fits = true;

    for (uint32_t i = 0; i < spec->ndim; i++)
        fits = fits
            && !__builtin_mul_overflow(elements, spec->shape[i], &elements);
    if (fits && ts_dtype_bytes(spec->dtype, elements, &bytes)
        && bytes == (uint64_t)size)
        return true;
    PyErr_Format(PyExc_ValueError,
                 "%zd bytes are not what the shape makes of %s", size,
                 ts_dtype_name(spec->dtype));
    return false;
}

/* The base, when there is one, has the size of the array and a name. */
static bool read_base(ts_frame_spec *spec, PyObject *name,
                      const Py_buffer *base, Py_ssize_t size)
{
    Py_ssize_t length;

    spec->kind = base->obj != NULL ? TS_FRAME_DELTA : TS_FRAME_PLAIN;
    if (base->obj == NULL) return true;
    if (base->len != size) {
        PyErr_Format(PyExc_ValueError,
                     "the base has %zd bytes, the array %zd", base->len, size);
        return false;
    }
    spec->base_name = PyUnicode_AsUTF8AndSize(name, &length);
    spec->base_size = (size_t)length;
    return spec->base_name != NULL;
}

static bool read_mode(const char *name, ts_pack_mode *out)
{
    if (ts_pack_find(name, out)) return true;
    PyErr_Format(PyExc_ValueError,
                 "mode is 'fast', 'portable', 'small' or 'raw', not '%s'",
                 name);
    return false;
}

/* What a SAME or DELTA frame would call this base. */
static ts_status digest_base(ts_frame_spec *spec, const Py_buffer *base,
                             ts_error *error)
{
    uint64_t chunk;

    if (base->obj == NULL) return TS_OK;
    if (spec->chunk_elements == 0) spec->chunk_elements = TS_FRAME_CHUNK;
    if (!ts_dtype_bytes(spec->dtype, spec->chunk_elements, &chunk)
        || chunk == 0 || chunk > TS_FRAME_MOST_CHUNK)
        return TS_OK; /* the writer has the sentence */
    return ts_frame_digest(base->buf, (uint64_t)base->len, (uint32_t)chunk,
                           &spec->base_digest, error);
}

static PyObject *run_compress(ts_state *state, ts_frame_spec *spec,
                              const Py_buffer *in, const Py_buffer *base,
                              int threads)
{
    ts_buffer *out = NULL;
    ts_error error = {0};
    ts_status status;

    Py_BEGIN_ALLOW_THREADS
    status = digest_base(spec, base, &error);
    if (status == TS_OK)
        status = ts_compress(spec, in->buf, base->buf, threads, &out, &error);
    Py_END_ALLOW_THREADS
    if (status != TS_OK) return ts_py_raise(state, &error);
    return ts_py_buffer_wrap(state, out);
}

static bool open_base(PyObject *base, Py_buffer *out)
{
    out->obj = NULL;
    out->buf = NULL;
    return base == Py_None
        || PyObject_GetBuffer(base, out, PyBUF_SIMPLE) == 0;
}

static PyObject *compress(PyObject *module, PyObject *args)
{
    PyObject *dtype, *dims, *base, *name, *result = NULL;
    uint64_t shape[TS_FRAME_MOST_DIMS];
    ts_frame_spec spec = {.shape = shape};
    Py_buffer in, below;
    const char *mode;
    int threads;

    if (!PyArg_ParseTuple(args, "y*UO!sIiOU:compress", &in, &dtype,
                          &PyTuple_Type, &dims, &mode, &spec.chunk_elements,
                          &threads, &base, &name))
        return NULL;
    if (!open_base(base, &below)) {
        PyBuffer_Release(&in);
        return NULL;
    }
    if (ts_py_dtype(dtype, &spec.dtype)
        && read_shape(dims, shape, &spec.ndim) && check_size(&spec, in.len)
        && read_mode(mode, &spec.mode)
        && read_base(&spec, name, &below, in.len))
        result =
            run_compress(ts_state_of(module), &spec, &in, &below, threads);
    if (below.obj != NULL) PyBuffer_Release(&below);
    PyBuffer_Release(&in);
    return result;
}

/* ---- look ------------------------------------------------------------- */

static PyObject *base_name(const ts_frame_info *info, const uint8_t *front)
{
    if (info->kind == TS_FRAME_PLAIN) return Py_NewRef(Py_None);
    return PyUnicode_DecodeUTF8((const char *)front + info->base_offset,
                                (Py_ssize_t)info->base_size, "strict");
}

static PyObject *facts_of(const ts_frame_info *info, const uint8_t *front)
{
    static const char *const kinds[] = {"plain", "delta", "same"};
    PyObject *shape = ts_py_shape(info->shape, info->ndim);
    PyObject *base = base_name(info, front);

    if (shape == NULL || base == NULL) {
        Py_XDECREF(shape);
        Py_XDECREF(base);
        return NULL;
    }
    return Py_BuildValue("(sNssIKKKKN)", ts_dtype_name(info->dtype), shape,
                         kinds[info->kind], ts_pack_name(info->mode),
                         (unsigned)info->chunk_elements,
                         (unsigned long long)info->chunk_count,
                         (unsigned long long)info->bytes,
                         (unsigned long long)info->size,
                         (unsigned long long)info->digest, base);
}

static PyObject *frame_facts(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *result;
    ts_frame_info info;
    ts_error error = {0};
    Py_buffer in;

    if (!PyArg_ParseTuple(args, "y*:frame_facts", &in)) return NULL;
    if (ts_frame_look(in.buf, (uint64_t)in.len, &info, &error) == TS_OK)
        result = facts_of(&info, in.buf);
    else
        result = ts_py_raise(state, &error);
    PyBuffer_Release(&in);
    return result;
}

/* ---- decompress ------------------------------------------------------- */

typedef struct {
    Py_buffer in, out, base;
    int threads;
    int verify;
} unpacking;

static ts_status check_output(const unpacking *work, const ts_frame_info *info,
                              ts_error *error)
{
    if ((uint64_t)work->out.len != info->bytes)
        return ts_fail(error, TS_ARGUMENT,
                       "out has %zd bytes, the tensor %llu", work->out.len,
                       (unsigned long long)info->bytes);
    if (work->base.obj != NULL && info->kind != TS_FRAME_PLAIN
        && (uint64_t)work->base.len != info->bytes)
        return ts_fail(error, TS_ARGUMENT,
                       "the base has %zd bytes, the tensor %llu",
                       work->base.len, (unsigned long long)info->bytes);
    return TS_OK;
}

static ts_status run_decompress(const unpacking *work, ts_error *error)
{
    unsigned how = work->verify ? 0 : TS_UNPACK_TRUST;
    ts_frame *frame;

    if (work->out.len > LARGER_THAN_CACHES) how |= TS_UNPACK_BYPASS;
    TS_TRY(ts_frame_open_bytes(work->in.buf, (uint64_t)work->in.len,
                               work->verify != 0, &frame, error));
    ts_status status = check_output(work, ts_frame_facts(frame), error);
    if (status == TS_OK)
        status = ts_decompress(frame, work->in.buf, work->base.buf,
                               work->threads, how, work->out.buf, error);
    ts_frame_free(frame);
    return status;
}

static PyObject *decompress(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *base;
    ts_error error = {0};
    ts_status status = TS_ARGUMENT;
    unpacking work;

    if (!PyArg_ParseTuple(args, "y*w*Oip:decompress", &work.in, &work.out,
                          &base, &work.threads, &work.verify))
        return NULL;
    bool open = open_base(base, &work.base);
    if (open) {
        Py_BEGIN_ALLOW_THREADS
        status = run_decompress(&work, &error);
        Py_END_ALLOW_THREADS
        if (work.base.obj != NULL) PyBuffer_Release(&work.base);
    }
    PyBuffer_Release(&work.in);
    PyBuffer_Release(&work.out);
    if (!open) return NULL;
    if (status != TS_OK) return ts_py_raise(state, &error);
    Py_RETURN_NONE;
}

static PyObject *dtype_block(PyObject *module, PyObject *name)
{
    ts_dtype dtype;
    (void)module;
    if (!ts_py_dtype(name, &dtype)) return NULL;
    return Py_BuildValue("(II)", (unsigned)ts_dtype_block_count(dtype),
                         (unsigned)ts_dtype_block_size(dtype));
}

PyMethodDef ts_py_codec[] = {
    {"dtype_block", dtype_block, METH_O,
     "dtype_block(dtype, /)\n--\n\n(elements, bytes) of a block of a dtype."},
    {"compress", compress, METH_VARARGS,
     "compress(data, dtype, shape, mode, chunk, threads, base, name, /)\n--\n\n"
     "A frame of the elements, in a new Buffer; chunk 0 is the default, "
     "threads 0 one a core, base None or the bytes to differ from."},
    {"frame_facts", frame_facts, METH_VARARGS,
     "frame_facts(frame, /)\n--\n\n"
     "(dtype, shape, kind, mode, chunk elements, chunks, bytes, size, digest, "
     "base) of a frame."},
    {"decompress", decompress, METH_VARARGS,
     "decompress(frame, out, base, threads, verify, /)\n--\n\n"
     "Unpack a frame into writable memory of the tensor's size."},
    {NULL, NULL, 0, NULL},
};
