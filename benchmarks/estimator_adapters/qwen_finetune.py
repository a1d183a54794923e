"""Qwen's README: finetune.py on 1 to 4 A100s, one step of bf16 or GPTQ weights.

Figures are what nvidia-smi shows, summed over the GPUs.  All sequences are padded to the length
that the table names.
"""

from __future__ import annotations

from benchmarks.estimator_adapters import Query, Row, ask, total
from tensorstream.estimator import Estimate

SINGLE, PACKED, SHARDED = "single-GPU fine-tuning", "QLoRA", "FSDP2/TP/PP/CP, DeepSpeed"


def claims(row: Row) -> bool:
    return bool(row["framework"].startswith("HF Trainer + DeepSpeed (Qwen"))


def tier(row: Row) -> str:
    if (row.get("n_gpus") or 1) > 1:
        return SHARDED
    return PACKED if row["config"]["method"].startswith("Q-LoRA") else SINGLE


def zero_stage(row: Row) -> int:
    """finetune_ds.sh shards everything; LoRA on several GPUs and Q-LoRA take ZeRO-2."""
    method = row["config"]["method"]
    if (row.get("n_gpus") or 1) == 1:
        return 2 if method.startswith("Q-LoRA") else 0
    return 3 if "Zero3" in method or method.startswith("Full") else 2


def queries(row: Row) -> list[Query]:
    config = row["config"]
    method, gpus = config["method"], row.get("n_gpus") or 1
    packed = method.startswith("Q-LoRA")
    full = method.startswith("Full")
    zero = zero_stage(row)
    # DeepSpeed has no autocast: logits, their shifted copy, log_softmax and gradients have 2 B.
    half = {"logit_loss": 6, "logit_backward": 8} if zero else {}
    lora = {
        "rank": config["lora_r"],
        "target_modules": tuple(config["lora_targets"].split(",")),
        "train_embeddings": "emb" in method,
    }
    estimate = ask(
        row["model"],
        profile="qwen-finetune",
        seq_len=config["seq_len"],
        per_device_batch=config["batch_size"],
        grad_accum=config["grad_accum"],
        recompute="full" if config["gradient_checkpointing"] else "none",
        dp=gpus,
        zero_stage=zero,
        master_weights=full or packed,
        lora=None if full else lora,
        weight_format="gptq_int4" if packed else None,
        constants=half,
    )

    def summed(found: Estimate) -> int:
        return gpus * total("device")(found)

    return [Query(tier(row), row["measured_bytes"], estimate, summed)]
