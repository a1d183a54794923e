/* optimizer.c -- bytes of optimizer state, by what each optimizer keeps. */
#include "family.h"

/* Over all matrices of a stage: with a rank, what GaLore keeps of m x n, a
 * projection of the shorter side and two moments of what is projected
 * (2403.03507 4.3); without, Adafactor's row and column sums (1804.04235). */
static ts_wide factors(const ts_model *model, const ts_run *run,
                       const ts_share *share, uint64_t rank)
{
    ts_wide sum = 0;

    for (uint32_t i = 0; i < model->decoder.kind_count; i++) {
        ts_matrices all;
        ts_layer_matrices(&model->decoder, &model->decoder.kinds[i], &all);
        for (uint32_t j = 0; j < all.count; j++) {
            ts_matrix m = ts_matrix_share(&all.list[j], run);
            ts_wide low = ts_min(m.in, m.out), high = ts_max(m.in, m.out);
            ts_wide one = rank > 0 ? ts_min(rank, (uint64_t)low)
                                         * (low + 2 * high)
                                   : low + high;
            sum += one * m.copies * share->count[i];
        }
    }
    return sum;
}

ts_wide ts_optimizer_bytes(const ts_model *model, const ts_run *run,
                           const ts_share *share, ts_wide matrices,
                           ts_wide rest)
{
    uint64_t width = ts_number_width(run->state_dtype);
    ts_wide all = matrices + rest;

    switch ((ts_optimizer)run->optimizer) {
    case TS_OPTIMIZER_ADAMW: return 2 * width * all;
    /* Blocks of 256 share an F32 scale (2110.02861; torchao); FP8 the same. */
    case TS_OPTIMIZER_ADAMW_8BIT:
    case TS_OPTIMIZER_ADAMW_FP8:
        return 2 * ts_number_bytes(TS_NUMBER_INT8_B256, all);
    case TS_OPTIMIZER_ADAMW_4BIT:
        return 2 * ts_number_bytes(TS_NUMBER_INT4_B128, all);
    /* Unified memory: pages go to the host when room is short. */
    case TS_OPTIMIZER_ADAMW_PAGED:
    case TS_OPTIMIZER_ADAMW_PAGED_8BIT: return 0;
    case TS_OPTIMIZER_ADAFACTOR:
        return run->method == TS_METHOD_FULL
                   ? 4 * factors(model, run, share, 0)
                   : 4 * all / run->rank; /* thin: almost a number a row */
    case TS_OPTIMIZER_MOMENTUM:
    case TS_OPTIMIZER_LION: return width * all;
    /* Momentum for matrices, AdamW for the rest (Jordan 2024). */
    case TS_OPTIMIZER_MUON: return width * (all + rest);
    case TS_OPTIMIZER_GALORE:
        return width
               * (factors(model, run, share, run->optimizer_rank) + 2 * rest);
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
