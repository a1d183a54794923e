"""LitGPT's fine-tuning tables: LoRA, QLoRA, adapters and full, by max_memory_allocated / 1e9.

In `lit-gpt` of 2023 the longest sequence of the data set comes first; later tables cut at
max_seq_length, which the data reaches.  Those list machines: config_hub's files ask for one
device wherever one is enough, and for FSDP with recomputation where it is not.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, by, model_of, worst
from tensorstream.estimator import Estimate

FORMATS = {
    "bnb.nf4": "nf4", "bnb.nf4-dq": "nf4_double", "bnb.fp4": "fp4", "bnb.fp4-dq": "nf4_double",
    "bnb.int8-training": "int8",
}  # fmt: skip
GIB = 1 << 30
SINGLE, PACKED, SHARDED = "single-GPU fine-tuning", "QLoRA", "FSDP2/TP/PP/CP, DeepSpeed"
# litgpt's options, and what they put adapters on.
OPTIONS = {
    "lora_query": "q", "lora_key": "k", "lora_value": "v", "lora_projection": "o",
    "lora_head": "head",
}  # fmt: skip


def claims(row: Row) -> bool:
    ours = by(row).startswith(("lit-gpt", "litgpt")) and "thunder" not in by(row)
    return ours and row["kind"] == "training"


def tier(row: Row) -> str:
    if (row.get("n_gpus") or 1) > 1:
        return SHARDED
    return PACKED if row["config"].get("quantization") else SINGLE


def targets(config: Row) -> tuple[str, ...]:
    """Matrices with adapters; q and v where the table does not say."""
    if "lora_query" not in config:
        return ("q", "v")
    found = tuple(name for option, name in OPTIONS.items() if config.get(option))
    return found + (("gate", "up", "down") if config.get("lora_mlp") else ())


def method(config: Row, dtype: str) -> dict[str, Any]:
    """How weights train, as fields of the question."""
    word = config["method"]
    if word == "full":
        return {}
    if word in ("lora", "qlora"):
        return {
            "lora": {
                "rank": config.get("lora_r", 8),
                "target_modules": targets(config),
                "dropout": config.get("lora_dropout", 0.05),
                "dtype": dtype,
            }
        }
    if word not in ("adapter", "adapter_v2"):
        raise NotCovered(f"method {word!r}")
    return {
        "run": {
            "method": "lora",
            "targets": 0,
            "scaled_outputs": int(word == "adapter_v2"),
        }
    }


def sharded(row: Row, alone: Estimate) -> bool:
    """Whether the run was dealt out over the machine's GPUs."""
    if (row.get("n_gpus") or 1) == 1:
        return False
    if "sharding" in row["config"]:
        return True
    room = re.search(r"-(\d+)GB", row["hardware"] or "")
    return room is not None and alone.bytes("allocated") > int(room[1]) * GIB


def queries(row: Row) -> list[Query]:
    config = row["config"]
    mixed = config.get("precision") == "bf16-mixed"
    quantization = config.get("quantization")
    if quantization and quantization not in FORMATS:
        raise NotCovered(f"quantization {quantization!r}")
    old = "longest_seq_tokens" in config
    micro = config.get("micro_batch_size", 1)
    fields = method(config, "fp32" if mixed else "bf16")
    if mixed:
        # The residual stream is float32; so are dropout's inputs, until they are cast.
        fields |= {"constants": {"autocast": 1, "adapter_kept": 6}, "weight_format": "fp32"}
    if quantization:
        fields["weight_format"] = FORMATS[quantization]

    def estimate(gpus: int) -> Estimate:
        again = bool(config.get("gradient_checkpointing")) or gpus > 1
        return ask(
            model_of(row),
            profile="litgpt-2023" if old else "litgpt",
            per_device_batch=micro,
            grad_accum=max(1, config.get("global_batch_size", micro) // (micro * gpus)),
            seq_len=config["longest_seq_tokens" if old else "max_seq_length"],
            recompute="full" if again else "none",
            optimizer="adamw_paged" if quantization else "adamw",
            dp=gpus,
            fsdp=1 if gpus > 1 else 0,
            **fields,
        )

    found, name = estimate(1), tier({**row, "n_gpus": 1})
    if sharded(row, found):
        found, name = estimate(row["n_gpus"]), SHARDED
    return [Query(name, row["measured_bytes"], found, worst("allocated"))]
