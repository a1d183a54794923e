/* module.c -- tensorstream._core: builds the module, nothing more. */
#include "state.h"

#include "core/cpu.h"

static int add_dtypes(PyObject *module)
{
    PyObject *names = PyTuple_New(TS_DTYPE_COUNT);
    if (names == NULL) return -1;
    for (int i = 0; i < TS_DTYPE_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(ts_dtype_name((ts_dtype)i));
        if (name == NULL) {
            Py_DECREF(names);
            return -1;
        }
        PyTuple_SetItem(names, i, name);
    }
    int failed = PyModule_AddObjectRef(module, "dtypes", names);
    Py_DECREF(names);
    return failed;
}

/* What an importer may want to know of this build; read by show_config(). */
static int add_facts(PyObject *module)
{
    if (add_dtypes(module) < 0) return -1;
    return PyModule_AddStringConstant(module, "simd",
                                      ts_simd_name(ts_cpu_simd()))
             || PyModule_AddIntConstant(module, "cpu_count", ts_cpu_count())
             ? -1
             : 0;
}

static int module_exec(PyObject *module)
{
    ts_state *state = ts_state_of(module);
    if (ts_py_add_errors(module, state) < 0
        || ts_py_add_buffer(module, state) < 0
        || ts_py_add_catalog(module, state) < 0
        || ts_py_add_chunk(module, state) < 0
        || ts_py_add_stream(module, state) < 0
        || ts_py_add_sampler(module, state) < 0
        || ts_py_add_writer(module, state) < 0
        || ts_py_add_picker(module, state) < 0
        || PyModule_AddFunctions(module, ts_py_catalog_functions) < 0
        || PyModule_AddFunctions(module, ts_py_chunk_functions) < 0
        || PyModule_AddFunctions(module, ts_py_stream_functions) < 0
        || PyModule_AddFunctions(module, ts_py_writer_functions) < 0
        || PyModule_AddFunctions(module, ts_py_numbers) < 0
        || PyModule_AddFunctions(module, ts_py_estimates) < 0
        || PyModule_AddFunctions(module, ts_py_quantize) < 0
        || PyModule_AddFunctions(module, ts_py_hilbert) < 0
        || PyModule_AddFunctions(module, ts_py_codec) < 0)
        return -1;
    return add_facts(module);
}

/* Everything in the state, so that traverse and clear cannot disagree. */
#define TS_STATE_MAP(XX)                                                      \
    XX(Error) XX(FormatError) XX(CorruptionError) XX(ChangedError)            \
    XX(BudgetError) XX(UnsupportedError) XX(CancelledError) XX(make_array)    \
    XX(Buffer) XX(Catalog) XX(Stream) XX(Chunk) XX(Sampler) XX(Writer)    \
    XX(Picker)

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    ts_state *state = ts_state_of(module);
#define XX(name) Py_VISIT(state->name);
    TS_STATE_MAP(XX)
#undef XX
    return 0;
}

static int module_clear(PyObject *module)
{
    ts_state *state = ts_state_of(module);
#define XX(name) Py_CLEAR(state->name);
    TS_STATE_MAP(XX)
#undef XX
    return 0;
}

static void module_free(void *module) { (void)module_clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tensorstream._core",
    .m_size = sizeof(ts_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void); /* for -Wmissing-prototypes */
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
