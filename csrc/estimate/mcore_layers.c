/* mcore_layers.c -- what one of Megatron's layers keeps for backward.
 *
 * Korthikanti et al. 2205.05198 section 4, tensor by tensor, with what
 * Transformer Engine and newer models change: a norm fused with the matrix
 * after it keeps its input and its output; flash kernels keep q, k, v, their
 * output and F32 log-sum-exps; experts keep what the tokens they get need. */
#include "mcore.h"

typedef struct {
    const ts_mcore *mcore;
    const ts_run *run;
    const ts_layer *layer;
    ts_mcore_tokens tokens;
    ts_wide hidden; /* bytes of a hidden state between layers */
    ts_wide here;   /* tokens of all sequences on this rank */
} layer_run;

static ts_wide here(const ts_mcore *m, uint64_t seq)
{
    return ((ts_wide)m->run->batch * seq + m->run->cp - 1) / m->run->cp;
}

/* The bounds of the fields allow products that 128 bits do not hold: from here
 * on all are the same, too much. */
static ts_wide capped(ts_wide bytes)
{
    ts_wide most = (ts_wide)1 << 80;
    return bytes < most ? bytes : most;
}

static uint64_t split_of(const ts_run *run)
{
    return run->sp ? run->tp : 1;
}

ts_wide ts_mcore_hidden(const ts_mcore *m, uint64_t hidden, uint64_t seq)
{
    return here(m, seq) * hidden * m->width / split_of(m->run);
}

static bool drops(const layer_run *r, uint32_t part)
{
    return r->run->recompute == TS_RECOMPUTE_SELECTIVE
           && (r->run->recompute_parts & part);
}

/* Bytes of `elements` a token, split over tp. */
static ts_wide wide(const layer_run *r, ts_wide tokens, ts_wide elements)
{
    return tokens * elements * r->mcore->width / r->run->tp;
}

/* Bytes, where it is a matrix's input alone that keeps them: frozen matrices
 * keep none (Transformer Engine: saved only if weight.requires_grad), FP8 ones
 * theirs as they multiplied them. */
static ts_wide multiplied(const layer_run *r, ts_wide bytes)
{
    if (r->run->method == TS_METHOD_FROZEN) return 0;
    return r->run->fp8_compute ? bytes / r->mcore->width : bytes;
}

static uint64_t value_dim(const ts_layer *l)
{
    return l->value_dim > 0 ? l->value_dim : l->head_dim;
}

/* ---- attention ---------------------------------------------------------- */

static ts_wide scores(const layer_run *r, uint64_t keys)
{
    return (ts_wide)r->run->batch * r->layer->heads / r->run->tp
           * r->tokens.seq * ts_divide_up(keys, r->run->cp);
}

static bool unfused(const layer_run *r)
{
    return r->run->attention == TS_ATTENTION_EAGER
           || !r->mcore->profile->engine;
}

/* The product of queries and keys, and what comes of it.  Unfused: softmax,
 * dropout's mask of a byte, dropout's output. */
static ts_wide core_attention(const layer_run *r, uint64_t keys)
{
    const ts_layer *l = r->layer;
    uint64_t width = r->mcore->width;
    ts_wide out = wide(r, r->here, (ts_wide)l->heads * value_dim(l));

    if (!unfused(r)) {
        bool copied = r->mcore->profile->flash_copy && r->run->batch > 1;
        ts_wide input = copied || r->run->fp8_compute ? multiplied(r, out) : 0;
        return out + input + 4 * r->here * l->heads / r->run->tp;
    }
    out = multiplied(r, out);
    if (drops(r, TS_PART_CORE_ATTENTION)) return out;
    ts_wide each = r->run->softmax_unfused ? 4 : width;
    if (r->run->attention_dropout)
        each += 1 + width;
    else if (each > width) /* softmax in F32, cast to be multiplied */
        each += width;
    ts_wide repeated =
        l->mixer == TS_MIXER_ATTENTION
            ? wide(r, 2 * r->here, (l->heads - l->kv_heads) * l->head_dim)
            : 0;
    return out + each * scores(r, keys) + repeated;
}

static ts_wide self_attention(const layer_run *r)
{
    const ts_layer *l = r->layer;
    uint64_t qk = l->heads + l->kv_heads;
    ts_wide kept =
        wide(r, r->here,
             (ts_wide)qk * l->head_dim + (ts_wide)l->kv_heads * value_dim(l));

    if (l->qk_norm > 0) kept += wide(r, r->here, (ts_wide)qk * l->head_dim);
    return kept + core_attention(r, r->tokens.seq);
}

/* Compressed queries, keys and values, before and after their norms; then
 * whole queries and keys, and the product that values are a part of. */
static ts_wide latent_attention(const layer_run *r)
{
    const ts_layer *l = r->layer;
    uint64_t plain = l->head_dim - l->rope_dim, v = value_dim(l);
    uint64_t split = split_of(r->run);
    ts_wide low = r->here * r->mcore->width
                  * (2 * (l->q_rank + l->kv_rank) + l->rope_dim) / split;
    ts_wide high = wide(r, r->here,
                        (ts_wide)l->heads * (2 * l->head_dim + plain + v));

    if (drops(r, TS_PART_LATENT_UP)) high = 0;
    return low + high + core_attention(r, r->tokens.seq);
}

/* Queries of this stack; keys and values of the other's tokens. */
static ts_wide cross_attention(const layer_run *r)
{
    const ts_layer *l = r->layer;
    ts_wide source = here(r->mcore, r->tokens.source);
    return wide(r, r->here, (ts_wide)l->heads * l->head_dim)
           + wide(r, source, (ts_wide)l->kv_heads
                                 * (l->head_dim + value_dim(l)))
           + core_attention(r, r->tokens.source);
}

/* The projection's output, all that the fused kernel reads; its output, and
 * that after the gated norm. */
static ts_wide state_space(const layer_run *r)
{
    const ts_layer *l = r->layer;
    uint64_t inner = l->inner_dim;
    ts_wide projected = 2 * (ts_wide)inner
                        + 2 * (ts_wide)l->state_groups * l->state_dim
                        + l->state_heads;
    return wide(r, r->here, projected + 2 * inner);
}

/* q, k, v before and after the convolution, the gate, the output twice. */
static ts_wide delta_rule(const layer_run *r)
{
    const ts_layer *l = r->layer;
    ts_wide keys = (ts_wide)l->state_groups * l->state_dim;
    ts_wide values = (ts_wide)l->state_heads * value_dim(l);
    return wide(r, r->here, 2 * (2 * keys + values) + 3 * values);
}

static ts_wide mixer(const layer_run *r)
{
    switch ((ts_mixer)r->layer->mixer) {
    case TS_MIXER_ATTENTION: return self_attention(r);
    case TS_MIXER_LATENT: return latent_attention(r);
    case TS_MIXER_MAMBA:
    case TS_MIXER_MAMBA2: return state_space(r);
    case TS_MIXER_DELTA: return delta_rule(r);
    case TS_MIXER_RECURRENT: return wide(r, r->here, 5 * r->layer->inner_dim);
    case TS_MIXER_NONE:
    case TS_MIXER_COUNT: break;
    }
    return 0;
}

/* ---- MLPs --------------------------------------------------------------- */

static ts_wide dense(const layer_run *r, uint64_t ffn)
{
    if (drops(r, TS_PART_MLP)) return 0;
    ts_wide one = wide(r, r->here, ffn);
    return one * (r->layer->gated ? 2 : 1) + multiplied(r, one);
}

/* Rows that the experts of a rank get, evenly routed: its own tokens times
 * the experts each visits, and those of the ranks it shares experts with. */
static ts_wide expert_rows(const layer_run *r)
{
    return capped(r->here / split_of(r->run) * r->layer->active_experts
                  * r->run->etp);
}

/* Rows in, first product, activation, and that times the probabilities; a
 * gated activation is fused with them.  The router's F32 logits and
 * probabilities. */
static ts_wide experts(const layer_run *r, const ts_stack *stack)
{
    const ts_layer *l = r->layer;
    ts_wide rows = expert_rows(r);
    uint64_t width = r->mcore->width;
    ts_wide router = r->here / split_of(r->run) * l->experts * 8;
    ts_wide act = rows * l->expert_ffn * width / r->run->etp;
    ts_wide activations = multiplied(r, act) + (l->gated ? 0 : act);

    if (drops(r, TS_PART_EXPERTS)) return router;
    if (drops(r, TS_PART_EXPERT_ACT)) activations = 0;
    return router + multiplied(r, rows * stack->hidden * width)
           + act * (l->gated ? 2 : 1) + activations
           + dense(r, l->shared_ffn);
}

/* ---- the layer ---------------------------------------------------------- */

/* Gradients of the first product and the activation, or of scores and
 * softmax, whichever are more. */
static ts_wide gradients(const layer_run *r)
{
    const ts_layer *l = r->layer;
    ts_wide mlp = wide(r, r->here, (ts_wide)l->ffn * (l->gated ? 3 : 2));
    if (l->mlp == TS_MLP_MOE)
        mlp = expert_rows(r) * l->expert_ffn * r->mcore->width
              * (l->gated ? 3 : 2) / r->run->etp;
    if (!unfused(r) || (l->mixer != TS_MIXER_ATTENTION
                        && l->mixer != TS_MIXER_LATENT))
        return mlp;
    uint64_t width = r->run->softmax_unfused ? 4 : r->mcore->width;
    ts_wide attention = 2 * width * scores(r, r->tokens.seq);
    return attention > mlp ? attention : mlp;
}

void ts_mcore_layer(const ts_mcore *m, const ts_stack *stack,
                    const ts_layer *l, ts_mcore_tokens tokens,
                    ts_mcore_kept *out)
{
    layer_run r = {
        .mcore = m,
        .run = m->run,
        .layer = l,
        .tokens = tokens,
        .hidden = ts_mcore_hidden(m, stack->hidden, tokens.seq),
        .here = here(m, tokens.seq),
    };
    uint64_t attentions = (l->mixer != TS_MIXER_NONE) + l->cross;
    uint64_t mlps = l->mlp != TS_MLP_NONE;
    ts_wide normed = drops(&r, TS_PART_NORMS) ? 0 : multiplied(&r, r.hidden);
    ts_wide mask = m->run->hidden_dropout ? r.hidden / m->width : 0;

    memset(out, 0, sizeof *out);
    if (attentions + mlps == 0) return;
    out->input = r.hidden;
    out->residual = capped((r.hidden + mask) * (attentions + mlps));
    out->attention = capped(mixer(&r) + normed * attentions);
    if (l->cross) out->attention += capped(cross_attention(&r));
    if (l->mlp == TS_MLP_DENSE) out->mlp = capped(normed + dense(&r, l->ffn));
    if (l->mlp == TS_MLP_MOE) out->mlp = capped(normed + experts(&r, stack));
    out->backward = capped(gradients(&r) + r.hidden);
}

ts_wide ts_mcore_routing(const ts_mcore *m, const ts_layer *l)
{
    const ts_run *run = m->run;
    if (l->mlp != TS_MLP_MOE || run->expert_dispatch != 0) return 0;
    ts_wide gathered =
        capped(here(m, run->seq) / split_of(run) * run->tp * run->ep);
    return gathered * (5 * (l->experts + l->experts / run->ep) + 8);
}
