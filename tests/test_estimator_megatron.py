"""Megatron's memory against figures worked out by hand, and its arguments."""

from __future__ import annotations

from typing import Any

import pytest

from tensorstream.estimator import Estimate, core, frameworks, megatron

MIB = 1 << 20
# 12 layers of 512: the model of Megatron's own functional tests.
SMALL = {
    "num-layers": 12, "hidden-size": 512, "num-attention-heads": 8, "seq-length": 1024,
    "max-position-embeddings": 1024, "vocab-size": 50257, "micro-batch-size": 4,
    "global-batch-size": 32, "bf16": True,
}  # fmt: skip
# A layer of h = 512 by hand: qkv 3 h^2 + 3 h, output h^2 + h, two MLP matrices of 4 h^2 with
# 4 h and h of bias, two norms of 2 h each.
LAYER = 12 * 512 * 512 + 13 * 512
TABLE = 50304 * 512  # 50257 padded to a multiple of 128
WHOLE = 12 * LAYER + 2 * 512 + TABLE + 1024 * 512


def ask(world: int = 8, profile: str = "megatron-ampere", **changed: Any) -> Estimate:
    given = {**SMALL, **{key.replace("_", "-"): value for key, value in changed.items()}}
    model, run = megatron.read(given, world)
    found = frameworks.profile(profile)
    return Estimate(model, {**found.run, **run}, found)


def part(found: Estimate, formula: str, stage: int = -1) -> int:
    return sum(
        line.bytes for line in found.ledgers[stage].lines if line.formula.name == formula
    )


def states(found: Estimate, stage: int = -1) -> int:
    """Weights, gradients, F32 copies and moments."""
    names = ("mcore_weights", "mcore_gradients", "mcore_master", "mcore_moments")
    return sum(part(found, name, stage) for name in names)


def steady(found: Estimate, stage: int = -1) -> int:
    ledger = found.ledgers[stage]
    return ledger.at[ledger.steady_instant]


# ---- states ----------------------------------------------------------------------------


def test_parameters_are_those_by_hand() -> None:
    model, _ = megatron.read(SMALL, 8)
    assert model.parameters == WHOLE - 47 * 512  # unpadded


def test_eighteen_bytes_a_parameter() -> None:
    found = ask()
    assert part(found, "mcore_weights") == 2 * WHOLE
    assert part(found, "mcore_gradients") == 4 * WHOLE
    assert part(found, "mcore_master") == 4 * WHOLE
    assert part(found, "mcore_moments") == 8 * WHOLE


def test_the_distributed_optimizer_shards_the_last_twelve() -> None:
    found = ask(use_distributed_optimizer=True)
    assert states(found) == 6 * WHOLE + 12 * WHOLE // 8
    halves = ask(use_distributed_optimizer=True, num_distributed_optimizer_instances=2)
    assert states(halves) == 6 * WHOLE + 12 * WHOLE // 4


def test_the_distributed_optimizer_combines_with_tp_and_pp() -> None:
    # A rank of tp 2 has half the matrices and biases of columns; norms, other biases whole.
    layer = 6 * 512 * 512 + (3 * 512 + 4 * 512) // 2 + 2 * 512 + 4 * 512
    table = 50432 // 2 * 512  # padded to a multiple of 256
    last = 6 * layer + 2 * 512 + table
    found = ask(
        use_distributed_optimizer=True, tensor_model_parallel_size=2,
        pipeline_model_parallel_size=2,
    )  # fmt: skip
    assert states(found) == 6 * last + 12 * last // 2
    first = 6 * layer + table + 1024 * 512
    assert states(found, 0) == 6 * first + 12 * first // 2


def test_fsdp_stages_differ() -> None:
    sizes = [
        states(ask(use_megatron_fsdp=True, data_parallel_sharding_strategy=word))
        for word in ("no_shard", "optim", "optim_grads", "optim_grads_params")
    ]
    eighth = -(-WHOLE // 8)
    assert sizes[0] == 18 * WHOLE
    assert sizes[1] == 6 * WHOLE + 12 * WHOLE // 8
    assert sizes[2] == 2 * WHOLE + 16 * WHOLE // 8
    assert 0 <= sizes[3] - 18 * eighth <= 18
    assert sizes == sorted(sizes, reverse=True)


def test_half_precision_keeps_a_copy_of_the_gradients_between_steps() -> None:
    found = ask(bf16=False, fp16=True)
    assert part(found, "mcore_gradients") == 2 * WHOLE
    assert part(found, "mcore_grad_copy") == 4 * WHOLE
    copy = next(
        line for line in found.ledgers[0].lines if line.formula.name == "mcore_grad_copy"
    )
    assert "logits and loss" not in copy.instants


def test_muon_keeps_one_moment_of_matrices() -> None:
    found = ask(optimizer="muon")
    assert part(found, "mcore_moments") == 8 * WHOLE - 4 * 12 * 12 * 512 * 512


@pytest.mark.parametrize("rank", [0, 3, 7])
def test_a_layer_wise_optimizer_deals_whole_tensors(rank: int) -> None:
    """Smallest first, to ranks 0 ... 7, 7 ... 0, 0 ...: here with the cards on the table."""
    h = 512
    matrices = [3 * h * h, h * h, 4 * h * h, 4 * h * h] * 12
    rest = [h] * 50 + [1024 * h, TABLE]
    hands: list[int] = [0] * 8
    for index, (size, each) in enumerate(
        sorted([(size, 8) for size in matrices] + [(size, 12) for size in rest])
    ):
        turn = index % 16
        hands[min(turn, 15 - turn)] += size * each
    model, run = megatron.read(
        {**SMALL, "optimizer": "muon", "use-distributed-optimizer": True,
         "no-use-layer-wise-param-layout": True}, 8,
    )  # fmt: skip
    found = frameworks.profile("megatron")
    for asked, size in ((rank + 1, hands[rank]), (0, max(hands))):
        one = Estimate(model, {**found.run, **run, "layer_rank": asked}, found)
        assert part(one, "mcore_layer_wise") == size


def test_offloaded_states_leave() -> None:
    found = ask(optimizer_cpu_offload=True, optimizer_offload_fraction=0.5)
    assert part(found, "mcore_master") == 2 * WHOLE
    assert part(found, "mcore_moments") == 4 * WHOLE


def test_experts_count_all_and_shard_over_their_own_ranks() -> None:
    moe: dict[str, Any] = {
        "num_experts": 8, "moe_router_topk": 2, "disable_bias_linear": True,
        "use_distributed_optimizer": True, "expert_model_parallel_size": 4,
    }  # fmt: skip
    found = ask(**moe)
    expert = 8 * 512 * 512
    held = 12 * 8 // 4 * expert
    dense = 12 * (4 * 512 * 512 + 8 * 512 + 4 * 512) + 2 * 512 + TABLE + 1024 * 512
    assert found.model.parameters == dense + 12 * 8 * expert - 47 * 512
    assert states(found) == 6 * (dense + held) + 12 * dense // 8 + 12 * held // 2
    # Twice the experts a token visits: the same states.
    assert states(ask(**{**moe, "moe_router_topk": 4})) == states(found)


# ---- what a golden file says, to the megabyte ------------------------------------------


@pytest.mark.parametrize(
    ("allocated", "peak", "changed"),
    [
        # Values that NVIDIA's continuous integration holds Megatron-LM to on an A100
        # (NVIDIA/Megatron-LM d98e8a64, tests/functional_tests/test_cases/gpt/...):
        (552128512, 4673069568, {"use_distributed_optimizer": True,
                                 "attention_backend": "unfused"}),
        (552128512, 2711714304, {"use_distributed_optimizer": True}),
        (1232487936, 2534070272, {"recompute_granularity": "full",
                                  "attention_backend": "unfused"}),
        (719180288, 2195420160, {"pipeline_model_parallel_size": 4}),
        (733860352, 4122704384, {"pipeline_model_parallel_size": 4,
                                 "num_layers_per_virtual_pipeline_stage": 1,
                                 "attention_backend": "unfused"}),
    ],
)  # fmt: skip
def test_golden_files(allocated: int, peak: int, changed: dict[str, Any]) -> None:
    found = ask(**changed)
    pinned = found.profile.replace(blas_bytes=32 * MIB)  # CUBLAS_WORKSPACE_CONFIG=:4096:8
    found = Estimate(found.model, found.run, pinned)
    assert steady(found) == pytest.approx(allocated, rel=0.005)
    assert found.ledgers[-1].counters["allocated"] == pytest.approx(peak, rel=0.005)


# ---- activations -----------------------------------------------------------------------


def test_a_layer_keeps_thirty_four_and_five() -> None:
    """Korthikanti et al.: s b h (34 + 5 a s / h), and the second output of two fused norms."""
    found = ask(attention_backend="unfused")
    sbh, scores = 1024 * 4 * 512, 4 * 8 * 1024 * 1024
    kept = sum(part(found, f"mcore_{name}") for name in ("attention", "mlp", "residual"))
    assert kept == 12 * (34 * sbh + 5 * scores)


def test_flash_counts_once() -> None:
    tokens, h = 1024 * 4, 512
    found = ask(profile="megatron")
    # Norm's output, q, k, v and output in bf16; one F32 a head and token.
    assert part(found, "mcore_attention") == 12 * (5 * 2 * tokens * h + 4 * tokens * 8)
    copied = ask(profile="megatron-ampere")
    more = part(copied, "mcore_attention") - part(found, "mcore_attention")
    assert more == 12 * 2 * tokens * h


def test_grouped_keys_are_smaller() -> None:
    grouped = ask(profile="megatron", group_query_attention=True, num_query_groups=2)
    fewer = part(ask(profile="megatron"), "mcore_attention") - part(grouped, "mcore_attention")
    assert fewer == 12 * 2 * 2 * 4096 * (512 - 128)


def test_sequence_parallel_splits_what_is_between() -> None:
    plain = ask(tensor_model_parallel_size=2)
    split = ask(tensor_model_parallel_size=2, sequence_parallel=True)
    assert part(split, "mcore_residual") * 2 == part(plain, "mcore_residual")
    assert part(split, "mcore_mlp") < part(plain, "mcore_mlp")


def test_context_parallel_splits_tokens() -> None:
    whole, split = ask(), ask(context_parallel_size=2)
    for name in ("mcore_mlp", "mcore_residual", "mcore_logits"):
        assert part(split, name) * 2 == part(whole, name)


def test_the_first_stage_has_most_in_flight() -> None:
    found = ask(pipeline_model_parallel_size=4, global_batch_size=64)
    flights = [part(found, "mcore_mlp", stage) for stage in range(4)]
    assert flights == [flights[3] * n for n in (4, 3, 2, 1)]
    # No more than there are.
    few = ask(pipeline_model_parallel_size=4, global_batch_size=16)
    assert part(few, "mcore_mlp", 0) == 2 * flights[3]


def test_interleaving_brings_more_in() -> None:
    # Three chunks of one layer: 4 + 4 of the first two and one of the last.
    found = ask(pipeline_model_parallel_size=4, num_layers_per_virtual_pipeline_stage=1)
    once = ask(pipeline_model_parallel_size=4)
    assert part(found, "mcore_mlp") * 3 == part(once, "mcore_mlp") * 9
    assert part(found, "mcore_boundary") == 3 * part(once, "mcore_boundary")
    assert part(once, "mcore_boundary") == 2 * 2 * 4096 * 512


def test_full_recomputation_keeps_inputs() -> None:
    found = ask(recompute_granularity="full")
    assert part(found, "checkpoints") == 12 * 2 * 4096 * 512
    assert part(found, "mcore_attention") == 0
    half = ask(recompute_granularity="full", recompute_num_layers=2)
    assert part(half, "checkpoints") == 6 * 2 * 4096 * 512
    block = ask(recompute_granularity="full", recompute_method="block", recompute_num_layers=4)
    assert part(block, "checkpoints") == 4 * 2 * 4096 * 512
    assert part(block, "mcore_mlp") == 8 * part(ask(), "mcore_mlp") // 12


@pytest.mark.parametrize("module", ["core_attn", "layernorm", "mlp"])
def test_selective_recomputation_drops_parts(module: str) -> None:
    found = ask(attention_backend="unfused")
    less = ask(
        attention_backend="unfused", recompute_granularity="selective",
        recompute_modules=f"[{module}]",
    )  # fmt: skip
    assert less.bytes("allocated") < found.bytes("allocated")


def test_logits_have_an_f32_copy() -> None:
    assert part(ask(), "mcore_logits") == 4096 * 50304 * 6
    assert part(ask(cross_entropy_loss_fusion=True), "mcore_logits") == 4096 * 50304 * 10
    split = ask(tensor_model_parallel_size=4)
    assert part(split, "mcore_logits") == 4096 * 50688 // 4 * 6


def test_workspaces() -> None:
    assert part(ask(profile="megatron"), "mcore_blas") == 64 * MIB
    assert part(ask(), "mcore_blas") == 2 * 8519680
    moe = ask(profile="megatron", num_experts=4, moe_grouped_gemm=True)
    assert part(moe, "mcore_engine") == 5 * 32 * MIB


def test_every_option_has_an_effect() -> None:
    """What no other test asks for: each changes the answer."""
    changes: list[dict[str, Any]] = [
        {"hidden-dropout": 0.0}, {"attention-dropout": 0.0, "attention-backend": "unfused"},
        {"no-create-attention-mask-in-dataloader": True}, {"tp-comm-overlap": True},
        {"no-masked-softmax-fusion": True, "attention-backend": "unfused"},
        {"fp8-format": "hybrid"},
        {"defer-embedding-wgrad-compute": True, "wgrad-deferral-limit": 2},
        {"mtp-num-layers": 1}, {"fine-grained-activation-offloading": True},
        {"qk-layernorm": True}, {"swiglu": True}, {"normalization": "RMSNorm"},
        {"untie-embeddings-and-output-weights": True}, {"position-embedding-type": "rope"},
        {"grad-reduce-in-bf16": True}, {"exp-avg-dtype": "bf16"}, {"optimizer": "sgd"},
    ]  # fmt: skip
    plain = ask(profile="megatron").bytes("allocated")
    for change in changes:
        assert ask(profile="megatron", **change).bytes("allocated") != plain, change


def test_fp8_weights_are_kept_transposed_on_hopper() -> None:
    matrices = 12 * 12 * 512 * 512
    plain = states(ask())
    for profile, each in (("megatron", 2), ("megatron-blackwell", 1)):
        beside = ask(profile=profile, fp8_format="hybrid")
        assert states(beside) == plain
        assert part(beside, "mcore_fp8") == each * matrices
        only = ask(profile=profile, fp8_format="hybrid", fp8_param_gather=True)
        assert states(only) == plain - 2 * matrices
        assert part(only, "mcore_fp8") == each * matrices


def test_fp8_by_block_keeps_both_layouts() -> None:
    found = ask(profile="megatron-blackwell", fp8_format="e4m3", fp8_recipe="blockwise")
    assert part(found, "mcore_fp8") == 2 * 12 * 12 * 512 * 512


def test_overlapped_communication_has_ten_buffers_and_three_workspaces() -> None:
    found = ask(
        profile="megatron", tp_comm_overlap=True, tensor_model_parallel_size=2,
        sequence_parallel=True,
    )  # fmt: skip
    assert part(found, "mcore_overlap") == 10 * 2 * 4096 * 512
    assert part(found, "mcore_engine") == 3 * 32 * MIB


def test_an_inference_engine_has_its_cache_and_weights() -> None:
    model, run = megatron.read(SMALL, 8)
    run |= megatron.inference({"inference-dynamic-batching-buffer-size-gb": 20})
    found = Estimate(model, {**run, "mode": "generate"}, frameworks.profile("megatron"))
    assert part(found, "mcore_engine_cache") == 20 << 30
    assert part(found, "mcore_weights") == 2 * WHOLE
    assert part(found, "mcore_moments") == 0


def test_graphs_of_mixed_steps_hold_logits() -> None:
    graphs = {"cuda-graph-impl": "local"}
    assert megatron.inference(graphs)["engine_tokens"] == 16384
    few = {**graphs, "inference-dynamic-batching-max-tokens": 64}
    assert megatron.inference(few)["engine_tokens"] == 64
    for none in ({}, {**graphs, "decode-only-cuda-graphs": True}, {**graphs, "num-experts": 8}):
        assert megatron.inference(none)["engine_tokens"] == 0
    model, run = megatron.read(SMALL, 8)
    run |= {**megatron.inference(few), "mode": "generate"}
    found = Estimate(model, run, frameworks.profile("megatron"))
    assert part(found, "mcore_engine_logits") == 64 * 50304 * 2


# ---- arguments -------------------------------------------------------------------------


def test_layouts_unroll() -> None:
    assert megatron.unroll("Et*3|(tt|)*2mL") == ["Ettt", "tt", "tt", "mL"]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("1", [1, 1, 1, 1]),
        ("2", [1, 0, 1, 0]),
        ("([0]*1+[1]*3)", [0, 1, 1, 1]),
        ("[0,1,0,1]", [0, 1, 0, 1]),
    ],
)
def test_expert_frequencies(text: str, pattern: list[int]) -> None:
    assert megatron.frequency(text, 4) == pattern


@pytest.mark.parametrize("text", ["__import__('os')", "[0]*3", "([1]*9)"])
def test_frequencies_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="moe-layer-freq"):
        megatron.frequency(text, 4)


def test_uneven_stages() -> None:
    found = ask(pipeline_model_parallel_size=4, decoder_last_pipeline_num_layers=0,
                decoder_first_pipeline_num_layers=6)  # fmt: skip
    assert states(found) == 18 * (2 * LAYER + 2 * 512 + TABLE)
    assert states(found, 0) == 18 * (6 * LAYER + TABLE + 1024 * 512)
    split = ask(
        num_layers=6, pipeline_model_parallel_size=4, account_for_loss_in_pipeline_split=True,
        account_for_embedding_in_pipeline_split=True,
    )  # fmt: skip
    assert states(split) == 18 * (LAYER + 2 * 512 + TABLE)


def test_a_hybrid_pattern_has_layers_of_four_kinds() -> None:
    given = {**SMALL, "hybrid-layer-pattern": "M-M*|ME-M", "num-experts": 4,
             "pipeline-model-parallel-size": 2}  # fmt: skip
    model, run = megatron.read(given, 8)
    kinds = model.numbers["decoder"]["kinds"]
    assert [kind["mixer"] for kind in kinds if "mixer" in kind].count("mamba2") == 1
    assert len(model.numbers["decoder"]["pattern"]) == 8
    assert run["pp"] == 2 and run["vpp"] == 1


def test_t5_has_two_stacks() -> None:
    given = {
        "encoder-num-layers": 2, "decoder-num-layers": 3, "hidden-size": 512,
        "num-attention-heads": 8, "encoder-seq-length": 512, "decoder-seq-length": 128,
        "max-position-embeddings": 512, "vocab-size": 29056, "micro-batch-size": 4,
        "bf16": True,
    }  # fmt: skip
    model, run = megatron.read(given, 8)
    across = 4 * 512 * 512 + 4 * 512 + 2 * 512
    assert model.parameters == (
        5 * LAYER + 3 * across + 4 * 512 + 29056 * 513 + 512 * 512
    )  # fmt: skip
    assert (run["seq"], run["source_seq"]) == (128, 512)


def test_bert_has_a_head_and_a_pooler() -> None:
    model, _ = megatron.read({**SMALL, "bert-binary-head": True}, 8)
    head = 2 * (512 * 512 + 512) + 2 * 512 + 2 * 512 + 2
    assert model.parameters == WHOLE - 47 * 512 + 2 * 512 + head + 50257


def test_every_fourth_layer_has_full_attention() -> None:
    given = {**SMALL, "experimental-attention-variant": "gated_delta_net"}
    model, _ = megatron.read(given, 8)
    assert list(model.numbers["decoder"]["pattern"]) == [1, 1, 1, 0] * 3
    keys = values = 512
    small = {"linear-num-key-heads": 4, "linear-num-value-heads": 4}
    model, _ = megatron.read({**given, **small}, 8)
    # q, k, v, z in; two numbers a head; out; a convolution of four; A, dt bias, a norm.
    delta = 512 * (2 * keys + 2 * values) + 512 * 8 + values * 512
    delta += 4 * (2 * keys + values) + 2 * 4 + 128
    attention = 4 * 512 * 512 + 4 * 512
    assert model.parameters == WHOLE - 47 * 512 + 9 * (delta - attention)


def test_sparse_attention_has_an_indexer() -> None:
    latent = {**SMALL, "multi-latent-attention": True, "q-lora-rank": 128, "kv-lora-rank": 64}
    plain, _ = megatron.read(latent, 8)
    sparse, _ = megatron.read(
        {**latent, "experimental-attention-variant": "dsa", "dsa-indexer-n-heads": 4,
         "dsa-indexer-head-dim": 32}, 8,
    )  # fmt: skip
    indexer = 128 * 4 * 32 + 512 * 32 + 512 * 4 + 2 * 32
    assert sparse.parameters - plain.parameters == 12 * indexer


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"hidden_size": None}, "hidden-size"),
        ({"tensor_model_parallel_size": 3}, "no multiple"),
        ({"num_experts": 8, "expert_model_parallel_size": 16}, "ep 16"),
        ({"hybrid_layer_pattern": "MXM"}, "hybrid-layer-pattern"),
        ({"num_attention_heads": 7}, "7"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask(**changed)


def test_formulas_of_the_family_have_sources() -> None:
    for formula in core.formulas():
        if formula.name.startswith("mcore"):
            assert formula.text and formula.source


def test_adapters_train_alone() -> None:
    """LoRA under Megatron: frozen weights keep 2 bytes, adapters have their 18."""
    model, run = megatron.read(SMALL, 8)
    run |= {"method": "lora", "rank": 8, "targets": core.TARGETS["q"], "adapter_dtype": "bf16"}
    found = Estimate(model, run, frameworks.profile("megatron"))
    adapters = 12 * 8 * (512 + 3 * 512)
    assert part(found, "mcore_weights") == 2 * WHOLE
    assert part(found, "adapters") == 2 * adapters
    assert part(found, "mcore_gradients") == 4 * adapters
    assert part(found, "mcore_moments") == 8 * adapters
