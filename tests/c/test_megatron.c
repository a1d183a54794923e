/* The Megatron family on numbers that no machine has: an answer or a refusal,
 * never a wrap.  Its figures are held by tests/test_estimator_megatron.py. */
#include "check.h"

#include "estimate/family.h"

static ts_model model_of(uint64_t layers)
{
    ts_model model;
    ts_model_default(&model);
    model.vocab = 50257;
    model.tied = 1;
    ts_stack *stack = &model.decoder;
    stack->hidden = 512;
    stack->norm = TS_NORM_LAYER;
    stack->norm_bias = 1;
    stack->layer_count = (uint32_t)layers;
    stack->kind_count = 2;
    for (int i = 0; i < 2; i++) {
        ts_layer_default(&stack->kinds[i]);
        stack->kinds[i].heads = stack->kinds[i].kv_heads = 8;
        stack->kinds[i].head_dim = 64;
        stack->kinds[i].ffn = 2048;
    }
    for (uint64_t i = 1; i < layers; i += 2) stack->kind_of[i] = 1;
    stack->kinds[1].mlp = TS_MLP_MOE;
    stack->kinds[1].experts = 8;
    stack->kinds[1].active_experts = 2;
    stack->kinds[1].expert_ffn = 1024;
    return model;
}

static ts_run run_of(void)
{
    ts_run run;
    ts_run_default(&run);
    run.mode = TS_MODE_TRAIN;
    run.master = 1;
    run.grad_dtype = TS_NUMBER_FP32;
    run.vocab_multiple = 128;
    return run;
}

static ts_profile profile_of(void)
{
    ts_profile profile;
    ts_profile_default(&profile);
    profile.family = TS_FAMILY_MEGATRON;
    return profile;
}

static bool answers(const ts_model *model, const ts_run *run, ts_error *error)
{
    ts_profile profile = profile_of();
    ts_ledger ledger;
    if (ts_model_check(model, error) != TS_OK
        || ts_run_check(model, run, error) != TS_OK)
        return false;
    for (uint64_t stage = 0; stage < run->pp; stage++)
        if (ts_estimate(model, run, &profile, stage, &ledger, error) != TS_OK)
            return false;
    return true;
}

static bool runs(const ts_model *model, const ts_run *run)
{
    return answers(model, run, NULL);
}

static uint64_t peak(const ts_model *model, const ts_run *run)
{
    ts_profile profile = profile_of();
    ts_ledger ledger;
    CHECK_OK(ts_estimate(model, run, &profile, 0, &ledger, error));
    return ledger.counters[TS_COUNTER_ALLOCATED];
}

static void every_field_at_both_ends(void)
{
    ts_model model = model_of(8);
    int answered = 0;
    for (size_t i = 0; i < ts_run_field_count; i++)
        for (int end = 0; end < 2; end++) {
            ts_run run = run_of();
            uint64_t *field =
                (uint64_t *)((uint8_t *)&run + ts_run_fields[i].offset);
            *field = end ? ts_run_fields[i].most : ts_run_fields[i].least;
            answered += runs(&model, &run);
        }
    CHECK(answered > 100, "%d answered", answered);
}

static void the_absurd_is_refused(void)
{
    ts_model model = model_of(1024);
    ts_run run = run_of();
    run.batch = (uint64_t)1 << 24;
    run.seq = (uint64_t)1 << 32;
    run.attention = TS_ATTENTION_EAGER;
    CHECK(!runs(&model, &run));
    run.ep = run.dp = (uint64_t)1 << 24;
    run.micro_batches = (uint64_t)1 << 24;
    CHECK(!runs(&model, &run));
    ts_layer *layer = &model.decoder.kinds[1];
    layer->heads = layer->kv_heads = layer->head_dim = (uint64_t)1 << 24;
    layer->experts = layer->active_experts = (uint64_t)1 << 24;
    layer->expert_ffn = (uint64_t)1 << 24;
    CHECK(!runs(&model, &run));
}

static void more_of_anything_is_never_less(void)
{
    ts_model model = model_of(8);
    ts_run run = run_of();
    uint64_t before = peak(&model, &run);
    for (int i = 0; i < 20; i++) {
        run.seq *= 2;
        uint64_t after = peak(&model, &run);
        CHECK(after > before, "at %llu tokens", (unsigned long long)run.seq);
        before = after;
    }
}

static void what_does_not_divide_is_refused(void)
{
    ts_model model = model_of(8);
    ts_run run = run_of();
    ts_error error[1];
    run.ep = 3;
    CHECK(!answers(&model, &run, error));
    CHECK(strstr(error->message, "ep 3") != NULL, "%s", error->message);
    run.ep = 1;
    run.optimizer = TS_OPTIMIZER_ADAFACTOR;
    CHECK(!answers(&model, &run, error));
    CHECK(strstr(error->message, "adafactor") != NULL, "%s", error->message);
}

int main(void)
{
    RUN(every_field_at_both_ends);
    RUN(the_absurd_is_refused);
    RUN(more_of_anything_is_never_less);
    RUN(what_does_not_divide_is_refused);
    CHECK_END();
}
