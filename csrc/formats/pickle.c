#include "pickle.h"

#include <stdlib.h>

#include "core/base.h"

typedef struct {
    const uint8_t *bytes;
    size_t size, at;
    const ts_pickle_global *globals;
    size_t global_count;
    ts_arena *arena;
    ts_pickle_node **stack; /* owned; NULL in it is a mark */
    size_t height, room;
    ts_pickle_node **memo; /* owned; NULL where nothing was put */
    size_t memo_room, memo_count;
    uint64_t copied; /* pairs that were copied from lists into dicts */
    ts_pickle_node *none, *yes, *no, *empty;
    ts_pickle *out;
    ts_error *error;
} machine;

/* ---- bytes ------------------------------------------------------------ */

static ts_status ended(machine *vm)
{
    vm->out->cut = true;
    return ts_fail_at(vm->error, TS_FORMAT, vm->size,
                      "pickle ends after %zu bytes, before its STOP",
                      vm->size);
}

static ts_status take(machine *vm, uint64_t size, const uint8_t **out)
{
    if (size > vm->size - vm->at) return ended(vm);
    *out = vm->bytes + vm->at;
    vm->at += (size_t)size;
    return TS_OK;
}

/* A little-endian number of 1, 2, 4 or 8 bytes. */
static ts_status take_number(machine *vm, size_t width, uint64_t *out)
{
    const uint8_t *at;
    TS_TRY(take(vm, width, &at));
    *out = 0;
    memcpy(out, at, width);
    return TS_OK;
}

static ts_status take_line(machine *vm, const uint8_t **out, size_t *size)
{
    const uint8_t *from = vm->bytes + vm->at;
    const uint8_t *end = memchr(from, '\n', vm->size - vm->at);
    if (end == NULL) return ended(vm);
    *out = from;
    *size = (size_t)(end - from);
    vm->at += *size + 1;
    return TS_OK;
}

/* ---- nodes, stack, memo ------------------------------------------------ */

static ts_status make(machine *vm, ts_pickle_kind kind, ts_pickle_node **out)
{
    TS_TRY(ts_arena_take_array(vm->arena, 1, sizeof **out, out, vm->error));
    (*out)->kind = (uint8_t)kind;
    return TS_OK;
}

/* Doubles an array of pointers so that `need` fit; new ones are NULL. */
static ts_status grow(machine *vm, ts_pickle_node ***array, size_t *room,
                      size_t need)
{
    size_t larger = *room < 64 ? 64 : *room;
    while (larger < need) larger *= 2;
    ts_pickle_node **moved = realloc(*array, larger * sizeof *moved);
    if (moved == NULL)
        return ts_fail(vm->error, TS_NOMEM, "cannot allocate %zu bytes",
                       larger * sizeof *moved);
    memset(moved + *room, 0, (larger - *room) * sizeof *moved);
    *array = moved;
    *room = larger;
    return TS_OK;
}

static ts_status push(machine *vm, ts_pickle_node *node)
{
    if (vm->height == vm->room)
        TS_TRY(grow(vm, &vm->stack, &vm->room, vm->height + 1));
    vm->stack[vm->height++] = node;
    return TS_OK;
}

static ts_status push_new(machine *vm, ts_pickle_kind kind)
{
    ts_pickle_node *node;
    TS_TRY(make(vm, kind, &node));
    return push(vm, node);
}

static ts_status too_few(machine *vm)
{
    return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                      "pickle instruction before byte %zu finds too little "
                      "on the stack", vm->at);
}

/* The node below the top by `below`; a mark is nobody's operand. */
static ts_status peek(machine *vm, size_t below, ts_pickle_node **out)
{
    if (vm->height <= below) return too_few(vm);
    *out = vm->stack[vm->height - 1 - below];
    return *out != NULL ? TS_OK : too_few(vm);
}

static ts_status pop(machine *vm, ts_pickle_node **out)
{
    TS_TRY(peek(vm, 0, out));
    vm->height--;
    return TS_OK;
}

/* How many nodes lie above the topmost mark.  Whoever asks pops them all, so
 * the search costs nothing in the long run. */
static ts_status above_mark(machine *vm, size_t *count)
{
    for (size_t i = vm->height; i > 0; i--)
        if (vm->stack[i - 1] == NULL) {
            *count = vm->height - i;
            return TS_OK;
        }
    return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                      "pickle instruction before byte %zu finds no mark",
                      vm->at);
}

/* An index is at most the size of the pickle, because each entry costs an
 * instruction: so a memo stays in proportion. */
static ts_status put(machine *vm, uint64_t index)
{
    ts_pickle_node *top;
    TS_TRY(peek(vm, 0, &top));
    if (index >= vm->size)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle puts memo entry %llu, but has %zu bytes",
                          (unsigned long long)index, vm->size);
    if (index >= vm->memo_room)
        TS_TRY(grow(vm, &vm->memo, &vm->memo_room, (size_t)index + 1));
    if (vm->memo[index] == NULL) vm->memo_count++;
    vm->memo[index] = top;
    return TS_OK;
}

static ts_status get(machine *vm, uint64_t index)
{
    if (index >= vm->memo_room || vm->memo[index] == NULL)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle gets memo entry %llu, which it never put",
                          (unsigned long long)index);
    return push(vm, vm->memo[index]);
}

/* ---- containers -------------------------------------------------------- */

/* Move the topmost `count` nodes of the stack into the container. */
static ts_status append(machine *vm, ts_pickle_node *into, size_t count)
{
    ts_pickle_run *run;

    if (count == 0) return TS_OK;
    if (count > UINT32_MAX - into->count)
        return ts_fail(vm->error, TS_FORMAT, "pickle has too many items");
    TS_TRY(ts_arena_take(vm->arena, sizeof *run + count * sizeof *run->items,
                         &run, vm->error));
    vm->height -= count;
    run->next = NULL;
    run->count = count;
    memcpy(run->items, vm->stack + vm->height, count * sizeof *run->items);
    if (into->last == NULL) into->first = run;
    else into->last->next = run;
    into->last = run;
    into->count += (uint32_t)count;
    return TS_OK;
}

/* A new container from the topmost `count` nodes. */
static ts_status gather(machine *vm, ts_pickle_kind kind, size_t count)
{
    ts_pickle_node *node;
    for (size_t i = 0; i < count; i++) {
        ts_pickle_node *item;
        TS_TRY(peek(vm, i, &item));
    }
    if (kind == TS_PICKLE_TUPLE && count == 0) return push(vm, vm->empty);
    TS_TRY(make(vm, kind, &node));
    TS_TRY(append(vm, node, count));
    return push(vm, node);
}

static ts_status gather_to_mark(machine *vm, ts_pickle_kind kind)
{
    size_t count;
    ts_pickle_node *node;
    TS_TRY(above_mark(vm, &count));
    if (kind == TS_PICKLE_DICT && count % 2 != 0) return too_few(vm);
    TS_TRY(gather(vm, kind, count));
    TS_TRY(pop(vm, &node));
    vm->stack[vm->height - 1] = node; /* where the mark was */
    return TS_OK;
}

static ts_status add_to(machine *vm, ts_pickle_kind kind, size_t count,
                        bool marked)
{
    ts_pickle_node *into;
    if (vm->height < count + marked + 1) return too_few(vm);
    into = vm->stack[vm->height - count - marked - 1];
    if (into == NULL) return too_few(vm);
    if (into->kind != kind)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle adds items to something that is no %s",
                          kind == TS_PICKLE_DICT ? "dict" : "list");
    if (kind == TS_PICKLE_DICT && count % 2 != 0) return too_few(vm);
    for (size_t i = 0; i < count; i++) {
        ts_pickle_node *item;
        TS_TRY(peek(vm, i, &item));
    }
    TS_TRY(append(vm, into, count));
    vm->height -= marked;
    return TS_OK;
}

static ts_status add_to_marked(machine *vm, ts_pickle_kind kind)
{
    size_t count;
    TS_TRY(above_mark(vm, &count));
    return add_to(vm, kind, count, true);
}

static bool is_sequence(const ts_pickle_node *node)
{
    return node->kind == TS_PICKLE_LIST || node->kind == TS_PICKLE_TUPLE;
}

/* Python 2 wrote OrderedDict([[key, value], ...]).  A pickle may name one list
 * again and again, so what is copied is bounded as well. */
static ts_status dict_from_pairs(machine *vm, const ts_pickle_node *list)
{
    size_t base = vm->height;

    vm->copied += list->count;
    if (vm->copied > vm->size)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle copies lists into dicts over and over");
    for (ts_pickle_run *run = list->first; run != NULL; run = run->next)
        for (uint64_t i = 0; i < run->count; i++) {
            ts_pickle_node *pair = run->items[i];
            if (!is_sequence(pair) || pair->count != 2)
                return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                                  "pickle makes a dict from a list that "
                                  "holds something else than pairs");
            TS_TRY(push(vm, ts_pickle_item(pair, 0)));
            TS_TRY(push(vm, ts_pickle_item(pair, 1)));
        }
    return gather(vm, TS_PICKLE_DICT, vm->height - base);
}

ts_pickle_node *ts_pickle_item(const ts_pickle_node *node, uint32_t index)
{
    uint64_t left = index;
    for (ts_pickle_run *run = node->first; run != NULL; run = run->next) {
        if (left < run->count) return run->items[left];
        left -= run->count;
    }
    return NULL;
}

/* ---- names and calls --------------------------------------------------- */

/* A name out of the file goes into a sentence only in plain characters. */
static const char *printable(const uint8_t *bytes, size_t size, char *out,
                             size_t room)
{
    size_t i = 0;
    for (; i < size && i + 1 < room; i++)
        out[i] = bytes[i] > ' ' && bytes[i] < 0x7F ? (char)bytes[i] : '?';
    out[i] = '\0';
    return out;
}

static bool same(const char *text, const uint8_t *bytes, size_t size)
{
    return strlen(text) == size && memcmp(text, bytes, size) == 0;
}

static ts_status push_global(machine *vm, const uint8_t *module,
                             size_t module_size, const uint8_t *name,
                             size_t name_size)
{
    char a[80], b[80];
    for (size_t i = 0; i < vm->global_count; i++) {
        const ts_pickle_global *row = &vm->globals[i];
        if (!same(row->name, name, name_size)
            || !same(row->module, module, module_size))
            continue;
        TS_TRY(push_new(vm, TS_PICKLE_GLOBAL));
        vm->stack[vm->height - 1]->number = (uint32_t)i;
        return TS_OK;
    }
    return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                      "pickle asks for %s.%s, which would run code; only "
                      "tensors and plain values are read",
                      printable(module, module_size, a, sizeof a),
                      printable(name, name_size, b, sizeof b));
}

static ts_status global(machine *vm)
{
    const uint8_t *module, *name;
    size_t module_size, name_size;
    TS_TRY(take_line(vm, &module, &module_size));
    TS_TRY(take_line(vm, &name, &name_size));
    return push_global(vm, module, module_size, name, name_size);
}

static ts_status stack_global(machine *vm)
{
    ts_pickle_node *module, *name;
    TS_TRY(pop(vm, &name));
    TS_TRY(pop(vm, &module));
    if (module->kind != TS_PICKLE_STRING || name->kind != TS_PICKLE_STRING)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle names a global by something else than "
                          "strings");
    return push_global(vm, module->bytes, module->size, name->bytes,
                       name->size);
}

static ts_status make_dict(machine *vm, const ts_pickle_node *arguments)
{
    ts_pickle_node *from = NULL;
    if (arguments->count > 0)
        from = ts_pickle_item(arguments, arguments->count - 1);
    if (from != NULL && from->kind == TS_PICKLE_DICT) return push(vm, from);
    if (from != NULL && is_sequence(from)) return dict_from_pairs(vm, from);
    return push_new(vm, TS_PICKLE_DICT); /* a defaultdict's factory */
}

static ts_status make_list(machine *vm, const ts_pickle_node *arguments)
{
    ts_pickle_node *from = ts_pickle_item(arguments, 0);
    if (from != NULL && is_sequence(from)) return push(vm, from);
    return push_new(vm, TS_PICKLE_LIST);
}

/* REDUCE and NEWOBJ: what would call a function says so instead. */
static ts_status call(machine *vm)
{
    ts_pickle_node *function, *arguments, *node;
    TS_TRY(pop(vm, &arguments));
    TS_TRY(pop(vm, &function));
    if (function->kind != TS_PICKLE_GLOBAL
        || arguments->kind != TS_PICKLE_TUPLE)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle calls something that is no listed global");
    const ts_pickle_global *row = &vm->globals[function->number];
    switch ((ts_pickle_use)row->use) {
    case TS_PICKLE_MAKES_DICT: return make_dict(vm, arguments);
    case TS_PICKLE_MAKES_LIST: return make_list(vm, arguments);
    case TS_PICKLE_NAMED:
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle calls %s.%s, which would run code",
                          row->module, row->name);
    case TS_PICKLE_CALLED: break;
    }
    TS_TRY(make(vm, TS_PICKLE_CALL, &node));
    node->number = function->number;
    node->arguments = arguments;
    return push(vm, node);
}

/* BUILD gives an object its attributes.  Those of a dict (the versions that a
 * state_dict carries) say nothing about tensors; a call keeps them. */
static ts_status build(machine *vm)
{
    ts_pickle_node *state, *object;
    TS_TRY(pop(vm, &state));
    TS_TRY(peek(vm, 0, &object));
    if (object->kind == TS_PICKLE_CALL) object->state = state;
    else if (object->kind != TS_PICKLE_DICT)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle sets attributes of a plain value");
    return TS_OK;
}

static ts_status persistent(machine *vm)
{
    ts_pickle_node *id, *node;
    TS_TRY(pop(vm, &id));
    TS_TRY(make(vm, TS_PICKLE_PERSISTENT, &node));
    node->arguments = id;
    node->number = vm->out->persistent_count++;
    node->next = vm->out->persistent;
    vm->out->persistent = node;
    return push(vm, node);
}

/* ---- values ------------------------------------------------------------ */

static ts_status push_int(machine *vm, int64_t value)
{
    TS_TRY(push_new(vm, TS_PICKLE_INT));
    vm->stack[vm->height - 1]->i = value;
    return TS_OK;
}

static ts_status push_number(machine *vm, size_t width)
{
    uint64_t value;
    TS_TRY(take_number(vm, width, &value));
    return push_int(vm, (int64_t)value);
}

static ts_status push_signed(machine *vm)
{
    uint64_t value;
    TS_TRY(take_number(vm, 4, &value));
    return push_int(vm, (int32_t)(uint32_t)value);
}

/* Big-endian, the only such number in the format. */
static ts_status push_float(machine *vm)
{
    const uint8_t *at;
    TS_TRY(take(vm, 8, &at));
    uint64_t bits = __builtin_bswap64(ts_load_u64(at));
    TS_TRY(push_new(vm, TS_PICKLE_FLOAT));
    memcpy(&vm->stack[vm->height - 1]->f, &bits, sizeof bits);
    return TS_OK;
}

/* Bytes after a length of `width` bytes. */
static ts_status push_bytes(machine *vm, ts_pickle_kind kind, size_t width)
{
    uint64_t size;
    const uint8_t *at;
    TS_TRY(take_number(vm, width, &size));
    TS_TRY(take(vm, size, &at));
    TS_TRY(push_new(vm, kind));
    vm->stack[vm->height - 1]->bytes = at;
    vm->stack[vm->height - 1]->size = size;
    return TS_OK;
}

static ts_status push_long(machine *vm, size_t width)
{
    uint64_t bits = 0;
    TS_TRY(push_bytes(vm, TS_PICKLE_BIG, width));
    ts_pickle_node *node = vm->stack[vm->height - 1];
    if (node->size > 8) return TS_OK;
    if (node->size > 0 && node->bytes[node->size - 1] >= 0x80)
        bits = UINT64_MAX;
    memcpy(&bits, node->bytes, node->size);
    node->kind = TS_PICKLE_INT;
    node->i = (int64_t)bits;
    return TS_OK;
}

/* ---- the machine ------------------------------------------------------- */

static ts_status protocol(machine *vm)
{
    uint64_t version;
    TS_TRY(take_number(vm, 1, &version));
    if (version > 5)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle protocol %llu is newer than 5",
                          (unsigned long long)version);
    return TS_OK;
}

static ts_status frame(machine *vm)
{
    uint64_t size;
    TS_TRY(take_number(vm, 8, &size));
    return size <= vm->size - vm->at ? TS_OK : ended(vm);
}

static ts_status pop_to_mark(machine *vm)
{
    size_t count;
    TS_TRY(above_mark(vm, &count));
    vm->height -= count + 1;
    return TS_OK;
}

static ts_status discard(machine *vm)
{
    if (vm->height == 0) return too_few(vm);
    vm->height--;
    return TS_OK;
}

static ts_status duplicate(machine *vm)
{
    ts_pickle_node *top;
    TS_TRY(peek(vm, 0, &top));
    return push(vm, top);
}

static ts_status put_number(machine *vm, size_t width)
{
    uint64_t index;
    TS_TRY(take_number(vm, width, &index));
    return put(vm, index);
}

static ts_status get_number(machine *vm, size_t width)
{
    uint64_t index;
    TS_TRY(take_number(vm, width, &index));
    return get(vm, index);
}

/* The instructions that torch.save writes at protocols 2 to 5.  Those that are
 * missing import (INST, OBJ, EXT) or are text (protocol 0). */
static ts_status step(machine *vm, uint8_t code)
{
    switch (code) {
    case 0x80: return protocol(vm);
    case 0x95: return frame(vm);
    case '(': return push(vm, NULL);
    case '0': return discard(vm);
    case '1': return pop_to_mark(vm);
    case '2': return duplicate(vm);
    case 'N': return push(vm, vm->none);
    case 0x88: return push(vm, vm->yes);
    case 0x89: return push(vm, vm->no);
    case 'J': return push_signed(vm);
    case 'K': return push_number(vm, 1);
    case 'M': return push_number(vm, 2);
    case 0x8A: return push_long(vm, 1);
    case 0x8B: return push_long(vm, 4);
    case 'G': return push_float(vm);
    case 'U': /* Python 2's str; and unicode */
    case 0x8C: return push_bytes(vm, TS_PICKLE_STRING, 1);
    case 'T':
    case 'X': return push_bytes(vm, TS_PICKLE_STRING, 4);
    case 0x8D: return push_bytes(vm, TS_PICKLE_STRING, 8);
    case 'C': return push_bytes(vm, TS_PICKLE_BYTES, 1);
    case 'B': return push_bytes(vm, TS_PICKLE_BYTES, 4);
    case 0x8E: /* bytes; a bytearray */
    case 0x96: return push_bytes(vm, TS_PICKLE_BYTES, 8);
    case ')': return push(vm, vm->empty);
    case 0x85: return gather(vm, TS_PICKLE_TUPLE, 1);
    case 0x86: return gather(vm, TS_PICKLE_TUPLE, 2);
    case 0x87: return gather(vm, TS_PICKLE_TUPLE, 3);
    case 't': return gather_to_mark(vm, TS_PICKLE_TUPLE);
    case ']': /* a list; a set */
    case 0x8F: return push_new(vm, TS_PICKLE_LIST);
    case 'a': return add_to(vm, TS_PICKLE_LIST, 1, false);
    case 'e': /* to a list; to a set */
    case 0x90: return add_to_marked(vm, TS_PICKLE_LIST);
    case 'l': /* a list; a frozenset */
    case 0x91: return gather_to_mark(vm, TS_PICKLE_LIST);
    case '}': return push_new(vm, TS_PICKLE_DICT);
    case 'd': return gather_to_mark(vm, TS_PICKLE_DICT);
    case 's': return add_to(vm, TS_PICKLE_DICT, 2, false);
    case 'u': return add_to_marked(vm, TS_PICKLE_DICT);
    case 'q': return put_number(vm, 1);
    case 'r': return put_number(vm, 4);
    case 0x94: return put(vm, vm->memo_count);
    case 'h': return get_number(vm, 1);
    case 'j': return get_number(vm, 4);
    case 'c': return global(vm);
    case 0x93: return stack_global(vm);
    case 'R': /* function(*arguments); class.__new__(class, *arguments) */
    case 0x81: return call(vm);
    case 'b': return build(vm);
    case 'Q': return persistent(vm);
    default:
        return ts_fail_at(vm->error, TS_FORMAT, vm->at - 1,
                          "pickle instruction 0x%02x at byte %zu is none "
                          "that a checkpoint needs", code, vm->at - 1);
    }
}

static ts_status run(machine *vm)
{
    TS_TRY(make(vm, TS_PICKLE_NONE, &vm->none));
    TS_TRY(make(vm, TS_PICKLE_BOOL, &vm->no));
    TS_TRY(make(vm, TS_PICKLE_BOOL, &vm->yes));
    TS_TRY(make(vm, TS_PICKLE_TUPLE, &vm->empty));
    vm->yes->i = 1;
    for (;;) {
        const uint8_t *code;
        TS_TRY(take(vm, 1, &code));
        if (*code == '.') break;
        TS_TRY(step(vm, *code));
    }
    vm->out->used = vm->at;
    TS_TRY(pop(vm, &vm->out->root));
    if (vm->height > 0)
        return ts_fail_at(vm->error, TS_FORMAT, vm->at,
                          "pickle leaves %zu values behind", vm->height);
    return TS_OK;
}

ts_status ts_pickle_read(const uint8_t *bytes, size_t size,
                         const ts_pickle_global *globals, size_t count,
                         ts_arena *arena, ts_pickle *out, ts_error *error)
{
    machine vm = {.bytes = bytes, .size = size, .globals = globals,
                  .global_count = count, .arena = arena, .out = out,
                  .error = error};
    *out = (ts_pickle){0};
    ts_status status = run(&vm);
    free(vm.stack);
    free(vm.memo);
    return status;
}
