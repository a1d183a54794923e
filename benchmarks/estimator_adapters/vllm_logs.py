"""What engines say of themselves at start-up: weights, activations, room for the cache."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.estimator_adapters import (
    NotCovered,
    Query,
    Row,
    alike,
    ask,
    by,
    component,
    model_of,
)
from tensorstream.estimator import Estimate, Model

PROFILES = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llama.cpp"}
FORMATS = {"bf16": "bf16", "f16": "fp16", "fp16": "fp16", "fp8 NSA": "fp8", "fp8": "fp8"}
KV = "KV bytes per token"


def claims(row: Row) -> bool:
    return by(row).split(" ")[0] in PROFILES and "colocated" not in by(row)


def tier(row: Row) -> str:
    part = str(row.get("component"))
    return KV if part.startswith("kv_cache") and "available" not in part else "vLLM memory"


def cells(row: Row) -> Any:
    """The model, or, where only the cache's width is known, as much of one."""
    config = row["config"]
    if "n_embd_k_gqa" not in config:
        return model_of(row)
    layer = {"head_dim": config["n_embd_k_gqa"], "value_dim": config["n_embd_v_gqa"]}
    stack = {"hidden": 1, "kinds": [layer], "pattern": alike(config["n_layers"])}
    return Model.from_numbers(row["model"], {"decoder": stack})


def cache(row: Row) -> list[Query]:
    config = row["config"]
    tokens = next(
        (config[k] for k in ("gpu_kv_tokens", "kv_tokens", "n_ctx") if k in config), 0
    )
    if tokens == 0:
        raise NotCovered("no number of tokens")
    kind = FORMATS.get(config["kv_dtype"])
    if kind is None:
        raise NotCovered(f"kv_dtype {config['kv_dtype']!r}")
    # With attention over data-parallel ranks each rank has whole tokens of its own.
    ranks = 1 if config.get("dp_attention") else config.get("tp", 1)
    profile = PROFILES[by(row).split(" ")[0]]
    estimate = ask(
        cells(row),
        mode="generate",
        profile=profile,
        tp=ranks,
        kv={"format": kind, "tokens": tokens},
    )
    return [Query(KV, row["measured_bytes"], estimate, component("kv_cache"))]


def part(name: str) -> Any:
    """How a figure of the start-up log is read off the ledger."""
    instants = {"activation": ("logits and loss", ("logits", "mlp"))}

    def read(estimate: Estimate) -> int:
        ledger = estimate.ledgers[0]
        if name in instants:
            at, names = instants[name]
            widest = max(ledger.components("forward: in an MLP").get("mlp", 0), 0)
            return max(widest, sum(ledger.components(at).get(n, 0) for n in names))
        where = {"weights": "weights", "non_torch": "workspace"}.get(name, "kv_cache")
        return ledger.components("generating a token").get(where, 0)

    return read


def log(row: Row) -> list[Query]:
    config, name = row["config"], str(row.get("component"))
    if name not in ("weights", "non_torch", "activation", "kv_cache_available"):
        raise NotCovered(f"component {name!r}")
    memory = re.search(r"\(([\d.]+) GiB\)", row["hardware"])
    if memory is None:
        raise NotCovered(f"no memory known of {row['hardware']!r}")
    old = re.search(r"vllm 0\.[0-8]\.", by(row)) is not None
    estimate = ask(
        model_of(row),
        mode="generate",
        profile="vllm-0.6" if old else "vllm",
        tp=config["tp"],
        run={
            "device_bytes": int(float(memory[1]) * 2**30),
            "utilization_ppm": round(config["gpu_memory_utilization"] * 1e6),
            "step_tokens": config.get("max_num_batched_tokens", config["max_model_len"]),
        },
    )
    return [Query(tier(row), row["measured_bytes"], estimate, part(name))]


def queries(row: Row) -> list[Query]:
    return cache(row) if tier(row) == KV else log(row)
