"""Answer.AI's fsdp_qlora benchmarks: peak memory of a GPU, two and more GPUs."""

from __future__ import annotations

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, model_of, worst
from benchmarks.estimator_adapters.peft import look

FORMATS = {"qlora": "nf4", "hf_qlora": "nf4", "custom_qlora": "nf4", "hqq_lora": "int4_g64",
           "lora": None, "custom_lora": None, "full": None}  # fmt: skip


def claims(row: Row) -> bool:
    return "fsdp_qlora" in f"{row['framework']} {row.get('source', '')}".lower()


def tier(row: Row) -> str:
    return "FSDP2/TP/PP/CP, DeepSpeed"


def queries(row: Row) -> list[Query]:
    config = row["config"]
    word = str(look(config, "train_type", "method", "type", default="qlora")).lower()
    word = word.replace("-", "_").replace(" ", "_")
    if word not in FORMATS:
        raise NotCovered(f"train_type {word!r}")
    gpus = row.get("n_gpus") or int(look(config, "n_gpus", "gpus", "world_size", default=2))
    offload = bool(look(config, "use_cpu_offload", "cpu_offload", "offload", default=False))
    again = look(config, "use_gradient_checkpointing", "gradient_checkpointing", default=True)
    lora = {"rank": int(look(config, "lora_rank", "rank", default=64)), "dtype": "bf16"}
    estimate = ask(
        model_of(row),
        profile="fsdp-qlora",
        seq_len=int(look(config, "context_length", "seq_len", "max_seq_length", default=512)),
        per_device_batch=int(look(config, "batch_size", "bs", default=1)),
        recompute="full" if again else "none",
        lora=None if word == "full" else lora,
        weight_format=FORMATS[word],
        dp=gpus,
        fsdp=1,
        offload={"parameters": offload, "optimizer": offload},
    )
    counter = "reserved" if "reserved" in row.get("metric", "") else "allocated"
    return [Query(tier(row), row["measured_bytes"], estimate, worst(counter))]
