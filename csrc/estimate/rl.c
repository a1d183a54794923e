/* rl.c -- a step of train.c, beside what else is on the device. */
#include "family.h"

/* What vLLM keeps while it sleeps: libraries' handles, input buffers of its
 * largest step, and the workspace of fused experts. */
static ts_wide asleep(const ts_model *model, const ts_run *run,
                      const ts_profile *profile)
{
    ts_wide token = profile->asleep_token, experts = 0;

    for (uint32_t i = 0; i < model->decoder.kind_count; i++) {
        const ts_layer *l = &model->decoder.kinds[i];
        if (l->mlp != TS_MLP_MOE) continue;
        ts_wide one = (ts_wide)l->active_experts
                      * (2 * l->expert_ffn + model->decoder.hidden)
                      * ts_number_width(run->dtype);
        if (one > experts) experts = one;
    }
    return profile->asleep_bytes + run->resident_bytes
           + (token + experts) * run->step_tokens;
}

ts_status ts_rl_run(const ts_model *model, const ts_run *run,
                    const ts_profile *profile, uint64_t stage, ts_ledger *out,
                    ts_error *error)
{
    ts_share share;
    ts_weights weights;

    TS_TRY(ts_train_run(model, run, profile, stage, out, error));
    ts_stage_share(model, run, stage, &share);
    ts_stage_weights(model, run, &share, &weights);
    TS_TRY(ts_ledger_add(out, TS_FOR_ADAPTERS, TS_FORMULA_REFERENCE, TS_ALWAYS,
                         ts_number_bytes(run->adapter_dtype, weights.adapters)
                             * profile->references,
                         error));
    return ts_ledger_add(out, TS_FOR_OTHER, TS_FORMULA_ASLEEP, TS_ALWAYS,
                         asleep(model, run, profile), error);
}
