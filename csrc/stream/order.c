/* order.c -- rows in the order of the file, or of a forward pass. */
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "layers.h"
#include "plan.h"

typedef struct {
    uint64_t offset;
    uint32_t file, row;
    uint32_t stack; /* rank: encoders first, then by first appearance */
    int32_t layer;
    uint8_t phase, step;
} key;

/* Within a layer, and before and after the layers: how early a kind is met.
 * Which of two norms comes first a name does not say. */
static const uint8_t steps[TS_KIND_COUNT] = {
    [TS_KIND_EMBEDDING] = 0, [TS_KIND_NORMALIZATION] = 1,
    [TS_KIND_ATTENTION] = 2, [TS_KIND_MLP] = 3,
    [TS_KIND_OTHER] = 4,     [TS_KIND_OUTPUT] = 5,
};

static int by(uint64_t a, uint64_t b) { return a < b ? -1 : a > b; }

static int compare_file(const void *left, const void *right)
{
    const key *a = left, *b = right;
    int order = by(a->file, b->file);
    if (order == 0) order = by(a->offset, b->offset);
    return order != 0 ? order : by(a->row, b->row);
}

static int compare_layer(const void *left, const void *right)
{
    const key *a = left, *b = right;
    int order = by(a->phase, b->phase);
    if (order == 0) order = by(a->stack, b->stack);
    if (order == 0) order = a->layer < b->layer ? -1 : a->layer > b->layer;
    if (order == 0) order = by(a->step, b->step);
    return order != 0 ? order : compare_file(left, right);
}

static bool holds(ts_name name, uint32_t size, const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i + length <= size; i++)
        if (memcmp(name.bytes + i, word, length) == 0) return true;
    return false;
}

/* Encoders and vision towers run before what reads their output. */
static uint32_t rank(ts_name name, uint32_t size, uint32_t appearance)
{
    bool first = !holds(name, size, "decoder")
              && (holds(name, size, "encoder") || holds(name, size, "vision")
                  || holds(name, size, "visual"));
    return appearance + (first ? 0 : UINT32_MAX / 2);
}

static ts_status fill(const ts_catalog *catalog, const uint32_t *rows,
                      uint32_t count, key *keys, ts_error *error)
{
    ts_arena *arena;
    ts_names *stacks;

    TS_TRY(ts_arena_new(&arena, error));
    ts_status status = ts_names_new(arena, count, &stacks, error);
    for (uint32_t i = 0; status == TS_OK && i < count; i++) {
        const ts_tensor *tensor = ts_catalog_tensor(catalog, rows[i]);
        ts_role role;
        uint32_t appearance;
        bool added;
        ts_role_of(tensor->name, &role);
        ts_names_add(stacks, (ts_name){tensor->name.bytes, role.stack},
                     &appearance, &added);
        keys[i] = (key){tensor->offset,
                        tensor->file,
                        rows[i],
                        rank(tensor->name, role.stack, appearance),
                        role.layer,
                        role.phase,
                        steps[role.kind]};
    }
    ts_arena_free(arena);
    return status;
}

ts_status ts_order_rows(const ts_catalog *catalog, ts_order order,
                        uint32_t *rows, uint32_t count, ts_error *error)
{
    key *keys;

    if (order == TS_ORDER_GIVEN || count < 2) return TS_OK;
    keys = malloc(count * sizeof *keys);
    if (keys == NULL)
        return ts_fail(error, TS_NOMEM, "cannot sort %u tensors", count);
    ts_status status = fill(catalog, rows, count, keys, error);
    if (status == TS_OK) {
        qsort(keys, count, sizeof *keys,
              order == TS_ORDER_FILE ? compare_file : compare_layer);
        for (uint32_t i = 0; i < count; i++) rows[i] = keys[i].row;
    }
    free(keys);
    return status;
}
