/* names.h -- find a row by its name: an index over strings held elsewhere.
 *
 * Open addressing over 32-bit row numbers.  The hash is keyed with a random
 * number drawn per index, so a hostile file cannot choose colliding names. */
#ifndef TS_CORE_NAMES_H
#define TS_CORE_NAMES_H

#include <stdbool.h>

#include "arena.h"

typedef struct {
    const char *bytes; /* borrowed: in the same arena as the index */
    size_t size;
} ts_name;

typedef struct ts_names ts_names;

/* Room for `capacity` names; memory comes from the arena. */
ts_status ts_names_new(ts_arena *arena, uint32_t capacity, ts_names **out,
                       ts_error *error);

/* Add `name` as number 0, 1, 2 ... in the order of the calls.  When the name
 * is already there nothing is added and *found is its number; else *found is
 * the new number and *added is true.  At most capacity names. */
void ts_names_add(ts_names *names, ts_name name, uint32_t *found,
                  bool *added);

/* The same in two halves, for who has something to do while the slot comes
 * from memory: hash, which also asks for it, then add. */
uint32_t ts_names_hash(const ts_names *names, ts_name name);
void ts_names_add_hashed(ts_names *names, ts_name name, uint32_t code,
                         uint32_t *found, bool *added);

bool ts_names_find(const ts_names *names, ts_name name, uint32_t *found);

#endif
