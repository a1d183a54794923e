/* pickle.h -- private to formats/: read a pickle as data, never as a program.
 *
 *     bytes --ts_pickle_read--> a tree of nodes in an arena
 *
 * A pickle is a program for a stack machine, and two of its instructions may
 * name and call any function there is.  This machine has no functions.  A
 * global that the caller lists becomes a node that says it was named, or
 * called and with what; any other is an error.  Containers may be shared or
 * even hold themselves: who walks the tree bounds the walk. */
#ifndef TS_FORMATS_PICKLE_H
#define TS_FORMATS_PICKLE_H

#include <stdbool.h>

#include "core/arena.h"

typedef enum {
    TS_PICKLE_NONE,
    TS_PICKLE_BOOL,       /* .i */
    TS_PICKLE_INT,        /* .i */
    TS_PICKLE_BIG,        /* .bytes, .size: little-endian two's complement */
    TS_PICKLE_FLOAT,      /* .f */
    TS_PICKLE_STRING,     /* .bytes, .size: as in the file, not checked */
    TS_PICKLE_BYTES,      /* .bytes, .size */
    TS_PICKLE_LIST,       /* .count items; sets too */
    TS_PICKLE_TUPLE,      /* .count items */
    TS_PICKLE_DICT,       /* .count items: key, value, key, value ... */
    TS_PICKLE_GLOBAL,     /* .number: its row in the caller's list */
    TS_PICKLE_CALL,       /* .number, .arguments (a tuple), .state or NULL */
    TS_PICKLE_PERSISTENT, /* .arguments: the id; .number: how many before */
} ts_pickle_kind;

typedef struct ts_pickle_node ts_pickle_node;

/* The items that one instruction added.  Kept as they came, so that building
 * a container never copies. */
typedef struct ts_pickle_run {
    struct ts_pickle_run *next;
    uint64_t count;
    ts_pickle_node *items[];
} ts_pickle_run;

struct ts_pickle_node {
    uint8_t kind;
    bool entered; /* for the walker: it stands inside this container */
    union {
        uint32_t count;
        uint32_t number;
    };
    union {
        int64_t i;
        double f;
        const uint8_t *bytes; /* borrowed: in the pickle itself */
        ts_pickle_run *first;
        ts_pickle_node *arguments;
    };
    union {
        uint64_t size;
        ts_pickle_run *last;
        ts_pickle_node *state; /* of a call */
        ts_pickle_node *next;  /* the persistent id before this one */
    };
};

/* What a listed global is good for. */
typedef enum {
    TS_PICKLE_NAMED, /* may be named, not called: types, dtypes, storages */
    TS_PICKLE_CALLED, /* may be called: gives a TS_PICKLE_CALL */
    TS_PICKLE_MAKES_DICT,
    TS_PICKLE_MAKES_LIST,
} ts_pickle_use;

typedef struct {
    const char *module, *name;
    uint8_t use;
    uint8_t what, detail; /* the caller's own */
} ts_pickle_global;

typedef struct {
    ts_pickle_node *root;
    ts_pickle_node *persistent; /* the last one; chained by .next */
    uint32_t persistent_count;
    size_t used; /* bytes of the pickle, STOP included */
    bool cut;    /* it failed because the bytes ended before STOP */
} ts_pickle;

/* Nodes come from the arena and point into bytes, which must outlive them.
 * Takes at most about 56 bytes of memory a byte of pickle. */
ts_status ts_pickle_read(const uint8_t *bytes, size_t size,
                         const ts_pickle_global *globals, size_t count,
                         ts_arena *arena, ts_pickle *out, ts_error *error);

/* Item `index` of a list, tuple or dict; NULL when there are not so many.
 * Steps over runs, so it is for short ones. */
ts_pickle_node *ts_pickle_item(const ts_pickle_node *node, uint32_t index);

#endif
