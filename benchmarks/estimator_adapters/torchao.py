"""torchao's tables: low-bit optimizers and offload on vision transformers, INT8 training."""

from __future__ import annotations

from typing import Any

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, by, model_of, worst
from benchmarks.estimator_adapters.torchtune import optimizer_named
from tensorstream.estimator import models

OFFLOADS = {
    "none": {},
    "DeepSpeed ZeRO-Offload": {"optimizer": 1, "zero": 2},
    "ao CPUOffload": {"optimizer": 1},
    "ao CPUOffload offload gradients": {"optimizer": 1, "gradients": 1},
}


def claims(row: Row) -> bool:
    source = row.get("source", "")
    ours = by(row).split(" ")[0] in ("torch", "torchao")
    near = source.startswith("pytorch/ao") or "optimizer" in row["config"]
    return ours and near and row["kind"] == "training"


def tier(row: Row) -> str:
    return "single-GPU fine-tuning"


def tokens(row: Row) -> int:
    """Of a sequence: patches and the class token where the model sees images."""
    config = models.model(model_of(row)).config
    if "patch_size" in config:
        return int((config["image_size"] // config["patch_size"]) ** 2 + 1)
    return int(row["config"]["seq_len"])


def queries(row: Row) -> list[Query]:
    config = row["config"]
    method, offload = config.get("method", ""), config.get("offload", "none")
    if offload not in OFFLOADS:
        raise NotCovered(f"offload {offload!r}")
    where = OFFLOADS[offload]
    mixed = "AMP" in method
    run: dict[str, Any] = {"offload_gradients": where.get("gradients", 0)}
    # INT8 weights with a scale a row; gradients and states stay bf16.
    run |= {"param_dtype": "fp32" if mixed else "int8" if "INT8" in method else "bf16"}
    run |= {"grad_dtype": "fp32" if mixed else "bf16"}
    estimate = ask(
        model_of(row),
        profile="torchao",
        seq_len=tokens(row),
        per_device_batch=config["batch_size"],
        recompute="full" if "checkpointing" in str(config) else "none",
        optimizer=optimizer_named(config.get("optimizer", "AdamW")),
        optimizer_dtype="bf16",
        zero_stage=where.get("zero", 0),
        offload={"optimizer": bool(where.get("optimizer"))},
        run=run,
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("allocated"))]
