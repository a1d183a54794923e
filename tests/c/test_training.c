/* What a training step keeps, against sums made by hand. */
#include "check.h"

#include "estimate/block.h"

enum { H = 4096, FFN = 11008, LAYERS = 32, VOCAB = 32000, SEQ = 1304 };

/* Llama-2-7B, as published. */
static ts_model llama(void)
{
    ts_model model;
    ts_model_default(&model);
    model.vocab = VOCAB;
    ts_stack *stack = &model.decoder;
    stack->hidden = H;
    stack->layer_count = LAYERS;
    stack->kind_count = 1;
    ts_layer *layer = &stack->kinds[0];
    ts_layer_default(layer);
    layer->heads = layer->kv_heads = 32;
    layer->head_dim = 128;
    layer->ffn = FFN;
    return model;
}

static ts_run full(void)
{
    ts_run run;
    ts_run_default(&run);
    run.seq = SEQ;
    run.method = TS_METHOD_FULL;
    return run;
}

static ts_run adapters(uint64_t targets)
{
    ts_run run = full();
    run.method = TS_METHOD_LORA;
    run.targets = targets;
    run.rank = 8;
    run.adapter_dtype = TS_NUMBER_BF16;
    return run;
}

static ts_profile plain(void)
{
    ts_profile profile;
    ts_profile_default(&profile);
    profile.family = TS_FAMILY_TRAIN;
    return profile;
}

static ts_wide a_token(const ts_run *run, const ts_profile *profile)
{
    ts_model model = llama();
    ts_block block;
    ts_block_saved(&model.decoder, &model.decoder.kinds[0], run, profile, 1,
                   &block);
    return ts_block_sum(&block);
}

static void a_layer_that_trains_keeps_what_its_weights_need(void)
{
    ts_run run = full();
    ts_profile profile = plain();
    /* Two norms: input in F32, normed input; inputs of qkv and of gate and
     * up; q, k, v, output, a number a head; gate, act, up, product. */
    ts_wide hand = 2 * (4 + 2) * H + 2 * 2 * H + 4 * 2 * H + 4 * 32
                   + 4 * 2 * FFN;
    CHECK(a_token(&run, &profile) == hand, "%llu",
          (unsigned long long)a_token(&run, &profile));
}

static void a_frozen_layer_keeps_what_passes_gradients_on(void)
{
    ts_run run = adapters(TS_TARGET_Q | TS_TARGET_V);
    ts_profile profile = plain();

    run.adapter_dropout = 1;
    profile.qkv_fused = profile.qkv_view = profile.adapter_partial = 1;
    /* litgpt: F32 norms 8 h, dropped input and mask 3 h, projected and
     * rotated q, k with v a view 10 h, adapters' outputs 4 h, output 2 h,
     * rows' sums, A's outputs, 3 MLP widths. */
    ts_wide hand = (8 + 3 + 10 + 4 + 2) * H + 4 * 32 + 2 * 8 * 2
                   + 3 * 2 * FFN;
    CHECK(a_token(&run, &profile) == hand, "%llu",
          (unsigned long long)a_token(&run, &profile));
}

static void eager_scores_grow_with_the_square(void)
{
    ts_run run = adapters(TS_TARGET_Q);
    ts_profile profile = plain();
    ts_wide flash = a_token(&run, &profile), eager;

    run.attention = TS_ATTENTION_EAGER;
    eager = a_token(&run, &profile);
    CHECK(eager - flash == 32 * SEQ * 6 - 2 * H - 4 * 32, "%llu",
          (unsigned long long)(eager - flash));
}

static uint64_t at(const ts_model *model, const ts_run *run,
                   const ts_profile *profile, ts_instant instant)
{
    ts_ledger ledger;
    CHECK_OK(ts_run_check(model, run, error));
    CHECK_OK(ts_profile_check(profile, error));
    CHECK_OK(ts_estimate(model, run, profile, 0, &ledger, error));
    return ledger.at[instant];
}

static void a_step_has_weights_gradients_and_states(void)
{
    ts_model model = llama();
    ts_run run = full();
    ts_profile profile = plain();
    uint64_t parameters = 6738415616;

    /* bf16 throughout, and the copies foreach AdamW makes. */
    run.state_dtype = TS_NUMBER_BF16;
    profile.step_copies = 1;
    CHECK(at(&model, &run, &profile, TS_AT_STEP) == parameters * 10, "step");
    CHECK(at(&model, &run, &profile, TS_AT_STEADY) == parameters * 6,
          "gradients are gone");
    run.optimizer = TS_OPTIMIZER_SGD;
    CHECK(at(&model, &run, &profile, TS_AT_STEP) == parameters * 4, "sgd");
    run.optimizer = TS_OPTIMIZER_ADAMW_PAGED;
    CHECK(at(&model, &run, &profile, TS_AT_STEADY) == parameters * 2,
          "paged states are on the host");
    run.optimizer = TS_OPTIMIZER_ADAMW;
    run.zero = 1;
    run.dp = 4;
    CHECK(at(&model, &run, &profile, TS_AT_STEADY) == parameters * 3,
          "states are shared");
}

static void checkpoints_keep_inputs_and_one_layer(void)
{
    ts_model model = llama();
    ts_run run = adapters(TS_TARGET_Q);
    ts_profile profile = plain();
    uint64_t steady = at(&model, &run, &profile, TS_AT_STEADY);
    uint64_t kept = at(&model, &run, &profile, TS_AT_FORWARD_END) - steady;

    CHECK(kept == LAYERS * SEQ * (uint64_t)a_token(&run, &profile), "all");
    run.recompute = TS_RECOMPUTE_FULL;
    kept = at(&model, &run, &profile, TS_AT_FORWARD_END) - steady;
    CHECK(kept == (uint64_t)LAYERS * SEQ * H * 2, "inputs");
    run.offload_activations = 1;
    kept = at(&model, &run, &profile, TS_AT_FORWARD_END) - steady;
    CHECK(kept == 2ULL * SEQ * H * 2, "two of them");
}

static void logits_are_where_the_loss_is(void)
{
    ts_model model = llama();
    ts_run run = adapters(TS_TARGET_Q);
    ts_profile profile = plain();
    uint64_t before, tail = (uint64_t)SEQ * H * (4 + 4 * 2);

    run.recompute = TS_RECOMPUTE_FULL;
    profile.logit_loss = 12;
    profile.logit_backward = 20;
    before = at(&model, &run, &profile, TS_AT_FORWARD_END) + tail;
    CHECK(at(&model, &run, &profile, TS_AT_LOSS) - before
              == 12ULL * SEQ * VOCAB,
          "loss");
    CHECK(at(&model, &run, &profile, TS_AT_LOSS_BACKWARD) - before
              == 20ULL * SEQ * VOCAB,
          "its gradient");
    run.loss = TS_LOSS_CHUNKED;
    run.loss_chunk = 163;
    CHECK(at(&model, &run, &profile, TS_AT_LOSS) - before
              == (2ULL * SEQ + 8ULL * 163) * VOCAB,
          "chunked");
    /* 1304 rows in slices of next_pow2(1304 / 8) = 256. */
    run.loss = TS_LOSS_LIGER;
    CHECK(at(&model, &run, &profile, TS_AT_LOSS) - before
              == 256ULL * VOCAB * 6 + 2ULL * SEQ * H,
          "liger");
}

static void packed_matrices_keep_what_bitsandbytes_keeps(void)
{
    ts_model model = llama();
    ts_run run = adapters(0);
    ts_profile profile = plain();
    ts_wide without, with;

    run.weight_format = TS_NUMBER_NF4;
    without = a_token(&run, &profile);
    profile.packed_kept = 2; /* inputs of qkv, gate and up, down */
    with = a_token(&run, &profile);
    CHECK(with - without == 2 * 2 * H + 2 * FFN, "%llu",
          (unsigned long long)(with - without));
    profile.packed_again = 1; /* and o's, which attention kept until then */
    uint64_t again = at(&model, &run, &profile, TS_AT_FORWARD_END);
    profile.packed_again = 0;
    again -= at(&model, &run, &profile, TS_AT_FORWARD_END);
    CHECK(again == (uint64_t)LAYERS * SEQ * (3 * 2 * H + 2 * FFN), "again");
}

static uint64_t states(ts_optimizer optimizer, uint64_t rank)
{
    ts_model model = llama();
    ts_run run = full();
    ts_share share;

    run.optimizer = optimizer;
    run.optimizer_rank = rank;
    ts_stage_share(&model, &run, 0, &share);
    return (uint64_t)ts_optimizer_bytes(&model, &run, &share, 256 * 1000, 256);
}

static void optimizers_keep_what_they_keep(void)
{
    uint64_t square = 4 * LAYERS, wide = 3 * LAYERS; /* matrices */

    CHECK(states(TS_OPTIMIZER_ADAMW, 1) == 8 * 256 * 1001, "adamw");
    CHECK(states(TS_OPTIMIZER_ADAMW_8BIT, 1) == 2 * 260 * 1001, "8 bits");
    CHECK(states(TS_OPTIMIZER_LION, 1) == 4 * 256 * 1001, "lion");
    CHECK(states(TS_OPTIMIZER_MUON, 1) == 4 * 256 * 1002, "muon");
    CHECK(states(TS_OPTIMIZER_BADAM, 7) == 16 * 256 * 1001 / 7, "badam");
    CHECK(states(TS_OPTIMIZER_LOMO, 1) == 0, "lomo");
    CHECK(states(TS_OPTIMIZER_ADAFACTOR, 1)
              == 4 * (square * 2 * H + wide * (H + FFN)),
          "adafactor");
    CHECK(states(TS_OPTIMIZER_GALORE, 128)
              == 4 * (128 * (square * 3 * H + wide * (H + 2 * FFN)) + 512),
          "galore");
}

/* ---- nothing is asked that has no effect -------------------------------- */

static uint64_t *field(void *base, const ts_field *fields, size_t count,
                       const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i].name, name) == 0)
            return (uint64_t *)((uint8_t *)base + fields[i].offset);
    return NULL;
}

/* Runs in which every constant can matter. */
static ts_run one_of(int kind)
{
    uint64_t targets = TS_TARGET_Q | TS_TARGET_V | TS_TARGET_DOWN;
    ts_run run = kind == 0 ? full() : adapters(targets);

    run.batch = 2;
    run.micro_batches = 4;
    switch (kind) {
    case 1: run.weight_format = TS_NUMBER_NF4; break;
    case 2:
        run.fsdp = 1;
        run.dp = 4;
        run.weight_format = TS_NUMBER_NF4;
        break;
    case 3: run.attention = TS_ATTENTION_EAGER; break;
    case 4: run.recompute = TS_RECOMPUTE_SELECTIVE; break;
    case 5: run.loss = TS_LOSS_CHUNKED; break;
    case 6:
        run.weight_format = run.adapter_dtype = TS_NUMBER_FP32;
        run.train_embeddings = 1;
        break;
    case 7:
        run.method = TS_METHOD_FULL;
        run.zero = 3;
        run.dp = 4;
        break;
    case 8: run.pp = 4; break;
    default: break;
    }
    return run;
}

enum { KINDS = 9 };

/* Everything an estimate says, as one number. */
static uint64_t said(const ts_run *run, const ts_profile *profile)
{
    ts_model model = llama();
    ts_ledger ledger;
    uint64_t sum = 0;

    model.tied = model.softcap = 1;
    model.decoder.kinds[0].kv_heads = run->pp > 1 ? 8 : 32;
    CHECK_OK(ts_estimate(&model, run, profile, 0, &ledger, error));
    for (int i = 0; i < TS_INSTANT_COUNT; i++)
        sum = sum * 31 + ledger.at[i];
    for (int i = 0; i < TS_COUNTER_COUNT; i++)
        sum = sum * 31 + ledger.counters[i];
    if (run->pp == 1) return sum;
    CHECK_OK(ts_estimate(&model, run, profile, run->pp - 1, &ledger, error));
    return sum * 31 + ledger.at[TS_AT_LOSS];
}

static bool profile_matters(const char *name)
{
    for (int kind = 0; kind < KINDS; kind++) {
        ts_run run = one_of(kind);
        ts_profile profile = plain();
        profile.packed_kept = profile.unpack_bytes = 2;
        profile.logit_loss = 4;
        profile.logit_slice = 64;
        profile.logit_slice_bytes = strcmp(name, "logit_slice") == 0 ? 8 : 0;
        uint64_t before = said(&run, &profile), *value =
            field(&profile, ts_profile_fields, ts_profile_field_count, name);
        *value = *value == 1 ? 0 : *value + 1;
        if (strcmp(name, "gathered_layers") == 0) *value = 5;
        if (strcmp(name, "step_group") == 0) *value = 1000;
        if (strcmp(name, "logit_generations") == 0) *value = 1000;
        if (said(&run, &profile) != before) return true;
    }
    return false;
}

static void every_constant_has_an_effect(void)
{
#define XX(name, ...) #name,
    static const char *const names[] = {TS_TRAIN_PROFILE(XX)};
#undef XX
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(profile_matters(names[i]), "%s", names[i]);
}

static void every_field_of_the_run_has_an_effect(void)
{
#define XX(name, ...) #name,
    static const char *const names[] = {TS_TRAIN_RUN(XX)};
#undef XX
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool matters = false;
        for (int kind = 0; kind < KINDS; kind++) {
            ts_run run = one_of(kind);
            ts_profile profile = plain();
            uint64_t before = said(&run, &profile);
            *field(&run, ts_run_fields, ts_run_field_count, names[i]) = 1;
            matters |= said(&run, &profile) != before;
        }
        CHECK(matters, "%s", names[i]);
    }
}

int main(void)
{
    RUN(a_layer_that_trains_keeps_what_its_weights_need);
    RUN(a_frozen_layer_keeps_what_passes_gradients_on);
    RUN(eager_scores_grow_with_the_square);
    RUN(a_step_has_weights_gradients_and_states);
    RUN(checkpoints_keep_inputs_and_one_layer);
    RUN(logits_are_where_the_loss_is);
    RUN(packed_matrices_keep_what_bitsandbytes_keeps);
    RUN(optimizers_keep_what_they_keep);
    RUN(every_constant_has_an_effect);
    RUN(every_field_of_the_run_has_an_effect);
    CHECK_END();
}
