/* weights.c -- every matrix of a layer, by name of what it does.
 *
 * Shapes are those of the published checkpoints, as transformers builds them;
 * the count of parameters they sum to is tested against it. */
#include "family.h"

static void put(ts_matrices *to, ts_matrix matrix)
{
    if (matrix.in > 0 && matrix.out > 0 && matrix.copies > 0
        && to->count < TS_MAX_MATRICES)
        to->list[to->count++] = matrix;
}

static void dense(ts_matrices *to, uint32_t target, ts_split split,
                  uint64_t in, uint64_t out, bool bias)
{
    put(to, (ts_matrix){in, out, 1, target, split, bias, false});
}

static uint64_t value_dim(const ts_layer *layer)
{
    return layer->value_dim > 0 ? layer->value_dim : layer->head_dim;
}

static void attention(ts_matrices *to, const ts_stack *stack,
                      const ts_layer *l)
{
    uint64_t h = stack->hidden, q = l->heads * l->head_dim;
    uint64_t k = l->kv_heads * l->head_dim, v = l->kv_heads * value_dim(l);
    bool bias = l->qkv_bias;

    if (l->query_gate) q *= 2;
    if (l->fused_qkv) {
        dense(to, TS_TARGET_Q | TS_TARGET_K | TS_TARGET_V, TS_SPLIT_COLUMN, h,
              q + k + v, bias);
    } else {
        dense(to, TS_TARGET_Q, TS_SPLIT_COLUMN, h, q, bias);
        dense(to, TS_TARGET_K, TS_SPLIT_COLUMN, h, k, bias);
        dense(to, TS_TARGET_V, TS_SPLIT_COLUMN, h, v, bias);
    }
    dense(to, TS_TARGET_O, TS_SPLIT_ROW, l->heads * value_dim(l), h,
          l->out_bias);
    if (l->qk_norm == 1) to->vectors += 2 * (ts_wide)l->head_dim;
    if (l->qk_norm == 2)
        to->vectors += (ts_wide)l->heads * l->head_dim + k;
}

/* DeepSeek-V2, 2405.04434 appendix: queries and keys each through a rank,
 * rope on a part of its own; head_dim counts the rotated part in. */
static void latent(ts_matrices *to, const ts_stack *stack, const ts_layer *l)
{
    uint64_t h = stack->hidden, q = l->heads * l->head_dim;
    uint64_t plain = l->head_dim - l->rope_dim;

    if (l->q_rank > 0) {
        dense(to, TS_TARGET_Q, TS_SPLIT_NONE, h, l->q_rank, l->qkv_bias);
        dense(to, TS_TARGET_Q, TS_SPLIT_COLUMN, l->q_rank, q, false);
        to->vectors += l->q_rank;
    } else {
        dense(to, TS_TARGET_Q, TS_SPLIT_COLUMN, h, q, false);
    }
    dense(to, TS_TARGET_K, TS_SPLIT_NONE, h, l->kv_rank + l->rope_dim,
          l->qkv_bias);
    dense(to, TS_TARGET_V, TS_SPLIT_COLUMN, l->kv_rank,
          l->heads * (plain + value_dim(l)), false);
    to->vectors += l->kv_rank;
    dense(to, TS_TARGET_O, TS_SPLIT_ROW, l->heads * value_dim(l), h,
          l->out_bias);
    if (l->index_heads == 0) return;
    /* The indexer of V3.2: queries from q's rank, keys and head weights from
     * the hidden state, a layer norm over the keys. */
    dense(to, 0, TS_SPLIT_NONE, l->q_rank, l->index_heads * l->index_dim,
          false);
    dense(to, 0, TS_SPLIT_NONE, h, l->index_dim, false);
    dense(to, 0, TS_SPLIT_NONE, h, l->index_heads, false);
    to->vectors += 2 * (ts_wide)l->index_dim;
}

/* transformers' MambaMixer: in_proj, conv1d, x_proj, dt_proj, A, D, out. */
static void mamba(ts_matrices *to, const ts_stack *stack, const ts_layer *l)
{
    uint64_t h = stack->hidden, inner = l->inner_dim;

    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, h, 2 * inner, l->qkv_bias);
    dense(to, TS_TARGET_STATE, TS_SPLIT_NONE, inner,
          l->dt_rank + 2 * l->state_dim, false);
    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, l->dt_rank, inner, true);
    dense(to, TS_TARGET_STATE, TS_SPLIT_ROW, inner, h, l->out_bias);
    to->vectors += (ts_wide)inner * (l->conv_width + 1)   /* and its bias */
                   + (ts_wide)inner * (l->state_dim + 1); /* A and D */
}

/* Mamba-2: one projection to gate, x, B, C and dt; a gated norm. */
static void mamba2(ts_matrices *to, const ts_stack *stack, const ts_layer *l)
{
    uint64_t h = stack->hidden, inner = l->inner_dim;
    uint64_t wide = inner + 2 * l->state_groups * l->state_dim;

    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, h,
          inner + wide + l->state_heads, l->qkv_bias);
    dense(to, TS_TARGET_STATE, TS_SPLIT_ROW, inner, h, l->out_bias);
    to->vectors += (ts_wide)wide * (l->conv_width + 1)
                   + 3 * (ts_wide)l->state_heads + inner;
}

/* Qwen3-Next's GatedDeltaNet: q, k of state_groups heads, v, z of state_heads
 * heads; a convolution over q, k, v without bias; a norm a head. */
static void delta(ts_matrices *to, const ts_stack *stack, const ts_layer *l)
{
    uint64_t h = stack->hidden, keys = l->state_groups * l->state_dim;
    uint64_t values = l->state_heads * value_dim(l);

    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, h, 2 * keys + 2 * values,
          false);
    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, h, 2 * l->state_heads, false);
    dense(to, TS_TARGET_STATE, TS_SPLIT_ROW, values, h, false);
    to->vectors += (ts_wide)(2 * keys + values) * l->conv_width
                   + 2 * (ts_wide)l->state_heads + value_dim(l);
}

/* RecurrentGemma: two branches in, one out, gates by block-diagonal
 * matrices, one block a head. */
static void recurrent(ts_matrices *to, const ts_stack *stack,
                      const ts_layer *l)
{
    uint64_t h = stack->hidden, inner = l->inner_dim;
    uint64_t block = l->heads > 0 ? inner / l->heads : inner;

    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, h, inner, true);
    dense(to, TS_TARGET_STATE, TS_SPLIT_COLUMN, h, inner, true);
    dense(to, TS_TARGET_STATE, TS_SPLIT_ROW, inner, h, true);
    to->vectors += (ts_wide)inner * (l->conv_width + 1)
                   + 2 * ((ts_wide)inner * block + inner) + inner;
}

static void mlp(ts_matrices *to, uint64_t h, uint64_t width, uint64_t copies,
                const ts_layer *l)
{
    bool bias = l->mlp_bias;
    bool expert = copies > 1;
    ts_split in = expert ? TS_SPLIT_EXPERT : TS_SPLIT_COLUMN;
    ts_split out = expert ? TS_SPLIT_EXPERT : TS_SPLIT_ROW;
    uint32_t also = expert ? TS_TARGET_EXPERTS : 0;

    if (l->gated && l->fused_gate)
        put(to, (ts_matrix){h, 2 * width, copies,
                            TS_TARGET_GATE | TS_TARGET_UP | also, in, bias,
                            false});
    if (l->gated && !l->fused_gate)
        put(to, (ts_matrix){h, width, copies, TS_TARGET_GATE | also, in, bias,
                            false});
    if (!(l->gated && l->fused_gate))
        put(to, (ts_matrix){h, width, copies, TS_TARGET_UP | also, in, bias,
                            false});
    put(to, (ts_matrix){width, h, copies, TS_TARGET_DOWN | also, out, bias,
                        false});
}

static void experts(ts_matrices *to, const ts_stack *stack, const ts_layer *l)
{
    uint64_t h = stack->hidden;

    put(to, (ts_matrix){h, l->experts, 1, TS_TARGET_ROUTER, TS_SPLIT_NONE,
                        l->router_bias, true});
    mlp(to, h, l->expert_ffn, l->experts, l);
    if (l->shared_ffn > 0) mlp(to, h, l->shared_ffn, 1, l);
    if (l->shared_gate)
        put(to, (ts_matrix){h, 1, 1, 0, TS_SPLIT_NONE, false, true});
}

void ts_layer_matrices(const ts_stack *stack, const ts_layer *layer,
                       ts_matrices *out)
{
    uint64_t h = stack->hidden;
    uint64_t norm = stack->norm == TS_NORM_NONE ? 0
                    : stack->norm_bias          ? 2 * h
                                                : h;

    out->count = 0;
    out->vectors = (ts_wide)layer->norms * norm + layer->extra;
    switch ((ts_mixer)layer->mixer) {
    case TS_MIXER_ATTENTION: attention(out, stack, layer); break;
    case TS_MIXER_LATENT: latent(out, stack, layer); break;
    case TS_MIXER_MAMBA: mamba(out, stack, layer); break;
    case TS_MIXER_MAMBA2: mamba2(out, stack, layer); break;
    case TS_MIXER_DELTA: delta(out, stack, layer); break;
    case TS_MIXER_RECURRENT: recurrent(out, stack, layer); break;
    case TS_MIXER_NONE:
    case TS_MIXER_COUNT: break;
    }
    if (layer->cross) attention(out, stack, layer);
    if (layer->mlp == TS_MLP_DENSE) mlp(out, h, layer->ffn, 1, layer);
    if (layer->mlp == TS_MLP_MOE) experts(out, stack, layer);
}

ts_matrix ts_matrix_share(const ts_matrix *matrix, const ts_run *run)
{
    ts_matrix part = *matrix;
    switch (matrix->split) {
    case TS_SPLIT_NONE: break;
    case TS_SPLIT_COLUMN:
        part.out = ts_divide_up(part.out, run->tp);
        break;
    case TS_SPLIT_ROW: part.in = ts_divide_up(part.in, run->tp); break;
    case TS_SPLIT_EXPERT:
        part.copies = ts_divide_up(part.copies, run->ep);
        if (matrix->target & TS_TARGET_DOWN)
            part.in = ts_divide_up(part.in, run->etp);
        else
            part.out = ts_divide_up(part.out, run->etp);
        break;
    }
    return part;
}
