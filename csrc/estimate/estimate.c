/* estimate.c -- one estimate: the family of the profile, then the sums. */
#include "family.h"

static const ts_family_run families[] = {
    [TS_FAMILY_SERVE] = ts_serve_run,
    [TS_FAMILY_TRAIN] = ts_train_run,
    [TS_FAMILY_MICROBENCH] = ts_microbench_run,
    [TS_FAMILY_VLLM] = ts_vllm_run,
    [TS_FAMILY_MEGATRON] = ts_megatron_run,
    [TS_FAMILY_RL] = ts_rl_run,
    [TS_FAMILY_ORIGINAL] = ts_original_run,
};

ts_status ts_estimate(const ts_model *model, const ts_run *run,
                      const ts_profile *profile, uint64_t stage,
                      ts_ledger *out, ts_error *error)
{
    if (stage >= run->pp)
        return ts_fail(error, TS_ARGUMENT, "stage %llu of pp %llu",
                       (unsigned long long)stage,
                       (unsigned long long)run->pp);
    TS_TRY(families[profile->family](model, run, profile, stage, out, error));
    return ts_ledger_finish(out, profile, error);
}
