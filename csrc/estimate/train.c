/* train.c -- one training step in torch's eager mode.
 *
 *     forward ... | loss | its gradient | last layer ... first layer | step
 *     saved: more and more     all of it           less and less
 *     gradients:                                   more and more
 *
 * Between the first and the last layer of backward both change evenly with
 * the layers, so the greatest sum is at one of the two ends. */
#include "block.h"
#include "tower.h"

typedef struct {
    const ts_model *model;
    const ts_run *run;
    const ts_profile *profile;
    ts_share share;
    ts_weights weights;
    ts_tower tower; /* of the first stage */
    ts_wide tokens; /* on this rank */
    uint64_t ranks; /* that share a sequence */
    uint64_t width; /* bytes of a computed element */
    ts_wide head;   /* elements of the head's matrix, tied or not */
    ts_wide tables; /* of embedding and head, where they train */
    ts_wide beside; /* what trains whole beside adapters: tables, a tower */
    ts_wide trained;
    bool full, packed;
    ts_ledger *ledger;
    ts_error *error;
} training;

enum {
    LOSSES = TS_DURING(TS_AT_LOSS) | TS_DURING(TS_AT_LOSS_BACKWARD),
    FORWARDS = TS_DURING(TS_AT_FORWARD_END) | LOSSES
               | TS_DURING(TS_AT_BACKWARD_FIRST),
    RUNNING = (int)(TS_ALWAYS & ~TS_DURING(TS_AT_LOAD)),
    BACKWARDS = TS_DURING(TS_AT_BACKWARD_FIRST)
                | TS_DURING(TS_AT_BACKWARD_LAST),
    TOWER_KEPT = FORWARDS | BACKWARDS, /* while the decoder runs */
};

static ts_status line(training *t, ts_component component, ts_formula formula,
                      uint32_t instants, ts_wide bytes)
{
    return ts_ledger_add(t->ledger, component, formula, instants, bytes,
                         t->error);
}

/* ---- weights ------------------------------------------------------------ */

/* Bytes of an element of what is not packed. */
static uint64_t plain_width(const training *t)
{
    if (t->full) return ts_number_width(t->run->param_dtype);
    if (!t->packed) return ts_number_width(t->run->weight_format);
    return ts_rest_width(t->run, t->profile);
}

static ts_wide matrix_bytes(const training *t)
{
    const ts_weights *w = &t->weights;

    if (t->packed) return w->matrix_bytes + w->expert_bytes;
    return (w->matrices + w->experts) * plain_width(t);
}

/* Of them, scales that FSDP does not see and each rank has whole. */
static ts_wide whole_scales(const training *t)
{
    const ts_weights *w = &t->weights;
    ts_wide plain = (w->matrices + w->experts + 1) / 2;

    if (!t->packed || !t->profile->scales_whole
        || !ts_shard_has_weights(t->run) || matrix_bytes(t) < plain)
        return 0;
    return matrix_bytes(t) - plain;
}

/* The head as it is held: tied ones on one stage are the embedding. */
static ts_wide head_held(const training *t)
{
    return t->profile->untied ? t->head : t->weights.head;
}

static ts_wide head_bytes(const training *t)
{
    if (t->packed && t->profile->packed_head)
        return ts_number_bytes(t->run->weight_format, head_held(t));
    return head_held(t) * plain_width(t);
}

/* Under autocast, weights wider than what is computed in are cast; graphs
 * keep the casts of frozen ones, autocast's cache those of leaves. */
static ts_wide casts(const training *t)
{
    ts_wide count = 0;

    if (!t->profile->autocast) return 0;
    if (plain_width(t) > t->width)
        count = head_held(t)
                + (t->packed ? 0 : t->weights.matrices + t->weights.experts);
    if (ts_number_width(t->run->adapter_dtype) > t->width)
        count += t->weights.adapters;
    return count * t->width;
}

static ts_status add_weights(training *t)
{
    const ts_weights *w = &t->weights;
    const ts_run *run = t->run;
    uint64_t plain = plain_width(t);
    ts_wide copies = t->profile->trained_copy && !t->full ? t->tables : 0;
    ts_wide scales = whole_scales(t);

    TS_TRY(line(t, TS_FOR_ADAPTERS, TS_FORMULA_ADAPTERS, TS_ALWAYS,
                ts_shard_weights(
                    run, ts_number_bytes(run->adapter_dtype, w->adapters))));
    TS_TRY(line(t, TS_FOR_ADAPTERS, TS_FORMULA_EMBEDDING, TS_ALWAYS,
                ts_shard_weights(run, copies * t->width)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_CASTS, FORWARDS, casts(t)));
    if (run->offload_params) return TS_OK;
    ts_wide held = ts_held_bytes(t->model, w);
    if (held > 0)
        return line(t, TS_FOR_WEIGHTS, TS_FORMULA_HELD, TS_ALWAYS,
                    ts_shard_weights(run, held));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_MATRICES, TS_ALWAYS,
                scales
                    + ts_shard_weights(run, matrix_bytes(t) - scales
                                                + w->kept * plain)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_VECTORS, TS_ALWAYS,
                ts_shard_weights(run, w->vectors * plain)));
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_EMBEDDING, TS_ALWAYS,
                ts_shard_weights(run, w->embedding * plain)));
    return line(t, TS_FOR_WEIGHTS, TS_FORMULA_HEAD, TS_ALWAYS,
                ts_shard_weights(run, head_bytes(t)));
}

/* ---- gradients and states ----------------------------------------------- */

static void find_trained(training *t)
{
    ts_weights *w = &t->weights;
    ts_wide sight = ts_vision_trained(t->run, w);
    ts_wide inside = w->matrices + w->experts + w->kept + w->vectors
                     - (w->tower + w->projector - sight);
    uint64_t some = t->run->trained_layers;

    if (t->share.last && t->model->head)
        t->head = (ts_wide)ts_divide_up(t->model->vocab, t->run->tp)
                  * t->model->decoder.hidden;
    if (t->run->adapter_count > 0 && w->adapters > 0)
        w->adapters = ts_divide_up(t->run->adapter_count, t->run->pp);
    if (t->full || t->run->train_embeddings)
        t->tables = w->embedding + head_held(t);
    if (some > 0 && some < t->share.layers)
        inside = inside * some / t->share.layers;
    if (t->run->method == TS_METHOD_FROZEN) t->tables = w->adapters = 0;
    if (!t->full) t->beside = t->tables + sight;
    t->trained = t->full ? t->tables + inside : t->beside + w->adapters;
}

static uint64_t gradient_width(const training *t)
{
    return ts_number_width(t->full ? t->run->grad_dtype
                                   : t->run->adapter_dtype);
}

static ts_wide gradient_bytes(const training *t)
{
    if (t->full) return t->trained * gradient_width(t);
    return (t->trained - t->beside) * gradient_width(t)
           + t->beside * t->width;
}

static ts_status add_gradients(training *t)
{
    bool summed = t->run->micro_batches > 1;
    uint32_t when = TS_DURING(TS_AT_BACKWARD_LAST) | TS_DURING(TS_AT_STEP)
                    | TS_DURING(TS_AT_VISION_BACKWARD);
    ts_wide bytes = gradient_bytes(t);
    ts_wide first = t->share.first && t->tables > 0 ? t->weights.embedding : 0;
    ts_wide head = t->tables > 0 ? t->head : 0;

    if (summed) when = RUNNING & ~TS_DURING(TS_AT_STEADY);
    if (t->profile->grads_stay) when = RUNNING;
    /* Sharded optimizers that step on the host have gradients there. */
    if (t->run->offload_gradients
        || (t->run->offload_optimizer
            && (t->run->zero > 0 || t->run->fsdp > 0)))
        when = 0;
    if (t->run->optimizer_in_backward)
        bytes = t->weights.largest * gradient_width(t);
    TS_TRY(line(t, TS_FOR_GRADIENTS, TS_FORMULA_GRADIENTS, when,
                ts_shard_gradients(t->run, bytes)));
    TS_TRY(line(t, TS_FOR_GRADIENTS, TS_FORMULA_HEAD_GRADIENT,
                TS_DURING(TS_AT_LOSS_BACKWARD), head * t->width));
    return line(t, TS_FOR_GRADIENTS, TS_FORMULA_EMBEDDING_GRADIENT,
                TS_DURING(TS_AT_BACKWARD_LAST), first * t->width);
}

/* Copies of a moment, or F32 gradients of a group, while the optimizer runs. */
static ts_status add_step(training *t)
{
    const ts_run *run = t->run;
    ts_wide one = (t->trained - t->beside) * ts_number_width(run->state_dtype)
                  + t->beside * t->width;
    ts_wide group = ts_shard_states(run, t->trained);

    if (t->profile->step_group > 0 && run->zero > 0) {
        if (group > t->profile->step_group) group = t->profile->step_group;
        return line(t, TS_FOR_OPTIMIZER, TS_FORMULA_STEP_GROUP,
                    TS_DURING(TS_AT_STEP), 4 * group);
    }
    if (run->optimizer != TS_OPTIMIZER_ADAMW || run->optimizer_in_backward)
        return TS_OK;
    return line(t, TS_FOR_OPTIMIZER, TS_FORMULA_STEP, TS_DURING(TS_AT_STEP),
                ts_shard_states(run, one * t->profile->step_copies));
}

/* Moments have the dtype of what they belong to: what trains whole beside
 * adapters is in the computing dtype. */
static ts_wide moments(const training *t)
{
    ts_wide rest = t->full ? t->tables + t->weights.vectors : 0;
    ts_run beside = *t->run;
    ts_wide sum;

    if (rest > t->trained) rest = t->trained;
    sum = ts_optimizer_bytes(t->model, t->run, &t->share,
                             t->trained - t->beside - rest, rest);
    if (t->beside == 0) return sum;
    beside.state_dtype = beside.dtype;
    return sum
           + ts_optimizer_bytes(t->model, &beside, &t->share, 0, t->beside);
}

static ts_status add_states(training *t)
{
    const ts_run *run = t->run;

    if (run->offload_optimizer) return TS_OK;
    TS_TRY(line(t, TS_FOR_OPTIMIZER, TS_FORMULA_OPTIMIZER, RUNNING,
                ts_shard_states(run, moments(t))));
    if (run->master)
        TS_TRY(line(t, TS_FOR_MASTER, TS_FORMULA_MASTER, RUNNING,
                    ts_shard_states(run, 4 * t->trained)));
    return add_step(t);
}

/* ---- what is whole for a while ------------------------------------------ */

/* Layers come and go, in the computing dtype unless they are packed;
 * embedding, head and vectors make one unit that is whole all the while, or
 * one each. */
static ts_status add_whole(training *t)
{
    const ts_weights *w = &t->weights;
    uint64_t at_once = ts_min(t->profile->gathered_layers, t->share.layers);
    bool apart = t->profile->gathered_apart, grads;
    uint32_t early = apart ? TS_DURING(TS_AT_FORWARD_END) | LOSSES : BACKWARDS,
             late = apart ? TS_DURING(TS_AT_BACKWARD_LAST) : BACKWARDS;
    ts_wide layers = t->packed ? matrix_bytes(t)
                               : (w->matrices + w->experts) * t->width;
    ts_wide head = head_held(t) * t->width;
    ts_wide rest = (w->vectors + w->embedding) * t->width;

    if (t->profile->gathered_all || !t->run->reshard)
        at_once = t->share.layers;
    if (t->share.layers > 0) layers = layers * at_once / t->share.layers;
    grads = t->full || t->profile->flat_gradients;
    TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_GATHERED,
                FORWARDS | BACKWARDS, layers));
    TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_GATHERED,
                apart ? early : FORWARDS | BACKWARDS, head));
    TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_GATHERED,
                apart ? late : FORWARDS | BACKWARDS, rest));
    TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_WHOLE_GRADIENTS, BACKWARDS,
                grads ? w->largest * 2 * t->width : 0));
    TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_WHOLE_GRADIENTS,
                apart ? TS_DURING(TS_AT_BACKWARD_FIRST) : BACKWARDS,
                grads ? head : 0));
    return line(t, TS_FOR_COMMUNICATION, TS_FORMULA_WHOLE_GRADIENTS, late,
                grads ? rest : 0);
}

/* ZeRO++: the copy within a node, and what a gather receives: a unit at a
 * time. */
static ts_status add_zeropp(training *t)
{
    const ts_weights *w = &t->weights;
    ts_wide plain = (w->kept + w->vectors + w->embedding + head_held(t))
                    * t->width;
    ts_wide layers = t->packed ? matrix_bytes(t)
                               : (w->matrices + w->experts) * t->width;
    ts_wide unit = w->largest;

    if (w->embedding > unit) unit = w->embedding;
    if (t->head > unit) unit = t->head;
    TS_TRY(line(t, TS_FOR_WEIGHTS, TS_FORMULA_SECOND_SHARD, RUNNING,
                ts_shard_second(t->run, layers + plain)));
    return line(t, TS_FOR_COMMUNICATION, TS_FORMULA_RECEIVED,
                FORWARDS | BACKWARDS, ts_shard_received(t->run, unit));
}

static ts_status add_gathered(training *t)
{
    const ts_run *run = t->run;
    bool ranks = run->dp * run->tp * run->cp * run->ep > 1;

    if (ranks || run->zero > 0)
        TS_TRY(line(t, TS_FOR_COMMUNICATION, TS_FORMULA_BUCKETS, TS_ALWAYS,
                    t->profile->bucket_bytes));
    if (ranks)
        TS_TRY(line(t, TS_FOR_CONTEXT, TS_FORMULA_RANKS, TS_ALWAYS,
                    t->profile->ranks_bytes));
    if (!ts_shard_has_weights(run) && !run->offload_params) return TS_OK;
    return add_whole(t);
}

/* ---- activations -------------------------------------------------------- */

typedef struct {
    ts_block sum;  /* of all layers that keep everything */
    ts_block most; /* of one layer, by what it keeps and needs */
    ts_wide inputs; /* that recomputed layers keep */
    ts_wide input;  /* the largest of them */
    uint64_t again; /* how many those layers are */
} activations;

/* Of `count` layers, those that are recomputed. */
static uint64_t recomputed(const ts_run *run, uint64_t count, uint64_t layers)
{
    if (run->recompute == TS_RECOMPUTE_FULL) return count;
    if (run->recompute != TS_RECOMPUTE_BLOCKS || layers == 0) return 0;
    return ts_min(count, ts_divide_up(count * run->recompute_layers, layers));
}

static void add_up(ts_block *sum, const ts_block *one, uint64_t times)
{
    sum->attention += one->attention * times;
    sum->mlp += one->mlp * times;
    sum->residual += one->residual * times;
    sum->packed += one->packed * times;
    sum->unpacked += one->unpacked * times;
}

static void read_stack(const training *t, const ts_stack *stack,
                       const ts_share *share, ts_wide tokens, activations *a)
{
    ts_wide input = tokens * stack->hidden
                    * (t->packed ? ts_stream_width(t->run, t->profile)
                                 : t->width);

    if (t->run->sp) input = (input + t->run->tp - 1) / t->run->tp;
    if (share->layers > 0 && input > a->input) a->input = input;
    for (uint32_t i = 0; i < stack->kind_count; i++) {
        uint64_t count = share->count[i];
        uint64_t again = recomputed(t->run, count, share->layers);
        ts_block one;
        if (count == 0) continue;
        ts_block_saved(stack, &stack->kinds[i], t->run, t->profile, tokens,
                       &one);
        add_up(&a->sum, &one, count - again);
        a->again += again;
        a->inputs += input * again;
        if (one.largest > a->most.largest) a->most.largest = one.largest;
        if (ts_block_sum(&one) + one.backward
            < ts_block_sum(&a->most) + a->most.backward)
            continue;
        one.largest = a->most.largest;
        a->most = one;
    }
}

/* The encoder, which runs before all, reads an input of its own length. */
static activations activations_of(const training *t)
{
    const ts_run *run = t->run;
    uint64_t source = run->source_seq > 0 ? run->source_seq : run->seq;
    activations a = {0};
    ts_share whole;

    read_stack(t, &t->model->decoder, &t->share, t->tokens, &a);
    if (!t->share.first || t->model->encoder.layer_count == 0) return a;
    ts_whole_share(&t->model->encoder, &whole);
    read_stack(t, &t->model->encoder, &whole,
               (ts_wide)run->batch * ts_divide_up(source, t->ranks), &a);
    return a;
}

/* Micro-batches whose activations a stage holds: 1F1B lets as many in as
 * stages follow it. */
static uint64_t in_flight(const training *t)
{
    uint64_t after = t->share.first ? t->run->pp : 1;
    return t->profile->pipelined ? ts_min(t->run->micro_batches, after) : 1;
}

/* Offloaded, one is in use and one on its way. */
static ts_wide checkpoints(const training *t, const activations *a)
{
    if (!t->run->offload_activations) return a->inputs;
    return a->input * ts_min(a->again, 2);
}

static ts_status add_block(training *t, const ts_block *b, uint32_t when,
                           ts_formula attention, ts_formula mlp,
                           ts_formula residual)
{
    TS_TRY(line(t, TS_FOR_ATTENTION, attention, when, b->attention));
    TS_TRY(line(t, TS_FOR_MLP, mlp, when, b->mlp));
    TS_TRY(line(t, TS_FOR_RESIDUAL, residual, when, b->residual));
    return line(t, TS_FOR_WORKSPACE, TS_FORMULA_KEPT_UNPACKED, when,
                b->unpacked);
}

static ts_status add_activations(training *t)
{
    activations a = activations_of(t);
    uint64_t flying = in_flight(t);
    uint32_t one = a.again > 0 ? BACKWARDS : TS_DURING(TS_AT_BACKWARD_LAST);
    ts_block all = {0};

    add_up(&all, &a.sum, flying);
    TS_TRY(add_block(t, &all, FORWARDS, TS_FORMULA_SAVED_ATTENTION,
                     TS_FORMULA_SAVED_MLP, TS_FORMULA_SAVED_RESIDUAL));
    TS_TRY(add_block(t, &a.most, one, TS_FORMULA_RECOMPUTED,
                     TS_FORMULA_RECOMPUTED, TS_FORMULA_RECOMPUTED));
    TS_TRY(line(t, TS_FOR_RESIDUAL, TS_FORMULA_CHECKPOINTS, FORWARDS,
                checkpoints(t, &a) * flying));
    if (t->profile->packed_again)
        TS_TRY(line(t, TS_FOR_OTHER, TS_FORMULA_PACKED_AGAIN,
                    TS_DURING(TS_AT_FORWARD_END) | TS_DURING(TS_AT_LOSS),
                    a.sum.packed));
    if (t->packed)
        TS_TRY(line(t, TS_FOR_WORKSPACE, TS_FORMULA_DEQUANTIZED, BACKWARDS,
                    a.most.largest * t->profile->unpack_bytes));
    return line(t, TS_FOR_MLP, TS_FORMULA_LAYER_BACKWARD, BACKWARDS,
                a.most.backward);
}

/* A matrix at a time, beside those that are packed already. */
static ts_status add_packing(training *t)
{
    ts_wide most = 0;

    if (!t->packed || t->profile->pack_bytes == 0) return TS_OK;
    for (uint32_t i = 0; i < t->model->decoder.kind_count; i++) {
        ts_block one;
        ts_block_saved(&t->model->decoder, &t->model->decoder.kinds[i], t->run,
                       t->profile, 1, &one);
        if (t->share.count[i] > 0 && one.largest > most) most = one.largest;
    }
    return line(t, TS_FOR_WORKSPACE, TS_FORMULA_PACKING,
                TS_DURING(TS_AT_LOAD), most * t->profile->pack_bytes);
}

static ts_status add_tower_layers(training *t, const ts_tower *tower)
{
    uint32_t kept = TOWER_KEPT | TS_DURING(TS_AT_VISION_BACKWARD);

    TS_TRY(line(t, TS_FOR_VISION, TS_FORMULA_TOWER_SAVED, kept,
                tower->attention + tower->mlp + tower->residual));
    TS_TRY(line(t, TS_FOR_VISION, TS_FORMULA_CHECKPOINTS, kept,
                tower->inputs));
    return line(t, TS_FOR_VISION, TS_FORMULA_RECOMPUTED,
                TS_DURING(TS_AT_VISION_BACKWARD), tower->again);
}

/* The tower runs before the decoder and, where it trains, backward after it;
 * only the first stage has it. */
static ts_status add_vision(training *t)
{
    const ts_tower *tower = &t->tower;

    TS_TRY(line(t, TS_FOR_VISION, TS_FORMULA_PIXELS,
                TOWER_KEPT | TS_DURING(TS_AT_VISION), tower->pixels));
    TS_TRY(line(t, TS_FOR_VISION, TS_FORMULA_TOWER_PASS,
                TS_DURING(TS_AT_VISION), tower->passing));
    TS_TRY(line(t, TS_FOR_VISION, TS_FORMULA_PROJECTOR_SAVED, TOWER_KEPT,
                tower->projector));
    TS_TRY(line(t, TS_FOR_VISION, TS_FORMULA_FEATURES,
                TS_DURING(TS_AT_FORWARD_END) | LOSSES, tower->features));
    return add_tower_layers(t, tower);
}

/* ---- head and loss ------------------------------------------------------ */

static ts_wide next_power(ts_wide value)
{
    ts_wide power = 1;
    while (power < value) power *= 2;
    return power;
}

/* Liger: head and loss by rows of tokens, so many that a slice of logits is
 * as large as the hidden states; their gradient is there at once. */
static ts_status add_liger(training *t, ts_wide vocab)
{
    ts_wide h = t->model->decoder.hidden;
    ts_wide times = vocab > h ? (vocab + h - 1) / h : 1;
    ts_wide rows = next_power((t->tokens + times - 1) / times);

    return line(t, TS_FOR_LOGITS, TS_FORMULA_LOSS_FUSED, LOSSES,
                rows * vocab * (4 + t->width) + t->tokens * h * t->width);
}

static ts_status add_chunked(training *t, ts_wide vocab)
{
    ts_wide chunk = t->run->loss_chunk;

    if (chunk > t->tokens) chunk = t->tokens;
    return line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS, LOSSES,
                (t->tokens * t->profile->chunked_logit
                 + chunk * t->profile->chunked_work) * vocab);
}

static ts_status add_eager(training *t, ts_wide vocab)
{
    const ts_profile *p = t->profile;
    ts_wide all = t->tokens * vocab;
    ts_wide capped = t->model->softcap ? p->softcap_kept : 0;
    ts_wide slice = (ts_wide)ts_min(p->logit_slice, t->run->seq)
                    * t->run->batch * vocab;

    TS_TRY(line(t, TS_FOR_FRAGMENTATION, TS_FORMULA_GENERATIONS, TS_ALWAYS,
                all * ts_max(p->logit_loss, p->logit_backward)
                    * p->logit_generations / 1000));
    TS_TRY(line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS,
                TS_DURING(TS_AT_FORWARD_END), all * p->logit_forward));
    TS_TRY(line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS, TS_DURING(TS_AT_LOSS),
                all * (p->logit_loss + capped)));
    TS_TRY(line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS,
                TS_DURING(TS_AT_LOSS_BACKWARD),
                all * (p->logit_backward + capped)));
    return line(t, TS_FOR_LOGITS, TS_FORMULA_LOSS_SLICE, LOSSES,
                slice * p->logit_slice_bytes);
}

static ts_status add_head(training *t)
{
    ts_wide vocab = ts_divide_up(t->model->vocab, t->run->tp);
    ts_wide tail = t->profile->norm_kept + 4 * t->width;

    if (!t->share.last) return TS_OK;
    TS_TRY(line(t, TS_FOR_RESIDUAL, TS_FORMULA_TAIL, LOSSES,
                t->tokens * t->model->decoder.hidden * tail));
    if (!t->model->head) return TS_OK;
    if (t->packed && t->profile->packed_head)
        TS_TRY(line(t, TS_FOR_WORKSPACE, TS_FORMULA_DEQUANTIZED,
                    TS_DURING(TS_AT_FORWARD_END)
                        | TS_DURING(TS_AT_LOSS_BACKWARD),
                    t->head * t->profile->unpack_bytes));
    switch ((ts_loss)t->run->loss) {
    case TS_LOSS_LIGER: return add_liger(t, vocab);
    case TS_LOSS_CHUNKED: return add_chunked(t, vocab);
    case TS_LOSS_FUSED: /* the gradient takes the place of the logits */
        return line(t, TS_FOR_LOGITS, TS_FORMULA_LOGITS, LOSSES,
                    t->tokens * vocab * 2 * t->width);
    default: return add_eager(t, vocab);
    }
}

/* ---- a step ------------------------------------------------------------- */

/* Gemma 3n and 4: a vector a layer and token, looked up and projected for all
 * layers before the first; both, and what their norm keeps, until backward
 * ends. */
static ts_status add_layer_embeddings(training *t)
{
    ts_wide each = (ts_wide)t->model->layer_embed * t->share.layers;
    return line(t, TS_FOR_RESIDUAL, TS_FORMULA_LAYER_EMBEDDINGS,
                FORWARDS | BACKWARDS,
                t->tokens * each * (2 * t->width + t->profile->norm_kept));
}

ts_status ts_train_run(const ts_model *model, const ts_run *run,
                       const ts_profile *profile, uint64_t stage,
                       ts_ledger *out, ts_error *error)
{
    uint64_t ranks = run->cp * run->ulysses;
    training t = {
        .ranks = ranks,
        .model = model,
        .run = run,
        .profile = profile,
        .tokens = (ts_wide)run->batch * ts_divide_up(run->seq, ranks),
        .width = ts_number_width(run->dtype),
        .full = run->method == TS_METHOD_FULL,
        .packed = run->method != TS_METHOD_FULL
                  && ts_number_packed(run->weight_format),
        .ledger = out,
        .error = error,
    };
    uint32_t used = FORWARDS | BACKWARDS | TS_DURING(TS_AT_STEP)
                    | TS_DURING(TS_AT_STEADY) | TS_DURING(TS_AT_LOAD);

    if (run->mode == TS_MODE_LOAD) used = TS_DURING(TS_AT_LOAD);
    ts_stage_share(model, run, stage, &t.share);
    if (t.share.first && run->mode != TS_MODE_LOAD)
        ts_tower_saved(model, run, profile, &t.tower);
    ts_ledger_begin(out, used | ts_tower_instants(&t.tower),
                    run->mode == TS_MODE_LOAD ? TS_AT_LOAD : TS_AT_STEADY);
    ts_stage_weights(model, run, &t.share, &t.weights);
    find_trained(&t);
    TS_TRY(add_weights(&t));
    TS_TRY(line(&t, TS_FOR_WORKSPACE, TS_FORMULA_WORKSPACE, TS_ALWAYS,
                profile->workspace_bytes));
    TS_TRY(add_packing(&t));
    if (run->mode == TS_MODE_LOAD) return TS_OK;
    TS_TRY(add_gradients(&t));
    TS_TRY(add_states(&t));
    TS_TRY(add_gathered(&t));
    TS_TRY(add_zeropp(&t));
    TS_TRY(add_activations(&t));
    TS_TRY(add_layer_embeddings(&t));
    TS_TRY(add_vision(&t));
    return add_head(&t);
}
