"""Megatron-Bridge's performance notes: peaks of fine-tuning known models, as printed.

The recipes name the model and its parallelism; the optimizer is distributed, layers are
Transformer Engine's, sequences are split where tensors are, the loss is fused.
"""

from __future__ import annotations

from typing import Any

from benchmarks.estimator_adapters import (
    NotCovered,
    Query,
    Row,
    ask,
    by,
    model_of,
    ranks,
    worst,
)


def claims(row: Row) -> bool:
    return by(row).startswith("megatron-bridge")


def tier(row: Row) -> str:
    return "Megatron peak"


def run(config: Row) -> dict[str, Any]:
    """Fields of the core's run that the config of an estimate has no words for."""
    precision = str(config.get("precision", "bf16"))
    return {
        "hidden_dropout": 0,
        "attention_dropout": 0,
        "attention_mask": 0,
        "fp8_compute": int("FP8" in precision),
        "fp8_params": int("FP8" in precision),
    }


def queries(row: Row) -> list[Query]:
    config = row["config"]
    if "mbs" not in config:
        raise NotCovered("the row holds no micro-batch")
    size = config["tp"] * config.get("pp", 1) * config.get("dp", 1)
    if config.get("dp", 1) * config["mbs"] > config["gbs"] or size > ranks(row, size):
        raise NotCovered("batches or ranks contradict each other")
    estimate = ask(
        model_of(row),
        profile="megatron",
        seq_len=config["seq_len"],
        per_device_batch=config["mbs"],
        grad_accum=config["gbs"] // (config["mbs"] * config.get("dp", 1)),
        dp=config.get("dp", 1),
        tp=config["tp"],
        sp=config["tp"] > 1,
        pp=config.get("pp", 1),
        vpp=config.get("vpp", 1),
        zero_stage=1,
        attention="flash",
        loss="fused",
        run=run(config),
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("allocated"))]
