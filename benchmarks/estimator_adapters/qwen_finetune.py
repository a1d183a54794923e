"""The READMEs of Qwen and Qwen-VL: finetune.py on 1 to 4 A100s, bf16 or GPTQ weights.

Figures are what nvidia-smi shows, summed over the GPUs.  All sequences are padded to the length
that the table names.
"""

from __future__ import annotations

from benchmarks.estimator_adapters import Query, Row, ask, by, model_of, total
from tensorstream.estimator import Estimate

SINGLE, PACKED, SHARDED = "single-GPU fine-tuning", "QLoRA", "FSDP2/TP/PP/CP, DeepSpeed"


def claims(row: Row) -> bool:
    return by(row).startswith("hf trainer + deepspeed (qwen")


def tier(row: Row) -> str:
    if "VL" in row["model"]:
        return "VLM"
    if (row.get("n_gpus") or 1) > 1:
        return SHARDED
    return PACKED if row["config"]["method"].startswith("Q-LoRA") else SINGLE


def zero_stage(row: Row) -> int:
    """finetune_ds.sh shards everything; LoRA on several GPUs and Q-LoRA take ZeRO-2."""
    method = row["config"]["method"]
    if (row.get("n_gpus") or 1) == 1:
        return 2 if method.startswith("Q-LoRA") else 0
    return 3 if "Zero3" in method or method.startswith("Full") else 2


def targets(config: Row) -> tuple[str, ...]:
    words = config.get("lora_targets") or "c_attn,c_proj,w1,w2"
    return tuple(word.strip().rpartition(".")[2] for word in words.split(","))


def queries(row: Row) -> list[Query]:
    config = row["config"]
    method, gpus = config["method"], row.get("n_gpus") or 1
    packed = method.startswith("Q-LoRA")
    full = method.startswith("Full")
    # fix_vit leaves the tower alone, all but the resampler behind it (attn_pool); GPTQ's files
    # have it as it was.
    run = {"train_vision": 0, "train_projector": int(full), "pack_vision": 0}
    zero = zero_stage(row)
    # DeepSpeed has no autocast: logits, their shifted copy, log_softmax and gradients have 2 B.
    half = {"logit_loss": 6, "logit_backward": 8} if zero else {}
    lora = {
        "rank": config.get("lora_r", 64),
        "target_modules": targets(config),
        # Of a base model embedding and head train as well.
        "train_embeddings": any(word in method.lower() for word in ("emb", "base")),
    }
    estimate = ask(
        model_of(row),
        profile="qwen-finetune",
        seq_len=config["seq_len"],
        per_device_batch=config.get("batch_size", 1),
        grad_accum=config.get("grad_accum", 8),
        recompute="full" if config.get("gradient_checkpointing", True) else "none",
        run=run,
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
