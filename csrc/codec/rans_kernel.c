#include "rans_kernel.h"

/* Without a branch: a data-dependent one halves the speed. */
static size_t decode(const ts_rans_slots *slots, ts_rans_cursor *cursor,
                     size_t groups, uint8_t *out)
{
    const uint8_t *at = cursor->at, *rare = cursor->rare;
    uint32_t mask = (1u << slots->bits) - 1;
    unsigned bits = slots->bits;
    size_t done = 0;

    for (; done < groups; done++) {
        if (at > cursor->safe || rare > cursor->rares) break;
        for (unsigned lane = 0; lane < TS_RANS_LANES; lane++) {
            uint32_t x = cursor->state[lane], slot = x & mask;
            uint8_t symbol = slots->symbol[slot];
            uint32_t escaped = symbol == slots->escape;
            *out++ = escaped ? *rare : symbol;
            rare += escaped;
            x = slots->freq[slot] * (x >> bits) + slots->bias[slot];
            uint32_t renew = x < 256;
            x = x << 8 * renew | (*at & (0u - renew));
            at += renew;
            cursor->state[lane] = (uint16_t)x;
        }
    }
    cursor->at = at;
    cursor->rare = rare;
    return done;
}

/* The quotient by a product with the inverse is at most one too small. */
static uint8_t *encode(const ts_rans_owners *owners, const uint8_t *symbols,
                       size_t groups, uint16_t *state, uint8_t *end,
                       uint8_t **rares)
{
    unsigned bits = owners->bits;
    uint8_t *rare = *rares;

    for (size_t i = groups * TS_RANS_LANES; i-- > 0;) {
        uint8_t owner = owners->owner[symbols[i]];
        uint32_t x = state[i % TS_RANS_LANES], freq = owners->freq[owner];
        uint32_t spill = x >= freq << (16 - bits);
        rare[-1] = symbols[i];
        rare -= owner == owners->escape;
        end[-1] = (uint8_t)x;
        end -= spill;
        x >>= 8 * spill;
        uint32_t quotient = x * owners->inverse[owner] >> 16;
        uint32_t rest = x - quotient * freq;
        uint32_t more = rest >= freq;
        quotient += more;
        rest -= freq & (0u - more);
        state[i % TS_RANS_LANES] =
            (uint16_t)((quotient << bits) + rest + owners->start[owner]);
    }
    *rares = rare;
    return end;
}

const ts_rans ts_rans_scalar = {decode, NULL, encode};
