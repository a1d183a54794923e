#include <stdio.h>

#include "core/base.h"
#include "torch.h"

/* From the tree to rows and values: every place in it gets a dotted name.
 * No recursion: the walker keeps its own stack, as deep as TS_MAX_DEPTH. */

typedef struct {
    ts_pickle_node *node;
    ts_pickle_run *run;
    uint64_t at;       /* in the run */
    uint64_t position; /* in the container */
    size_t name_size;  /* of the container's own name */
} level;

typedef struct {
    const ts_torch *torch;
    ts_file *file;
    uint32_t index;
    ts_draft *draft; /* NULL: only count rows */
    ts_arena *arena;
    uint64_t left; /* bytes that names and values may still take */
    uint32_t rows; /* seen so far */
    uint32_t stop_at; /* TS_CANCELLED at this row, standing on it */
    level levels[TS_MAX_DEPTH];
    size_t depth;
    char name[TS_MAX_NAME + 1];
    size_t name_size;
    ts_error *error;
} walker;

/* Through its memo a small pickle may show one object in many places, and a
 * long key may stand before many values.  What a checkpoint costs stays in
 * proportion to its pickle all the same.  A row or value is charged with what
 * the catalog keeps for it, its place in the index of names included. */
enum {
    COST_A_BYTE = 48,
    COST_FREE = 1 << 19,
    COST_VALUE = 2 * sizeof(ts_value) + 64,
    COST_ROW = 2 * sizeof(ts_tensor) + 64,
};

static ts_status too_dear(walker *w)
{
    return ts_fail(w->error, TS_FORMAT,
                   "pickle shows the same objects in so many places that "
                   "names and values grow past %d times its size",
                   COST_A_BYTE);
}

static ts_status charge(walker *w, uint64_t size)
{
    if (size > w->left) return too_dear(w);
    w->left -= size;
    return TS_OK;
}

/* ---- names ------------------------------------------------------------- */

static ts_name current(const walker *w)
{
    return (ts_name){w->name, w->name_size};
}

static ts_status extend(walker *w, const char *bytes, uint64_t size)
{
    size_t dot = w->depth > 1; /* not before the keys of the outermost */

    if (size > TS_MAX_NAME || w->name_size + dot + size > TS_MAX_NAME)
        return ts_fail(w->error, TS_FORMAT,
                       "dotted name is longer than %d bytes", TS_MAX_NAME);
    if (dot == 1) w->name[w->name_size++] = '.';
    if (size > 0) memcpy(w->name + w->name_size, bytes, (size_t)size);
    w->name_size += (size_t)size;
    return TS_OK;
}

static ts_status extend_by_key(walker *w, const ts_pickle_node *key,
                               uint64_t position)
{
    char text[40];

    if (key != NULL && key->kind == TS_PICKLE_STRING)
        return extend(w, (const char *)key->bytes, key->size);
    if (key == NULL)
        snprintf(text, sizeof text, "%llu", (unsigned long long)position);
    else if (key->kind == TS_PICKLE_INT)
        snprintf(text, sizeof text, "%lld", (long long)key->i);
    else if (key->kind == TS_PICKLE_FLOAT)
        snprintf(text, sizeof text, "%.17g", key->f);
    else if (key->kind == TS_PICKLE_BOOL)
        snprintf(text, sizeof text, "%s", key->i ? "True" : "False");
    else if (key->kind == TS_PICKLE_NONE)
        snprintf(text, sizeof text, "None");
    else /* a tuple or the like has no short name but its place */
        snprintf(text, sizeof text, "#%llu", (unsigned long long)position);
    return extend(w, text, strlen(text));
}

/* A checkpoint that is one tensor has no name for it; its file has one. */
static void name_after_file(walker *w)
{
    ts_name stem = ts_stem_of(ts_file_path(w->file));
    w->name_size = (size_t)ts_min(stem.size, TS_MAX_NAME);
    memcpy(w->name, stem.bytes, w->name_size);
}

/* ---- two tensors of one name ------------------------------------------- */

static ts_status walk(walker *w);

/* The place where the walker stands, key by key: 'a' > 'b.c' */
static void describe(const walker *w, char *out, size_t room)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < w->depth && used < room; i++) {
        size_t from = w->levels[i].name_size + (i > 0);
        size_t to = i + 1 < w->depth ? w->levels[i + 1].name_size
                                     : w->name_size;
        int more = snprintf(out + used, room - used, "%s'%.*s'",
                            i > 0 ? " > " : "", (int)(to - from),
                            w->name + from);
        used += more > 0 ? (size_t)more : 0;
    }
}

static void leave_all(walker *w)
{
    for (size_t i = 0; i < w->depth; i++) w->levels[i].node->entered = false;
}

/* A row of the same name is there already: say which two objects would share
 * it.  Where the first one stood is found by walking to it again. */
static ts_status explain(walker *w, uint32_t twin)
{
    uint32_t first = ts_draft_count(w->draft) - w->rows;
    char here[100], there[100] = "";
    walker *again;

    describe(w, here, sizeof here);
    if (twin >= first) {
        TS_TRY(ts_arena_take_array(w->arena, 1, sizeof *again, &again,
                                   w->error));
        again->torch = w->torch;
        again->error = w->error;
        again->left = UINT64_MAX; /* this far it has been walked already */
        again->stop_at = twin - first;
        leave_all(w);
        (void)walk(again);
        describe(again, there, sizeof there);
    }
    return ts_fail(w->error, TS_FORMAT,
                   "%s%s%s would both be the tensor '%.*s'", there,
                   there[0] != '\0' ? " and " : "another file's tensor and ",
                   here, (int)ts_min(w->name_size, 60), w->name);
}

/* ---- rows and values --------------------------------------------------- */

static ts_status add_row(walker *w, const ts_pickle_node *node)
{
    ts_tensor row = {.name = current(w), .file = w->index};
    uint32_t twin;

    TS_TRY(ts_check_name(row.name, "tensor's name", TS_NO_OFFSET, w->error));
    if (ts_draft_find(w->draft, row.name, &twin)) return explain(w, twin);
    TS_TRY(ts_torch_tensor(w->torch, node, w->arena, &row, w->error));
    TS_TRY(charge(w, COST_ROW + row.name.size + 32 * (uint64_t)row.ndim));
    return ts_draft_tensor(w->draft, &row, TS_NO_OFFSET, w->error);
}

static ts_status emit_tensor(walker *w, const ts_pickle_node *node)
{
    if (w->rows == w->stop_at) return TS_CANCELLED;
    if (w->rows == TS_MAX_TENSORS)
        return ts_fail(w->error, TS_FORMAT, "holds more than %d tensors",
                       TS_MAX_TENSORS);
    ts_status status = w->draft != NULL ? add_row(w, node) : TS_OK;
    w->rows++;
    return ts_error_in_tensor(w->error, status, w->name, w->name_size);
}

static ts_status emit_value(walker *w, const ts_pickle_node *node)
{
    ts_value value;

    if (w->draft == NULL) return TS_OK;
    TS_TRY(charge(w, COST_VALUE + w->name_size));
    TS_TRY(ts_torch_value(node, w->arena, &w->left, &value, w->error));
    if (w->left == 0) return too_dear(w);
    value.key = current(w);
    TS_TRY(charge(w, value.size));
    return ts_draft_value(w->draft, &value, TS_NO_OFFSET, w->error);
}

/* ---- walking ----------------------------------------------------------- */

static bool is_container(const ts_pickle_node *node)
{
    return node->kind == TS_PICKLE_DICT || node->kind == TS_PICKLE_LIST
        || node->kind == TS_PICKLE_TUPLE;
}

static ts_status enter(walker *w, ts_pickle_node *node)
{
    if (node->entered)
        return ts_fail(w->error, TS_FORMAT,
                       "pickle holds a container that is inside itself, at "
                       "'%.*s'", (int)ts_min(w->name_size, 100), w->name);
    if (w->depth == TS_MAX_DEPTH)
        return ts_fail(w->error, TS_FORMAT,
                       "pickle nests containers deeper than %d",
                       TS_MAX_DEPTH);
    node->entered = true;
    w->levels[w->depth++] = (level){.node = node, .run = node->first,
                                    .name_size = w->name_size};
    return TS_OK;
}

/* A namespace of options is as good as the dict of its attributes. */
static ts_pickle_node *see_through(ts_pickle_node *node)
{
    if (ts_torch_calls(node, TS_TORCH_NAMESPACE) && node->state != NULL
        && node->state->kind == TS_PICKLE_DICT)
        return node->state;
    return node;
}

static ts_status visit(walker *w, ts_pickle_node *node)
{
    node = see_through(node);
    TS_TRY(charge(w, 1));
    if (ts_torch_is_tensor(node)) return emit_tensor(w, node);
    if (!is_container(node)) return emit_value(w, node);
    if (w->depth == 0 || !ts_torch_is_flat(node)) return enter(w, node);
    TS_TRY(charge(w, node->count));
    return emit_value(w, node);
}

/* One step: the next item of the innermost container, or out of it. */
static ts_status advance(walker *w)
{
    level *top = &w->levels[w->depth - 1];
    ts_pickle_node *key = NULL;

    if (top->run != NULL && top->at == top->run->count) {
        top->run = top->run->next;
        top->at = 0;
    }
    if (top->run == NULL) {
        top->node->entered = false;
        w->depth--;
        return TS_OK;
    }
    if (top->node->kind == TS_PICKLE_DICT) key = top->run->items[top->at++];
    ts_pickle_node *item = top->run->items[top->at++];
    w->name_size = top->name_size;
    TS_TRY(extend_by_key(w, key, top->position++));
    return visit(w, item);
}

static ts_status walk(walker *w)
{
    ts_pickle_node *root = see_through(w->torch->pickle.root);

    if (!ts_torch_is_tensor(root) && !is_container(root))
        return ts_fail(w->error, TS_FORMAT,
                       "pickle holds neither a tensor nor a container");
    ts_status status = visit(w, root);
    while (status == TS_OK && w->depth > 0) status = advance(w);
    leave_all(w);
    return status;
}

static ts_status walk_all(walker *w, uint64_t size)
{
    w->left = COST_A_BYTE * size + COST_FREE;
    w->rows = 0;
    w->stop_at = UINT32_MAX;
    w->name_size = 0;
    if (ts_torch_is_tensor(w->torch->pickle.root)) name_after_file(w);
    return walk(w);
}

/* Once to count, so that the index of names is made in its final size. */
ts_status ts_torch_rows(const ts_torch *torch, uint64_t size, ts_file *file,
                        uint32_t index, ts_draft *draft, ts_arena *arena,
                        ts_error *error)
{
    walker *w;

    TS_TRY(ts_arena_take_array(arena, 1, sizeof *w, &w, error));
    w->torch = torch;
    w->file = file;
    w->index = index;
    w->arena = arena;
    w->error = error;
    TS_TRY(walk_all(w, size));
    TS_TRY(ts_draft_expect(draft, w->rows, error));
    w->draft = draft;
    return walk_all(w, size);
}
