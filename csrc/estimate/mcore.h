/* mcore.h -- what the files of the Megatron family share: one stage of a run,
 * what its layers keep for backward, and the caching allocator replayed. */
#ifndef TS_ESTIMATE_MCORE_H
#define TS_ESTIMATE_MCORE_H

#include "family.h"

typedef struct {
    const ts_model *model;
    const ts_run *run;
    const ts_profile *profile;
    uint64_t stage;
    ts_share share;     /* of the stage, predicting layers included */
    ts_weights weights; /* elements on a rank */
    ts_wide table;      /* of them, a padded embedding or head */
    uint64_t width;     /* bytes of a computed element */
    ts_ledger *ledger;
    ts_error *error;
} ts_mcore;

ts_status ts_mcore_line(ts_mcore *mcore, ts_component component,
                        ts_formula formula, uint32_t instants, ts_wide bytes);

/* ---- states (mcore_states.c) ------------------------------------------- */

/* Weights, gradients, optimizer, and what the allocator adds to them. */
ts_status ts_mcore_states(ts_mcore *mcore);
/* Elements of the model itself that train: no adapters. */
ts_wide ts_mcore_trained(const ts_mcore *mcore);

/* ---- layers (mcore_layers.c) ------------------------------------------- */

typedef struct {
    ts_wide attention, mlp, residual; /* kept for backward, one layer */
    ts_wide input;                    /* of it, what recomputation needs */
    ts_wide backward; /* gradients alive while the layer runs backward */
} ts_mcore_kept;

/* Tokens of a sequence as one stack sees them: of queries, and of what is
 * attended to across (0 without). */
typedef struct {
    uint64_t seq, source;
} ts_mcore_tokens;

void ts_mcore_layer(const ts_mcore *mcore, const ts_stack *stack,
                    const ts_layer *layer, ts_mcore_tokens tokens,
                    ts_mcore_kept *out);
/* Bytes of a hidden state between layers. */
ts_wide ts_mcore_hidden(const ts_mcore *mcore, uint64_t hidden, uint64_t seq);
/* Tokens x experts that a token dispatcher remembers, one MoE layer. */
ts_wide ts_mcore_routing(const ts_mcore *mcore, const ts_layer *layer);

/* ---- torch's caching allocator (caching.c) ------------------------------ */

enum { TS_CACHING_HOLES = 128 };

/* Large blocks only; those of 1 MiB and less lie tight. */
typedef struct {
    uint32_t count;
    uint64_t holes[TS_CACHING_HOLES]; /* bytes, ascending */
    uint64_t slack; /* bytes that blocks are larger than what they hold */
} ts_caching;

void ts_caching_take(ts_caching *caching, uint64_t bytes);

#endif
