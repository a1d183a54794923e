/* numbers.c -- how many bytes numbers of each format take. */
#include "family.h"

typedef struct {
    const char *name;
    uint32_t bits, block, extra; /* extra bytes a block */
} number;

static const number numbers[] = {
#define XX(name, text, bits, block, extra) {text, bits, block, extra},
    TS_FORMAT_WORDS(XX)
#undef XX
};

const char *ts_number_name(ts_number which)
{
    return (unsigned)which < TS_NUMBER_COUNT ? numbers[which].name : "?";
}

ts_wide ts_number_bytes(uint64_t which, ts_wide count)
{
    const number *n = &numbers[which];
    ts_wide bytes = (count * n->bits + 7) / 8;
    if (n->extra == 0) return bytes;
    return bytes + (count + n->block - 1) / n->block * n->extra;
}

/* GPTQ keeps for every input the group it belongs to, as an int32
 * (AutoGPTQ's QuantLinear.g_idx); AWQ's groups are in order. */
ts_wide ts_number_matrix(uint64_t which, uint64_t in, uint64_t out)
{
    ts_wide bytes = ts_number_bytes(which, (ts_wide)in * out);
    if (which == TS_NUMBER_GPTQ_INT4 || which == TS_NUMBER_GPTQ_INT8)
        bytes += (ts_wide)in * 4;
    return bytes;
}

bool ts_number_packed(uint64_t which)
{
    return numbers[which].extra > 0 || numbers[which].bits < 8
           || which == TS_NUMBER_FP8 || which == TS_NUMBER_INT8;
}

uint64_t ts_block_rest(ts_wide bytes)
{
    uint64_t low = (uint64_t)bytes & (2 * TS_MIB - 1);
    uint64_t rest = low == 0 ? 0 : 2 * TS_MIB - low;
    return bytes >= 10 * TS_MIB && rest <= TS_MIB ? rest : 0;
}

uint64_t ts_number_width(uint64_t which)
{
    return (numbers[which].bits + 7) / 8;
}
