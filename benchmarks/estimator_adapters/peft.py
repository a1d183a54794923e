"""PEFT's method comparison: adapters of many kinds on one model, reserved memory.

method_comparison/MetaMathQA/run.py: bf16 weights, float32 adapters without autocast, batches
of 4 cut at 768 tokens, AdamW of torch, no recomputation unless `use_gc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, by, model_of, worst

LORA_LIKE = {"lora", "adalora", "loha", "lokr", "vera", "randlora", "vblora", "xlora"}
PROMPTS = {"prompt_tuning", "p_tuning", "prefix_tuning", "cpt", "multitask_prompt_tuning"}
SCALES = {"ia3", "ln_tuning"}
FROM_WEIGHTS = {"fourierft", "shira", "oft", "boft", "hra", "bone", "miss", "c3a", "road",
                "waveft", "delora", "gralora", "trainable_tokens"}  # fmt: skip


def claims(row: Row) -> bool:
    return "peft" in by(row) and row["kind"] == "training"


def tier(row: Row) -> str:
    packed = str(look(row["config"], "dtype", default="")) in ("int4", "int8")
    return "QLoRA" if packed else "single-GPU fine-tuning"


def flat(config: Row) -> Iterator[tuple[str, Any]]:
    """All keys of nested dicts with their values, outer ones first."""
    yield from config.items()
    for value in config.values():
        if isinstance(value, dict):
            yield from flat(value)


def look(config: Row, *names: str, default: Any = None) -> Any:
    """The first of the names that is anywhere in the config with a value."""
    found = {key: value for key, value in reversed(list(flat(config))) if value is not None}
    return next((found[name] for name in names if name in found), default)


def method(config: Row) -> str:
    word = str(look(config, "peft_type", "method", "peft_method", "tuner", default="lora"))
    return word.rpartition(".")[2].lower().replace("-", "_")


def adapters(config: Row) -> dict[str, Any]:
    """What trains, as fields of the question."""
    word = method(config)
    count = look(config, "num_trainable_params", "trainable_params", "num_trainable")
    if word in ("full", "full_finetuning", "none"):
        return {"run": {"method": "full", "param_dtype": "bf16", "grad_dtype": "bf16"},
                "optimizer_dtype": "bf16"}  # fmt: skip
    targets = look(config, "target_modules", default=("q_proj", "v_proj"))
    if word in PROMPTS or (isinstance(targets, str) and "all" not in targets):
        targets = ("q_proj", "v_proj")
    known = {"adapter_count": int(count)} if count else {}
    if word in PROMPTS or word in SCALES:
        return {"run": {"method": "lora", "targets": 0, **known}}
    if word not in LORA_LIKE | FROM_WEIGHTS:
        raise NotCovered(f"method {word!r}")
    dropout = look(config, "lora_dropout", "dropout", "module_dropout", default=0)
    return {
        "lora": {
            "rank": int(look(config, "r", "rank", "lora_rank", default=8)),
            "target_modules": targets if isinstance(targets, str) else tuple(targets),
            "dropout": float(dropout or 0),
            "dora": bool(look(config, "use_dora", default=False)),
        },
        "run": known,
    }


def queries(row: Row) -> list[Query]:
    config = row["config"]
    if row.get("modality", "llm") != "llm":
        raise NotCovered(f"modality {row['modality']}")
    if any(word in row.get("metric", "").lower() for word in ("mean", "avg", "average")):
        raise NotCovered("a mean over sequences of unknown length")
    dtype = str(look(config, "dtype", "torch_dtype", default="bfloat16"))
    packed = {"int4": "nf4", "int8": "int8"}.get(dtype)
    virtual = look(config, "num_virtual_tokens", default=0) or 0
    estimate = ask(
        model_of(row),
        profile="trainer",
        seq_len=int(look(config, "max_seq_length", "seq_len", default=768)) + int(virtual),
        per_device_batch=int(look(config, "batch_size", default=4)),
        recompute="full" if look(config, "use_gc", default=False) else "none",
        weight_format=packed,
        **adapters(config),
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("reserved"))]
