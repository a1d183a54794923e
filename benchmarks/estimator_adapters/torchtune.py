"""torchtune's tables and tutorials: peak active or reserved memory, GiB.

A recipe's defaults hold where a row does not say: rank 8 on q, v, output and the MLP, bf16
parameters and states, recomputation.  What is not packed is alpaca, cut by nothing; its
sequences are short.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, by, model_of, worst

SINGLE, PACKED, SHARDED = "single-GPU fine-tuning", "QLoRA", "FSDP2/TP/PP/CP, DeepSpeed"
ALPACA = 512  # tokens of a long alpaca sequence
USUAL = ("q", "v", "o", "gate", "up", "down")
TARGETS = {
    "all incl. mlp+output": ("q", "k", "v", "o", "gate", "up", "down", "head"),
    "q_proj,v_proj": ("q", "v"),
}


def claims(row: Row) -> bool:
    return bool(by(row).startswith("torchtune") and row["kind"] in ("training", "load"))


def words(row: Row) -> str:
    """Everything a row says of itself, in one lower-case line."""
    config = row["config"]
    said = [*config.get("cumulative", ()), config.get("step", ""), config.get("method", "")]
    return " ".join([*said, config.get("recipe", ""), config.get("config", "")]).lower()


def kind(row: Row) -> str:
    text = words(row)
    if "qlora" in text:
        return "qlora"
    return "lora" if "lora" in text else "full"


def tier(row: Row) -> str:
    if (row.get("n_gpus") or 1) > 1:
        return SHARDED
    return PACKED if kind(row) == "qlora" else SINGLE


def recomputed(row: Row) -> bool:
    """Recipes recompute unless a row builds its options up, or lists them without it."""
    config, text = row["config"], words(row)
    if "cumulative" in config:
        return "activation checkpointing" in text
    lists = "see" in config and kind(row) == "lora" and (row.get("n_gpus") or 1) == 1
    return bool(config.get("activation_checkpointing", not lists))


def optimizer(row: Row) -> tuple[str, bool]:
    """The optimizer, and whether it steps in backward."""
    config, text = row["config"], words(row)
    word = str(config.get("optimizer", "AdamW"))
    paged_full = config.get("method") == "full *"  # the table's note: the low-memory recipe
    early = paged_full or bool(re.search("optimizer.in.b", f"{text} {word}"))
    if paged_full:
        return "adamw_paged_8bit", early
    if "8bit" in text.replace("8-bit", "8bit") and "no opt_in_bwd/8bit" not in text:
        return "adamw_8bit", early
    return optimizer_named(word), early


def optimizer_named(words: str) -> str:
    """The core's word for how tables name an optimizer."""
    text = words.lower().replace("-", "").replace("_", "").replace(" ", "")
    if "sgd" in text:
        return "sgd"
    if "adam" not in text and not re.search("bit|fp8", text):
        raise NotCovered(f"optimizer {words!r}")
    if "fp8" in text:
        return "adamw_fp8"
    bits = "_8bit" if "8bit" in text else "_4bit" if "4bit" in text else ""
    return "adamw_paged" + bits.replace("_4bit", "") if "paged" in text else "adamw" + bits


def options(row: Row) -> dict[str, Any]:
    """The loss and the code that runs, as fields of the question."""
    config, text = row["config"], words(row)
    compiled = bool(config.get("compile")) or "compile" in text
    packed = config.get("packed", "+packed" in text)
    length = config.get("seq_len") if packed or "seq_len" in config else None
    if length is None or ("cumulative" in config and not packed):
        length = ALPACA
    tokens = length * config.get("batch_size", 2)
    chunked = "chunked" in text or "see" in config
    # What has no date is of the time after NF4Tensor's repair.
    recent = compiled or "issue" in row.get("source", "")
    return {
        "profile": "torchtune" if recent else "torchtune-eager",
        "seq_len": length,
        "loss": "chunked" if chunked else "eager",
        "loss_chunk": max(1, tokens // 8),
    }


def queries(row: Row) -> list[Query]:
    config, text = row["config"], words(row)
    method, gpus = kind(row), row.get("n_gpus") or 1
    chosen, early = optimizer(row)
    fields = options(row)
    if method != "full":
        fields["lora"] = {
            "rank": config.get("lora_rank", 8),
            "target_modules": TARGETS.get(config.get("lora_targets", ""), USUAL),
            "dtype": "bf16",
            "quantized": method == "qlora",
            "format": "nf4_double",
        }
    estimate = ask(
        model_of(row),
        mode="load" if "init" in config.get("phase", "") else "train",
        per_device_batch=config.get("batch_size", 2),
        recompute="full" if recomputed(row) else "none",
        optimizer="adamw" if method != "full" else chosen,
        dp=gpus,
        fsdp=2 if gpus > 1 else 0,
        offload={
            "activations": "offloading" in text,
            "parameters": bool(config.get("cpu_offload")),
            "optimizer": bool(config.get("cpu_offload")),
        },
        run={"optimizer_in_backward": int(early and method == "full")},
        **fields,
    )
    counter = "reserved" if re.search(r"reserved", row.get("metric", "")) else "allocated"
    return [Query(tier(row), row["measured_bytes"], estimate, worst(counter))]
