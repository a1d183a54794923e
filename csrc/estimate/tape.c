#include "tape.h"

#include <stddef.h>

#include "core/base.h"

void ts_tape_begin(ts_tape *tape)
{
    tape->count = 1;
    tape->overflow = false;
    tape->part = TS_TAPE_RESIDUAL;
    tape->storages[TS_PARAMETER] = (ts_kept){0, NULL, TS_TAPE_RESIDUAL};
}

uint64_t ts_tape_times(ts_tape *tape, uint64_t a, uint64_t b)
{
    uint64_t product;

    if (ts_mul(a, b, &product)) return product;
    tape->overflow = true;
    return UINT64_MAX;
}

uint64_t ts_tape_plus(ts_tape *tape, uint64_t a, uint64_t b)
{
    uint64_t sum;

    if (ts_add(a, b, &sum)) return sum;
    tape->overflow = true;
    return UINT64_MAX;
}

uint64_t ts_tape_part(ts_tape *tape, ts_part part)
{
    uint64_t sum = 0;

    for (uint32_t i = 1; i < tape->count; i++) {
        const ts_kept *storage = &tape->storages[i];
        if (storage->what != NULL && storage->part == part)
            sum = ts_tape_plus(tape, sum, storage->bytes);
    }
    return sum;
}

uint64_t ts_tape_total(ts_tape *tape)
{
    uint64_t sum = 0;

    for (int part = 0; part < TS_TAPE_PARTS; part++)
        sum = ts_tape_plus(tape, sum, ts_tape_part(tape, (ts_part)part));
    return sum;
}

ts_operand ts_tape_new(ts_tape *tape, uint64_t rows, uint64_t width,
                     unsigned size, bool grad)
{
    uint64_t bytes =
        ts_tape_times(tape, ts_tape_times(tape, rows, width), size);
    uint32_t storage = tape->count;

    /* No layer comes near the end; if one did, it must not go unseen. */
    if (storage == TS_MAX_STORAGES) {
        tape->overflow = true;
        storage = TS_PARAMETER;
    } else {
        tape->storages[tape->count++] = (ts_kept){bytes, NULL, tape->part};
    }
    return (ts_operand){rows, width, storage, (uint8_t)size, grad};
}

ts_operand ts_tape_parameter(uint64_t width, unsigned size, bool trains)
{
    return (ts_operand){1, width, TS_PARAMETER, (uint8_t)size, trains};
}

ts_operand ts_tape_view(ts_operand of, uint64_t rows, uint64_t width)
{
    of.rows = rows;
    of.width = width;
    return of;
}

ts_operand ts_tape_like(ts_tape *tape, ts_operand of)
{
    return ts_tape_new(tape, of.rows, of.width, of.size, of.grad);
}

ts_operand ts_tape_cast(ts_tape *tape, ts_operand of, unsigned size)
{
    if (of.size == size) return of;
    return ts_tape_new(tape, of.rows, of.width, size, of.grad);
}

void ts_tape_keep(ts_tape *tape, ts_operand value, const char *what)
{
    ts_kept *storage = &tape->storages[value.storage];

    if (value.storage == TS_PARAMETER || storage->what != NULL) return;
    storage->what = what;
    storage->part = tape->part;
}

void ts_tape_note(ts_tape *tape, uint64_t rows, uint64_t width, unsigned size,
                  const char *what)
{
    ts_tape_keep(tape, ts_tape_new(tape, rows, width, size, false), what);
}

ts_operand ts_tape_mul(ts_tape *tape, ts_operand a, ts_operand b,
                     const char *what_a, const char *what_b)
{
    if (b.grad) ts_tape_keep(tape, a, what_a);
    if (a.grad) ts_tape_keep(tape, b, what_b);
    return ts_tape_new(tape, ts_max(a.rows, b.rows), ts_max(a.width, b.width),
                       a.size > b.size ? a.size : b.size, a.grad || b.grad);
}

ts_operand ts_tape_by_input(ts_tape *tape, ts_operand x, const char *what)
{
    if (x.grad) ts_tape_keep(tape, x, what);
    return ts_tape_like(tape, x);
}

ts_operand ts_tape_by_result(ts_tape *tape, ts_operand x, const char *what)
{
    ts_operand y = ts_tape_like(tape, x);

    if (x.grad) ts_tape_keep(tape, y, what);
    return y;
}
