"""AgileRL's fixtures: GRPO over LoRA with transformers, and vLLM on the same GPU, in turns.

Every row carries the architecture; that is what the numbers are made of.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import tensorstream.estimator as estimator
from benchmarks.estimator_adapters import NotCovered, Query, Row, alike, ask, by, models, worst
from tensorstream.estimator import Model

GPUS = json.loads(pathlib.Path(estimator.__file__).with_name("gpus.json").read_text("utf-8"))


def claims(row: Row) -> bool:
    return by(row).startswith("agilerl") or "colocated" in by(row)


def tier(row: Row) -> str:
    return "LoRA-RL trainer" if row["kind"] == "training" else "LoRA-RL vLLM"


def gpu(row: Row) -> dict[str, Any]:
    name = row["hardware"].removeprefix("NVIDIA ")
    for found in GPUS.values():
        if name in found["aliases"]:
            return dict(found)
    raise NotCovered(f"no memory known of {name!r}")


def model(row: Row) -> Model:
    """The catalogue's, which knows embeddings a layer and towers; else the row's numbers."""
    try:
        return models.known(row["model"])
    except ValueError:
        return numbers(row)


def numbers(row: Row) -> Model:
    arch = row["config"]["arch"]
    layer: dict[str, Any] = {
        "heads": arch["n_heads"],
        "kv_heads": arch["n_kv_heads"],
        "head_dim": arch["head_dim"],
        "ffn": arch["intermediate_size"],
    }
    if arch.get("n_experts"):
        layer |= {"mlp": "moe", "experts": arch["n_experts"], "ffn": 0}
        layer |= {"active_experts": arch["n_experts_per_tok"]}
        wide = arch.get("expert_intermediate_size") or arch["intermediate_size"]
        layer |= {"expert_ffn": wide}
    stack = {"hidden": arch["hidden_size"], "kinds": [layer]}
    numbers = {
        "vocab": arch["vocab_size"],
        "tied": int(arch["tied_embeddings"]),
        "layer_embed": arch.get("per_layer_input_dim", 0),
        "decoder": {**stack, "pattern": alike(arch["n_layers"])},
    }
    return Model.from_numbers(row["model"], numbers)


def lora(row: Row) -> dict[str, Any]:
    """PEFT reaches linears only: of experts in one tensor, none."""
    words = row["config"].get("lora_target_modules") or "all-linear"
    if words == "all-linear" and row["config"].get("arch", {}).get("n_experts"):
        words = "attention"
    return {"rank": row["config"]["lora_rank"], "target_modules": words.split(",")}


def packed(row: Row) -> str | None:
    """The format of the frozen matrices; of bitsandbytes' the trainer alone makes use."""
    word = str(row["config"].get("quantization", "none"))
    if word not in ("none", "nf4"):
        raise NotCovered(f"quantization {word!r}")
    return None if word == "none" else word


def step_tokens(row: Row) -> int:
    """AgileRL's rule for vLLM's max_num_batched_tokens."""
    config = row["config"]
    seqs, length = config["group_size"] * (config.get("n_prompts") or 1), config["seq_len"]
    return int(min(seqs * length, max(length, seqs * 8192)))


def resident(made: Model) -> int:
    """What the trainer leaves on the device meanwhile: of models with towers, these and the
    embedding, which are not among the layers that it moves to the host."""
    towers = int(made.config.get("towers", 0))
    if towers == 0:
        return 0
    return 2 * (towers + made.numbers["vocab"] * made.numbers["decoder"]["hidden"])


def vllm(row: Row) -> list[Query]:
    config, device = row["config"], gpu(row)
    seqs = config["group_size"] * (config.get("n_prompts") or 1)
    made = model(row)
    estimate = ask(
        made,
        mode="generate",
        profile="vllm",
        lora={**lora(row), "dtype": "bf16"},
        run={
            "device_bytes": int(device["memory_gib"] * 2**30),
            "utilization_ppm": round(config["gpu_memory_utilization"] * 1e6),
            "step_tokens": step_tokens(row),
            "max_seqs": seqs,
            "adapter_slots": 1,
            "resident_bytes": resident(made),
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


def trainer(row: Row) -> list[Query]:
    config, device, made = row["config"], gpu(row), model(row)
    group = config["group_size"] * (config.get("n_prompts") or 1)
    batch = min(config["micro_batch"], group)
    rows = max(128, min(4096, (256 << 20) // (4 * made.numbers["vocab"])))
    estimate = ask(
        made,
        profile="agilerl",
        # No micro-batch is larger than the rollouts there are.
        per_device_batch=batch,
        grad_accum=-(-group // batch),
        seq_len=config["seq_len"],
        lora=lora(row),
        weight_format=packed(row),
        recompute="full",
        loss="chunked",
        # AgileRL's rule: a tile of 256 MiB in float32, 128 to 4,096 rows.
        loss_chunk=rows,
        run={"step_tokens": step_tokens(row)},
        constants={"context_bytes": device["context_mib"] << 20},
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("device"))]


def queries(row: Row) -> list[Query]:
    if row["kind"] == "inference":
        return vllm(row)
    return trainer(row)
