/* block.c -- what one layer keeps for backward, tensor by tensor.
 *
 * A linear that trains keeps its input, one with an adapter what the adapter
 * reads; a norm its input, in F32 where its source says so; act(gate) * up
 * both factors and the gate itself; attention q, k, v, its output and one
 * number a head and position.  A tensor that two modules keep is counted
 * once.  Where sources differ, the profile says how. */
#include "block.h"
#include "saved.h"

typedef struct {
    const ts_stack *stack;
    const ts_layer *l;
    const ts_run *run;
    const ts_profile *profile;
    ts_wide h, width; /* hidden size, bytes of a computed element */
    bool full, packed;
    ts_block *out; /* bytes a token until the end */
} block;

enum { QKV = TS_TARGET_Q | TS_TARGET_K | TS_TARGET_V };

static uint32_t adapters_on(const block *b, uint32_t targets)
{
    if (b->run->method != TS_METHOD_LORA && b->run->method != TS_METHOD_DORA)
        return 0;
    return (uint32_t)__builtin_popcountll(b->run->targets & targets);
}

/* Inputs of frozen packed matrices. */
static ts_wide packed_input(const block *b)
{
    return b->packed ? b->profile->packed_kept : 0;
}

/* Bytes an element of what matrices with these targets keep of their input.
 * `fused`: they are one matrix.  `alive`: it is kept in any case. */
static ts_wide input(const block *b, uint32_t targets, bool fused, bool alive)
{
    const ts_profile *p = b->profile;
    ts_wide own = b->full ? b->width : packed_input(b);
    ts_wide count = adapters_on(b, targets);

    if (alive) own = 0;
    if (count == 0) return own;
    if (fused) count = 1;
    if (b->run->adapter_dropout) return own + count * (1 + p->adapter_kept);
    if (!p->adapter_shared) return own + count * p->adapter_kept;
    return own > 0 || alive ? own : p->adapter_kept;
}

/* What adapters make of their input before they widen it again, and DoRA's
 * products, which its magnitudes scale (2402.09353). */
static ts_wide between(const block *b, uint32_t targets, ts_wide outputs)
{
    ts_wide count = adapters_on(b, targets);
    ts_wide inside = count * b->run->rank * b->profile->adapter_kept;

    if (b->run->scaled_outputs) inside += outputs * b->width;
    if (count > 0 && b->run->method == TS_METHOD_DORA)
        inside += 2 * outputs * b->profile->adapter_kept;
    return inside;
}

uint64_t ts_rest_width(const ts_run *run, const ts_profile *profile)
{
    switch ((ts_number)run->weight_format) {
    case TS_NUMBER_GPTQ_INT4:
    case TS_NUMBER_GPTQ_INT8:
    case TS_NUMBER_AWQ_INT4: return ts_number_width(run->dtype);
    default:
        return profile->packed_rest > 0 ? profile->packed_rest
                                        : ts_number_width(run->dtype);
    }
}

uint64_t ts_stream_width(const ts_run *run, const ts_profile *profile)
{
    bool full = run->method == TS_METHOD_FULL;
    uint64_t width = ts_number_width(run->dtype);
    uint64_t plain = full ? run->param_dtype : run->weight_format;

    if (ts_number_packed(plain))
        return full ? width : ts_max(width, ts_rest_width(run, profile));
    return profile->autocast ? ts_max(width, ts_number_width(plain)) : width;
}

static ts_wide residual_width(const block *b)
{
    return ts_stream_width(b->run, b->profile);
}

static void norms(block *b)
{
    const ts_layer *l = b->l;
    ts_wide inputs = l->norms, each;

    switch ((ts_norm)b->stack->norm) {
    case TS_NORM_RMS:
        each = b->profile->norm_kept
               + (b->full || b->run->scaled_outputs
                      ? b->profile->norm_weight_kept
                      : 0);
        break;
    case TS_NORM_LAYER: /* native_layer_norm keeps the tensor itself */
        if (l->parallel && inputs > 1) inputs = 1;
        each = residual_width(b);
        break;
    default: return;
    }
    b->out->residual += inputs * each * b->h;
    if (b->run->sp) b->out->residual /= b->run->tp;
}

static ts_wide value_dim(const ts_layer *l)
{
    return l->value_dim > 0 ? l->value_dim : l->head_dim;
}

/* Elements a token of q, k and v as the kernel reads them. */
static ts_wide heads_kept(const block *b)
{
    const ts_layer *l = b->l;
    ts_wide q = (ts_wide)l->heads * l->head_dim;
    ts_wide k = (ts_wide)l->kv_heads * l->head_dim;
    ts_wide v = l->kv_heads * value_dim(l);

    if (l->mixer == TS_MIXER_LATENT || b->profile->repeat_kv
        || b->run->attention == TS_ATTENTION_EAGER) {
        v = l->heads * value_dim(l);
        k = q;
    }
    if (b->profile->qkv_view && l->heads == l->kv_heads) v += q + k;
    return q + k + v + l->q_rank + l->kv_rank;
}

/* Outputs of adapters on some of fused q, k, v: put into a row of zeros. */
static ts_wide outputs_kept(const block *b)
{
    const ts_layer *l = b->l;
    ts_wide kv = (ts_wide)l->kv_heads * l->head_dim;
    uint32_t on = adapters_on(b, QKV);

    if (!b->profile->adapter_partial || on == 0 || on == 3) return 0;
    return adapters_on(b, TS_TARGET_Q) * (ts_wide)l->heads * l->head_dim
           + adapters_on(b, TS_TARGET_K | TS_TARGET_V) * kv;
}

/* Elements a token of q, k and v as they are projected. */
static ts_wide projected(const block *b)
{
    const ts_layer *l = b->l;
    return (ts_wide)(l->heads + l->kv_heads) * l->head_dim
           + l->kv_heads * value_dim(l);
}

/* Bytes an element of scores that scaled_dot_product_attention writes out in
 * F32 (torch's sdp_utils.cpp): one sequence alone is never padded, so
 * transformers gives no mask and leaves repeating keys to the kernel
 * (sdpa_attention.py, use_gqa_in_sdpa), and none of the fused kernels both
 * does that and takes heads of more than 256 elements. */
static ts_wide plain_score(const block *b)
{
    const ts_layer *l = b->l;
    bool unmasked = b->run->batch == 1 && l->window == 0;

    if (b->run->attention != TS_ATTENTION_SDPA) return 0;
    return unmasked && l->kv_heads < l->heads && l->head_dim > 256 ? 4 : 0;
}

static void attention(block *b)
{
    const ts_layer *l = b->l;
    ts_wide q = (ts_wide)l->heads * l->head_dim;
    ts_wide o = l->heads * value_dim(l), scores = 0;
    ts_wide plain = plain_score(b) * l->heads * b->run->seq;
    bool fused = l->fused_qkv || b->profile->qkv_fused;
    bool eager = b->run->attention == TS_ATTENTION_EAGER;
    ts_wide inside = b->width * (heads_kept(b) + outputs_kept(b));

    if (eager)
        scores = (ts_wide)l->heads * b->run->seq * b->profile->score_kept;
    else
        inside += b->width * o + 4 * (ts_wide)l->heads;
    inside += input(b, TS_TARGET_O, true, !eager) * o
              + between(b, QKV | TS_TARGET_O, projected(b) + b->h);
    if (b->run->recompute != TS_RECOMPUTE_SELECTIVE) inside += scores + plain;
    b->out->attention += inside / b->run->tp + input(b, QKV, fused, false)
                                                   * b->h;
    b->out->packed += packed_input(b) * (b->h + o / b->run->tp);
    /* Gradients of q, k, v and the output; kernels sum that of q in F32.  Of
     * plain scores those before and behind the softmax. */
    b->out->backward = ((4 * b->width + 4) * q + scores + 2 * plain)
                       / b->run->tp;
}

/* State layers: both branches, inputs of the convolution and of the scan. */
static void state(block *b)
{
    const ts_layer *l = b->l;
    ts_wide inner = ts_max(l->inner_dim, l->state_heads * value_dim(l));

    b->out->attention += b->width * 6 * inner / b->run->tp
                         + input(b, TS_TARGET_STATE, true, false) * b->h;
    b->out->backward = b->width * 4 * inner / b->run->tp;
}

/* visits: experts of this width that a token passes. */
static void mlp(block *b, ts_wide ffn, ts_wide visits, uint64_t ranks)
{
    const ts_layer *l = b->l;
    bool one_input = l->parallel && l->norms == 1; /* attention's as well */
    uint32_t into = TS_TARGET_UP | (l->gated ? TS_TARGET_GATE : 0);
    ts_wide factors = l->gated ? b->profile->gate_kept : 1;
    ts_wide inside = factors * b->width
                     + input(b, TS_TARGET_DOWN, true, false);
    ts_wide moving = visits * b->width * (2 + l->gated) * ffn / ranks;

    b->out->mlp += visits * (input(b, into, l->fused_gate, one_input) * b->h
                             + inside * ffn / ranks
                             + between(b, into | TS_TARGET_DOWN,
                                       (1 + l->gated) * ffn + b->h));
    b->out->packed += visits * packed_input(b)
                      * ((one_input ? 0 : b->h) + ffn / ranks);
    if (moving > b->out->backward) b->out->backward = moving;
}

/* Tokens are copied in the order of their experts, outputs kept for their
 * weights, the router's scores in F32. */
static void experts(block *b)
{
    const ts_layer *l = b->l;
    ts_wide copies = b->full ? 1 : 2;

    mlp(b, l->expert_ffn, l->active_experts, b->run->etp);
    b->out->mlp += copies * l->active_experts * b->h * b->width
                   + 4 * (ts_wide)l->experts;
    if (l->shared_ffn > 0) mlp(b, l->shared_ffn, 1, b->run->tp);
}

/* torchtitan's policy of operators: of the products q, k, v, o, gate, up and
 * down, as they run, the first, third, fifth and seventh; attention's output;
 * the layer's input. */
static void select_products(block *b)
{
    const ts_layer *l = b->l;
    ts_wide ffn = l->mlp == TS_MLP_MOE
                      ? (ts_wide)l->expert_ffn * l->active_experts
                      : l->ffn;
    ts_wide o = l->heads * value_dim(l), q = (ts_wide)l->heads * l->head_dim;

    b->out->attention = (b->width * (q + l->kv_heads * value_dim(l) + o)
                         + 4 * (ts_wide)l->heads) / b->run->tp;
    b->out->mlp = b->width * (ffn / b->run->tp + b->h);
    b->out->residual = b->width * b->h;
}

static void matrices(block *b)
{
    ts_matrices all;

    ts_layer_matrices(b->stack, b->l, &all);
    for (uint32_t i = 0; i < all.count; i++) {
        ts_matrix part = ts_matrix_share(&all.list[i], b->run);
        ts_wide one = (ts_wide)part.in * part.out;
        if (part.keep) continue;
        if (one > b->out->largest) b->out->largest = one;
        if (b->packed)
            b->out->unpacked += one * part.copies * b->profile->unpack_kept;
    }
}

/* Whether the ledger of single tensors knows everything this run does. */
static bool traced(const block *b)
{
    const ts_run *run = b->run;
    bool layer = b->l->mixer == TS_MIXER_ATTENTION
                 || b->l->mixer == TS_MIXER_LATENT;

    return b->profile->traced && layer && !b->packed && !run->scaled_outputs
           && !run->sp && run->method != TS_METHOD_DORA
           && run->recompute != TS_RECOMPUTE_SELECTIVE
           && residual_width(b) == b->width;
}

void ts_block_saved(const ts_stack *stack, const ts_layer *layer,
                    const ts_run *run, const ts_profile *profile,
                    ts_wide tokens, ts_block *out)
{
    block b = {
        .stack = stack,
        .l = layer,
        .run = run,
        .profile = profile,
        .h = stack->hidden,
        .width = ts_number_width(run->dtype),
        .full = run->method == TS_METHOD_FULL,
        .packed = run->method != TS_METHOD_FULL
                  && ts_number_packed(run->weight_format),
        .out = out,
    };

    *out = (ts_block){0};
    norms(&b);
    if (layer->mixer == TS_MIXER_ATTENTION || layer->mixer == TS_MIXER_LATENT)
        attention(&b);
    else if (layer->mixer != TS_MIXER_NONE)
        state(&b);
    if (layer->mlp == TS_MLP_DENSE) mlp(&b, layer->ffn, 1, run->tp);
    if (layer->mlp == TS_MLP_MOE) experts(&b);
    if (run->recompute == TS_RECOMPUTE_SELECTIVE
        && profile->selective_products)
        select_products(&b);
    out->backward += 2 * b.width * b.h; /* of the residual, twice */
    out->attention *= tokens;
    out->mlp *= tokens;
    out->residual *= tokens;
    out->packed *= tokens;
    out->backward *= tokens;
    if (traced(&b)) ts_saved_block(stack, layer, run, (uint64_t)tokens, out);
    matrices(&b);
}
