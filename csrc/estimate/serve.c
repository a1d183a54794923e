/* serve.c -- generating: prefill of the prompt, then one token at a time.
 *
 * torch's eager mode, module by module: what is alive is what Python frames
 * hold.  At an MLP's product those are act(gate), up and the product, the
 * input of the MLP, the residual, the layer's input and the embeddings. */
#include "tower.h"

typedef struct {
    const ts_model *model;
    const ts_run *run;
    const ts_profile *profile;
    ts_share share;
    ts_weights weights;
    ts_tower tower;  /* of the first stage */
    ts_wide tokens;  /* of the prompt, all sequences */
    uint64_t width;  /* bytes of a computed element */
    ts_ledger *ledger;
    ts_error *error;
} serving;

enum {
    PREFILL = TS_DURING(TS_AT_FORWARD_ATTENTION)
              | TS_DURING(TS_AT_FORWARD_MLP) | TS_DURING(TS_AT_LOSS),
    GENERATING = TS_DURING(TS_AT_DECODE) | TS_DURING(TS_AT_STEADY),
};

static ts_status line(serving *s, ts_component component, ts_formula formula,
                      uint32_t instants, ts_wide bytes)
{
    return ts_ledger_add(s->ledger, component, formula, instants, bytes,
                         s->error);
}

/* When a tied model's head is there a second time. */
static uint32_t head_again(const serving *s)
{
    uint64_t format = s->run->weight_format;

    if (!s->model->tied || !s->share.last) return 0;
    if (s->profile->load_head && format == TS_NUMBER_AWQ_INT4)
        return TS_DURING(TS_AT_LOAD);
    return s->profile->fp8_head && format == TS_NUMBER_FP8_BLOCK ? TS_ALWAYS
                                                                 : 0;
}

static void find_weights(serving *s)
{
    ts_stage_weights(s->model, s->run, &s->share, &s->weights);
    if (!s->profile->whole_vocab) return;
    ts_run whole = *s->run;
    ts_weights all;
    whole.tp = 1;
    ts_stage_weights(s->model, &whole, &s->share, &all);
    s->weights.embedding = all.embedding;
    s->weights.head = all.head;
}

static ts_status add_weights(serving *s)
{
    const ts_weights *w = &s->weights;
    uint64_t b = s->width;
    ts_wide head = s->profile->packed_head
                       ? ts_number_bytes(s->run->weight_format, w->head)
                       : w->head * b;
    ts_wide held = ts_held_bytes(s->model, w);

    TS_TRY(line(s, TS_FOR_ADAPTERS, TS_FORMULA_MATRICES, TS_ALWAYS,
                ts_number_bytes(s->run->adapter_dtype, w->adapters)));
    if (held > 0)
        return line(s, TS_FOR_WEIGHTS, TS_FORMULA_HELD, TS_ALWAYS, held);
    TS_TRY(line(s, TS_FOR_WEIGHTS, TS_FORMULA_MATRICES, TS_ALWAYS,
                w->matrix_bytes + w->kept * b));
    TS_TRY(line(s, TS_FOR_WEIGHTS, TS_FORMULA_EXPERTS, TS_ALWAYS,
                w->expert_bytes));
    TS_TRY(line(s, TS_FOR_WEIGHTS, TS_FORMULA_VECTORS, TS_ALWAYS,
                w->vectors * b));
    TS_TRY(line(s, TS_FOR_WEIGHTS, TS_FORMULA_EMBEDDING, TS_ALWAYS,
                w->embedding * b));
    TS_TRY(line(s, TS_FOR_WEIGHTS, TS_FORMULA_HEAD, TS_ALWAYS, head));
    TS_TRY(line(s, TS_FOR_WEIGHTS, TS_FORMULA_LOADED_HEAD, head_again(s),
                w->embedding * b));
    return line(s, TS_FOR_WEIGHTS, TS_FORMULA_RESTS, TS_ALWAYS,
                w->rests + ts_block_rest(w->embedding * b)
                    + ts_block_rest(w->head * b));
}

static ts_wide cache(const serving *s, uint64_t tokens)
{
    return ts_share_kv(s->model, &s->share, s->run, s->profile, tokens)
           * s->run->batch;
}

/* What appending a token needs beside: torch.cat makes the new before the old
 * goes. */
static ts_wide appended(const serving *s, uint64_t end)
{
    ts_wide largest = 0;

    if (s->profile->cache_append == 0) return 0;
    if (s->profile->cache_append == 2) return cache(s, end);
    for (uint32_t i = 0; i < s->model->decoder.kind_count; i++) {
        ts_wide one = ts_layer_kv(&s->model->decoder.kinds[i], s->run,
                                  s->profile, end);
        if (one > largest) largest = one;
    }
    return largest / 2 * s->run->batch;
}

static ts_status add_cache(serving *s)
{
    const ts_run *run = s->run;
    uint64_t end = run->seq + run->new_tokens;

    if (!run->kv_cache) return TS_OK;
    if (run->kv_tokens > 0 || s->profile->static_cache)
        return line(s, TS_FOR_KV_CACHE, TS_FORMULA_KV_CACHE,
                    PREFILL | GENERATING,
                    cache(s, run->kv_tokens > 0 ? run->kv_tokens : end));
    TS_TRY(line(s, TS_FOR_KV_CACHE, TS_FORMULA_KV_CACHE, PREFILL,
                cache(s, run->seq)));
    TS_TRY(line(s, TS_FOR_KV_CACHE, TS_FORMULA_KV_CACHE, GENERATING,
                cache(s, end)));
    return line(s, TS_FOR_KV_CACHE, TS_FORMULA_CACHE_APPEND,
                TS_DURING(TS_AT_DECODE), appended(s, end));
}

/* Elements a token that one attention block holds at its worst moment:
 * either while q is rotated, or while the kernel runs. */
static ts_wide attention_elements(const serving *s, const ts_layer *l)
{
    ts_wide q = (ts_wide)l->heads * l->head_dim / s->run->tp;
    ts_wide k = (ts_wide)l->kv_heads * l->head_dim / s->run->tp;

    if (l->mixer == TS_MIXER_NONE) return 0;
    if (l->mixer != TS_MIXER_ATTENTION && l->mixer != TS_MIXER_LATENT)
        return 6 * (ts_wide)l->inner_dim / s->run->tp;
    ts_wide rotating = q + 2 * k + 3 * q; /* q cos, turned q, their product */
    ts_wide repeated = s->profile->repeat_kv && k < q ? 2 * q : 0;
    ts_wide kernel = 2 * q + 2 * k + repeated;
    return rotating > kernel ? rotating : kernel;
}

static ts_wide score_bytes(const serving *s, const ts_layer *l)
{
    if (s->run->attention != TS_ATTENTION_EAGER) return 0;
    /* Scores, their F32 softmax, and it in the computing type. */
    return s->tokens * s->run->seq * l->heads / s->run->tp
           * (2 * s->width + 4);
}

static ts_status add_attention(serving *s)
{
    ts_wide most = 0;
    for (uint32_t i = 0; i < s->model->decoder.kind_count; i++) {
        const ts_layer *l = &s->model->decoder.kinds[i];
        ts_wide bytes = s->tokens * s->width * attention_elements(s, l)
                        + score_bytes(s, l);
        if (s->share.count[i] > 0 && bytes > most) most = bytes;
    }
    return line(s, TS_FOR_ATTENTION, TS_FORMULA_PREFILL_ATTENTION,
                TS_DURING(TS_AT_FORWARD_ATTENTION), most);
}

/* transformers runs experts one after another: the tokens of the busiest are
 * taken to be an even share twice over. */
static ts_wide expert_bytes(const serving *s, const ts_layer *l)
{
    ts_wide tokens = 2 * s->tokens * l->active_experts / l->experts;
    uint64_t h = s->model->decoder.hidden;
    ts_wide mask = s->tokens * l->experts * l->active_experts
                   * s->profile->expert_mask_bytes;

    return mask + s->tokens * h * s->width
           + tokens * (l->expert_ffn * s->profile->mlp_temporaries + 2 * h)
                 * s->width;
}

static ts_status add_mlp(serving *s)
{
    ts_wide most = 0, most_expert = 0;
    for (uint32_t i = 0; i < s->model->decoder.kind_count; i++) {
        const ts_layer *l = &s->model->decoder.kinds[i];
        if (s->share.count[i] == 0) continue;
        ts_wide wide = l->mlp == TS_MLP_MOE ? l->shared_ffn : l->ffn;
        ts_wide bytes = s->tokens * s->width * wide
                        * s->profile->mlp_temporaries / s->run->tp;
        if (l->mlp == TS_MLP_MOE) {
            ts_wide expert = expert_bytes(s, l);
            if (expert > most_expert) most_expert = expert;
        }
        if (bytes > most) most = bytes;
    }
    uint32_t when = TS_DURING(TS_AT_FORWARD_MLP);
    TS_TRY(line(s, TS_FOR_MLP, TS_FORMULA_PREFILL_MLP, when, most));
    return line(s, TS_FOR_MLP, TS_FORMULA_PREFILL_EXPERTS, when, most_expert);
}

static ts_status add_hiddens(serving *s)
{
    uint32_t when = TS_DURING(TS_AT_FORWARD_ATTENTION)
                    | TS_DURING(TS_AT_FORWARD_MLP);
    ts_wide one = s->tokens * s->model->decoder.hidden * s->width;

    TS_TRY(line(s, TS_FOR_RESIDUAL, TS_FORMULA_PREFILL_HIDDEN, when,
                one * s->profile->held_hiddens));
    return line(s, TS_FOR_RESIDUAL, TS_FORMULA_PREFILL_HIDDEN,
                TS_DURING(TS_AT_LOSS), one);
}

static ts_status add_logits(serving *s)
{
    ts_wide row = ts_divide_up(s->model->vocab, s->run->tp);
    ts_wide rows = s->profile->all_logits ? s->tokens : s->run->batch;

    if (!s->model->head) return TS_OK;
    /* accelerate's hooks bring what a model returns to its input's device. */
    if (s->share.first && !s->share.last && s->profile->gather_logits)
        TS_TRY(line(s, TS_FOR_LOGITS, TS_FORMULA_PREFILL_LOGITS,
                    TS_DURING(TS_AT_LOSS), rows * row * 4));
    if (!s->share.last) return TS_OK;

    TS_TRY(line(s, TS_FOR_LOGITS, TS_FORMULA_PREFILL_LOGITS,
                TS_DURING(TS_AT_LOSS),
                rows * row * s->profile->logit_bytes));
    return line(s, TS_FOR_LOGITS, TS_FORMULA_DECODE_LOGITS,
                TS_DURING(TS_AT_DECODE),
                row * s->run->batch * s->profile->logit_bytes);
}

/* Images are seen before the prompt is read. */
static ts_status add_vision(serving *s)
{
    const ts_tower *tower = &s->tower;

    TS_TRY(line(s, TS_FOR_VISION, TS_FORMULA_PIXELS,
                TS_DURING(TS_AT_VISION) | PREFILL, tower->pixels));
    TS_TRY(line(s, TS_FOR_VISION, TS_FORMULA_TOWER_PASS,
                TS_DURING(TS_AT_VISION), tower->passing));
    return line(s, TS_FOR_VISION, TS_FORMULA_FEATURES, PREFILL,
                tower->features);
}

static ts_status add_unpacked(serving *s)
{
    const ts_weights *w = &s->weights;
    ts_wide largest = w->largest_matrix;

    if (s->profile->packed_head && w->head > largest) largest = w->head;
    if (ts_number_packed(s->run->weight_format))
        TS_TRY(line(s, TS_FOR_WORKSPACE, TS_FORMULA_UNPACKED, PREFILL,
                    largest * s->width * s->profile->unpacked));
    if (!s->profile->cast_cache) return TS_OK;
    return line(s, TS_FOR_WEIGHTS, TS_FORMULA_CAST_CACHE, PREFILL,
                (w->matrices + w->experts + w->head) * 2);
}

static ts_status add_constants(serving *s)
{
    const ts_profile *p = s->profile;

    TS_TRY(line(s, TS_FOR_WORKSPACE, TS_FORMULA_WORKSPACE, TS_ALWAYS,
                p->workspace_bytes));
    TS_TRY(line(s, TS_FOR_OTHER, TS_FORMULA_INPUTS, TS_ALWAYS,
                s->tokens * p->input_bytes + p->tower_bytes));
    if (p->exllama && s->run->weight_format == TS_NUMBER_GPTQ_INT4)
        TS_TRY(line(s, TS_FOR_WORKSPACE, TS_FORMULA_EXLLAMA, TS_ALWAYS,
                    s->weights.largest_matrix * 2));
    TS_TRY(add_unpacked(s));
    if (p->causal_mask) {
        ts_wide end = (ts_wide)s->run->seq + s->run->new_tokens;
        TS_TRY(line(s, TS_FOR_ATTENTION, TS_FORMULA_CAUSAL_MASK,
                    PREFILL | GENERATING, end * end));
    }
    if (!p->rope_tables) return TS_OK;
    ts_wide rows = 0;
    for (uint32_t i = 0; i < s->model->decoder.kind_count; i++)
        rows += (ts_wide)s->share.count[i]
                * s->model->decoder.kinds[i].head_dim;
    return line(s, TS_FOR_OTHER, TS_FORMULA_ROPE_TABLES,
                TS_ALWAYS & ~TS_DURING(TS_AT_LOAD),
                rows * s->model->max_positions * 2 * s->width);
}

ts_status ts_serve_run(const ts_model *model, const ts_run *run,
                       const ts_profile *profile, uint64_t stage,
                       ts_ledger *out, ts_error *error)
{
    serving s = {
        .model = model,
        .run = run,
        .profile = profile,
        .tokens = (ts_wide)run->batch * run->seq,
        .width = ts_number_width(run->dtype),
        .ledger = out,
        .error = error,
    };
    uint32_t used = TS_DURING(TS_AT_LOAD);

    if (run->mode != TS_MODE_LOAD)
        used |= PREFILL | TS_DURING(TS_AT_DECODE) | TS_DURING(TS_AT_STEADY);
    ts_stage_share(model, run, stage, &s.share);
    if (s.share.first && run->mode != TS_MODE_LOAD)
        ts_tower_saved(model, run, profile, &s.tower);
    ts_ledger_begin(out, used | ts_tower_instants(&s.tower),
                    run->mode == TS_MODE_LOAD ? TS_AT_LOAD : TS_AT_STEADY);
    if (profile->head_first) s.share.last = stage == 0;
    find_weights(&s);
    TS_TRY(add_weights(&s));
    TS_TRY(add_constants(&s));
    TS_TRY(add_cache(&s));
    TS_TRY(add_vision(&s));
    TS_TRY(add_hiddens(&s));
    TS_TRY(add_attention(&s));
    TS_TRY(add_mlp(&s));
    return add_logits(&s);
}
