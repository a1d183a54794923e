/* tape.h -- a forward pass on paper: which tensors autograd keeps.
 *
 * A layer is written as the operations of its source, in their order; each
 * operation keeps what its derivative needs (pytorch,
 * tools/autograd/derivatives.yaml) and only when something that needs a
 * gradient asks for it.  So one text of a layer serves full training,
 * adapters and frozen parts, and two operations that keep the same tensor
 * count it once: bytes belong to storages, values only point at them.
 *
 * A tape lives on the stack for one layer.  Sizes that do not fit saturate
 * and set `overflow`; nothing else can fail. */
#ifndef TS_ESTIMATE_TAPE_H
#define TS_ESTIMATE_TAPE_H

#include <stdbool.h>
#include <stdint.h>

enum { TS_MAX_STORAGES = 192 };

/* Where in a layer bytes are kept. */
typedef enum {
    TS_TAPE_ATTENTION, TS_TAPE_MLP, TS_TAPE_RESIDUAL, TS_TAPE_PARTS
} ts_part;

typedef struct {
    uint64_t bytes;
    const char *what; /* static; NULL: nobody keeps it */
    ts_part part;
} ts_kept;

/* A tensor: rows x width elements of `size` bytes in a storage.  Parameters
 * have the storage TS_PARAMETER, which is never counted. */
typedef struct {
    uint64_t rows, width;
    uint32_t storage;
    uint8_t size;
    bool grad; /* needs a gradient */
} ts_operand;

enum { TS_PARAMETER = 0 };

typedef struct {
    uint32_t count;
    bool overflow;
    ts_part part; /* what is being written now */
    ts_kept storages[TS_MAX_STORAGES];
} ts_tape;

void ts_tape_begin(ts_tape *tape);
/* Bytes of what is kept: of one part, and of all. */
uint64_t ts_tape_part(ts_tape *tape, ts_part part);
uint64_t ts_tape_total(ts_tape *tape);

uint64_t ts_tape_times(ts_tape *tape, uint64_t a, uint64_t b);
uint64_t ts_tape_plus(ts_tape *tape, uint64_t a, uint64_t b);

/* Values.  `view` shares the storage, `like` has a new one. */
ts_operand ts_tape_new(ts_tape *tape, uint64_t rows, uint64_t width,
                     unsigned size, bool grad);
ts_operand ts_tape_parameter(uint64_t width, unsigned size, bool trains);
ts_operand ts_tape_view(ts_operand of, uint64_t rows, uint64_t width);
ts_operand ts_tape_like(ts_tape *tape, ts_operand of);
/* The value itself when it has that size already. */
ts_operand ts_tape_cast(ts_tape *tape, ts_operand of, unsigned size);

void ts_tape_keep(ts_tape *tape, ts_operand value, const char *what);
/* Bytes kept that are no operand: indices, statistics. */
void ts_tape_note(ts_tape *tape, uint64_t rows, uint64_t width, unsigned size,
                  const char *what);

/* Operations; the result is new. */
ts_operand ts_tape_mul(ts_tape *tape, ts_operand a, ts_operand b,
                     const char *what_a, const char *what_b);
/* Keeps its input (silu, gelu), or its result (relu, tanh, sigmoid, exp). */
ts_operand ts_tape_by_input(ts_tape *tape, ts_operand x, const char *what);
ts_operand ts_tape_by_result(ts_tape *tape, ts_operand x, const char *what);

#endif
