/* microbench.c -- laws of single kernels: how many bytes of what are alive at
 * the peak of forward and backward.
 *
 * Each law is a count of tensors: logits of N tokens over V, rows of h and of
 * M, weights with their gradients.  Where two instants compete, a kernel has
 * two laws and the greater holds.  Read off Liger's published table, where
 * the lines are straight to four digits, and put down as whole bytes; no row
 * knows a model's size. */
#include "family.h"

typedef enum {
    WHOLE,      /* no chunks */
    BY_WIDTH,   /* so many chunks as V has widths h, sizes a power of two */
    BY_SEQUENCE /* chunk_of sequences at a time */
} chunking;

typedef struct {
    uint8_t kernel, provider;
    uint16_t from, until;     /* Liger's versions */
    uint8_t logit;            /* bytes a token and vocabulary entry */
    uint8_t hidden, wide;     /* bytes a token of h, of M */
    uint8_t token;            /* bytes a token */
    uint8_t heads, matrices;  /* copies of V x h, of h x M, in two bytes */
    uint8_t sharded_hidden, sharded_wide; /* of one tile */
    uint8_t chunks; /* a chunking */
    uint8_t chunk_of, chunk_logit, chunk_hidden;
    uint8_t pieces;     /* tensors, each rounded up to a block */
    uint8_t workspaces; /* of matrix libraries */
} law;

#define LAW(kernel, provider, ...)                                            \
    {TS_KERNEL_##kernel, TS_PROVIDER_##provider, __VA_ARGS__}
#define ANY 0, 10000

static const law laws[] = {
    /* F32 logits: input, log_softmax, its exponent, two gradients; Liger
     * writes the gradient over the logits. */
    LAW(CROSS_ENTROPY, TORCH, ANY, .logit = 20, .token = 8),
    LAW(CROSS_ENTROPY, LIGER, ANY, .logit = 4, .token = 21),
    LAW(MEGATRON_CROSS_ENTROPY, LIGER, ANY, .logit = 8, .token = 20),
    LAW(MEGATRON_CROSS_ENTROPY, MEGATRON_FUSED, ANY, .logit = 12,
        .token = 21),
    LAW(MEGATRON_CROSS_ENTROPY, MEGATRON_UNFUSED, ANY, .logit = 8,
        .token = 21),
    LAW(LOGIT_TILES, TORCH, ANY, .logit = 6),
    /* A head and its gradient twice: old, and new to be added to it. */
    LAW(LINEAR_CROSS_ENTROPY, TORCH, ANY, .logit = 6, .hidden = 4, .token = 8,
        .heads = 3),
    LAW(LINEAR_CROSS_ENTROPY, LIGER, ANY, .hidden = 4, .token = 8, .heads = 4,
        .chunks = BY_WIDTH, .chunk_logit = 10),
    LAW(LINEAR_JSD, TORCH, ANY, .logit = 52, .hidden = 6, .heads = 4),
    LAW(LINEAR_JSD, LIGER, ANY, .hidden = 8, .heads = 4, .chunks = BY_WIDTH,
        .chunk_logit = 140),
    LAW(GRPO, TORCH, ANY, .logit = 16, .hidden = 6, .heads = 5),
    LAW(GRPO, LIGER, ANY, .hidden = 8, .token = 12, .heads = 6,
        .chunks = BY_SEQUENCE, .chunk_of = 1, .chunk_logit = 10),
    LAW(JSD, TORCH, ANY, .logit = 52),
    LAW(JSD, LIGER, 0, 699, .logit = 24),
    LAW(JSD, LIGER, 700, 10000, .logit = 28),
    LAW(KL_DIV, TORCH, ANY, .logit = 28),
    LAW(KL_DIV, LIGER, ANY, .logit = 24),
    LAW(TVD, TORCH, ANY, .logit = 32),
    LAW(TVD, LIGER, ANY, .logit = 28),
    /* Preference losses: pairs go together, one pair a chunk. */
    LAW(CPO, TORCH, ANY, .logit = 14, .hidden = 4, .token = 8, .heads = 5,
        .chunks = BY_SEQUENCE, .chunk_of = 1, .chunk_hidden = 20),
    LAW(ORPO, TORCH, ANY, .logit = 14, .hidden = 4, .token = 8, .heads = 5,
        .chunks = BY_SEQUENCE, .chunk_of = 1, .chunk_hidden = 20),
    LAW(SIMPO, TORCH, ANY, .logit = 14, .hidden = 4, .token = 8, .heads = 5,
        .chunks = BY_SEQUENCE, .chunk_of = 1, .chunk_hidden = 20),
    LAW(CPO, LIGER, ANY, .hidden = 6, .token = 8, .heads = 6,
        .chunks = BY_SEQUENCE, .chunk_of = 2, .chunk_logit = 8,
        .chunk_hidden = 10),
    LAW(ORPO, LIGER, ANY, .hidden = 6, .token = 8, .heads = 6,
        .chunks = BY_SEQUENCE, .chunk_of = 2, .chunk_logit = 8,
        .chunk_hidden = 10),
    LAW(SIMPO, LIGER, ANY, .hidden = 6, .token = 8, .heads = 6,
        .chunks = BY_SEQUENCE, .chunk_of = 2, .chunk_logit = 6,
        .chunk_hidden = 12),
    LAW(KTO, TORCH, ANY, .logit = 14, .hidden = 4, .heads = 10),
    LAW(KTO, LIGER, ANY, .hidden = 6, .heads = 6, .chunks = BY_SEQUENCE,
        .chunk_of = 1, .chunk_logit = 28),
    /* Gated MLPs.  Three matrices and their gradients; at the other instant
     * a new gradient of one more. */
    LAW(SWIGLU, TORCH, ANY, .hidden = 8, .wide = 14, .matrices = 6),
    LAW(SWIGLU, TORCH, ANY, .hidden = 10, .wide = 12, .matrices = 7),
    LAW(SWIGLU, LIGER, ANY, .hidden = 14, .wide = 6, .matrices = 7),
    LAW(GEGLU, TORCH, ANY, .hidden = 8, .wide = 14, .matrices = 6),
    LAW(GEGLU, TORCH, ANY, .hidden = 10, .wide = 12, .matrices = 7),
    LAW(GEGLU, LIGER, ANY, .hidden = 14, .wide = 6, .matrices = 7),
    LAW(TILED_SWIGLU, TORCH, ANY, .hidden = 8, .wide = 14, .matrices = 6),
    LAW(TILED_SWIGLU, TORCH, ANY, .hidden = 10, .wide = 12, .matrices = 7),
    LAW(TILED_SWIGLU, LIGER, ANY, .hidden = 14, .wide = 6, .matrices = 7),
    LAW(TILED_SWIGLU, LIGER_TILED, ANY, .hidden = 8, .matrices = 7,
        .sharded_hidden = 14, .sharded_wide = 6),
    LAW(TILED_SWIGLU, DEEPSPEED_TILED, ANY, .hidden = 8, .matrices = 7,
        .sharded_hidden = 6, .sharded_wide = 12),
    /* Experts: tokens are copies, one an expert visited. */
    LAW(FUSED_MOE, TORCH, ANY, .hidden = 8, .wide = 6, .token = 40,
        .matrices = 14),
    LAW(FUSED_MOE, LIGER, ANY, .hidden = 4, .wide = 8, .token = 22,
        .matrices = 12),
    LAW(FUSED_MOE, LIGER, ANY, .hidden = 2, .matrices = 13),
    /* h stands for the normed width. */
    LAW(LAYER_NORM, TORCH, ANY, .hidden = 20, .token = 8),
    LAW(LAYER_NORM, LIGER, ANY, .hidden = 20, .token = 8),
    LAW(RMS_NORM, TORCH, ANY, .hidden = 40, .token = 8),
    LAW(RMS_NORM, LIGER, ANY, .hidden = 18, .token = 8),
    /* h stands for all queries, M for all keys, V for a head, of which
     * cosines and sines are made; its frequencies are a product. */
    LAW(ROPE, TORCH, ANY, .logit = 4, .hidden = 12, .wide = 8,
        .workspaces = 1),
    LAW(ROPE, LIGER, ANY, .logit = 4, .hidden = 4, .wide = 4,
        .workspaces = 1),
    LAW(SOFTMAX, TORCH, ANY, .pieces = 6),
    LAW(SOFTMAX, LIGER, ANY, .pieces = 5),
};

typedef struct {
    ts_wide logits, tokens, weights, chunk;
} parts;

static ts_wide sum(const parts *p)
{
    return p->logits + p->tokens + p->weights + p->chunk;
}

static uint64_t power_of_two(uint64_t least)
{
    uint64_t power = 1;
    while (power < least) power *= 2;
    return power;
}

/* liger_kernel/ops/fused_linear_cross_entropy.py: inc_factor, chunk_size. */
static uint64_t chunk_tokens(const law *l, const ts_run *run, uint64_t tokens,
                             uint64_t vocab, uint64_t hidden)
{
    if (l->chunks == BY_SEQUENCE)
        return ts_min(tokens, run->seq * l->chunk_of);
    uint64_t chunks = ts_divide_up(vocab, ts_max(hidden, 1));
    return power_of_two(ts_divide_up(tokens, ts_max(chunks, 1)));
}

static parts parts_of(const law *l, const ts_model *model, const ts_run *run,
                      const ts_profile *profile)
{
    const ts_layer *layer = &model->decoder.kinds[0];
    uint64_t h = model->decoder.hidden, vocab = model->vocab;
    uint64_t tokens = run->batch * run->seq, experts = 1, copies = 1;
    uint64_t wide = layer->ffn;
    parts p = {0};

    if (layer->mlp == TS_MLP_MOE) {
        experts = layer->experts;
        copies = layer->active_experts;
        wide = layer->expert_ffn;
    }
    p.logits = (ts_wide)tokens * vocab * l->logit;
    p.tokens = (ts_wide)tokens * copies
                   * ((ts_wide)h * l->hidden + (ts_wide)wide * l->wide
                      + l->token)
               + (ts_wide)tokens
                     * ((ts_wide)h * l->sharded_hidden
                        + (ts_wide)wide * l->sharded_wide)
                     / run->shards
               + (ts_wide)l->pieces
                     * ts_round_up(h * ts_number_width(run->dtype),
                                   profile->allocation);
    p.weights = (ts_wide)vocab * h * 2 * l->heads
                + (ts_wide)h * wide * experts * 2 * l->matrices;
    /* Forward and backward run in threads that have a workspace each. */
    uint64_t threads = l->heads + l->matrices > 0 ? 2 : l->workspaces;
    p.weights += threads * (ts_wide)profile->workspace_bytes;
    if (l->chunks != WHOLE)
        p.chunk = (ts_wide)chunk_tokens(l, run, tokens, vocab, h)
                  * ((ts_wide)vocab * l->chunk_logit
                     + (ts_wide)h * l->chunk_hidden);
    return p;
}

static bool holds(const law *l, const ts_run *run)
{
    return l->kernel == run->kernel && l->provider == run->provider
           && run->kernel_version >= l->from && run->kernel_version <= l->until;
}

ts_status ts_microbench_run(const ts_model *model, const ts_run *run,
                            const ts_profile *profile, uint64_t stage,
                            ts_ledger *out, ts_error *error)
{
    parts most = {0};
    bool found = false;
    (void)stage;

    for (size_t i = 0; i < TS_COUNT_OF(laws); i++) {
        if (!holds(&laws[i], run)) continue;
        parts p = parts_of(&laws[i], model, run, profile);
        if (!found || sum(&p) > sum(&most)) most = p;
        found = true;
    }
    if (!found)
        return ts_fail(error, TS_UNSUPPORTED,
                       "no law for this kernel of this provider");
    uint32_t when = TS_DURING(TS_AT_LOSS_BACKWARD);
    ts_ledger_begin(out, when, TS_AT_LOSS_BACKWARD);
    TS_TRY(ts_ledger_add(out, TS_FOR_LOGITS, TS_FORMULA_KERNEL_LOGITS, when,
                         most.logits, error));
    TS_TRY(ts_ledger_add(out, TS_FOR_MLP, TS_FORMULA_KERNEL_TOKENS, when,
                         most.tokens, error));
    TS_TRY(ts_ledger_add(out, TS_FOR_WEIGHTS, TS_FORMULA_KERNEL_WEIGHTS, when,
                         most.weights, error));
    return ts_ledger_add(out, TS_FOR_LOGITS, TS_FORMULA_KERNEL_CHUNK, when,
                         most.chunk, error);
}
