#include "rans_kernel.h"

/* Symbols 64 * half + 2 * lane and the one behind it belong to this lane of
 * these two streams. */
enum { HALVES = 2, PAIRS = 32 };

typedef struct {
    uint32_t mask;
    unsigned bits;
    const uint8_t *rare;
} common;

/* Without a branch: a data-dependent one halves the speed. */
static inline uint8_t step(const ts_rans_slots *slots, common *with,
                           uint16_t *state, const uint8_t **at)
{
    uint32_t x = *state, slot = x & with->mask;
    uint8_t symbol = slots->symbol[slot];
    uint32_t escaped = symbol == slots->escape;
    uint8_t out = escaped ? *with->rare : symbol;

    with->rare += escaped;
    x = slots->freq[slot] * (x >> with->bits) + slots->bias[slot];
    uint32_t renew = x < 256;
    x = x << 8 * renew | (**at & (0u - renew));
    *at += renew;
    *state = (uint16_t)x;
    return out;
}

static size_t decode(const ts_rans_tables *tables, ts_rans_cursor *cursor,
                     size_t groups, uint8_t *out)
{
    common with = {(1u << tables->bits) - 1, tables->bits, cursor->rare};
    size_t done = 0, some;

    while ((some = ts_rans_ready(cursor, groups - done)) > 0) {
        const ts_rans_slots *slots = ts_rans_table(tables, cursor);
        for (size_t i = 0; i < some * HALVES; i++) {
            unsigned half = i % HALVES;
            uint16_t *state = cursor->state + 64 * half;
            const uint8_t *even = cursor->at[2 * half];
            const uint8_t *odd = cursor->at[2 * half + 1];
            for (unsigned lane = 0; lane < PAIRS; lane++) {
                *out++ = step(slots, &with, &state[lane], &even);
                *out++ = step(slots, &with, &state[PAIRS + lane], &odd);
            }
            cursor->at[2 * half] = even;
            cursor->at[2 * half + 1] = odd;
        }
        cursor->rare = with.rare;
        cursor->group += some;
        done += some;
    }
    return done;
}

/* The quotient by a product with the inverse is at most one too small. */
static inline void put(const ts_rans_owners *owners, uint8_t symbol,
                       uint16_t *state, uint8_t **end, uint8_t **rare)
{
    uint8_t owner = owners->owner[symbol];
    uint32_t x = *state, freq = owners->freq[owner];
    uint32_t spill = x >= freq << (16 - owners->bits);

    (*rare)[-1] = symbol;
    *rare -= owner == owners->escape;
    (*end)[-1] = (uint8_t)x;
    *end -= spill;
    x >>= 8 * spill;
    uint32_t quotient = x * owners->inverse[owner] >> 16;
    uint32_t rest = x - quotient * freq;
    uint32_t more = rest >= freq;
    quotient += more;
    rest -= freq & (0u - more);
    *state =
        (uint16_t)((quotient << owners->bits) + rest + owners->start[owner]);
}

static void encode(const ts_rans_owners *owners, const uint8_t *symbols,
                   size_t groups, ts_rans_press *press)
{
    uint8_t *rare = press->rare;

    for (size_t i = groups * HALVES; i-- > 0;) {
        const uint8_t *from = symbols + 2 * PAIRS * i;
        unsigned half = i % HALVES;
        uint16_t *state = press->state + 64 * half;
        uint8_t *even = press->end[2 * half], *odd = press->end[2 * half + 1];
        for (unsigned lane = PAIRS; lane-- > 0;) {
            put(owners, from[2 * lane + 1], &state[PAIRS + lane], &odd, &rare);
            put(owners, from[2 * lane], &state[lane], &even, &rare);
        }
        press->end[2 * half] = even;
        press->end[2 * half + 1] = odd;
    }
    press->rare = rare;
}

const ts_rans ts_rans_scalar = {decode, NULL, encode};
