#include "names.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base.h"

#define EMPTY UINT32_MAX

/* A slot holds a number in the bits of the mask and, above them, the same bits
 * of the name's hash: most names that are not the one are told apart without
 * being looked at.  No number fills its bits, so no slot looks EMPTY. */
struct ts_names {
    uint64_t seed, key;
    uint32_t mask;
    uint32_t count, capacity;
    uint32_t *slots; /* mask + 1 */
    ts_name *rows;
};

/* Multiply and fold, 16 bytes at a time, as in wyhash: quick on names of 20 to
 * 80 bytes, and without the two keys nobody outside can aim at a slot. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash(const ts_names *names, ts_name name)
{
    uint64_t state = names->seed ^ name.size, tail[2] = {0, 0};
    const char *at = name.bytes;
    size_t left = name.size;

    for (; left >= 16; left -= 16, at += 16)
        state = fold(state ^ ts_load_u64(at),
                     names->key ^ ts_load_u64(at + 8));
    memcpy(tail, at, left);
    state = fold(state ^ tail[0], names->key ^ tail[1]);
    state = fold(state, 0xE7037ED1A0B428DBu);
    return (uint32_t)(state ^ (state >> 32));
}

static void draw(ts_names *names)
{
    uint64_t keys[2];

    if (getrandom(keys, sizeof keys, GRND_NONBLOCK)
        != (ssize_t)sizeof keys) {
        keys[0] = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u;
        keys[1] = (uint64_t)(uintptr_t)names * 0xE7037ED1A0B428DBu;
    }
    names->seed = keys[0];
    names->key = keys[1];
}

ts_status ts_names_new(ts_arena *arena, uint32_t capacity, ts_names **out,
                       ts_error *error)
{
    ts_names *names;
    uint64_t slots = 16;

    /* At most two in three are taken, and fewer misses than with more. */
    while (slots < (uint64_t)capacity + capacity / 2) slots *= 2;
    TS_TRY(ts_arena_take_array(arena, 1, sizeof *names, &names, error));
    TS_TRY(ts_arena_take(arena, slots * sizeof *names->slots, &names->slots,
                         error));
    TS_TRY(ts_arena_take(arena, (uint64_t)capacity * sizeof *names->rows,
                         &names->rows, error));
    memset(names->slots, 0xFF, slots * sizeof *names->slots);
    names->mask = (uint32_t)(slots - 1);
    names->capacity = capacity;
    draw(names);
    *out = names;
    return TS_OK;
}

/* The slot that holds name, or the empty one where it belongs. */
static uint32_t *slot_of(const ts_names *names, ts_name name, uint32_t code)
{
    uint32_t mask = names->mask;

    for (uint32_t i = code & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &names->slots[i];
        if (*slot == EMPTY) return slot;
        if (((*slot ^ code) & ~mask) != 0) continue;
        const ts_name *row = &names->rows[*slot & mask];
        if (row->size == name.size
            && memcmp(row->bytes, name.bytes, name.size) == 0)
            return slot;
    }
}

uint32_t ts_names_hash(const ts_names *names, ts_name name)
{
    uint32_t code = hash(names, name);

    __builtin_prefetch(&names->slots[code & names->mask], 1);
    return code;
}

void ts_names_add_hashed(ts_names *names, ts_name name, uint32_t code,
                         uint32_t *found, bool *added)
{
    uint32_t *slot = slot_of(names, name, code);

    *added = *slot == EMPTY;
    if (*added) {
        assert(names->count < names->capacity);
        names->rows[names->count] = name;
        *slot = (code & ~names->mask) | names->count++;
    }
    *found = *slot & names->mask;
}

void ts_names_add(ts_names *names, ts_name name, uint32_t *found, bool *added)
{
    ts_names_add_hashed(names, name, hash(names, name), found, added);
}

bool ts_names_find(const ts_names *names, ts_name name, uint32_t *found)
{
    uint32_t *slot = slot_of(names, name, hash(names, name));
    if (*slot == EMPTY) return false;
    *found = *slot & names->mask;
    return true;
}
