/* train.c -- one training step in torch's eager mode.
 *
 *     forward ... | loss | its gradient | last layer ... first layer | step
 *     saved: more and more     all of it           less and less
 *     gradients:                                   more and more
 *
 * Between the first and the last layer of backward both change evenly with
 * the layers, so the greatest sum is at one of the two ends. */
#include "block.h"

typedef struct {
    const ts_model *model;
    const ts_run *run;
    const ts_profile *profile;
    ts_share share;
    ts_weights weights;
    ts_wide tokens; /* on this rank */
    uint64_t width; /* bytes of a computed element */
    ts_wide trained_matrices, trained_rest;
    ts_ledger *ledger;
    ts_error *error;
} training;

enum {
    FORWARDS = TS_DURING(TS_AT_FORWARD_END) | TS_DURING(TS_AT_LOSS)
               | TS_DURING(TS_AT_LOSS_BACKWARD)
               | TS_DURING(TS_AT_BACKWARD_FIRST),
};

static ts_status line(training *t, ts_component component, ts_formula formula,
                      uint32_t instants, ts_wide bytes)
{
    return ts_ledger_add(t->ledger, component, formula, instants, bytes,
                         t->error);
}

static bool has_adapters(const ts_run *run)
{
    return run->method == TS_METHOD_LORA || run->method == TS_METHOD_DORA;
}

/* ---- what is there all the time ---------------------------------------- */

static ts_status add_weights(training *t)
{
    const ts_weights *w = &t->weights;
    const ts_run *run = t->run;
    bool full = run->method == TS_METHOD_FULL;
    uint64_t plain = ts_number_width(full ? run->param_dtype : run->dtype);
    ts_wide matrices = full ? w->matrices * plain : w->matrix_bytes;
    ts_wide experts = full ? w->experts * plain : w->expert_bytes;

    if (run->offload_params) return TS_OK;
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_MATRICES, TS_ALWAYS,
                ts_shard_weights(run, matrices + w->kept * plain)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_EXPERTS, TS_ALWAYS,
                ts_shard_weights(run, experts)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_VECTORS, TS_ALWAYS,
                ts_shard_weights(run, w->vectors * plain)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_EMBEDDING, TS_ALWAYS,
                ts_shard_weights(run, w->embedding * plain)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_HEAD, TS_ALWAYS,
                ts_shard_weights(run, w->head * plain)));
    return line(t, TS_FOR_ADAPTERS, TS_FORMULA_ADAPTERS, TS_ALWAYS,
                ts_shard_weights(
                    run, ts_number_bytes(run->adapter_dtype, w->adapters)));
}

static void find_trained(training *t)
{
    const ts_weights *w = &t->weights;

    if (t->run->method == TS_METHOD_FULL) {
        t->trained_matrices = w->matrices + w->experts + w->kept;
        t->trained_rest = w->vectors + w->embedding + w->head;
    } else if (has_adapters(t->run)) {
        t->trained_matrices = w->adapters;
        if (t->run->train_embeddings)
            t->trained_rest = w->embedding + w->head;
    }
}

static ts_status add_states(training *t)
{
    const ts_run *run = t->run;
    ts_wide trained = t->trained_matrices + t->trained_rest;
    uint64_t grad = ts_number_width(
        has_adapters(run) ? run->adapter_dtype : run->grad_dtype);
    uint32_t late = TS_DURING(TS_AT_BACKWARD_LAST) | TS_DURING(TS_AT_STEP);
    uint32_t when = run->micro_batches > 1 || t->profile->grads_stay
                        ? TS_ALWAYS & ~TS_DURING(TS_AT_STEADY)
                        : late;

    if (t->profile->grads_stay) when = TS_ALWAYS;
    ts_wide held = run->optimizer_in_backward
                       ? t->weights.largest * grad
                       : ts_shard_gradients(run, trained * grad);
    TS_TRY(line(t, TS_FOR_GRADIENTS, TS_FORMULA_GRADIENTS, when, held));
    if (run->offload_optimizer) return TS_OK;
    TS_TRY(line(t, TS_FOR_OPTIMIZER, TS_FORMULA_OPTIMIZER, TS_ALWAYS,
                ts_shard_states(run,
                                ts_optimizer_bytes(run, t->trained_matrices,
                                                   t->trained_rest))));
    if (run->master)
        TS_TRY(line(t, TS_FOR_MASTER, TS_FORMULA_MASTER, TS_ALWAYS,
                    ts_shard_states(run, trained * 4)));
    return line(t, TS_FOR_WORKSPACE, TS_FORMULA_STEP, TS_DURING(TS_AT_STEP),
                ts_shard_states(run, trained * t->profile->step_bytes));
}

static ts_status add_gathered(training *t)
{
    const ts_run *run = t->run;
    uint32_t when = TS_ALWAYS & ~TS_DURING(TS_AT_STEP)
                    & ~TS_DURING(TS_AT_STEADY);

    TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_BUCKETS, TS_ALWAYS,
                t->profile->bucket_bytes));
    if (!ts_shard_has_weights(run) && !run->offload_params) return TS_OK;
    ts_wide ends = t->weights.embedding > t->weights.head
                       ? t->weights.embedding
                       : t->weights.head;
    return line(t, TS_FOR_COMMUNICATION, TS_FORMULA_GATHERED, when,
                (t->weights.largest * t->profile->gathered_layers + ends)
                    * t->width);
}

/* ---- activations ------------------------------------------------------- */

typedef struct {
    ts_block sum;     /* of all layers that keep everything */
    ts_block largest; /* of one layer, by what it keeps */
    ts_wide checkpoints;
} activations;

/* Of `count` layers, those that are recomputed. */
static uint64_t recomputed(const ts_run *run, uint64_t count, uint64_t layers)
{
    if (run->recompute == TS_RECOMPUTE_FULL) return count;
    if (run->recompute != TS_RECOMPUTE_BLOCKS || layers == 0) return 0;
    return ts_min(count, count * run->recompute_layers / layers);
}

static activations activations_of(const training *t)
{
    activations a = {0};
    const ts_stack *stack = &t->model->decoder;

    for (uint32_t i = 0; i < stack->kind_count; i++) {
        uint64_t count = t->share.count[i];
        if (count == 0) continue;
        ts_block one;
        ts_block_saved(t->model, stack, &stack->kinds[i], t->run, t->profile,
                       t->tokens, &one);
        uint64_t again = recomputed(t->run, count, t->share.layers);
        a.sum.attention += one.attention * (count - again);
        a.sum.mlp += one.mlp * (count - again);
        a.sum.residual += one.residual * (count - again);
        a.checkpoints += t->tokens * stack->hidden * t->width * again;
        if (ts_block_sum(&one) + one.backward
            > ts_block_sum(&a.largest) + a.largest.backward)
            a.largest = one;
    }
    if (t->run->offload_activations) a.checkpoints = 0;
    return a;
}

static ts_status add_activations(training *t)
{
    activations a = activations_of(t);
    uint32_t first = TS_DURING(TS_AT_BACKWARD_FIRST);
    uint32_t last = TS_DURING(TS_AT_BACKWARD_LAST);
    bool again = a.checkpoints > 0 || t->run->offload_activations;

    TS_TRY(line(t, TS_FOR_ATTENTION, TS_FORMULA_SAVED_ATTENTION, FORWARDS,
                a.sum.attention));
    TS_TRY(line(t, TS_FOR_MLP, TS_FORMULA_SAVED_MLP, FORWARDS, a.sum.mlp));
    TS_TRY(line(t, TS_FOR_RESIDUAL, TS_FORMULA_SAVED_RESIDUAL, FORWARDS,
                a.sum.residual));
    TS_TRY(line(t, TS_FOR_RESIDUAL, TS_FORMULA_CHECKPOINTS, FORWARDS,
                a.checkpoints));
    TS_TRY(line(t, TS_FOR_ATTENTION, TS_FORMULA_RECOMPUTED,
                last | (again ? first : 0), a.largest.attention));
    TS_TRY(line(t, TS_FOR_MLP, TS_FORMULA_RECOMPUTED,
                last | (again ? first : 0), a.largest.mlp));
    TS_TRY(line(t, TS_FOR_RESIDUAL, TS_FORMULA_RECOMPUTED,
                last | (again ? first : 0), a.largest.residual));
    return line(t, TS_FOR_MLP, TS_FORMULA_LAYER_BACKWARD, first | last,
                a.largest.backward);
}

static ts_status add_logits(training *t)
{
    if (!t->share.last || !t->model->head) return TS_OK;
    ts_wide row = ts_divide_up(t->model->vocab, t->run->tp);
    ts_wide rows = t->tokens;

    if (t->run->loss == TS_LOSS_CHUNKED && rows > t->run->loss_chunk)
        rows = t->run->loss_chunk;
    if (t->run->loss == TS_LOSS_LIGER) {
        /* Chunks of so many rows that a chunk's logits equal the hidden
         * states (liger's fused_linear_cross_entropy: inc_factor). */
        ts_wide chunks = ts_divide_up(row, t->model->decoder.hidden);
        rows = (rows + chunks - 1) / chunks;
    }
    TS_TRY(line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS, TS_DURING(TS_AT_LOSS),
                rows * row * t->profile->logit_forward));
    return line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS,
                TS_DURING(TS_AT_LOSS_BACKWARD),
                rows * row * t->profile->logit_backward);
}

/* Packed matrices are unpacked one at a time, forward and backward. */
static ts_status add_unpacked(training *t)
{
    if (!ts_number_packed(t->run->weight_format)
        || t->run->method == TS_METHOD_FULL)
        return TS_OK;
    ts_wide most = 0;
    for (uint32_t i = 0; i < t->model->decoder.kind_count; i++) {
        ts_matrices all;
        if (t->share.count[i] == 0) continue;
        ts_layer_matrices(&t->model->decoder, &t->model->decoder.kinds[i],
                          &all);
        for (uint32_t j = 0; j < all.count; j++) {
            ts_matrix part = ts_matrix_share(&all.list[j], t->run);
            if ((ts_wide)part.in * part.out > most)
                most = (ts_wide)part.in * part.out;
        }
    }
    return line(t, TS_FOR_WORKSPACE, TS_FORMULA_DEQUANTIZED,
                TS_DURING(TS_AT_BACKWARD_FIRST)
                    | TS_DURING(TS_AT_BACKWARD_LAST),
                most * t->width * t->profile->dequantized);
}

ts_status ts_train_run(const ts_model *model, const ts_run *run,
                       const ts_profile *profile, uint64_t stage,
                       ts_ledger *out, ts_error *error)
{
    uint64_t ranks = run->cp * run->ulysses;
    training t = {
        .model = model,
        .run = run,
        .profile = profile,
        .tokens = (ts_wide)run->batch * ts_divide_up(run->seq, ranks),
        .width = ts_number_width(run->dtype),
        .ledger = out,
        .error = error,
    };
    uint32_t used = FORWARDS | TS_DURING(TS_AT_BACKWARD_LAST)
                    | TS_DURING(TS_AT_STEP) | TS_DURING(TS_AT_STEADY);

    if (run->mode == TS_MODE_LOAD) used = TS_DURING(TS_AT_LOAD);
    ts_ledger_begin(out, used,
                    run->mode == TS_MODE_LOAD ? TS_AT_LOAD : TS_AT_STEADY);
    ts_stage_share(model, run, stage, &t.share);
    ts_stage_weights(model, run, &t.share, &t.weights);
    find_trained(&t);
    TS_TRY(add_weights(&t));
    TS_TRY(line(&t, TS_FOR_WORKSPACE, TS_FORMULA_WORKSPACE, TS_ALWAYS,
                profile->workspace_bytes));
    if (run->mode == TS_MODE_LOAD) return TS_OK;
    TS_TRY(add_states(&t));
    TS_TRY(add_gathered(&t));
    TS_TRY(add_activations(&t));
    TS_TRY(add_logits(&t));
    return add_unpacked(&t);
}
