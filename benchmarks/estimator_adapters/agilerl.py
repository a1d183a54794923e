"""AgileRL's fixtures: GRPO over LoRA with transformers, and vLLM on the same GPU, in turns.

Every row carries the architecture; that is what the numbers are made of.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import tensorstream.estimator as estimator
from benchmarks.estimator_adapters import NotCovered, Query, Row, ask
from tensorstream.estimator import Model

GPUS = json.loads(pathlib.Path(estimator.__file__).with_name("gpus.json").read_text("utf-8"))


def claims(row: Row) -> bool:
    return row["framework"].startswith(("AgileRL", "vLLM 0.23 (colocated)"))


def tier(row: Row) -> str:
    return "LoRA-RL trainer" if row["kind"] == "training" else "LoRA-RL vLLM"


def gpu(row: Row) -> dict[str, Any]:
    name = row["hardware"].removeprefix("NVIDIA ")
    for found in GPUS.values():
        if name in found["aliases"]:
            return dict(found)
    raise NotCovered(f"no memory known of {name!r}")


def model(row: Row) -> Model:
    arch = row["config"]["arch"]
    layer: dict[str, Any] = {
        "heads": arch["n_heads"],
        "kv_heads": arch["n_kv_heads"],
        "head_dim": arch["head_dim"],
        "ffn": arch["intermediate_size"],
    }
    if arch["n_experts"]:
        layer |= {"mlp": "moe", "experts": arch["n_experts"], "ffn": 0}
        layer |= {"active_experts": arch["n_experts_per_tok"]}
        layer |= {"expert_ffn": arch["expert_intermediate_size"] or arch["intermediate_size"]}
    stack = {"hidden": arch["hidden_size"], "kinds": [layer]}
    numbers = {
        "vocab": arch["vocab_size"],
        "tied": int(arch["tied_embeddings"]),
        "layer_embed": arch["per_layer_input_dim"],
        "decoder": {**stack, "pattern": bytes(arch["n_layers"])},
    }
    return Model.from_numbers(row["model"], numbers)


def lora(row: Row) -> dict[str, Any]:
    """PEFT reaches linears only: of experts in one tensor, none."""
    words = row["config"].get("lora_target_modules") or "all-linear"
    if words == "all-linear" and row["config"]["arch"]["n_experts"]:
        words = "attention"
    return {"rank": row["config"]["lora_rank"], "target_modules": words.split(",")}


def vllm(row: Row) -> list[Query]:
    config, device = row["config"], gpu(row)
    seqs, length = config["group_size"] * (config.get("n_prompts") or 1), config["seq_len"]
    estimate = ask(
        model(row),
        mode="generate",
        profile="vllm",
        lora={**lora(row), "dtype": "bf16"},
        run={
            "device_bytes": int(device["memory_gib"] * 2**30),
            "utilization_ppm": round(config["gpu_memory_utilization"] * 1e6),
            # AgileRL's rule for max_num_batched_tokens.
            "step_tokens": min(seqs * length, max(length, seqs * 8192)),
            "max_seqs": seqs,
            "adapter_slots": 1,
        },
        constants={"context_bytes": device["context_mib"] << 20},
    )
    ledger = estimate.ledgers[0]
    beyond = ledger.counters["device"] - ledger.counters["allocated"]
    return [
        Query(
            tier(row),
            row["measured_bytes"],
            estimate,
            lambda _: ledger.at["generating a token"] + beyond,
        )
    ]


def queries(row: Row) -> list[Query]:
    if row["kind"] == "inference":
        return vllm(row)
    raise NotCovered("trainer")
