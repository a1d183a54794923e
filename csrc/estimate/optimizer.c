/* optimizer.c -- bytes of optimizer state, by what each optimizer keeps. */
#include "family.h"

/* Two moments in `number`, quantised ones only for matrices: bitsandbytes and
 * torchao keep small tensors in 32 bits, and embeddings too (bnb's
 * StableEmbedding rule; reference section 2.8). */
static ts_wide moments(uint64_t number, ts_wide matrices, ts_wide rest)
{
    return 2 * ts_number_bytes(number, matrices) + 8 * rest;
}

ts_wide ts_optimizer_bytes(const ts_run *run, ts_wide matrices, ts_wide rest)
{
    ts_wide all = matrices + rest;
    uint64_t width = ts_number_width(run->state_dtype);

    switch ((ts_optimizer)run->optimizer) {
    case TS_OPTIMIZER_ADAMW: return 2 * all * width;
    case TS_OPTIMIZER_ADAMW_8BIT:
        return moments(TS_NUMBER_INT8_B256, matrices, rest);
    case TS_OPTIMIZER_ADAMW_4BIT:
        return moments(TS_NUMBER_INT4_B128, matrices, rest);
    case TS_OPTIMIZER_ADAMW_FP8:
        return moments(TS_NUMBER_INT8_B256, matrices, rest);
    /* Unified memory: pages go to the host when room is short. */
    case TS_OPTIMIZER_ADAMW_PAGED:
    case TS_OPTIMIZER_ADAMW_PAGED_8BIT: return 0;
    /* Rows and columns only (1804.04235): a thousandth of the parameters. */
    case TS_OPTIMIZER_ADAFACTOR: return all / 1024 * 4;
    case TS_OPTIMIZER_MOMENTUM:
    case TS_OPTIMIZER_LION: return all * width;
    /* Momentum for matrices, AdamW for the rest (Jordan 2024). */
    case TS_OPTIMIZER_MUON: return matrices * width + 2 * rest * width;
    /* Moments of a projection to rank r of the shorter side, and the
     * projection (2403.03507): (2 n r + m r) for m x n; square matrices of
     * 4096 are taken. */
    case TS_OPTIMIZER_GALORE:
        return 3 * matrices * run->optimizer_rank / 4096 * width
               + 2 * rest * width;
    /* One of D blocks at a time: its F32 copy, gradient and two moments
     * (2404.02827). */
    case TS_OPTIMIZER_BADAM: return 16 * all / run->optimizer_rank;
    case TS_OPTIMIZER_SGD:
    case TS_OPTIMIZER_LOMO:
    case TS_OPTIMIZER_NONE:
    case TS_OPTIMIZER_COUNT: break;
    }
    return 0;
}
