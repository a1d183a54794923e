/* block.c -- what one layer keeps for backward, tensor by tensor.
 *
 * A module keeps what its gradients are made of: a linear that trains (or has
 * an adapter) its input, a norm its input in F32, act(gate) * up all three
 * factors and gate itself, attention q, k, v, its output and one number a
 * head and position.  A tensor that two modules keep is counted once. */
#include "block.h"

typedef struct {
    const ts_layer *l;
    const ts_run *run;
    const ts_profile *profile;
    uint64_t h, width; /* hidden size, bytes of a computed element */
    ts_wide tokens;
    bool full;      /* everything trains */
    ts_block *out;
} block;

static bool adapted(const block *b, uint32_t targets)
{
    bool adapters = b->run->method == TS_METHOD_LORA
                    || b->run->method == TS_METHOD_DORA;
    return adapters && (b->run->targets & targets) != 0;
}

/* An input of a linear: kept as it is where the linear trains; where it has
 * an adapter, in the adapter's type. */
static ts_wide input(const block *b, uint32_t targets, ts_wide elements)
{
    uint64_t cast = ts_number_width(b->run->adapter_dtype);
    if (b->full) return elements * b->width;
    if (!adapted(b, targets)) return 0;
    ts_wide each = b->profile->adapter_cast ? cast : b->width;
    ts_wide kept = elements * each;
    if (b->run->adapter_dropout) kept += elements * each; /* and the mask */
    return kept;
}

/* rank elements between A and B of each adapter. */
static ts_wide between(const block *b, uint32_t targets)
{
    uint64_t each = ts_number_width(b->run->adapter_dtype);
    if (!adapted(b, targets)) return 0;
    int count = __builtin_popcount((unsigned)b->run->targets & targets);
    return (ts_wide)count * b->run->rank * each;
}

static void attention(block *b, ts_wide q, ts_wide k, ts_wide v)
{
    const ts_layer *l = b->l;
    uint64_t w = b->width;
    ts_wide heads = l->heads / b->run->tp;
    ts_wide repeated = b->profile->repeat_kv && l->kv_heads < l->heads;
    ts_wide scores = 0;

    ts_wide each = q * w + (repeated ? 2 * q * w : (k + v) * w);
    if (b->run->attention == TS_ATTENTION_EAGER)
        /* softmax in F32, and it again as the product's factor */
        scores = b->tokens * b->run->seq * heads * (4 + w);
    else
        each += q * w + heads * 4; /* output, log-sum-exp */
    b->out->attention +=
        b->tokens
            * (each + input(b, TS_TARGET_O, q) * 1
               + between(b, TS_TARGET_Q | TS_TARGET_K | TS_TARGET_V
                                | TS_TARGET_O))
        + scores;
    b->out->backward = b->tokens * w * (2 * q + k + v) + scores;
}

static void mixer(block *b)
{
    const ts_layer *l = b->l;
    uint64_t tp = b->run->tp;
    uint64_t value = l->value_dim > 0 ? l->value_dim : l->head_dim;

    switch ((ts_mixer)l->mixer) {
    case TS_MIXER_ATTENTION:
        attention(b, (ts_wide)l->heads * l->head_dim / tp,
                  ts_max(1, l->kv_heads / tp) * (ts_wide)l->head_dim,
                  ts_max(1, l->kv_heads / tp) * (ts_wide)value);
        break;
    case TS_MIXER_LATENT:
        attention(b, (ts_wide)l->heads * l->head_dim / tp,
                  (ts_wide)l->heads * l->head_dim / tp,
                  (ts_wide)l->heads * value / tp);
        b->out->attention += b->tokens * b->width
                             * (l->q_rank + l->kv_rank + l->rope_dim);
        break;
    case TS_MIXER_MAMBA:
    case TS_MIXER_MAMBA2:
    case TS_MIXER_DELTA:
    case TS_MIXER_RECURRENT: {
        ts_wide inner = ts_max(l->inner_dim, l->state_heads * value);
        b->out->attention += b->tokens * b->width * 6 * inner / tp;
        b->out->backward = b->tokens * b->width * 4 * inner / tp;
        break;
    }
    case TS_MIXER_NONE:
    case TS_MIXER_COUNT: break;
    }
}

static void dense(block *b, ts_wide tokens, ts_wide wide)
{
    uint64_t w = b->width, kept = b->profile->mlp_saved;
    ts_wide product = input(b, TS_TARGET_DOWN, wide);

    if (!b->l->gated) kept = 1;
    /* the product is down's input: kept for it only */
    ts_wide factors = (kept > 0 ? kept - (b->l->gated ? 1 : 0) : 0) * w * wide;
    b->out->mlp += tokens
                   * (factors + product
                      + between(b, TS_TARGET_GATE | TS_TARGET_UP
                                       | TS_TARGET_DOWN));
    ts_wide moving = tokens * w * wide * (b->l->gated ? 3 : 2);
    if (moving > b->out->backward) b->out->backward = moving;
}

static void moe(block *b)
{
    const ts_layer *l = b->l;
    ts_wide copies = b->tokens * l->active_experts;

    dense(b, copies, l->expert_ffn / b->run->etp);
    b->out->mlp += copies * b->h * b->width /* permuted inputs */
                   + copies * b->h * b->width; /* weighed outputs */
    b->out->mlp += b->tokens * l->experts * 4;
    if (l->shared_ffn > 0) dense(b, b->tokens, l->shared_ffn / b->run->tp);
}

static void norms(block *b)
{
    ts_wide each = b->profile->norm_fused
                       ? (ts_wide)b->h * b->width + 4
                       : (ts_wide)b->h * b->profile->norm_saved + 4;
    ts_wide output = 0;
    uint32_t into = TS_TARGET_Q | TS_TARGET_K | TS_TARGET_V;

    /* The norm's weight trains: its normed input is kept; the linears behind
     * it share their input. */
    if (b->full && !b->profile->norm_fused) output += (ts_wide)b->h * b->width;
    b->out->residual +=
        b->tokens * ts_min(b->l->norms, 2) * (each + output)
        + b->tokens * input(b, into, b->h)
        + b->tokens * input(b, TS_TARGET_GATE | TS_TARGET_UP, b->h);
}

void ts_block_saved(const ts_model *model, const ts_stack *stack,
                    const ts_layer *layer, const ts_run *run,
                    const ts_profile *profile, ts_wide tokens, ts_block *out)
{
    (void)model;
    *out = (ts_block){0};
    block b = {
        .l = layer,
        .run = run,
        .profile = profile,
        .h = stack->hidden,
        .width = ts_number_width(run->dtype),
        .tokens = tokens,
        .full = run->method == TS_METHOD_FULL,
        .out = out,
    };
    mixer(&b);
    if (layer->mlp == TS_MLP_DENSE)
        dense(&b, tokens, layer->ffn / run->tp);
    if (layer->mlp == TS_MLP_MOE) moe(&b);
    norms(&b);
    out->forward = out->backward;
    out->backward += tokens * stack->hidden * b.width * 2;
}
