/* mcore_states.c -- Megatron's weights, gradients and optimizer on one rank.
 *
 * In 16 bits a parameter takes 2 bytes, its main_grad 4, and the optimizer
 * holds an F32 copy and two moments: 18.  The distributed optimizer leaves
 * 1 / d of the last 12 on a rank, d the data- and context-parallel ranks; of
 * experts those ranks that hold the same ones. */
#include "mcore.h"

/* Elements by how the optimizer treats and shards them. */
typedef struct {
    ts_wide matrices, rest; /* matrices of layers; embeddings, norms, biases */
} trained;

static bool adapted(const ts_run *run)
{
    return run->method == TS_METHOD_LORA || run->method == TS_METHOD_DORA;
}

static trained dense_of(const ts_mcore *m)
{
    const ts_weights *w = &m->weights;
    if (m->run->method == TS_METHOD_FROZEN) return (trained){0, 0};
    if (adapted(m->run)) return (trained){w->adapters, 0};
    return (trained){w->matrices + w->kept,
                     w->vectors + w->embedding + w->head};
}

static trained experts_of(const ts_mcore *m)
{
    bool full = m->run->method == TS_METHOD_FULL;
    return (trained){full ? m->weights.experts : 0, 0};
}

/* ---- sharding ---------------------------------------------------------- */

static uint64_t dense_ranks(const ts_run *run)
{
    return run->dp * run->cp / run->replicas;
}

/* Ranks of a stage that hold the same experts. */
static uint64_t expert_ranks(const ts_run *run)
{
    uint64_t all = run->dp * run->cp * run->tp;
    return ts_max(1, all / (run->ep * run->etp * run->replicas));
}

static ts_wide share_of(ts_wide bytes, uint64_t ranks, bool sharded)
{
    return sharded ? (bytes + ranks - 1) / ranks : bytes;
}

/* Bytes of both groups on a rank. */
static ts_wide on_rank(const ts_run *run, ts_wide dense, ts_wide experts,
                       bool sharded)
{
    return share_of(dense, dense_ranks(run), sharded)
           + share_of(experts, expert_ranks(run), sharded);
}

/* ---- weights and gradients ---------------------------------------------- */

static uint64_t grad_width(const ts_run *run)
{
    return ts_number_width(run->grad_dtype);
}

/* FP8 keeps matrices as one byte, or as that beside the 16-bit ones. */
static ts_wide fp8_bytes(const ts_mcore *m)
{
    if (!m->run->fp8_compute) return 0;
    return (m->weights.matrices + m->weights.experts)
           * (m->profile->fp8_transposed ? 2 : 1);
}

static ts_status add_weights(ts_mcore *m)
{
    const ts_weights *w = &m->weights;
    const ts_run *run = m->run;
    bool sharded = run->zero == 3 || run->fsdp > 0;
    ts_wide plain = w->kept + w->vectors + w->embedding + w->head;
    ts_wide dense = plain * m->width, experts = 0;

    if (!run->fp8_params) {
        dense += ts_number_bytes(run->weight_format, w->matrices);
        experts += ts_number_bytes(run->weight_format, w->experts);
    }
    TS_TRY(ts_mcore_line(m, TS_FOR_WEIGHTS, TS_FORMULA_MCORE_WEIGHTS,
                         TS_ALWAYS, on_rank(run, dense, experts, sharded)));
    TS_TRY(ts_mcore_line(m, TS_FOR_WEIGHTS, TS_FORMULA_MCORE_FP8, TS_ALWAYS,
                         fp8_bytes(m)));
    if (adapted(run))
        TS_TRY(ts_mcore_line(m, TS_FOR_ADAPTERS, TS_FORMULA_ADAPTERS,
                             TS_ALWAYS,
                             ts_number_bytes(run->adapter_dtype,
                                             w->adapters)));
    /* Embedding and head are FSDP units of their own, whole all the time. */
    if (!sharded) return TS_OK;
    return ts_mcore_line(m, TS_FOR_WEIGHTS, TS_FORMULA_GATHERED, TS_ALWAYS,
                         (w->embedding + w->head) * m->width);
}

static ts_status add_gradients(ts_mcore *m)
{
    const ts_run *run = m->run;
    trained dense = dense_of(m), experts = experts_of(m);
    uint64_t width = grad_width(run);
    bool sharded = run->zero >= 2 || run->fsdp > 0;

    return ts_mcore_line(
        m, TS_FOR_GRADIENTS, TS_FORMULA_MCORE_GRADIENTS, TS_ALWAYS,
        on_rank(run, (dense.matrices + dense.rest) * width,
                experts.matrices * width, sharded));
}

/* ---- the optimizer ------------------------------------------------------ */

static ts_wide kept_here(const ts_run *run, ts_wide bytes)
{
    return bytes * (1000 - run->offload_permille) / 1000;
}

static ts_wide moments(const ts_mcore *m, trained group)
{
    return ts_optimizer_bytes(m->model, m->run, &m->share, group.matrices,
                              group.rest);
}

static ts_status add_optimizer(ts_mcore *m)
{
    const ts_run *run = m->run;
    trained dense = dense_of(m), experts = experts_of(m);
    ts_wide all = dense.matrices + dense.rest;
    bool sharded = run->zero >= 1 || run->fsdp > 0;
    uint64_t master = run->master && m->width < 4 ? 4 : 0;
    uint64_t copy = master > 0 && grad_width(run) < 4 ? 4 : 0;

    if (run->offload_optimizer) return TS_OK;
    TS_TRY(ts_mcore_line(
        m, TS_FOR_MASTER, TS_FORMULA_MCORE_MASTER, TS_ALWAYS,
        kept_here(run, on_rank(run, all * master, experts.matrices * master,
                               sharded))));
    TS_TRY(ts_mcore_line(
        m, TS_FOR_GRADIENTS, TS_FORMULA_MCORE_GRAD_COPY,
        TS_DURING(TS_AT_STEP) | TS_DURING(TS_AT_STEADY),
        on_rank(run, all * copy, experts.matrices * copy, sharded)));
    return ts_mcore_line(
        m, TS_FOR_OPTIMIZER, TS_FORMULA_MCORE_MOMENTS, TS_ALWAYS,
        kept_here(run, on_rank(run, moments(m, dense), moments(m, experts),
                               sharded)));
}

/* ---- what the allocator adds -------------------------------------------- */

/* Sizes beyond any device are not replayed. */
static void take(ts_caching *caching, ts_wide bytes)
{
    if (bytes < (ts_wide)TS_BYTES) ts_caching_take(caching, (uint64_t)bytes);
}

static void take_layer(const ts_matrices *all, const ts_run *run,
                       ts_caching *caching, uint64_t bytes, uint64_t tensors,
                       bool experts)
{
    for (uint32_t i = 0; i < all->count; i++) {
        ts_matrix part = ts_matrix_share(&all->list[i], run);
        if ((part.split == TS_SPLIT_EXPERT) != experts) continue;
        for (uint64_t k = 0; k < part.copies * tensors; k++)
            take(caching, (ts_wide)part.in * part.out * bytes);
    }
}

static void take_stack(const ts_stack *stack, const ts_share *share,
                       const ts_run *run, ts_caching *caching, uint64_t bytes,
                       uint64_t tensors, bool experts)
{
    for (uint32_t kind = 0; kind < stack->kind_count; kind++) {
        ts_matrices all;
        if (share->count[kind] == 0) continue;
        ts_layer_matrices(stack, &stack->kinds[kind], &all);
        for (uint64_t n = 0; n < share->count[kind]; n++)
            take_layer(&all, run, caching, bytes, tensors, experts);
    }
}

/* `tensors` of the shape of each parameter, in the order of the model. */
static void take_parameters(const ts_mcore *m, ts_caching *caching,
                            uint64_t bytes, uint64_t tensors)
{
    const ts_stack *encoder = &m->model->encoder;
    ts_wide both = m->weights.embedding + m->weights.head;
    ts_share whole;

    if (m->share.first && encoder->layer_count > 0) {
        ts_whole_share(encoder, &whole);
        take_stack(encoder, &whole, m->run, caching, bytes, tensors, false);
    }
    take_stack(&m->model->decoder, &m->share, m->run, caching, bytes, tensors,
               false);
    for (; m->table > 0 && both >= m->table; both -= m->table)
        for (uint64_t i = 0; i < tensors; i++) take(caching, m->table * bytes);
    take_stack(&m->model->decoder, &m->share, m->run, caching, bytes, tensors,
               true);
}

/* The distributed optimizer has weights in one buffer as well as gradients;
 * its shards are cut from what the first step left, and are not replayed. */
static ts_status add_slack(ts_mcore *m)
{
    const ts_run *run = m->run;
    ts_caching caching = {0};
    trained dense = dense_of(m), experts = experts_of(m);
    ts_wide all = dense.matrices + dense.rest;
    uint64_t grads = grad_width(run);

    if (run->method != TS_METHOD_FULL) return TS_OK;
    if (run->zero == 0 && run->fsdp == 0)
        take_parameters(m, &caching, m->width, 1);
    else if (run->zero == 1) {
        take(&caching, all * m->width);
        take(&caching, experts.matrices * m->width);
    }
    if (run->zero <= 1 && run->fsdp == 0) {
        take(&caching, all * grads);
        take(&caching, experts.matrices * grads);
    }
    if (run->zero == 0 && run->fsdp == 0) {
        if (run->master && m->width < 4) take_parameters(m, &caching, 4, 1);
        take_parameters(m, &caching, 4, 2);
    }
    return ts_mcore_line(m, TS_FOR_OTHER, TS_FORMULA_MCORE_SLACK, TS_ALWAYS,
                         caching.slack);
}

ts_status ts_mcore_states(ts_mcore *m)
{
    TS_TRY(add_weights(m));
    if (m->run->mode != TS_MODE_TRAIN) return TS_OK;
    TS_TRY(add_gradients(m));
    TS_TRY(add_optimizer(m));
    return add_slack(m);
}
