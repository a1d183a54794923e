/* vllm.c -- serving from a budget. */
#include "family.h"

typedef struct {
    const ts_model *model;
    const ts_run *run;
    const ts_profile *profile;
    ts_share share;
    ts_weights weights;
    uint64_t width;
    ts_ledger *ledger;
    ts_error *error;
} engine;

/* Profiling: FORWARD_MLP and LOSS; serving: DECODE, which is steady. */
enum {
    LAYERS = TS_DURING(TS_AT_FORWARD_MLP),
    SAMPLING = TS_DURING(TS_AT_LOSS),
    SERVING = TS_DURING(TS_AT_DECODE),
};

static ts_status line(engine *e, ts_component component, ts_formula formula,
                      uint32_t instants, ts_wide bytes)
{
    return ts_ledger_add(e->ledger, component, formula, instants, bytes,
                         e->error);
}

static ts_wide weight_bytes(const engine *e)
{
    const ts_weights *w = &e->weights;
    ts_wide held = ts_held_bytes(e->model, w);
    if (held > 0) return held;
    return w->matrix_bytes + w->expert_bytes
           + (w->kept + w->vectors + w->embedding + w->head) * e->width;
}

/* Adapter slots hold A and B in the computing type. */
static ts_wide slot_bytes(const engine *e)
{
    return e->weights.adapters * e->width * e->run->adapter_slots;
}

/* Elements a token of the widest layer. */
static ts_wide step_width(const engine *e)
{
    ts_wide most = 0;
    for (uint32_t i = 0; i < e->model->decoder.kind_count; i++) {
        const ts_layer *l = &e->model->decoder.kinds[i];
        ts_wide wide = (ts_wide)l->ffn * e->profile->step_widths / e->run->tp;
        if (l->mlp == TS_MLP_MOE)
            wide = (ts_wide)l->active_experts
                   * ts_max(2 * l->expert_ffn / e->run->etp,
                            e->model->decoder.hidden);
        if (wide > most) most = wide;
    }
    return most + e->model->decoder.hidden * e->profile->step_hiddens
           + (ts_wide)e->model->layer_embed * e->model->decoder.layer_count;
}

static ts_wide layer_bytes(const engine *e)
{
    return step_width(e) * e->run->step_tokens * e->width;
}

static ts_wide sampler_bytes(const engine *e)
{
    return (ts_wide)e->run->max_seqs * e->model->vocab
           * e->profile->sampler_bytes;
}

/* What start-up measures: layers and sampler, or the greater of them. */
static ts_wide step_bytes(const engine *e)
{
    ts_wide layers = layer_bytes(e), sampler = sampler_bytes(e);
    if (!e->profile->sampler_apart) return layers + sampler;
    return layers > sampler ? layers : sampler;
}

static ts_wide pool(const engine *e)
{
    const ts_run *run = e->run;
    ts_wide budget = (ts_wide)run->device_bytes * run->utilization_ppm
                     / 1000000;
    ts_wide taken = weight_bytes(e) + slot_bytes(e) + step_bytes(e)
                    + (ts_wide)e->profile->inside_bytes * run->tp;

    if (run->kv_tokens > 0)
        return ts_share_kv(e->model, &e->share, run, e->profile,
                           run->kv_tokens)
               * run->batch;
    return budget > taken ? budget - taken : 0;
}

static ts_status add_lines(engine *e)
{
    const ts_profile *p = e->profile;
    uint32_t profiling = p->sampler_apart ? 0 : LAYERS;

    TS_TRY(line(e, TS_FOR_WEIGHTS, TS_FORMULA_MATRICES, TS_ALWAYS,
                weight_bytes(e)));
    TS_TRY(line(e, TS_FOR_ADAPTERS, TS_FORMULA_SLOTS, TS_ALWAYS,
                slot_bytes(e)));
    TS_TRY(line(e, TS_FOR_MLP, TS_FORMULA_STEP_LAYER, LAYERS,
                layer_bytes(e)));
    TS_TRY(line(e, TS_FOR_LOGITS, TS_FORMULA_SAMPLER, SAMPLING | profiling,
                sampler_bytes(e)));
    TS_TRY(line(e, TS_FOR_WORKSPACE, TS_FORMULA_INSIDE, TS_ALWAYS,
                (ts_wide)p->inside_bytes * e->run->tp));
    TS_TRY(line(e, TS_FOR_OTHER, TS_FORMULA_OUTSIDE, TS_ALWAYS,
                p->outside_bytes + e->run->resident_bytes));
    return line(e, TS_FOR_KV_CACHE, TS_FORMULA_KV_POOL, SERVING, pool(e));
}

ts_status ts_vllm_run(const ts_model *model, const ts_run *run,
                      const ts_profile *profile, uint64_t stage,
                      ts_ledger *out, ts_error *error)
{
    engine e = {
        .model = model,
        .run = run,
        .profile = profile,
        .width = ts_number_width(run->dtype),
        .ledger = out,
        .error = error,
    };
    if (run->device_bytes == 0 && run->kv_tokens == 0)
        return ts_fail(error, TS_ARGUMENT,
                       "serving from a budget needs device_bytes, or"
                       " kv_tokens");
    ts_ledger_begin(out, LAYERS | SAMPLING | SERVING, TS_AT_DECODE);
    ts_stage_share(model, run, stage, &e.share);
    ts_stage_weights(model, run, &e.share, &e.weights);
    return add_lines(&e);
}
