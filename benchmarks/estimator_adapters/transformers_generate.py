"""transformers' generate(), as Qwen's speed tables measured it.

Their script sums torch.cuda.max_memory_allocated over the GPUs that device_map spread the
layers over; so does `total`.
"""

from __future__ import annotations

import re

from benchmarks.estimator_adapters import (
    NotCovered,
    Query,
    Row,
    ask,
    by,
    model_of,
    sees,
    steady,
    total,
    workspace,
)

# quantization, as the tables write it, to the number format of the matrices.
FORMATS = {
    "bf16": "bf16",
    "int4": "gptq_int4",
    "int8": "gptq_int8",
    "gptq-int4": "gptq_int4",
    "gptq-int8": "gptq_int8",
    "awq": "awq_int4",
    "awq-int4": "awq_int4",
    "fp8": "fp8_block",
}


def claims(row: Row) -> bool:
    ours = by(row).startswith(("transformers", "hf transformers"))
    return ours and row["kind"] == "inference"


def tier(row: Row) -> str:
    return "VLM" if sees(row) else "transformers inference"


def profile(config: Row) -> str:
    """The transformers version that the row names; the README's is of 2023."""
    found = re.search(r"transformers(\d+)\.(\d+)", config.get("env", "transformers4.31"))
    if found is None:
        raise NotCovered(f"no transformers version in {config['env']!r}")
    version = (int(found[1]), int(found[2]))
    if version < (4, 36):
        return "transformers-4.31"
    if version < (4, 45):
        return "transformers-4.38"
    return "transformers-4.45" if version < (4, 48) else "transformers"


def counts_what_stays(row: Row) -> bool:
    """Qwen3's tables: at every prompt length weights plus cache, to 0.04 GiB; what a prefill
    needs beside, 3 GiB at the longest, is not in their figure."""
    return row["metric"].startswith("torch.cuda.max_memory_allocated summed over GPUs, MB")


def queries(row: Row) -> list[Query]:
    config = row["config"]
    word = str(config.get("quantization") or config.get("precision")).lower()
    if word not in FORMATS:
        raise NotCovered(f"quantization {word!r}")
    kv_format = {"none": "bf16", "int8": "int8_g128"}.get(config.get("kv_cache_quant", "none"))
    if kv_format is None:
        raise NotCovered(f"kv_cache_quant {config['kv_cache_quant']!r}")
    estimate = ask(
        model_of(row),
        mode="generate",
        profile=profile(config),
        dtype="bf16",
        weight_format=FORMATS[word],
        per_device_batch=config.get("batch", 1),
        seq_len=max(config.get("input_len", config.get("context_tokens", 1)), 1),
        new_tokens=config["generate_tokens"],
        pp=row.get("n_gpus") or 1,
        attention="flash",
        kv={"format": kv_format},
        constants={"workspace_bytes": workspace(row)},
    )
    read = steady if counts_what_stays(row) else total
    return [Query(tier(row), row["measured_bytes"], estimate, read("allocated"))]
