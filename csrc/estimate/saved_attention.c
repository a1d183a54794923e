/* Attention as transformers writes it: projections, norms and rotations of
 * heads, then eager_attention_forward or sdpa_attention_forward. */
#include "saved.h"

/* Heads of one kind.  After `.view(b, s, heads, d).transpose(1, 2)` their
 * memory is still (b, s, heads, d); `packed` says it is (b, heads, s, d). */
typedef struct {
    ts_operand value;
    uint64_t heads, dim, length;
    bool packed;
} heads;

static heads heads_of(const ts_pass *pass, ts_operand value, uint64_t count,
                      uint64_t dim)
{
    return (heads){value, count, dim, value.rows / pass->batch, false};
}

/* The same heads in memory of their own. */
static heads copied(ts_tape *tape, heads from, bool packed)
{
    from.value = ts_tape_new(tape, from.value.rows,
                             ts_tape_times(tape, from.heads, from.dim),
                             from.value.size, from.value.grad);
    from.packed = packed;
    return from;
}

/* Qwen-VL's towers have all patches in one sequence, cut where images and
 * windows end (modeling_qwen2_vl.py, VisionAttention). */
static bool cut(const ts_pass *pass)
{
    return pass->layer->rope == TS_ROPE_VISION;
}

/* torch.matmul folds (b, heads) into one dimension: without a copy only when
 * the memory has that order, or there is one sequence. */
static ts_operand operand(const ts_pass *pass, ts_tape *tape, heads from)
{
    if (from.packed || pass->batch == 1 || cut(pass)) return from.value;
    return copied(tape, from, true).value;
}

/* repeat_kv: expand and reshape; a single head is repeated by a stride of
 * nothing, several are copied. */
static heads repeated(ts_tape *tape, heads from, uint64_t count)
{
    bool single = from.heads == 1;

    if (from.heads == count) return from;
    from.heads = count;
    from.packed = false;
    return single ? from : copied(tape, from, true);
}

/* A norm of each head, or of all of them as one row. */
static heads normed(const ts_pass *pass, ts_tape *tape, heads from)
{
    uint64_t rows = from.value.rows, width = from.heads * from.dim;
    ts_operand x = from.value;

    if (pass->layer->qk_norm == 0) return from;
    x = pass->layer->qk_norm == 1
            ? ts_tape_view(x, ts_tape_times(tape, rows, from.heads), from.dim)
            : ts_tape_view(x, rows, width);
    from.value = ts_tape_view(ts_saved_norm(pass, tape, x), rows, width);
    return from;
}

/* Tables of cosines are made once for all layers and need no gradient, so a
 * rotation keeps nothing of its own; it only makes new memory, which a
 * concatenation lays out anew. */
static heads rotated(const ts_pass *pass, ts_tape *tape, heads from)
{
    switch ((ts_rope)pass->layer->rope) {
    case TS_ROPE_NONE:
    case TS_ROPE_ALIBI:
    case TS_ROPE_BUCKETS: return from;
    case TS_ROPE_PART:
    case TS_ROPE_SPREAD:
    case TS_ROPE_SPLIT: return copied(tape, from, true);
    case TS_ROPE_HALF:
    case TS_ROPE_PAIRS:
    case TS_ROPE_COMPLEX:
    case TS_ROPE_VISION:
    case TS_ROPE_COUNT: break;
    }
    return copied(tape, from, false);
}

/* GLM repeats its two tables in each layer, GPT-J two for q and two for k. */
static void tables(const ts_pass *pass, ts_tape *tape, bool grad)
{
    uint64_t rope = pass->layer->rope;
    int count = rope == TS_ROPE_SPREAD ? 2 : rope == TS_ROPE_PAIRS ? 4 : 0;

    for (int i = 0; i < count && grad; i++)
        ts_tape_note(tape, pass->seq, pass->layer->rope_dim,
                     ts_saved_size(pass), "table of positions");
}

/* A window hides more than the causal flag can say once it is no longer than
 * the sequence (masking_utils.py, _ignore_causal_mask_sdpa). */
static bool mask_tensor(const ts_pass *pass)
{
    uint64_t window = pass->layer->window;

    if (pass->layer->mask == TS_MASK_TENSOR) return true;
    if (cut(pass)) return false;
    return window != 0 && window <= pass->seq;
}

static ts_operand scores_of(ts_tape *tape, heads q, heads k,
                            ts_operand product)
{
    return ts_tape_new(tape, ts_tape_times(tape, q.value.rows, q.heads),
                       k.length, product.size, product.grad);
}

/* softmax(scores) in `size` bytes, dropout, times v. */
static ts_operand weigh(const ts_pass *pass, ts_tape *tape, ts_operand scores,
                      unsigned size, ts_operand v)
{
    ts_operand p = ts_tape_cast(tape, scores, size);

    p = ts_tape_by_result(tape, p, "attention weights, softmax's result");
    p = ts_tape_cast(tape, p, v.size);
    p = ts_saved_drop(pass, tape, p, pass->layer->attention_dropout);
    return ts_tape_mul(tape, p, v, "attention weights, as multiplied",
                       "values, as multiplied");
}

/* modeling_gpt_oss.py: one more column, the sink; the greatest score is
 * taken off first, and remembered by its index. */
static ts_operand weigh_with_sink(ts_tape *tape, ts_operand scores,
                                  ts_operand v)
{
    if (scores.grad)
        ts_tape_note(tape, scores.rows, 1, 8, "index of the greatest score");
    scores = ts_tape_new(tape, scores.rows, scores.width + 1, scores.size,
                         scores.grad);
    scores = ts_tape_by_result(tape, scores, "attention weights");
    return ts_tape_mul(tape, scores, v, "attention weights",
                       "values, as multiplied");
}

static ts_operand output(ts_tape *tape, heads q, heads v, bool grad)
{
    return ts_tape_new(tape, q.value.rows, ts_tape_times(tape, q.heads, v.dim),
                       q.value.size, grad);
}

static ts_operand eager(const ts_pass *pass, ts_tape *tape, heads q, heads k,
                      heads v)
{
    const ts_layer *layer = pass->layer;
    ts_operand scores, out, values;
    unsigned size = layer->softmax == TS_SOFTMAX_FP32 ? 4 : q.value.size;

    k = repeated(tape, k, q.heads);
    v = repeated(tape, v, q.heads);
    if (layer->rope == TS_ROPE_PAIRS) { /* GPT-J multiplies in F32 */
        q.value = ts_tape_cast(tape, q.value, 4);
        k.value = ts_tape_cast(tape, k.value, 4);
    }
    scores = ts_tape_mul(tape, operand(pass, tape, q), operand(pass, tape, k),
                         "queries, as multiplied", "keys, as multiplied");
    scores = scores_of(tape, q, k, scores);
    if (layer->score_cap)
        scores = ts_tape_by_result(tape, scores, "capped scores");
    values = operand(pass, tape, v);
    out = layer->softmax == TS_SOFTMAX_SINK
              ? weigh_with_sink(tape, scores, values)
              : weigh(pass, tape, scores, size, values);
    q.value.size = (uint8_t)ts_saved_size(pass);
    return output(tape, q, v, out.grad);
}

/* Falcon hands its one key head to SDPA as it is. */
static bool broadcasts(const ts_pass *pass)
{
    return pass->layer->kv_cut == TS_KV_CUT_INDEX;
}

/* aten's composite path, taken on the processor for what its flash kernel
 * lacks: half precision goes through F32 copies, q and k are scaled apart,
 * and grouped heads are repeated by copying. */
static ts_operand math(const ts_pass *pass, ts_tape *tape, heads q, heads k,
                       heads v)
{
    unsigned size = q.value.size < 4 ? 4 : q.value.size;
    heads a = q, b = k;
    ts_operand scores, out;

    v.value = ts_tape_cast(tape, v.value, size);
    if (!broadcasts(pass) && k.heads != q.heads) {
        b.heads = v.heads = q.heads;
        v = copied(tape, v, true);
    }
    a.value.size = b.value.size = (uint8_t)size;
    a = copied(tape, a, q.packed);
    b = repeated(tape, copied(tape, b, b.packed), q.heads);
    v = repeated(tape, v, q.heads);
    scores = ts_tape_mul(tape, operand(pass, tape, a), operand(pass, tape, b),
                         "queries, scaled", "keys, scaled");
    scores = scores_of(tape, q, k, scores);
    out = weigh(pass, tape, scores, size, operand(pass, tape, v));
    return output(tape, q, v, out.grad);
}

/* Flash: q, k, v, the result, and the logarithm of each row's sum in F32
 * (Dao et al. 2205.14135).  Nothing grows with the square of the sequence
 * unless a mask is a tensor; then heads are repeated as well. */
static ts_operand flash(const ts_pass *pass, ts_tape *tape, heads q, heads k,
                      heads v)
{
    bool grad = q.value.grad || k.value.grad || v.value.grad;
    ts_operand out;

    if (mask_tensor(pass)) {
        k = repeated(tape, k, q.heads);
        v = repeated(tape, v, q.heads);
        if (grad)
            ts_tape_note(tape, q.value.rows, k.length, q.value.size,
                         "attention mask");
    }
    out = output(tape, q, v, grad);
    if (!grad) return out;
    ts_tape_keep(tape, q.value, "queries");
    ts_tape_keep(tape, k.value, "keys");
    ts_tape_keep(tape, v.value, "values");
    ts_tape_keep(tape, out, "attention's output");
    ts_tape_note(tape, ts_tape_times(tape, q.value.rows, q.heads), 1, 4,
                 "logarithm of row sums");
    /* The processor's kernel gives the result the order of q. */
    return pass->run->host && q.packed ? ts_tape_like(tape, out) : out;
}

/* `learned`: a bias that trains is added to the scores. */
static ts_operand core(const ts_pass *pass, ts_tape *tape, heads q, heads k,
                       heads v, bool learned)
{
    if (pass->run->attention == TS_ATTENTION_EAGER)
        return eager(pass, tape, q, k, v);
    if (pass->run->host && (pass->layer->attention_dropout
                            || (learned && ts_saved_trains(pass)) ||
                            q.dim != v.dim || broadcasts(pass)))
        return math(pass, tape, q, k, v);
    return flash(pass, tape, q, k, v);
}

/* Falcon cuts k and v by a list of one index: a copy, and the list; groups
 * are then spread to all heads (modeling_falcon.py, _split_heads). */
static heads indexed(const ts_pass *pass, ts_tape *tape, heads from)
{
    if (pass->layer->kv_cut == TS_KV_CUT_VIEW) return from;
    if (from.value.grad) ts_tape_note(tape, 1, 1, 8, "index of a head");
    from = copied(tape, from, false);
    if (pass->layer->kv_cut == TS_KV_CUT_INDEX) return from;
    from = repeated(tape, from, pass->layer->heads);
    from.packed = false;
    return from;
}

/* One projection for all heads, cut by views; or three. */
static void project(const ts_pass *pass, ts_tape *tape, ts_operand x, heads *q,
                    heads *k, heads *v)
{
    const ts_layer *layer = pass->layer;
    uint64_t d = layer->head_dim, dv = layer->value_dim ? layer->value_dim : d;
    uint64_t wq = layer->heads * d, wk = layer->kv_heads * d;
    uint64_t wv = layer->kv_heads * dv;
    ts_operand a, b, c;

    if (layer->fused_qkv) {
        a = ts_saved_linear(pass, tape, x, wq + wk + wv,
                            TS_TARGET_Q | TS_TARGET_K | TS_TARGET_V);
        b = ts_tape_view(a, x.rows, wk);
        c = ts_tape_view(a, x.rows, wv);
        a = ts_tape_view(a, x.rows, wq);
    } else {
        a = ts_saved_linear(pass, tape, x, wq, TS_TARGET_Q);
        b = ts_saved_linear(pass, tape, x, wk, TS_TARGET_K);
        c = ts_saved_linear(pass, tape, x, wv, TS_TARGET_V);
    }
    *q = normed(pass, tape, heads_of(pass, a, layer->heads, d));
    *k = normed(pass, tape, heads_of(pass, b, layer->kv_heads, d));
    *v = heads_of(pass, c, layer->kv_heads, dv);
    *k = indexed(pass, tape, *k);
    *v = indexed(pass, tape, *v);
    *q = rotated(pass, tape, *q);
    *k = rotated(pass, tape, *k);
    tables(pass, tape, q->value.grad || k->value.grad);
}

/* Latent attention: queries and keys are put together of a part without and
 * a part with positions; values are a view of what the latent expands to. */
static void expand(const ts_pass *pass, ts_tape *tape, ts_operand x, heads *q,
                   heads *k, heads *v)
{
    const ts_layer *layer = pass->layer;
    uint64_t d = layer->head_dim, dv = layer->value_dim ? layer->value_dim : d;
    uint64_t plain = d - layer->rope_dim, a = layer->heads;
    ts_operand query = x, latent, both;

    if (layer->q_rank != 0) {
        query = ts_saved_linear(pass, tape, x, layer->q_rank, TS_TARGET_Q);
        query = ts_saved_norm(pass, tape, query);
    }
    query = ts_saved_linear(pass, tape, query, a * d, TS_TARGET_Q);
    latent = ts_saved_linear(pass, tape, x, layer->kv_rank + layer->rope_dim,
                             TS_TARGET_K);
    latent = ts_tape_view(latent, x.rows, layer->kv_rank);
    latent = ts_saved_norm(pass, tape, latent);
    both = ts_saved_linear(pass, tape, latent, a * (plain + dv), TS_TARGET_V);

    *q = copied(tape, heads_of(pass, query, a, d), true);
    *k = copied(tape, heads_of(pass, both, a, d), true);
    *v = heads_of(pass, ts_tape_view(both, x.rows, a * dv), a, dv);
}

/* T5: buckets are found in the first layer; where SDPA is causal as well, a
 * mask chooses between bias and minus infinity (create_position_bias_mask). */
static void biased(const ts_pass *pass, ts_tape *tape)
{
    uint64_t s = pass->seq;

    if (pass->layer->buckets && ts_saved_trains(pass))
        ts_tape_note(tape, s, s, 8, "buckets of positions");
    if (pass->run->attention != TS_ATTENTION_EAGER
        && pass->layer->mask == TS_MASK_CAUSAL && ts_saved_trains(pass))
        ts_tape_note(tape, s, s, 1, "causal mask of the bias");
}

ts_operand ts_saved_attention(const ts_pass *pass, ts_tape *tape,
                              ts_operand x)
{
    bool learned = pass->layer->rope == TS_ROPE_BUCKETS;
    heads q, k, v;

    if (pass->layer->mixer == TS_MIXER_LATENT)
        expand(pass, tape, x, &q, &k, &v);
    else
        project(pass, tape, x, &q, &k, &v);
    if (learned) biased(pass, tape);
    if (cut(pass) && pass->layer->window != 0)
        k.length = ts_min(k.length, pass->layer->window);
    x = core(pass, tape, q, k, v, learned);
    if (cut(pass)) x = ts_tape_like(tape, x); /* torch.cat, even of one */
    return ts_saved_linear(pass, tape, x, pass->stack->hidden, TS_TARGET_O);
}

/* Keys and values of what an encoder made: that is one tensor for all
 * layers, not of this one; a parameter, as far as the tape can tell. */
ts_operand ts_saved_cross(const ts_pass *pass, ts_tape *tape, ts_operand x)
{
    const ts_layer *layer = pass->layer;
    uint64_t a = layer->heads, d = layer->head_dim;
    ts_operand source =
        ts_tape_parameter(pass->stack->hidden, ts_saved_size(pass), true);
    heads q, k, v;

    source.rows = ts_tape_times(tape, pass->batch, pass->source_seq);
    q = heads_of(pass, ts_saved_linear(pass, tape, x, a * d, TS_TARGET_Q), a,
                 d);
    k = heads_of(pass, ts_saved_linear(pass, tape, source, a * d, TS_TARGET_K),
                 a, d);
    v = heads_of(pass, ts_saved_linear(pass, tape, source, a * d, TS_TARGET_V),
                 a, d);
    x = core(pass, tape, q, k, v, false);
    return ts_saved_linear(pass, tape, x, pass->stack->hidden, TS_TARGET_O);
}
