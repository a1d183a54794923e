#include "check.h"

#include "estimate/family.h"

/* Llama-2-7B, as published. */
static ts_model llama(void)
{
    ts_model model;
    ts_model_default(&model);
    model.vocab = 32000;
    ts_stack *stack = &model.decoder;
    stack->hidden = 4096;
    stack->layer_count = 32;
    stack->kind_count = 1;
    ts_layer *layer = &stack->kinds[0];
    ts_layer_default(layer);
    layer->heads = layer->kv_heads = 32;
    layer->head_dim = 128;
    layer->ffn = 11008;
    return model;
}

static ts_run generate(uint64_t seq)
{
    ts_run run;
    ts_run_default(&run);
    run.mode = TS_MODE_GENERATE;
    run.seq = seq;
    run.kv_cache = 1;
    return run;
}

static ts_profile plain(void)
{
    ts_profile profile;
    ts_profile_default(&profile);
    return profile;
}

static void parameters_are_those_published(void)
{
    ts_model model = llama();
    uint64_t count = 0;
    CHECK_OK(ts_model_parameters(&model, &count, error));
    CHECK(count == 6738415616, "%llu", (unsigned long long)count);
}

static void stages_hold_the_model_once(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    for (run.pp = 1; run.pp <= 32; run.pp++) {
        for (run.vpp = 1; run.pp * run.vpp <= 32; run.vpp++) {
            uint64_t layers = 0;
            for (uint64_t stage = 0; stage < run.pp; stage++) {
                ts_share share;
                ts_stage_share(&model, &run, stage, &share);
                CHECK(share.count[0] == share.layers, "one kind");
                layers += share.layers;
            }
            CHECK(layers == 32, "pp %llu: %llu", (unsigned long long)run.pp,
                  (unsigned long long)layers);
        }
    }
}

static void a_cache_grows_with_tokens_and_shrinks_with_ranks(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    ts_profile profile = plain();
    uint64_t bytes = 0;

    CHECK_OK(ts_kv_bytes(&model, &run, &profile, 1, &bytes, error));
    CHECK(bytes == 2 * 32 * 32 * 128 * 2, "%llu", (unsigned long long)bytes);
    model.decoder.kinds[0].kv_heads = 8;
    run.tp = 16; /* more ranks than heads: each has one */
    CHECK_OK(ts_kv_bytes(&model, &run, &profile, 1000, &bytes, error));
    CHECK(bytes == 1000 * 2 * 32 * 128 * 2, "%llu", (unsigned long long)bytes);
}

static void latent_layers_keep_rank_and_rope(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    ts_profile profile = plain();
    uint64_t bytes = 0;
    ts_layer *layer = &model.decoder.kinds[0];

    model.decoder.layer_count = 61; /* DeepSeek-V3 */
    *layer = (ts_layer){.mixer = TS_MIXER_LATENT, .heads = 128,
                        .head_dim = 192, .value_dim = 128, .q_rank = 1536,
                        .kv_rank = 512, .rope_dim = 64, .norms = 2};
    CHECK_OK(ts_model_check(&model, error));
    CHECK_OK(ts_kv_bytes(&model, &run, &profile, 1, &bytes, error));
    CHECK(bytes == 70272, "%llu", (unsigned long long)bytes);
    layer->index_heads = 64; /* V3.2 */
    layer->index_dim = 128;
    run.kv_format = TS_NUMBER_FP8;
    run.tp = 8; /* not divided */
    CHECK_OK(ts_kv_bytes(&model, &run, &profile, 1, &bytes, error));
    CHECK(bytes == 61 * (656 + 132), "%llu", (unsigned long long)bytes);
}

static void parts_sum_to_the_peak(void)
{
    ts_model model = llama();
    ts_run run = generate(4096);
    ts_profile profile = plain();
    ts_ledger ledger;

    profile.workspace_bytes = 8 << 20;
    profile.context_bytes = 500 << 20;
    profile.fragment_permille = 50;
    run.pp = 2;
    for (uint64_t stage = 0; stage < run.pp; stage++) {
        uint64_t sums[TS_COUNTER_COUNT] = {0};
        CHECK_OK(ts_estimate(&model, &run, &profile, stage, &ledger, error));
        for (uint32_t i = 0; i < ledger.count; i++) {
            const ts_line *line = &ledger.lines[i];
            if (line->instants >> ledger.peak & 1)
                sums[ts_component_counter(line->component)] += line->bytes;
        }
        CHECK(sums[0] == ledger.counters[0], "allocated");
        CHECK(sums[0] + sums[1] == ledger.counters[1], "reserved");
        CHECK(sums[0] + sums[1] + sums[2] == ledger.counters[2], "device");
        for (int i = 0; i < TS_INSTANT_COUNT; i++)
            CHECK(ledger.at[i] <= ledger.at[ledger.peak], "instant %d", i);
    }
}

static void what_cannot_be_is_refused_by_name(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    ts_profile profile = plain();
    ts_ledger ledger;

    run.tp = 3;
    CHECK_FAILS(ts_run_check(&model, &run, error), TS_ARGUMENT,
                "tp 3 does not divide heads 32");
    run = generate(1);
    run.pp = 33;
    CHECK_FAILS(ts_run_check(&model, &run, error), TS_ARGUMENT,
                "exceeds the 32 layers");
    run = generate(0);
    CHECK_FAILS(ts_run_check(&model, &run, error), TS_ARGUMENT,
                "seq is 0, not between 1");
    model.decoder.kinds[0].kv_heads = 5;
    CHECK_FAILS(ts_model_check(&model, error), TS_ARGUMENT,
                "kv_heads 5 does not divide heads 32");
    model = llama();
    model.decoder.kind_of[7] = 3;
    CHECK_FAILS(ts_model_check(&model, error), TS_ARGUMENT, "layer 7");
    model = llama();
    run = generate(1);
    CHECK_FAILS(ts_estimate(&model, &run, &profile, 1, &ledger, error),
                TS_ARGUMENT, "stage 1 of pp 1");
}

/* Every field at its largest: refused, never wrapped. */
static void the_absurd_does_not_wrap(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    ts_profile profile = plain();
    ts_ledger ledger;
    ts_layer *layer = &model.decoder.kinds[0];

    model.decoder.hidden = layer->heads = layer->kv_heads = layer->head_dim =
        layer->ffn = layer->window = 1 << 24;
    model.decoder.layer_count = TS_MAX_LAYERS;
    model.vocab = run.seq = run.new_tokens = TS_TOKENS;
    run.batch = TS_BATCH;
    run.attention = TS_ATTENTION_EAGER;
    CHECK_OK(ts_model_check(&model, error));
    CHECK_OK(ts_run_check(&model, &run, error));
    CHECK_FAILS(ts_estimate(&model, &run, &profile, 0, &ledger, error),
                TS_ARGUMENT, "2^62 bytes or more");
}

/* Each family, with everything at its largest, says no; none wraps into a
 * small number. */
static void every_family_refuses_the_absurd(void)
{
    ts_model model = llama();
    ts_run run;
    ts_profile profile = plain();
    ts_ledger ledger;
    ts_layer *layer = &model.decoder.kinds[0];

    model.decoder.hidden = layer->heads = layer->kv_heads = layer->head_dim =
        layer->ffn = layer->window = TS_DIM;
    model.decoder.layer_count = TS_MAX_LAYERS;
    model.vocab = TS_TOKENS;
    ts_run_default(&run);
    run.batch = TS_BATCH;
    run.seq = run.new_tokens = run.step_tokens = TS_TOKENS;
    run.max_seqs = TS_DIM;
    run.attention = TS_ATTENTION_EAGER;
    run.kv_cache = 1;
    run.kv_tokens = TS_TOKENS;
    run.device_bytes = TS_BYTES;
    for (size_t i = 0; i < ts_profile_field_count; i++) {
        uint64_t *at = (uint64_t *)(void *)((uint8_t *)&profile
                                            + ts_profile_fields[i].offset);
        *at = ts_profile_fields[i].most;
    }
    CHECK_OK(ts_model_check(&model, error));
    CHECK_OK(ts_run_check(&model, &run, error));
    for (uint64_t family = 0; family < TS_FAMILY_COUNT; family++) {
        profile.family = family;
        CHECK_OK(ts_profile_check(&profile, error));
        ts_status status =
            ts_estimate(&model, &run, &profile, 0, &ledger, NULL);
        CHECK(status == TS_ARGUMENT || status == TS_UNSUPPORTED,
              "family %llu: %s", (unsigned long long)family,
              ts_status_text(status));
    }
}

static ts_profile serving(void)
{
    ts_profile profile = plain();
    profile.family = TS_FAMILY_VLLM;
    return profile;
}

static void a_pool_is_what_a_budget_leaves(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    ts_profile profile = serving();
    ts_ledger ledger;

    run.device_bytes = 80 * TS_GIB;
    run.utilization_ppm = 900000;
    CHECK_OK(ts_estimate(&model, &run, &profile, 0, &ledger, error));
    /* Serving holds all of the budget but what only profiling needs. */
    uint64_t step = ledger.at[TS_AT_FORWARD_MLP] - ledger.at[TS_AT_LOSS];
    CHECK(ledger.at[TS_AT_DECODE] + step + 256ull * 32000 * 8 == 72 * TS_GIB,
          "%llu", (unsigned long long)ledger.at[TS_AT_DECODE]);
    run.device_bytes = TS_GIB; /* less than the weights: no pool, no wrap */
    CHECK_OK(ts_estimate(&model, &run, &profile, 0, &ledger, error));
    CHECK(ledger.at[TS_AT_DECODE] < 14 * TS_GIB, "no pool");
    run.device_bytes = 0;
    CHECK_FAILS(ts_estimate(&model, &run, &profile, 0, &ledger, error),
                TS_ARGUMENT, "needs device_bytes");
}

/* Liger's table: 16,384 tokens over 131,072 entries, F32, on an A100. */
static void kernels_obey_their_laws(void)
{
    ts_model model = llama();
    ts_run run;
    ts_profile profile = plain();
    ts_ledger ledger;

    model.vocab = 131072;
    ts_run_default(&run);
    run.batch = 8;
    run.seq = 2048;
    run.kernel = TS_KERNEL_CROSS_ENTROPY;
    profile.family = TS_FAMILY_MICROBENCH;
    CHECK_OK(ts_estimate(&model, &run, &profile, 0, &ledger, error));
    uint64_t logits = 16384ull * 131072;
    CHECK(ledger.counters[0] == 20 * logits + 8 * 16384, "torch");
    run.provider = TS_PROVIDER_LIGER;
    CHECK_OK(ts_estimate(&model, &run, &profile, 0, &ledger, error));
    CHECK(ledger.counters[0] == 4 * logits + 21 * 16384, "liger");
    run.provider = TS_PROVIDER_MEGATRON_FUSED;
    CHECK_FAILS(ts_estimate(&model, &run, &profile, 0, &ledger, error),
                TS_UNSUPPORTED, "no law");
}

static void large_blocks_come_in_steps(void)
{
    CHECK(ts_block_rest(9 * TS_MIB + 1) == 0, "shares a segment");
    CHECK(ts_block_rest(10 * TS_MIB) == 0, "whole steps");
    CHECK(ts_block_rest(11 * TS_MIB) == TS_MIB, "a rest of 1 MiB stays");
    CHECK(ts_block_rest(11 * TS_MIB - 1) == 0, "a larger one is split off");
    CHECK(ts_block_rest(12 * TS_MIB - 5) == 5, "bytes");
}

static void a_grid_is_its_points(void)
{
    ts_model model = llama();
    ts_run run = generate(1);
    ts_profile profile = plain();
    const uint64_t batches[] = {1, 2, 3}, ranks[] = {1, 3, 4};
    ts_axis axes[2] = {{0, 3, batches}, {0, 3, ranks}};
    uint64_t out[9];
    ts_ledger ledger;

    for (uint32_t i = 0; i < ts_run_field_count; i++) {
        if (strcmp(ts_run_fields[i].name, "batch") == 0) axes[0].field = i;
        if (strcmp(ts_run_fields[i].name, "tp") == 0) axes[1].field = i;
    }
    CHECK_OK(ts_estimate_grid(&model, &run, &profile, TS_COUNTER_DEVICE, axes,
                              2, out, error));
    for (int i = 0; i < 9; i++) {
        run.batch = batches[i / 3];
        run.tp = ranks[i % 3];
        if (run.tp == 3) {
            CHECK(out[i] == UINT64_MAX, "heads do not divide");
            continue;
        }
        CHECK_OK(ts_estimate(&model, &run, &profile, 0, &ledger, error));
        CHECK(out[i] == ledger.counters[TS_COUNTER_DEVICE], "point %d", i);
    }
}

int main(void)
{
    RUN(parameters_are_those_published);
    RUN(stages_hold_the_model_once);
    RUN(a_cache_grows_with_tokens_and_shrinks_with_ranks);
    RUN(latent_layers_keep_rank_and_rope);
    RUN(parts_sum_to_the_peak);
    RUN(what_cannot_be_is_refused_by_name);
    RUN(the_absurd_does_not_wrap);
    RUN(every_family_refuses_the_absurd);
    RUN(a_pool_is_what_a_budget_leaves);
    RUN(kernels_obey_their_laws);
    RUN(large_blocks_come_in_steps);
    RUN(a_grid_is_its_points);
    CHECK_END();
}
