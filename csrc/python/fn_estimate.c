/* fn_estimate.c -- dicts of numbers and words become the estimator's structs,
 * ledgers become dicts.  A field is reached by its name alone: what there is
 * to say about a model, a run and a framework is defined in estimate.h. */
#include "state.h"

#include "estimate/estimate.h"

/* ---- from Python ------------------------------------------------------- */

typedef struct {
    const ts_field *fields;
    size_t count;
    const char *what; /* "run": for messages */
} table;

static const ts_field *find(const table *in, const char *name)
{
    for (size_t i = 0; i < in->count; i++)
        if (strcmp(in->fields[i].name, name) == 0) return &in->fields[i];
    return NULL;
}

static bool read_word(const ts_field *field, PyObject *value, uint64_t *out)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(value, &size);
    const char *const *words = ts_field_words(field->name);

    if (text == NULL) return false;
    for (uint64_t i = 0; words != NULL && words[i] != NULL; i++)
        if (strcmp(words[i], text) == 0) {
            *out = i;
            return true;
        }
    PyErr_Format(PyExc_ValueError, "%s: unknown word %R", field->name, value);
    return false;
}

static bool read_number(const ts_field *field, PyObject *value, uint64_t *out)
{
    if (PyUnicode_Check(value)) return read_word(field, value, out);
    if (!PyLong_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s: a whole number is wanted, not %R",
                     field->name, value);
        return false;
    }
    unsigned long long number = PyLong_AsUnsignedLongLong(value);
    if (number == ULLONG_MAX && PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     "%s is %R, not between %llu and %llu", field->name,
                     value, (unsigned long long)field->least,
                     (unsigned long long)field->most);
        return false;
    }
    *out = number;
    return true;
}

/* Every key of dict into the struct at base; keys in `also` are left. */
static bool read_fields(PyObject *dict, const table *in, void *base,
                        const char *const *also)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    if (!PyDict_Check(dict)) {
        PyErr_Format(PyExc_TypeError, "%s: a dict is wanted, not %R",
                     in->what, dict);
        return false;
    }
    while (PyDict_Next(dict, &at, &key, &value)) {
        Py_ssize_t size;
        const char *name = PyUnicode_AsUTF8AndSize(key, &size);
        if (name == NULL) return false;
        bool skip = false;
        for (size_t i = 0; also != NULL && also[i] != NULL; i++)
            skip = skip || strcmp(also[i], name) == 0;
        if (skip) continue;
        const ts_field *field = find(in, name);
        if (field == NULL) {
            PyErr_Format(PyExc_ValueError, "unknown %s field %R", in->what,
                         key);
            return false;
        }
        uint64_t *to = (uint64_t *)(void *)((uint8_t *)base + field->offset);
        if (!read_number(field, value, to)) return false;
    }
    return true;
}

static bool read_pattern(PyObject *pattern, ts_stack *stack)
{
    char *bytes;
    Py_ssize_t size;

    if (PyBytes_AsStringAndSize(pattern, &bytes, &size) < 0) return false;
    if (size > TS_MAX_LAYERS) {
        PyErr_Format(PyExc_ValueError, "%zd layers, more than %d", size,
                     TS_MAX_LAYERS);
        return false;
    }
    memcpy(stack->kind_of, bytes, (size_t)size);
    stack->layer_count = (uint32_t)size;
    return true;
}

/* A stack's own fields, "kinds": a list of dicts, "pattern": bytes, of each
 * layer an index into kinds. */
static bool read_stack(PyObject *dict, ts_stack *stack)
{
    static const char *const also[] = {"kinds", "pattern", NULL};
    const table fields = {ts_stack_fields, ts_stack_field_count, "stack"};
    const table of_layer = {ts_layer_fields, ts_layer_field_count, "layer"};

    if (!read_fields(dict, &fields, stack, also)) return false;
    PyObject *kinds = PyDict_GetItemString(dict, "kinds");
    PyObject *pattern = PyDict_GetItemString(dict, "pattern");
    if (kinds == NULL || pattern == NULL || !PyList_Check(kinds)) {
        PyErr_SetString(PyExc_ValueError,
                        "a stack needs kinds, a list, and pattern, bytes");
        return false;
    }
    Py_ssize_t count = PyList_Size(kinds);
    if (count > TS_MAX_KINDS) {
        PyErr_Format(PyExc_ValueError, "%zd kinds of layers, more than %d",
                     count, TS_MAX_KINDS);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        ts_layer_default(&stack->kinds[i]);
        if (!read_fields(PyList_GetItem(kinds, i), &of_layer,
                         &stack->kinds[i], NULL))
            return false;
    }
    stack->kind_count = (uint32_t)count;
    return read_pattern(pattern, stack);
}

static bool read_model(PyObject *dict, ts_model *model)
{
    static const char *const stacks[] = {"decoder", "encoder", "vision", NULL};
    const table fields = {ts_model_fields, ts_model_field_count, "model"};
    ts_stack *to[] = {&model->decoder, &model->encoder, &model->vision};

    ts_model_default(model);
    if (!read_fields(dict, &fields, model, stacks)) return false;
    for (size_t i = 0; stacks[i] != NULL; i++) {
        PyObject *stack = PyDict_GetItemString(dict, stacks[i]);
        if (stack != NULL && !read_stack(stack, to[i])) return false;
    }
    return true;
}

static bool read_run(PyObject *dict, ts_run *run)
{
    const table fields = {ts_run_fields, ts_run_field_count, "run"};
    ts_run_default(run);
    return read_fields(dict, &fields, run, NULL);
}

static bool read_profile(PyObject *dict, ts_profile *profile)
{
    const table fields = {ts_profile_fields, ts_profile_field_count,
                          "profile"};
    ts_profile_default(profile);
    return read_fields(dict, &fields, profile, NULL);
}

typedef struct {
    ts_model model;
    ts_run run;
    ts_profile profile;
} question;

/* A checked question from three dicts; the profile may be NULL. */
static bool read_question(ts_state *state, PyObject *model, PyObject *run,
                          PyObject *profile, question *out)
{
    ts_error error;

    ts_profile_default(&out->profile);
    if (!read_model(model, &out->model) || !read_run(run, &out->run)
        || (profile != NULL && !read_profile(profile, &out->profile)))
        return false;
    if (ts_model_check(&out->model, &error) == TS_OK
        && ts_run_check(&out->model, &out->run, &error) == TS_OK
        && ts_profile_check(&out->profile, &error) == TS_OK)
        return true;
    ts_py_raise(state, &error);
    return false;
}

/* ---- to Python --------------------------------------------------------- */

/* Append value, give it up; false with an exception when it is NULL. */
static bool append(PyObject *list, PyObject *value)
{
    bool good = value != NULL && PyList_Append(list, value) == 0;
    Py_XDECREF(value);
    return good;
}

static PyObject *number(uint64_t value)
{
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *numbers(const uint64_t *values, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (list == NULL) return NULL;
    for (size_t i = 0; i < count; i++) {
        PyObject *item = number(values[i]);
        if (item == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *lines(const ts_ledger *ledger)
{
    PyObject *list = PyList_New((Py_ssize_t)ledger->count);
    if (list == NULL) return NULL;
    for (uint32_t i = 0; i < ledger->count; i++) {
        const ts_line *line = &ledger->lines[i];
        PyObject *item =
            Py_BuildValue("(IIKI)", line->component, line->formula,
                          (unsigned long long)line->bytes, line->instants);
        if (item == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *ledger_dict(const ts_ledger *ledger)
{
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
    if (ts_py_set(dict, "lines", lines(ledger)) < 0
        || ts_py_set(dict, "at", numbers(ledger->at, TS_INSTANT_COUNT)) < 0
        || ts_py_set(dict, "used", number(ledger->used)) < 0
        || ts_py_set(dict, "peak", number(ledger->peak)) < 0
        || ts_py_set(dict, "steady", number(ledger->steady)) < 0
        || ts_py_set(dict, "counters",
                     numbers(ledger->counters, TS_COUNTER_COUNT))
               < 0) {
        Py_DECREF(dict);
        return NULL;
    }
    return dict;
}

static PyObject *estimate(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *model, *run, *profile;
    unsigned long long stage;
    question asked;
    ts_ledger ledger;
    ts_error error;

    if (!PyArg_ParseTuple(args, "OOOK:estimate", &model, &run, &profile,
                          &stage)
        || !read_question(state, model, run, profile, &asked))
        return NULL;
    if (ts_estimate(&asked.model, &asked.run, &asked.profile, stage, &ledger,
                    &error)
        != TS_OK)
        return ts_py_raise(state, &error);
    return ledger_dict(&ledger);
}

/* ---- grids ------------------------------------------------------------- */

typedef struct {
    ts_axis axes[TS_MAX_AXES];
    uint64_t *values[TS_MAX_AXES]; /* owned */
    uint32_t count;
    uint64_t points;
} axes;

static void axes_free(axes *of)
{
    for (uint32_t i = 0; i < of->count; i++) PyMem_Free(of->values[i]);
}

static bool read_axis(PyObject *pair, axes *to)
{
    const table fields = {ts_run_fields, ts_run_field_count, "run"};
    const char *name;
    PyObject *values;

    if (!PyArg_ParseTuple(pair, "sO!:axis", &name, &PyList_Type, &values))
        return false;
    const ts_field *field = find(&fields, name);
    Py_ssize_t count = PyList_Size(values);
    if (field == NULL || count == 0 || to->count == TS_MAX_AXES) {
        PyErr_Format(PyExc_ValueError, "axis %s with %zd values", name,
                     count);
        return false;
    }
    uint64_t *copy = PyMem_Calloc((size_t)count, sizeof *copy);
    if (copy == NULL) {
        PyErr_NoMemory();
        return false;
    }
    uint32_t at = to->count++;
    to->values[at] = copy;
    to->axes[at] =
        (ts_axis){(uint32_t)(field - ts_run_fields), (uint32_t)count, copy};
    for (Py_ssize_t i = 0; i < count; i++)
        if (!read_number(field, PyList_GetItem(values, i), &copy[i]))
            return false;
    if (ts_mul(to->points, (uint64_t)count, &to->points)
        && to->points <= (UINT64_C(1) << 28))
        return true;
    PyErr_SetString(PyExc_ValueError, "a grid of more than 2^28 points");
    return false;
}

static bool read_axes(PyObject *list, axes *to)
{
    to->count = 0;
    to->points = 1;
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++)
        if (!read_axis(PyList_GetItem(list, i), to)) return false;
    return true;
}

static PyObject *estimate_grid(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *model, *run, *profile, *list, *result = NULL;
    unsigned counter;
    question asked;
    axes grid;
    ts_buffer *out = NULL;
    ts_error error;
    ts_status status;

    if (!PyArg_ParseTuple(args, "OOOIO!:estimate_grid", &model, &run,
                          &profile, &counter, &PyList_Type, &list)
        || !read_question(state, model, run, profile, &asked))
        return NULL;
    if (counter >= TS_COUNTER_COUNT)
        return PyErr_Format(PyExc_ValueError, "counter %u", counter);
    if (!read_axes(list, &grid)) goto done;
    status = ts_buffer_new((size_t)grid.points * sizeof(uint64_t), 64, &out,
                           &error);
    if (status == TS_OK) {
        Py_BEGIN_ALLOW_THREADS
        status = ts_estimate_grid(
            &asked.model, &asked.run, &asked.profile, (ts_counter)counter,
            grid.axes, grid.count, (uint64_t *)(void *)ts_buffer_data(out),
            &error);
        Py_END_ALLOW_THREADS
    }
    if (status == TS_OK) {
        result = ts_py_buffer_wrap(state, out);
    } else {
        ts_buffer_release(out);
        ts_py_raise(state, &error);
    }
done:
    axes_free(&grid);
    return result;
}

/* ---- single sums ------------------------------------------------------- */

static PyObject *model_parameters(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *model, *run;
    question asked;
    uint64_t all, adapters;
    ts_error error;

    if (!PyArg_ParseTuple(args, "OO:model_parameters", &model, &run)
        || !read_question(state, model, run, NULL, &asked))
        return NULL;
    if (ts_model_parameters(&asked.model, &all, &error) != TS_OK
        || ts_adapter_parameters(&asked.model, &asked.run, &adapters, &error)
               != TS_OK)
        return ts_py_raise(state, &error);
    return Py_BuildValue("(KK)", (unsigned long long)all,
                         (unsigned long long)adapters);
}

static PyObject *kv_bytes(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *model, *run, *profile;
    unsigned long long tokens;
    question asked;
    uint64_t bytes;
    ts_error error;

    if (!PyArg_ParseTuple(args, "OOOK:kv_bytes", &model, &run, &profile,
                          &tokens)
        || !read_question(state, model, run, profile, &asked))
        return NULL;
    if (tokens > UINT32_MAX)
        return PyErr_Format(PyExc_ValueError, "%llu tokens", tokens);
    if (ts_kv_bytes(&asked.model, &asked.run, &asked.profile, tokens, &bytes,
                    &error)
        != TS_OK)
        return ts_py_raise(state, &error);
    return number(bytes);
}

/* ---- one layer --------------------------------------------------------- */

static PyObject *kept(const ts_tape *tape)
{
    static const ts_component components[] = {
        [TS_TAPE_ATTENTION] = TS_FOR_ATTENTION,
        [TS_TAPE_MLP] = TS_FOR_MLP,
        [TS_TAPE_RESIDUAL] = TS_FOR_RESIDUAL,
    };
    PyObject *list = PyList_New(0);

    for (uint32_t i = 1; list != NULL && i < tape->count; i++) {
        const ts_kept *storage = &tape->storages[i];
        if (storage->what == NULL) continue;
        if (!append(list, Py_BuildValue(
                              "(IKs)", (unsigned)components[storage->part],
                              (unsigned long long)storage->bytes,
                              storage->what)))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *saved_tensors(PyObject *module, PyObject *args)
{
    ts_state *state = ts_state_of(module);
    PyObject *model, *run;
    unsigned stack, layer;
    int grad;
    question asked;
    ts_tape tape;
    ts_error error;

    if (!PyArg_ParseTuple(args, "OOIIp:saved_tensors", &model, &run, &stack,
                          &layer, &grad)
        || !read_question(state, model, run, NULL, &asked))
        return NULL;
    if (ts_saved_tensors(&asked.model, &asked.run, stack, layer, grad, &tape,
                      &error)
        != TS_OK)
        return ts_py_raise(state, &error);
    return kept(&tape);
}

/* ---- what there is ----------------------------------------------------- */

static PyObject *words_of(const char *field)
{
    const char *const *words = ts_field_words(field);
    if (words == NULL) Py_RETURN_NONE;
    PyObject *list = PyList_New(0);
    for (; list != NULL && *words != NULL; words++) {
        PyObject *word = PyUnicode_FromString(*words);
        if (word == NULL || PyList_Append(list, word) < 0) Py_CLEAR(list);
        Py_XDECREF(word);
    }
    return list;
}

static PyObject *field_list(const ts_field *fields, size_t count)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < count; i++) {
        const ts_field *f = &fields[i];
        PyObject *row = Py_BuildValue(
            "(ssKKKN)", f->name, f->text, (unsigned long long)f->fallback,
            (unsigned long long)f->least, (unsigned long long)f->most,
            words_of(f->name));
        if (!append(list, row)) Py_CLEAR(list);
    }
    return list;
}

static PyObject *component_list(void)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < TS_COMPONENT_COUNT; i++) {
        ts_counter counter = ts_component_counter((ts_component)i);
        if (!append(list,
                    Py_BuildValue("(ss)", ts_component_name((ts_component)i),
                                  ts_counter_name(counter))))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *instant_list(void)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < TS_INSTANT_COUNT; i++)
        if (!append(list, PyUnicode_FromString(
                              ts_instant_name((ts_instant)i))))
            Py_CLEAR(list);
    return list;
}

static PyObject *formula_list(void)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < TS_FORMULA_COUNT; i++) {
        ts_formula formula = (ts_formula)i;
        if (!append(list, Py_BuildValue("(sss)", ts_formula_name(formula),
                                        ts_formula_text(formula),
                                        ts_formula_source(formula))))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *estimate_fields(PyObject *module, PyObject *ignored)
{
    (void)module;
    (void)ignored;
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
#define LIST(name) field_list(ts_##name##_fields, ts_##name##_field_count)
    if (ts_py_set(dict, "layer", LIST(layer)) < 0
        || ts_py_set(dict, "stack", LIST(stack)) < 0
        || ts_py_set(dict, "model", LIST(model)) < 0
        || ts_py_set(dict, "run", LIST(run)) < 0
        || ts_py_set(dict, "profile", LIST(profile)) < 0
        || ts_py_set(dict, "components", component_list()) < 0
        || ts_py_set(dict, "instants", instant_list()) < 0
        || ts_py_set(dict, "formulas", formula_list()) < 0)
        Py_CLEAR(dict);
#undef LIST
    return dict;
}

PyMethodDef ts_py_estimates[] = {
    {"estimate", estimate, METH_VARARGS,
     "estimate(model, run, profile, stage, /)\n--\n\n"
     "The ledger of one pipeline stage, as a dict."},
    {"estimate_grid", estimate_grid, METH_VARARGS,
     "estimate_grid(model, run, profile, counter, axes, /)\n--\n\n"
     "Peaks over all combinations of run fields, as a Buffer of u64."},
    {"model_parameters", model_parameters, METH_VARARGS,
     "model_parameters(model, run, /)\n--\n\n"
     "(parameters of the model, parameters of the run's adapters)."},
    {"kv_bytes", kv_bytes, METH_VARARGS,
     "kv_bytes(model, run, profile, tokens, /)\n--\n\n"
     "Bytes of keys and values of one sequence on one rank."},
    {"saved_tensors", saved_tensors, METH_VARARGS,
     "saved_tensors(model, run, stack, layer, grad, /)\n--\n\n"
     "(component, bytes, what) of each tensor a layer keeps for backward."},
    {"estimate_fields", estimate_fields, METH_NOARGS,
     "estimate_fields()\n--\n\n"
     "Every field, word, component, instant and formula there is."},
    {NULL, NULL, 0, NULL},
};
