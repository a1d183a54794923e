"""torchtitan's performance pages: FSDP2 with tensor, pipeline and context parallel."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.estimator_adapters import Query, Row, ask, by, model_of, ranks, worst
from benchmarks.estimator_adapters.peft import look

RECOMPUTE_KEYS = (
    "ac", "activation_checkpoint", "activation_checkpointing", "ac_mode", "sac",
    "activation_checkpoint.mode",
)  # fmt: skip


def claims(row: Row) -> bool:
    return "titan" in by(row)


def tier(row: Row) -> str:
    return "FSDP2/TP/PP/CP, DeepSpeed"


def degree(row: Row, *names: str) -> int:
    """A parallel degree: a number of its own, or one in a line such as "FSDP 8, TP 2"."""
    config = row["config"]
    found = look(config, *names)
    if isinstance(found, (int, float)) and found > 0:
        return int(found)
    short = re.escape(names[0])
    text = " ".join(str(value) for value in config.values() if isinstance(value, str))
    near = re.search(rf"\b{short}\s*[=:]?\s*(\d+)", text, re.IGNORECASE)
    near = near or re.search(rf"(\d+)[- ]?(?:way)?[- ]?{short}\b", text, re.IGNORECASE)
    return int(near[1]) if near else 1


def recompute(config: Row) -> str:
    word = str(look(config, *RECOMPUTE_KEYS, default="selective")).lower()
    if word in ("none", "no", "false", "off", "no ac"):
        return "none"
    return "full" if "full" in word else "selective"


def compiled(config: Row) -> bool:
    """As the row says; what a line of techniques ("FSDP + float8") leaves out is off."""
    said = look(config, "compile", "torch_compile")
    if said is not None:
        return bool(said)
    text = " ".join(value for value in config.values() if isinstance(value, str)).lower()
    return "compile" in text or "fsdp" not in text


def queries(row: Row) -> list[Query]:
    config = row["config"]
    tp = degree(row, "tp", "tensor_parallel", "tensor_parallel_degree")
    pp = degree(row, "pp", "pipeline_parallel", "pipeline_parallel_degree")
    cp = degree(row, "cp", "context_parallel", "context_parallel_degree")
    gpus = ranks(row, degree(row, "n_gpus", "gpus", "world_size"))
    batch = look(config, "local_batch_size", "batch_size", "micro_batch_size", "bs", "local_bs",
                 default=1)  # fmt: skip
    constants: dict[str, Any] = {}
    if not compiled(config):
        constants = {"norm_kept": 4, "norm_weight_kept": 4, "gate_kept": 3}
    estimate = ask(
        model_of(row),
        profile="torchtitan",
        seq_len=int(
            look(
                config, "seq_len", "seq_length", "sequence_length", "max_seq_len", default=8192
            )
        ),
        per_device_batch=max(1, int(batch) // (pp if pp > 1 else 1)),
        grad_accum=pp,
        dp=max(1, gpus // (tp * pp)),
        tp=tp,
        sp=tp > 1,
        pp=pp,
        cp=cp,
        fsdp=2,
        recompute=recompute(config),
        constants=constants,
    )
    allocated = re.search("alloc|active", row.get("metric", ""))
    counter = "allocated" if allocated else "reserved"
    return [Query(tier(row), row["measured_bytes"], estimate, worst(counter))]
