/* megatron.c -- one stage of a Megatron-Core run.
 *
 * A pipeline runs one forward, one backward (1F1B): stage r of p has p - r
 * micro-batches in flight, and with model chunks those that interleaving
 * brings in before the first backward.  The peak is at the loss on the last
 * stage, in the backward of the newest micro-batch on the others. */
#include "mcore.h"

enum {
    KEPT = TS_DURING(TS_AT_FORWARD_END) | TS_DURING(TS_AT_LOSS)
           | TS_DURING(TS_AT_BACKWARD_FIRST),
};

ts_status ts_mcore_line(ts_mcore *m, ts_component component,
                        ts_formula formula, uint32_t instants, ts_wide bytes)
{
    return ts_ledger_add(m->ledger, component, formula, instants, bytes,
                         m->error);
}

/* ---- the stage's part of the model -------------------------------------- */

static uint64_t padded_vocab(const ts_mcore *m)
{
    uint64_t step = m->run->vocab_multiple * m->run->tp;
    return ts_divide_up(m->model->vocab, step) * step;
}

/* The last stage predicts further tokens: layers, norms of both their inputs
 * and of their output, and a matrix that joins the two. */
static void add_predicting(ts_mcore *m)
{
    const ts_run *run = m->run;
    uint64_t h = m->model->decoder.hidden, n = run->mtp_layers;

    m->weights.matrices += (ts_wide)n * 2 * h * h / run->tp;
    m->weights.vectors += (ts_wide)n * 3 * h;
    if (run->pp > 1) m->weights.embedding += m->table;
}

static void stage_weights(ts_mcore *m)
{
    const ts_model *model = m->model;
    ts_share *share = &m->share;

    ts_stage_share(model, m->run, m->stage, share);
    m->table = (ts_wide)padded_vocab(m) / m->run->tp * model->decoder.hidden;
    if (share->last) share->count[m->run->mtp_kind] += m->run->mtp_layers;
    ts_stack_weights(&model->decoder, share, m->run, &m->weights);
    if (share->first) {
        ts_share whole;
        m->weights.embedding += m->table;
        ts_whole_share(&model->encoder, &whole);
        if (model->encoder.layer_count > 0)
            ts_stack_weights(&model->encoder, &whole, m->run, &m->weights);
        ts_vision_weights(model, m->run, &m->weights);
    }
    if (!share->last || !model->head) return;
    if (!model->tied || !share->first) m->weights.head += m->table;
    if (model->head_bias) m->weights.vectors += padded_vocab(m) / m->run->tp;
    if (m->run->mtp_layers > 0) add_predicting(m);
}

/* ---- workspaces and buffers --------------------------------------------- */

static bool trains(const ts_mcore *m)
{
    return m->run->mode == TS_MODE_TRAIN;
}

static ts_status add_workspaces(ts_mcore *m)
{
    const ts_profile *p = m->profile;
    const ts_run *run = m->run;
    uint64_t threads = trains(m) ? 2 : 1;
    uint64_t engines = run->tp_overlap ? p->overlap_streams : 1;

    TS_TRY(ts_mcore_line(m, TS_FOR_WORKSPACE, TS_FORMULA_MCORE_BLAS,
                         TS_ALWAYS, (ts_wide)threads * p->blas_bytes));
    if (run->grouped_experts) engines += p->grouped_streams;
    if (!p->engine) engines = 0;
    return ts_mcore_line(m, TS_FOR_WORKSPACE, TS_FORMULA_MCORE_ENGINE,
                         TS_ALWAYS, (ts_wide)engines * p->engine_bytes);
}

static ts_wide hidden(const ts_mcore *m)
{
    return ts_mcore_hidden(m, m->model->decoder.hidden, m->run->seq);
}

/* --log-params-norm: what has no F32 copy in the optimizer gets one, all of
 * them at once. */
static ts_status add_norm_copies(ts_mcore *m)
{
    const ts_weights *w = &m->weights;
    ts_wide all = w->matrices + w->experts + w->kept + w->vectors
                  + w->embedding + w->head;

    if (!m->run->norm_copies || !trains(m) || m->width >= 4) return TS_OK;
    all -= ts_mcore_trained(m);
    return ts_mcore_line(m, TS_FOR_OTHER, TS_FORMULA_MCORE_NORM_COPIES,
                         TS_DURING(TS_AT_STEP), 4 * all);
}

static ts_status add_overlap(ts_mcore *m)
{
    uint64_t split = m->run->sp ? m->run->tp : 1;
    if (!m->run->tp_overlap || !m->profile->engine) return TS_OK;
    return ts_mcore_line(m, TS_FOR_COMMUNICATION, TS_FORMULA_MCORE_OVERLAP,
                         TS_ALWAYS, 10 * hidden(m) * split);
}

/* Megatron's own attention multiplies into one buffer that all layers share.
 */
static ts_status add_scores(ts_mcore *m)
{
    const ts_run *run = m->run;
    uint64_t heads = 0;

    if (m->profile->engine || !trains(m)) return TS_OK;
    for (uint32_t i = 0; i < m->model->decoder.kind_count; i++)
        heads = ts_max(heads, m->model->decoder.kinds[i].heads);
    uint64_t seq = ts_max(run->seq, run->source_seq);
    ts_wide bytes = (ts_wide)run->batch * heads / run->tp * seq * seq
                    / run->cp * m->width;
    return ts_mcore_line(m, TS_FOR_ATTENTION, TS_FORMULA_MCORE_SCORES,
                         TS_ALWAYS, bytes);
}

static ts_status add_routing(ts_mcore *m)
{
    const ts_stack *stack = &m->model->decoder;
    ts_wide bytes = 0;

    if (!trains(m)) return TS_OK;
    for (uint32_t i = 0; i < stack->kind_count; i++)
        bytes += m->share.count[i]
                 * ts_mcore_routing(m, &stack->kinds[i]);
    return ts_mcore_line(m, TS_FOR_MLP, TS_FORMULA_MCORE_ROUTING, TS_ALWAYS,
                         bytes);
}

static ts_status add_boundary(ts_mcore *m)
{
    if (!trains(m) || m->share.first) return TS_OK;
    return ts_mcore_line(m, TS_FOR_COMMUNICATION, TS_FORMULA_MCORE_BOUNDARY,
                         TS_ALWAYS, 2 * m->run->vpp * hidden(m));
}

/* A second copy of the weights, sharded as inference wants them, and the
 * cache of its engine. */
static ts_status add_engine(ts_mcore *m)
{
    const ts_run *run = m->run;
    const ts_weights *w = &m->weights;
    ts_wide dense = w->matrices + w->kept + w->vectors + w->embedding
                    + w->head;

    TS_TRY(ts_mcore_line(m, TS_FOR_KV_CACHE, TS_FORMULA_MCORE_ENGINE_CACHE,
                         TS_ALWAYS, run->engine_cache_bytes));
    if (m->share.last)
        TS_TRY(ts_mcore_line(m, TS_FOR_LOGITS, TS_FORMULA_MCORE_ENGINE_LOGITS,
                             TS_ALWAYS,
                             (ts_wide)run->engine_tokens * padded_vocab(m)
                                 * m->width));
    if (run->engine_tp == 0) return TS_OK;
    return ts_mcore_line(m, TS_FOR_WEIGHTS, TS_FORMULA_MCORE_WEIGHTS,
                         TS_ALWAYS,
                         dense * m->width * run->tp / run->engine_tp
                             + w->experts * m->width * run->ep
                                   / run->engine_ep);
}

/* ---- activations -------------------------------------------------------- */

/* Layers of one model chunk that keep everything, and those that keep their
 * input only. */
typedef struct {
    uint64_t whole[TS_MAX_KINDS];
    uint64_t inputs;
} chunk_layers;

static void read_chunk(const ts_mcore *m, uint64_t chunk, chunk_layers *out)
{
    const ts_stack *stack = &m->model->decoder;
    const ts_run *run = m->run;
    ts_run one = *run;
    ts_share share;
    uint64_t layers = 0, blocks = 0;

    memset(out, 0, sizeof *out);
    one.pp = run->pp * run->vpp;
    one.vpp = 1;
    ts_stage_share(m->model, &one, chunk * run->pp + m->stage, &share);
    if (run->recompute == TS_RECOMPUTE_BLOCKS) blocks = run->recompute_layers;
    for (uint32_t kind = 0; kind < stack->kind_count; kind++) {
        uint64_t first = ts_min(blocks, share.count[kind]);
        out->whole[kind] = share.count[kind] - first;
        out->inputs += first;
        blocks -= first;
        layers += share.count[kind];
    }
    if (run->recompute != TS_RECOMPUTE_FULL) return;
    memset(out->whole, 0, sizeof out->whole);
    out->inputs = ts_divide_up(layers, ts_max(1, run->recompute_layers));
}

/* Forward passes of a chunk before the first backward is done.  Passes go
 * group by group through the chunks (Narayanan et al. 2104.04473, 2.2). */
static uint64_t passes(const ts_run *run, uint64_t stage, uint64_t chunk)
{
    uint64_t left = run->pp - stage, group = run->chunk_group;

    if (run->vpp == 1) return ts_min(left, run->micro_batches);
    if (group == 0) group = run->pp;
    group = ts_min(group, run->micro_batches);
    uint64_t flight = 2 * (left - 1) + (run->vpp - 1) * group + 1;
    flight = ts_min(flight, run->micro_batches * run->vpp);
    uint64_t round = group * run->vpp;
    uint64_t rest = flight % round, before = chunk * group;
    uint64_t part = rest > before ? ts_min(rest - before, group) : 0;
    return flight / round * group + part;
}

typedef struct {
    ts_wide attention, mlp, residual, inputs;
    ts_wide recomputed, backward; /* of one layer, the largest */
} activations;

static void take_layer(activations *to, const ts_mcore_kept *kept,
                       uint64_t times)
{
    to->attention += kept->attention * times;
    to->mlp += kept->mlp * times;
    to->residual += kept->residual * times;
}

static void take_largest(activations *to, const ts_mcore_kept *kept)
{
    ts_wide all = kept->attention + kept->mlp + kept->residual;
    if (all > to->recomputed) to->recomputed = all;
    if (kept->backward > to->backward) to->backward = kept->backward;
}

static void read_decoder(const ts_mcore *m, activations *to)
{
    const ts_stack *stack = &m->model->decoder;
    const ts_run *run = m->run;
    ts_mcore_kept kept[TS_MAX_KINDS];

    for (uint32_t kind = 0; kind < stack->kind_count; kind++) {
        ts_mcore_layer(m, stack, &stack->kinds[kind],
                       (ts_mcore_tokens){run->seq, run->source_seq},
                       &kept[kind]);
        if (m->share.count[kind] > 0) take_largest(to, &kept[kind]);
    }
    for (uint64_t chunk = 0; chunk < run->vpp; chunk++) {
        chunk_layers layers;
        uint64_t times = passes(run, m->stage, chunk);
        read_chunk(m, chunk, &layers);
        for (uint32_t kind = 0; kind < stack->kind_count; kind++)
            take_layer(to, &kept[kind], layers.whole[kind] * times);
        to->inputs += layers.inputs * times * hidden(m);
    }
    if (m->share.last && run->mtp_heads > 0) {
        take_layer(to, &kept[run->mtp_kind], run->mtp_heads);
        to->residual += run->mtp_heads * 5 * hidden(m);
    }
}

/* times: sequences that a sample has of this stack. */
static void read_encoder(const ts_mcore *m, const ts_stack *stack,
                         uint64_t seq, uint64_t times, activations *to)
{
    for (uint32_t i = 0; i < stack->layer_count; i++) {
        ts_mcore_kept kept;
        ts_mcore_layer(m, stack, &stack->kinds[stack->kind_of[i]],
                       (ts_mcore_tokens){seq, 0}, &kept);
        take_largest(to, &kept);
        if (m->run->recompute == TS_RECOMPUTE_FULL)
            to->inputs += times * kept.input;
        else
            take_layer(to, &kept, times);
    }
}

/* The decoder's context-parallel ranks all run the whole tower, whose
 * attention is not causal; a frozen one keeps nothing. */
static void read_vision(const ts_mcore *m, activations *to)
{
    const ts_run *run = m->run;
    ts_run alone = *run;
    ts_mcore tower = *m;

    if (!run->train_vision) return;
    alone.cp = 1;
    alone.sp = 0;
    if (run->vision_recompute) alone.recompute = TS_RECOMPUTE_FULL;
    tower.run = &alone;
    read_encoder(&tower, &m->model->vision, run->image_patches, run->images,
                 to);
}

/* With chunks the newest input of each is the one that the boundary keeps. */
static ts_wide received(const ts_mcore *m)
{
    return m->run->vpp > 1 && !m->share.first ? m->run->vpp * hidden(m) : 0;
}

static ts_status add_kept(ts_mcore *m, const activations *a)
{
    const ts_run *run = m->run;
    bool again = run->recompute == TS_RECOMPUTE_FULL
                 || run->recompute == TS_RECOMPUTE_BLOCKS;
    ts_wide less = received(m);

    TS_TRY(ts_mcore_line(m, TS_FOR_ATTENTION, TS_FORMULA_MCORE_ATTENTION,
                         KEPT, a->attention));
    TS_TRY(ts_mcore_line(m, TS_FOR_MLP, TS_FORMULA_MCORE_MLP, KEPT, a->mlp));
    TS_TRY(ts_mcore_line(m, TS_FOR_RESIDUAL, TS_FORMULA_MCORE_RESIDUAL, KEPT,
                         a->residual > less ? a->residual - less : 0));
    TS_TRY(ts_mcore_line(m, TS_FOR_SKETCHES, TS_FORMULA_CHECKPOINTS, KEPT,
                         a->inputs));
    uint32_t backward = TS_DURING(TS_AT_BACKWARD_FIRST);
    if (again)
        TS_TRY(ts_mcore_line(m, TS_FOR_SKETCHES, TS_FORMULA_RECOMPUTED,
                             backward, a->recomputed));
    return ts_mcore_line(m, TS_FOR_RESIDUAL, TS_FORMULA_LAYER_BACKWARD,
                         backward, a->backward);
}

/* Fine-grained offloading: of what is kept only the newest layer is here. */
static void offload(activations *a)
{
    ts_wide all = a->attention + a->mlp + a->residual;
    if (all <= a->recomputed) return;
    a->attention = a->mlp = 0;
    a->residual = a->recomputed;
}

static ts_status add_activations(ts_mcore *m)
{
    const ts_run *run = m->run;
    const ts_model *model = m->model;
    activations a = {0};

    read_decoder(m, &a);
    if (m->share.first) {
        if (model->encoder.layer_count > 0)
            read_encoder(m, &model->encoder, run->source_seq, 1, &a);
        read_vision(m, &a);
    }
    if (run->offload_activations) offload(&a);
    return add_kept(m, &a);
}

/* ---- both ends ---------------------------------------------------------- */

static ts_status add_ends(ts_mcore *m)
{
    const ts_run *run = m->run;
    ts_wide h = hidden(m), bytes = 0;
    uint64_t longest = ts_max(run->seq, run->source_seq);

    if (m->share.last) bytes += 2 * h;
    if (m->share.first && run->hidden_dropout) bytes += h / m->width;
    if (m->model->encoder.layer_count > 0 && m->share.first)
        bytes += 2 * ts_mcore_hidden(m, m->model->encoder.hidden,
                                     run->source_seq);
    TS_TRY(ts_mcore_line(m, TS_FOR_RESIDUAL, TS_FORMULA_MCORE_ENDS, KEPT,
                         bytes));
    if (!run->attention_mask) return TS_OK;
    return ts_mcore_line(m, TS_FOR_OTHER, TS_FORMULA_MCORE_MASK, KEPT,
                         (ts_wide)run->batch * longest * longest / run->cp);
}

static ts_status add_logits(ts_mcore *m)
{
    const ts_run *run = m->run;
    ts_wide tokens = ts_divide_up(run->batch * run->seq, run->cp);
    ts_wide logits = tokens * (padded_vocab(m) / run->tp);
    uint64_t each = run->loss == TS_LOSS_FUSED ? m->profile->fused_loss_logit
                                               : m->width + 4;

    if (!m->share.last || !m->model->head) return TS_OK;
    each += 4 * run->mtp_heads;
    TS_TRY(ts_mcore_line(m, TS_FOR_LOGITS, TS_FORMULA_MCORE_LOGITS,
                         TS_DURING(TS_AT_LOSS), logits * each));
    return ts_mcore_line(
        m, TS_FOR_LOGITS, TS_FORMULA_MCORE_DEFERRED, KEPT,
        run->wgrad_deferral * (logits * m->width + hidden(m)));
}

/* ---- the family --------------------------------------------------------- */

/* get_megatron_optimizer knows these. */
static bool has_optimizer(uint64_t optimizer)
{
    return optimizer == TS_OPTIMIZER_ADAMW || optimizer == TS_OPTIMIZER_SGD
           || optimizer == TS_OPTIMIZER_MOMENTUM
           || optimizer == TS_OPTIMIZER_LION
           || optimizer == TS_OPTIMIZER_MUON;
}

static ts_status check(const ts_mcore *m)
{
    const ts_run *run = m->run;
    if (!has_optimizer(run->optimizer))
        return ts_fail(m->error, TS_ARGUMENT,
                       "optimizer %s is none of Megatron-Core's",
                       ts_field_words("optimizer")[run->optimizer]);
    if (run->mtp_layers > 0
        && run->mtp_kind >= m->model->decoder.kind_count)
        return ts_fail(m->error, TS_ARGUMENT,
                       "mtp_kind %llu, of %u kinds of layers",
                       (unsigned long long)run->mtp_kind,
                       m->model->decoder.kind_count);
    if (run->tp * run->dp * run->cp % (run->ep * run->etp) == 0) return TS_OK;
    return ts_fail(m->error, TS_ARGUMENT,
                   "ep %llu times etp %llu does not divide the %llu ranks of"
                   " a stage",
                   (unsigned long long)run->ep, (unsigned long long)run->etp,
                   (unsigned long long)(run->tp * run->dp * run->cp));
}

ts_status ts_megatron_run(const ts_model *model, const ts_run *run,
                          const ts_profile *profile, uint64_t stage,
                          ts_ledger *out, ts_error *error)
{
    ts_mcore m = {
        .model = model,
        .run = run,
        .profile = profile,
        .stage = stage,
        .width = ts_number_width(run->dtype),
        .ledger = out,
        .error = error,
    };
    uint32_t used = TS_DURING(TS_AT_FORWARD_END) | TS_DURING(TS_AT_STEADY);

    TS_TRY(check(&m));
    if (trains(&m))
        used |= TS_DURING(TS_AT_LOSS) | TS_DURING(TS_AT_BACKWARD_FIRST)
                | TS_DURING(TS_AT_STEP);
    ts_ledger_begin(out, used, TS_AT_STEADY);
    stage_weights(&m);
    TS_TRY(ts_mcore_states(&m));
    TS_TRY(add_norm_copies(&m));
    TS_TRY(add_workspaces(&m));
    TS_TRY(add_overlap(&m));
    TS_TRY(add_scores(&m));
    TS_TRY(add_routing(&m));
    TS_TRY(add_boundary(&m));
    TS_TRY(add_engine(&m));
    if (!trains(&m)) return TS_OK;
    TS_TRY(add_activations(&m));
    TS_TRY(add_ends(&m));
    return add_logits(&m);
}
