"""ms-swift's Megatron examples: the memory that the head of each script notes, rounded.

A script's arguments are Megatron's with underscores; max_length is a sequence, and with
packing the length of every one.  Figures are nvidia-smi's.
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
from tensorstream.estimator.megatron import PARTS


def claims(row: Row) -> bool:
    return by(row).startswith("ms-swift (megatron)")


def tier(row: Row) -> str:
    return "Megatron peak"


def number(config: Row, name: str, fallback: int) -> int:
    return int(config.get(name, fallback))


def on(config: Row, name: str) -> bool:
    return str(config.get(name, "false")).lower() == "true"


def recompute(config: Row) -> dict[str, Any]:
    how = str(config.get("recompute_granularity", "selective"))
    if how == "full":
        return {
            "recompute": "full",
            "recompute_layers": number(config, "recompute_num_layers", 1),
        }
    return {"recompute": "selective"}


def queries(row: Row) -> list[Query]:
    config = row["config"]
    if "deepspeed" in config:
        raise NotCovered("the script compares with DeepSpeed, not Megatron")
    if config.get("rlhf_type") in ("dpo", "kto"):
        raise NotCovered("a reference model beside the trained one is not modelled")
    if "IMAGE_MAX_TOKEN_NUM" in config or "MAX_PIXELS" in config:
        raise NotCovered("the images of the samples are not in the row")
    if not on(config, "packing"):
        raise NotCovered("how long the samples are, up to max_length, is not in the row")
    tp = number(config, "tensor_model_parallel_size", 1)
    pp = number(config, "pipeline_model_parallel_size", 1)
    size = number(config, "NPROC_PER_NODE", ranks(row, tp * pp))
    dp = max(1, size // (tp * pp))
    batch = number(config, "micro_batch_size", 1)
    lora = None
    if config.get("tuner_type") == "lora":
        lora = {"rank": number(config, "lora_rank", 8), "dtype": "bf16"}
    more = recompute(config)
    run: dict[str, Any] = {
        "grouped_experts": int(on(config, "moe_grouped_gemm")),
        "expert_dispatch": 1,
        "fp8_compute": 2 if config.get("fp8_recipe") == "blockwise" else 0,
    }
    if on(config, "optimizer_cpu_offload"):
        run["offload_permille"] = round(1000 * float(config["optimizer_offload_fraction"]))
    if more["recompute"] == "selective":
        run["recompute_parts"] = PARTS["core_attn"]
    estimate = ask(
        model_of(row),
        profile="swift-megatron",
        seq_len=number(config, "max_length", 2048),
        per_device_batch=batch,
        grad_accum=max(1, number(config, "global_batch_size", batch * dp) // (batch * dp)),
        dp=dp,
        tp=tp,
        sp=on(config, "sequence_parallel") and tp > 1,
        pp=pp,
        ep=number(config, "expert_model_parallel_size", 1),
        etp=number(config, "expert_tensor_parallel_size", 1),
        lora=lora,
        attention="eager" if config.get("attention_backend") == "unfused" else "flash",
        loss="fused" if on(config, "cross_entropy_loss_fusion") else "eager",
        run=run,
        **more,
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("device"))]
