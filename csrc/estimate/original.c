/* original.c -- the estimator this package continues, number for number. */
#include "family.h"

typedef struct {
    const ts_model *model;
    const ts_run *run;
    const ts_profile *profile;
    ts_wide parameters, trained, adapters;
    ts_wide tokens, width; /* bytes of an element */
    uint64_t layers, states, gather, ranks; /* divisors */
    ts_ledger *ledger;
    ts_error *error;
} original;

enum {
    STEADY = TS_DURING(TS_AT_STEADY) | TS_DURING(TS_AT_BACKWARD_FIRST),
    PEAK = TS_DURING(TS_AT_BACKWARD_FIRST),
};

static ts_status line(original *o, ts_component component, ts_formula formula,
                      ts_wide bytes)
{
    return ts_ledger_add(o->ledger, component, formula, STEADY, bytes,
                         o->error);
}

/* Every projection is taken to be square. */
static ts_wide adapters(const original *o)
{
    uint64_t h = o->model->decoder.hidden, on = o->run->targets;
    uint64_t m = o->model->decoder.kinds[0].ffn;
    uint64_t square = (uint64_t)__builtin_popcountll(
        on & (TS_TARGET_Q | TS_TARGET_K | TS_TARGET_V | TS_TARGET_O));
    uint64_t wide = (uint64_t)__builtin_popcountll(
        on & (TS_TARGET_GATE | TS_TARGET_UP | TS_TARGET_DOWN));

    if (o->run->method == TS_METHOD_FULL) return 0;
    if (o->run->adapter_count > 0) return o->run->adapter_count;
    return (ts_wide)o->run->rank * (square * 2 * h + wide * (h + m))
           * o->layers;
}

/* With ZeRO, tensor and pipeline ranks are forgotten; stages 1 and 2 are the
 * same, since gradients belong to the optimizer. */
static void divisors(original *o)
{
    const ts_run *run = o->run;
    o->states = o->gather = o->ranks = 1;
    if (run->zero > 0) {
        o->states = run->dp;
        if (run->zero == 3) o->gather = run->dp;
        return;
    }
    o->states = o->gather = o->ranks = run->tp * run->pp;
}

static ts_status add_states(original *o)
{
    bool full = o->run->method == TS_METHOD_FULL;
    ts_wide frozen = o->run->weight_format == TS_NUMBER_NF4
                             || o->run->weight_format == TS_NUMBER_INT4
                         ? o->parameters / 2
                         : o->parameters
                               * ts_number_width(o->run->weight_format);

    TS_TRY(line(o, TS_FOR_WEIGHTS, TS_FORMULA_ORIGINAL_WEIGHTS,
                (frozen + o->adapters * o->width) / o->gather));
    TS_TRY(line(o, TS_FOR_GRADIENTS, TS_FORMULA_ORIGINAL_GRADIENTS,
                4 * o->trained / o->states));
    TS_TRY(line(o, TS_FOR_OPTIMIZER, TS_FORMULA_ORIGINAL_STATES,
                8 * o->trained / o->states));
    if (!full || o->run->dtype == TS_NUMBER_FP32) return TS_OK;
    return line(o, TS_FOR_MASTER, TS_FORMULA_ORIGINAL_MASTER,
                4 * o->parameters / o->states);
}

static ts_status add_activations(original *o)
{
    const ts_profile *p = o->profile;
    const ts_run *run = o->run;
    uint64_t kept = run->recompute == TS_RECOMPUTE_NONE
                        ? 1000
                        : run->reduction_permille;
    ts_wide one = o->tokens * o->model->decoder.hidden * o->layers * o->width;
    ts_wide attention = run->attention == TS_ATTENTION_FLASH
                            ? one * p->flash_factor * p->flash_again / 1000
                            : one * p->plain_factor;
    ts_wide logits = o->tokens * o->model->vocab * o->width
                     * p->logits_factor / 1000;

    if (run->fused_loss) logits = logits * p->fused_factor / 1000;
    TS_TRY(line(o, TS_FOR_ATTENTION, TS_FORMULA_ORIGINAL_ATTENTION,
                attention / 1000 * kept / 1000 / o->ranks));
    TS_TRY(line(o, TS_FOR_MLP, TS_FORMULA_ORIGINAL_MLP,
                one * p->mlp_factor / 1000 * kept / 1000 / o->ranks));
    TS_TRY(line(o, TS_FOR_LOGITS, TS_FORMULA_ORIGINAL_LOGITS,
                logits / (run->zero > 0 ? 1 : run->tp)));
    if (run->kv_cache)
        TS_TRY(line(o, TS_FOR_KV_CACHE, TS_FORMULA_ORIGINAL_KV,
                    2 * one / o->ranks));
    return line(o, TS_FOR_VISION, TS_FORMULA_ORIGINAL_VISION,
                (ts_wide)run->batch * run->image_cells * run->image_width
                    * p->vision_factor / 1000 * o->width);
}

static ts_status add_peak(original *o)
{
    ts_wide sum = 0;
    for (uint32_t i = 0; i < o->ledger->count; i++)
        sum += o->ledger->lines[i].bytes;
    return ts_ledger_add(o->ledger, TS_FOR_OTHER, TS_FORMULA_ORIGINAL_PEAK,
                         PEAK, sum * (o->profile->peak_permille - 1000) / 1000,
                         o->error);
}

ts_status ts_original_run(const ts_model *model, const ts_run *run,
                          const ts_profile *profile, uint64_t stage,
                          ts_ledger *out, ts_error *error)
{
    uint64_t parameters;
    original o = {
        .model = model,
        .run = run,
        .profile = profile,
        .tokens = (ts_wide)run->batch * run->seq,
        .width = ts_number_width(run->dtype),
        .layers = model->decoder.layer_count,
        .ledger = out,
        .error = error,
    };
    (void)stage;

    TS_TRY(ts_model_parameters(model, &parameters, error));
    o.parameters = parameters;
    o.adapters = adapters(&o);
    o.trained = run->method == TS_METHOD_FULL ? o.parameters : o.adapters;
    divisors(&o);
    ts_ledger_begin(out, STEADY, TS_AT_STEADY);
    TS_TRY(add_states(&o));
    TS_TRY(add_activations(&o));
    TS_TRY(line(&o, TS_FOR_OTHER, TS_FORMULA_ORIGINAL_FLAT, run->flat_bytes));
    return add_peak(&o);
}
