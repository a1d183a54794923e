#include "names.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base.h"

#define EMPTY UINT32_MAX

struct ts_names {
    uint64_t seed;
    uint32_t mask;
    uint32_t count, capacity;
    uint32_t *slots;  /* mask + 1 numbers, or EMPTY */
    uint32_t *hashes; /* one a name: a cheap first comparison */
    ts_name *rows;
};

/* Multiply and fold, 8 bytes at a time, as in wyhash: quick on names of 20 to
 * 80 bytes, and without the seed nobody outside can aim at a slot. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash(uint64_t seed, ts_name name)
{
    uint64_t state = seed ^ name.size;
    const char *at = name.bytes;
    size_t left = name.size;

    for (; left >= 8; left -= 8, at += 8)
        state = fold(state ^ ts_load_u64(at), 0x9E3779B97F4A7C15u);
    uint64_t tail = 0;
    memcpy(&tail, at, left);
    state = fold(state ^ tail, 0xE7037ED1A0B428DBu);
    return (uint32_t)(state ^ (state >> 32));
}

ts_status ts_names_new(ts_arena *arena, uint32_t capacity, ts_names **out,
                       ts_error *error)
{
    ts_names *names;
    uint64_t slots = 16;

    while (slots < (uint64_t)capacity * 2) slots *= 2;
    TS_TRY(ts_arena_take_array(arena, 1, sizeof *names, &names, error));
    TS_TRY(ts_arena_take(arena, slots * sizeof *names->slots, &names->slots,
                         error));
    TS_TRY(ts_arena_take(arena, (uint64_t)capacity * sizeof *names->hashes,
                         &names->hashes, error));
    TS_TRY(ts_arena_take(arena, (uint64_t)capacity * sizeof *names->rows,
                         &names->rows, error));
    memset(names->slots, 0xFF, slots * sizeof *names->slots);
    names->mask = (uint32_t)(slots - 1);
    names->capacity = capacity;
    if (getrandom(&names->seed, sizeof names->seed, GRND_NONBLOCK)
        != (ssize_t)sizeof names->seed)
        names->seed = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u
                    ^ (uint64_t)(uintptr_t)names;
    *out = names;
    return TS_OK;
}

/* The slot that holds name, or the empty one where it belongs. */
static uint32_t *slot_of(const ts_names *names, ts_name name, uint32_t code)
{
    for (uint32_t i = code & names->mask;; i = (i + 1) & names->mask) {
        uint32_t *slot = &names->slots[i];
        if (*slot == EMPTY) return slot;
        const ts_name *row = &names->rows[*slot];
        if (names->hashes[*slot] == code && row->size == name.size
            && memcmp(row->bytes, name.bytes, name.size) == 0)
            return slot;
    }
}

uint32_t ts_names_hash(const ts_names *names, ts_name name)
{
    uint32_t code = hash(names->seed, name);

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
        names->hashes[names->count] = code;
        names->rows[names->count] = name;
        *slot = names->count++;
    }
    *found = *slot;
}

void ts_names_add(ts_names *names, ts_name name, uint32_t *found, bool *added)
{
    ts_names_add_hashed(names, name, hash(names->seed, name), found, added);
}

bool ts_names_find(const ts_names *names, ts_name name, uint32_t *found)
{
    uint32_t *slot = slot_of(names, name, hash(names->seed, name));
    if (*slot == EMPTY) return false;
    *found = *slot;
    return true;
}
