/* family.h -- what the families share: exact sums, a layer's matrices, a stage's
 * part of the model, and the ledger they write to.
 *
 * Formulas are written in 128 bits, plainly; the bounds of the fields keep
 * each product within them, and ts_ledger_add refuses what does not fit 63
 * bits.  So no formula has to check anything. */
#ifndef TS_ESTIMATE_FAMILY_H
#define TS_ESTIMATE_FAMILY_H

#include "estimate.h"

__extension__ typedef unsigned __int128 ts_wide;

#define TS_MOST_BYTES ((ts_wide)1 << 62)

static inline uint64_t ts_divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* ---- number formats (numbers.c) --------------------------------------- */

/* Bytes of count elements. */
ts_wide ts_number_bytes(uint64_t number, ts_wide count);
/* Bytes of a matrix, with what a format keeps for each of its inputs. */
ts_wide ts_number_matrix(uint64_t number, uint64_t in, uint64_t out);
/* Whether it has scales, so that framework code must unpack it. */
bool ts_number_packed(uint64_t number);
/* Bytes of an element that is not packed, rounded up. */
uint64_t ts_number_width(uint64_t number);
/* What torch's caching allocator counts beyond the bytes of one tensor that
 * stays: blocks of 10 MiB and more come in steps of 2 MiB, and a rest of
 * 1 MiB or less is not split off (CUDACachingAllocator.cpp: kRoundLarge,
 * should_split).  Smaller tensors share segments. */
uint64_t ts_block_rest(ts_wide bytes);

/* ---- a layer's matrices (weights.c) ------------------------------------ */

typedef enum {
    TS_SPLIT_NONE,   /* every rank has all of it */
    TS_SPLIT_COLUMN, /* outputs over tp */
    TS_SPLIT_ROW,    /* inputs over tp */
    TS_SPLIT_EXPERT, /* copies over ep, width over etp */
} ts_split;

typedef struct {
    uint64_t in, out;
    uint64_t copies; /* experts that have one each */
    uint32_t target; /* TS_TARGET_... */
    ts_split split;
    bool bias;
    bool keep; /* no quantiser touches it (routers, gates) */
} ts_matrix;

enum { TS_MAX_MATRICES = 32 };

typedef struct {
    uint32_t count;
    ts_wide vectors; /* elements of norms and the like, not split */
    ts_matrix list[TS_MAX_MATRICES];
} ts_matrices;

void ts_layer_matrices(const ts_stack *stack, const ts_layer *layer,
                       ts_matrices *out);
/* The part of a matrix that one rank holds. */
ts_matrix ts_matrix_share(const ts_matrix *matrix, const ts_run *run);

/* ---- a stage's part of the model (stage.c) ----------------------------- */

typedef struct {
    uint64_t count[TS_MAX_KINDS]; /* layers of each kind of the decoder */
    uint64_t layers;
    bool first, last; /* has the embedding, has the head */
} ts_share;

/* Layers are dealt in order, the first stages getting one more where they do
 * not divide; with vpp chunks each stage has every pp-th chunk. */
void ts_stage_share(const ts_model *model, const ts_run *run, uint64_t stage,
                    ts_share *out);
/* All layers of a stack that is not dealt out: encoder, vision. */
void ts_whole_share(const ts_stack *stack, ts_share *out);

/* Elements on one rank, before data-parallel sharding. */
typedef struct {
    ts_wide matrices, experts, vectors; /* of the layers */
    ts_wide kept;                       /* routers and the like */
    ts_wide embedding, head;            /* head 0 when it is the embedding */
    ts_wide adapters;
    ts_wide tower, projector; /* of all these, what sees */
    ts_wide matrix_bytes, expert_bytes; /* in run.weight_format */
    ts_wide rests;                      /* ts_block_rest of all those */
    ts_wide largest_matrix;             /* elements */
    ts_wide largest;                    /* elements of the largest layer */
    uint64_t tensors;
} ts_weights;

void ts_stack_weights(const ts_stack *stack, const ts_share *share,
                      const ts_run *run, ts_weights *add_to);
void ts_stage_weights(const ts_model *model, const ts_run *run,
                      const ts_share *share, ts_weights *out);
/* The tower and its projector, which are not dealt out: add_to grows, and its
 * tower and projector say by how much. */
void ts_vision_weights(const ts_model *model, const ts_run *run,
                       ts_weights *add_to);
/* Bytes that a rank has of a checkpoint whose tensors keep the types that its
 * file has: of layers, tables and tower the share of elements.  0 where no
 * file is known. */
ts_wide ts_held_bytes(const ts_model *model, const ts_weights *rank);
/* Of them, elements that train. */
ts_wide ts_vision_trained(const ts_run *run, const ts_weights *weights);

/* ---- keys and values (kvcache.c) --------------------------------------- */

/* Bytes that `tokens` tokens of one sequence take in one layer of one rank;
 * a window, where the profile honours it, has been applied. */
ts_wide ts_layer_kv(const ts_layer *layer, const ts_run *run,
                    const ts_profile *profile, uint64_t tokens);
/* What a sequence takes whatever its length: states of state layers. */
ts_wide ts_layer_state(const ts_layer *layer, const ts_run *run);
ts_wide ts_share_kv(const ts_model *model, const ts_share *share,
                    const ts_run *run, const ts_profile *profile,
                    uint64_t tokens);

/* ---- training states (optimizer.c, shard.c) ----------------------------- */

/* Bytes of state of a stage's trained elements, before sharding: matrices, and
 * the rest (embeddings, vectors), which some optimizers treat otherwise. */
ts_wide ts_optimizer_bytes(const ts_model *model, const ts_run *run,
                           const ts_share *share, ts_wide matrices,
                           ts_wide rest);

/* What data-parallel sharding leaves of bytes on a rank. */
ts_wide ts_shard_weights(const ts_run *run, ts_wide bytes);
ts_wide ts_shard_gradients(const ts_run *run, ts_wide bytes);
ts_wide ts_shard_states(const ts_run *run, ts_wide bytes);
/* Whether weights are whole only while a layer runs. */
bool ts_shard_has_weights(const ts_run *run);
/* ZeRO++ (2306.10209): a rank's part of the second copy that the ranks of a
 * node keep (hpZ), and the int8 weights that a gather receives before they
 * are unpacked (qwZ), of `count` elements. */
ts_wide ts_shard_second(const ts_run *run, ts_wide bytes);
ts_wide ts_shard_received(const ts_run *run, ts_wide count);

/* ---- the ledger (ledger.c) --------------------------------------------- */

#define TS_DURING(instant) (UINT32_C(1) << (instant))
#define TS_ALWAYS ((UINT32_C(1) << TS_INSTANT_COUNT) - 1)
/* From one instant to a later one, both included. */
#define TS_SPAN(from, to)                                                     \
    ((UINT32_C(2) << (to)) - (UINT32_C(1) << (from)))

void ts_ledger_begin(ts_ledger *ledger, uint32_t used, ts_instant steady);
/* One line; nothing is written when bytes is 0.  TS_ARGUMENT when the bytes
 * are beyond anything real, or there are too many lines. */
ts_status ts_ledger_add(ts_ledger *ledger, ts_component component,
                        ts_formula formula, uint32_t instants, ts_wide bytes,
                        ts_error *error);
/* Sums, peak, counters; adds what is reserved and what the device sees. */
ts_status ts_ledger_finish(ts_ledger *ledger, const ts_profile *profile,
                           ts_error *error);

/* ---- families ---------------------------------------------------------- */

typedef ts_status (*ts_family_run)(const ts_model *model, const ts_run *run,
                                   const ts_profile *profile, uint64_t stage,
                                   ts_ledger *out, ts_error *error);

ts_status ts_serve_run(const ts_model *model, const ts_run *run,
                       const ts_profile *profile, uint64_t stage,
                       ts_ledger *out, ts_error *error);
ts_status ts_microbench_run(const ts_model *model, const ts_run *run,
                            const ts_profile *profile, uint64_t stage,
                            ts_ledger *out, ts_error *error);
ts_status ts_original_run(const ts_model *model, const ts_run *run,
                          const ts_profile *profile, uint64_t stage,
                          ts_ledger *out, ts_error *error);
ts_status ts_rl_run(const ts_model *model, const ts_run *run,
                    const ts_profile *profile, uint64_t stage, ts_ledger *out,
                    ts_error *error);
ts_status ts_vllm_run(const ts_model *model, const ts_run *run,
                      const ts_profile *profile, uint64_t stage,
                      ts_ledger *out, ts_error *error);
ts_status ts_train_run(const ts_model *model, const ts_run *run,
                       const ts_profile *profile, uint64_t stage,
                       ts_ledger *out, ts_error *error);
ts_status ts_megatron_run(const ts_model *model, const ts_run *run,
                          const ts_profile *profile, uint64_t stage,
                          ts_ledger *out, ts_error *error);

#endif
