"""LitGPT's Thunder extension: TinyLlama pretrained on 8 GPUs, max_memory_allocated / 1e9.

extensions/thunder/pretrain.py: 4 sequences of 2048 tokens a GPU, 512 a step, AdamW, all bf16.
"""

from __future__ import annotations

from benchmarks.estimator_adapters import Query, Row, ask, by, model_of, worst


def claims(row: Row) -> bool:
    return "thunder" in by(row) and row["kind"] == "training"


def tier(row: Row) -> str:
    return "FSDP2/TP/PP/CP, DeepSpeed"


def queries(row: Row) -> list[Query]:
    config, gpus = row["config"], row.get("n_gpus") or 1
    whole = "ZeRO 3" not in config["setting"]
    # Unsloth's cross entropy writes the gradient over the logits.
    constants = {"logit_backward": 4, "logit_loss": 4} if config["setting"] == "Unsloth" else {}
    estimate = ask(
        model_of(row),
        profile="litgpt-pretrain",
        seq_len=2048,
        per_device_batch=4,
        grad_accum=512 // (4 * gpus),
        dp=gpus,
        fsdp=0 if whole else 1,
        constants=constants,
    )
    return [Query(tier(row), row["measured_bytes"], estimate, worst("allocated"))]
