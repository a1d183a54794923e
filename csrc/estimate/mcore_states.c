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

static ts_wide min_wide(ts_wide a, ts_wide b)
{
    return a < b ? a : b;
}

/* Of the model itself and of its adapters; a tower may stand still. */
static trained dense_of(const ts_mcore *m)
{
    const ts_weights *w = &m->weights;
    ts_wide sight = ts_vision_trained(m->run, w);
    ts_wide still = w->tower + w->projector - sight;

    if (m->run->method == TS_METHOD_FROZEN) return (trained){sight, 0};
    if (adapted(m->run)) return (trained){w->adapters + sight, 0};
    return (trained){w->matrices + w->kept - min_wide(still, w->matrices),
                     w->vectors + w->embedding + w->head};
}

static trained experts_of(const ts_mcore *m)
{
    bool full = m->run->method == TS_METHOD_FULL;
    return (trained){full ? m->weights.experts : 0, 0};
}

ts_wide ts_mcore_trained(const ts_mcore *m)
{
    trained dense = dense_of(m), experts = experts_of(m);
    ts_wide own = adapted(m->run) ? m->weights.adapters : 0;

    return dense.matrices + dense.rest + experts.matrices - own;
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
    bool both = m->profile->fp8_transposed || m->run->fp8_compute == 2;
    return (m->weights.matrices + m->weights.experts) * (both ? 2 : 1);
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

/* ---- a layer-wise optimizer --------------------------------------------- */

/* Tensors of one size, and what the optimizer keeps of an element. */
typedef struct {
    ts_wide size;
    uint64_t count, bytes;
} dealt;

enum {
    MAX_DEALT = TS_MAX_KINDS * TS_MAX_MATRICES + 4,
    MAX_RANKS = 1 << 16, /* looked at: more than a stage has tensors */
};

static void insert(dealt *list, uint32_t *count, dealt one)
{
    uint32_t at = *count;
    if (one.size == 0 || one.count == 0 || at == MAX_DEALT) return;
    for (; at > 0 && list[at - 1].size > one.size; at--)
        list[at] = list[at - 1];
    list[at] = one;
    (*count)++;
}

static uint32_t list_dense(const ts_mcore *m, uint64_t matrix, uint64_t rest,
                           dealt *list)
{
    const ts_stack *stack = &m->model->decoder;
    ts_wide tables = m->table > 0 ? (m->weights.embedding + m->weights.head)
                                        / m->table
                                  : 0;
    uint64_t norms = 0;
    uint32_t count = 0;

    for (uint32_t kind = 0; kind < stack->kind_count; kind++) {
        ts_matrices all;
        uint64_t layers = m->share.count[kind];
        ts_layer_matrices(stack, &stack->kinds[kind], &all);
        for (uint32_t i = 0; i < all.count; i++) {
            ts_matrix part = ts_matrix_share(&all.list[i], m->run);
            if (part.split == TS_SPLIT_EXPERT) continue;
            insert(list, &count,
                   (dealt){(ts_wide)part.in * part.out, layers * part.copies,
                           matrix});
        }
        norms += layers * stack->kinds[kind].norms;
    }
    if (m->share.last) norms += stack->final_norms;
    insert(list, &count,
           (dealt){stack->hidden, norms * (stack->norm_bias ? 2 : 1), rest});
    insert(list, &count,
           (dealt){m->share.first ? (ts_wide)stack->positions * stack->hidden
                                  : 0,
                   1, rest});
    insert(list, &count, (dealt){m->table, (uint64_t)tables, rest});
    return count;
}

/* Of `count` indices from `first`, those that lie `turn` after a multiple of
 * `round`. */
static uint64_t hits(uint64_t first, uint64_t count, uint64_t turn,
                     uint64_t round)
{
    uint64_t end = first + count;
    uint64_t before = first > turn ? (first - turn - 1) / round + 1 : 0;
    uint64_t until = end > turn ? (end - turn - 1) / round + 1 : 0;
    return until - before;
}

/* By size, the smallest first, to rank 0 ... d - 1, d - 1 ... 0, 0 ... */
static ts_wide dealt_to(const dealt *list, uint32_t count, uint64_t rank,
                        uint64_t ranks)
{
    ts_wide sum = 0;
    uint64_t at = 0, round = 2 * ranks;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t mine = hits(at, list[i].count, rank, round)
                        + hits(at, list[i].count, round - 1 - rank, round);
        sum += list[i].size * list[i].bytes * mine;
        at += list[i].count;
    }
    return sum;
}

static ts_status add_layer_wise(ts_mcore *m, uint64_t master)
{
    const ts_run *run = m->run;
    dealt list[MAX_DEALT];
    uint64_t ranks = dense_ranks(run);
    uint64_t width = ts_number_width(run->state_dtype);
    uint64_t one = run->optimizer == TS_OPTIMIZER_MUON ? width : 2 * width;
    uint32_t count = list_dense(m, master + one, master + 2 * width, list);
    uint64_t first = 0, last = ranks;
    ts_wide most = 0;

    if (run->layer_rank > 0) {
        last = ts_min(run->layer_rank, ranks);
        first = last - 1;
    }
    for (uint64_t rank = first; rank < ts_min(last, first + MAX_RANKS);
         rank++) {
        ts_wide bytes = dealt_to(list, count, rank, ranks);
        if (bytes > most) most = bytes;
    }
    most += share_of(experts_of(m).matrices * (master + one),
                     expert_ranks(run), true);
    return ts_mcore_line(m, TS_FOR_OPTIMIZER, TS_FORMULA_MCORE_LAYER_WISE,
                         TS_ALWAYS, most);
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
    if (run->layer_wise && run->method == TS_METHOD_FULL)
        return add_layer_wise(m, master);
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
