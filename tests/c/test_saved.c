#include "check.h"

#include "estimate/saved.h"

static ts_model tiny(void)
{
    ts_model model;
    ts_model_default(&model);
    model.vocab = 97;
    ts_stack *stack = &model.decoder;
    stack->hidden = 48;
    stack->layer_count = 2;
    stack->kind_count = 1;
    ts_layer *layer = &stack->kinds[0];
    ts_layer_default(layer);
    layer->heads = 6;
    layer->kv_heads = 2;
    layer->head_dim = 10;
    layer->ffn = 56;
    return model;
}

static ts_run step(void)
{
    ts_run run;
    ts_run_default(&run);
    run.batch = 2;
    run.seq = 7;
    run.host = 1;
    return run;
}

static uint64_t kept(const ts_model *model, const ts_run *run, bool grad)
{
    ts_tape tape;
    CHECK_OK(ts_saved_tensors(model, run, TS_STACK_DECODER, 0, grad, &tape,
                              error));
    return ts_tape_total(&tape);
}

/* As torch 2.13 and transformers 5.23 keep it: saved_tensors_hooks. */
static void a_layer_keeps_what_torch_keeps(void)
{
    ts_model model = tiny();
    ts_run run = step();
    CHECK(kept(&model, &run, true) == 21952, "sdpa, full");
    run.attention = TS_ATTENTION_EAGER;
    CHECK(kept(&model, &run, true) == 27384, "eager, full");
    run.method = TS_METHOD_LORA;
    run.rank = 3;
    run.targets = 127;
    run.adapter_dtype = TS_NUMBER_FP32;
    CHECK(kept(&model, &run, true) == 39872, "eager, adapters");
    CHECK(kept(&model, &run, false) == 37128, "the first layer of these");
    run.recompute = TS_RECOMPUTE_FULL;
    CHECK(kept(&model, &run, true) == 1344, "its input");
}

static void a_frozen_layer_keeps_only_what_passes_gradients_on(void)
{
    ts_model model = tiny();
    ts_run run = step();
    run.method = TS_METHOD_FROZEN;
    CHECK(kept(&model, &run, false) == 0, "nothing asks for gradients");
    uint64_t frozen = kept(&model, &run, true);
    run.method = TS_METHOD_FULL;
    CHECK(frozen > 0 && frozen < kept(&model, &run, true), "%llu",
          (unsigned long long)frozen);
}

static void ranks_share_heads_and_widths(void)
{
    ts_model model = tiny();
    ts_run run = step();
    ts_block whole, half;
    const ts_stack *stack = &model.decoder;
    ts_saved_block(stack, &stack->kinds[0], &run, 14, &whole);
    run.tp = 2;
    ts_saved_block(stack, &stack->kinds[0], &run, 14, &half);
    CHECK(half.mlp < whole.mlp && half.attention < whole.attention, "divided");
    CHECK(half.residual == whole.residual, "each rank has all of it");
}

static void what_does_not_fit_is_refused(void)
{
    ts_model model = tiny();
    ts_run run = step();
    ts_tape tape;
    run.batch = TS_DIM;
    run.seq = TS_TOKENS;
    run.attention = TS_ATTENTION_EAGER;
    CHECK_FAILS(ts_saved_tensors(&model, &run, TS_STACK_DECODER, 0, true,
                                 &tape, error),
                TS_ARGUMENT, "does not fit");
    run = step();
    CHECK_FAILS(ts_saved_tensors(&model, &run, TS_STACK_DECODER, 3, true,
                                 &tape, error),
                TS_ARGUMENT, "layer 3 of 2");
    CHECK_FAILS(ts_saved_tensors(&model, &run, TS_STACK_VISION, 0, true, &tape,
                                 error),
                TS_ARGUMENT, "layer 0 of 0");
    CHECK_FAILS(ts_saved_tensors(&model, &run, 3, 0, true, &tape, error),
                TS_ARGUMENT, "stack 3");
}

static void a_full_tape_says_so(void)
{
    ts_tape tape;
    ts_tape_begin(&tape);
    for (int i = 0; i < TS_MAX_STORAGES + 3; i++)
        ts_tape_note(&tape, 1, 1, 1, "a byte");
    CHECK(tape.overflow && ts_tape_total(&tape) == TS_MAX_STORAGES - 1,
          "%llu", (unsigned long long)ts_tape_total(&tape));
}

int main(void)
{
    RUN(a_layer_keeps_what_torch_keeps);
    RUN(a_frozen_layer_keeps_only_what_passes_gradients_on);
    RUN(ranks_share_heads_and_widths);
    RUN(what_does_not_fit_is_refused);
    RUN(a_full_tape_says_so);
    CHECK_END();
}
