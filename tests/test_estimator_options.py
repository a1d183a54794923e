"""Every option of an EstimatorConfig has an effect, and ZeRO++'s are what its paper says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import tensorstream as ts
from tensorstream.estimator import EstimatorConfig

LLAMA = {
    "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 688,
    "vocab_size": 1000, "sliding_window": None,
}  # fmt: skip
MOE = {
    **LLAMA, "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 96, "head_dim": 32,
}  # fmt: skip
T5 = {
    "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
    "vocab_size": 500, "relative_attention_num_buckets": 32,
}  # fmt: skip


def answer(model: Any = LLAMA, **fields: Any) -> dict[str, Any]:
    """All that an estimate says: every line of every stage, and the counters."""
    found = ts.estimate(model, **fields)
    lines = [
        (line.component, line.formula.name, line.bytes, line.instants)
        for ledger in found.ledgers
        for line in ledger.lines
    ]
    counters = [ledger.counters for ledger in found.ledgers]
    return {"lines": lines, "counters": counters}


# A field, a value it does not have by default, and what must be set for it to matter.
PERTURBED: list[tuple[str, Any, dict[str, Any]]] = [
    ("vocab_size_override", 2000, {}),
    ("seq_len", 1024, {}),
    ("per_device_batch", 2, {}),
    ("grad_accum", 4, {}),
    ("dtype", "fp32", {}),
    ("dp", 4, {"zero_stage": 2}),
    ("tp", 2, {}),
    ("pp", 2, {}),
    ("zero_stage", 1, {"dp": 4}),
    ("lora", {"rank": 8}, {}),
    ("optimizations", ["gradient_checkpointing"], {}),
    ("use_kv_cache", False, {"mode": "generate"}),
    ("vision", {"train": True}, {}),
    ("overheads", {"cuda_libs_gib": 3.0}, {}),
    ("factors", {"mlp_act_factor": 9.0}, {"profile": "original"}),
    ("mode", "load", {}),
    ("profile", "torchtune", {}),
    ("gpu", "H100-80GB", {}),
    ("new_tokens", 512, {"mode": "generate"}),
    ("source_seq", 512, {"model": T5}),
    ("vpp", 2, {"pp": 2, "profile": "megatron", "grad_accum": 4}),
    ("cp", 2, {}),
    ("sp", True, {"tp": 2}),
    ("ulysses", 2, {}),
    ("ep", 2, {"model": MOE}),
    ("etp", 2, {"model": MOE, "tp": 2, "profile": "megatron"}),
    ("fsdp", 2, {"dp": 4}),
    ("replicas", 2, {"dp": 4, "fsdp": 2}),
    ("hpz", 4, {"dp": 8, "zero_stage": 3}),
    ("quantized_gather", True, {"dp": 8, "zero_stage": 3}),
    ("optimizer", "lion", {}),
    ("optimizer_dtype", "bf16", {}),
    ("master_weights", True, {}),
    ("recompute", "full", {}),
    ("recompute_layers", 3, {"recompute": "blocks"}),
    ("attention", "eager", {}),
    ("loss", "liger", {}),
    ("loss_chunk", 256, {"loss": "chunked"}),
    ("weight_format", "nf4", {"lora": True}),
    ("offload", {"optimizer": True}, {}),
    ("kv", {"format": "int8"}, {"mode": "generate"}),
    ("run", {"seq": 512}, {}),
    ("constants", {"context_bytes": 1 << 30}, {}),
]
# What an estimate does not read: the probe runs the real step, the registry holds what
# `optimizations` may name, is_seq2seq only asks whether the model has an encoder.
BESIDE = {"model", "probe", "registry", "is_seq2seq"}


@pytest.mark.parametrize(("field", "value", "base"), PERTURBED, ids=[p[0] for p in PERTURBED])
def test_every_field_changes_the_estimate(field: str, value: Any, base: dict[str, Any]) -> None:
    assert answer(**base) != answer(**{**base, field: value})


def test_no_field_is_left_out() -> None:
    known = {field.name for field in dataclasses.fields(EstimatorConfig)}
    assert {field for field, _, _ in PERTURBED} | BESIDE == known


def test_a_model_without_an_encoder_is_no_seq2seq() -> None:
    assert answer(T5, is_seq2seq=True)
    with pytest.raises(ValueError, match="is_seq2seq: llama has no encoder"):
        answer(is_seq2seq=True)


def test_an_encoder_keeps_what_its_own_tokens_need() -> None:
    """Twice the source, twice what the encoder keeps beside the decoder's."""

    def kept(source: int) -> int:
        found = ts.estimate(T5, source_seq=source, attention="sdpa").ledgers[0]
        return sum(line.bytes for line in found.lines if line.formula.name == "saved_mlp")

    assert kept(2048) - kept(1024) == 2 * (kept(1024) - kept(512)) > 0


# ---- ZeRO++ (2306.10209) ----


def lines(**fields: Any) -> dict[str, int]:
    found = ts.estimate(LLAMA, dp=8, zero_stage=3, **fields)
    return {line.formula.name: line.bytes for line in found.ledgers[0].lines}


def parameters() -> int:
    from tensorstream.estimator import models

    return models.model(LLAMA).parameters


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_hpz_keeps_a_second_copy_within_a_node(ranks: int) -> None:
    assert "second_shard" not in lines()
    assert lines(hpz=ranks)["second_shard"] == -(-2 * parameters() // ranks)
    assert lines(hpz=ranks, dtype="fp32")["second_shard"] == -(-4 * parameters() // ranks)


def test_true_is_a_node_of_eight() -> None:
    assert lines(hpz=True) == lines(hpz=8)


def test_a_quantized_gather_receives_int8() -> None:
    """The largest unit: a layer here, the tables with a larger vocabulary."""
    layer = 256 * (256 + 2 * 128 + 256 + 3 * 688) + 2 * 256
    assert "received" not in lines()
    assert lines(quantized_gather=True)["received"] == layer + 4 * -(-layer // 8000)
    table = 100_000 * 256
    wide = lines(quantized_gather=True, vocab_size_override=100_000)
    assert wide["received"] == table + 4 * -(-table // 8000)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hpz": 3}, "hpz 3 does not divide dp 8"),
        ({"hpz": 4, "zero_stage": 2}, "hpz shards nothing at zero 2: it needs zero 3"),
        (
            {"quantized_gather": True, "zero_stage": 0},
            "quantized_gather shards nothing at zero 0",
        ),
    ],
)
def test_zeropp_is_of_sharded_weights(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ts.estimate(LLAMA, **{"dp": 8, "zero_stage": 3, **fields})
