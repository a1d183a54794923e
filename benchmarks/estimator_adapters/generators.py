"""Other programs that generate: litgpt, gpt-fast as torchao runs it, DeepSpeed's AutoTP."""

from __future__ import annotations

import re
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

LITGPT = ("lit-gpt", "litgpt")
# litgpt's --quantize, torchao's --quantization, to number formats of the matrices.
FORMATS = {
    "bnb.nf4": "nf4",
    "bnb.nf4-dq": "nf4_double",
    "bnb.fp4": "fp4",
    "bnb.int8": "int8",
    "bf16": "bf16",
    "int8wo": "int8",
    "int8dq": "int8",
    "int4wo-64": "int4_g64",
    "float8wo": "fp8",
    "float8dq": "fp8",
    "fp6": "fp6",
}
CACHES = {"bf16": "bf16", "int8": "int8_g128"}


def claims(row: Row) -> bool:
    ours = (*LITGPT, "torchao", "gpt-fast", "deepspeed inference")
    return bool(row["kind"] == "inference" and by(row).startswith(ours))


def tier(row: Row) -> str:
    return "transformers inference"


def number(word: str) -> str:
    """A number format; what follows in brackets or behind a space is hardware or scaling."""
    found = FORMATS.get(word.split(" ")[0])
    if found is None:
        raise NotCovered(f"quantization {word!r}")
    return found


def litgpt(row: Row) -> dict[str, Any]:
    """Prompts are the scripts' default of a few words; the tables' runs made 50 tokens."""
    config = row["config"]
    asked: dict[str, Any] = {
        "profile": "litgpt-generate",
        "weight_format": number(config.get("quantization", "bf16")),
        "seq_len": 8,
        "new_tokens": config.get("max_new_tokens", 50),
    }
    if config.get("precision") == "bf16-mixed":
        asked |= {"weight_format": "fp32", "constants": {"cast_cache": 1}}
    if config.get("mode") == "generate_sequential":
        asked |= {"profile": "litgpt-sequential", "pp": ranks(row)}
    if config.get("mode") == "generate_tp":
        asked["tp"] = ranks(row)
    return asked


def gpt_fast(row: Row) -> dict[str, Any]:
    config = row["config"]
    cache = config.get("kv_cache", "bf16 KV")
    kind = CACHES.get(cache.split(" ")[0])
    if kind is None:
        raise NotCovered(f"kv_cache {cache!r}")
    linear = "linear" in cache or "context_len" not in config
    return {
        "profile": "gpt-fast" if linear else "gpt-fast-masked",
        "weight_format": number(config.get("quantization") or config.get("weights", "bf16")),
        "seq_len": config.get("context_len", 8),
        "new_tokens": config.get("max_new_tokens", 0),
        "kv": {"format": kind},
    }


def queries(row: Row) -> list[Query]:
    name = by(row)
    common: dict[str, Any] = {"mode": "generate", "attention": "flash"}
    counter = "allocated"
    if name.startswith(LITGPT):
        common |= litgpt(row)
    elif name.startswith(("torchao", "gpt-fast")):
        common |= gpt_fast(row)
        counter = "reserved"
    else:
        word = str(row["config"].get("precision", "fp16"))
        found = re.fullmatch(r"(bf16|fp16|fp32)", word)
        if found is None:
            raise NotCovered(f"precision {word!r}")
        tp = row["config"].get("tp") or ranks(row)
        common |= {"mode": "load", "profile": "deepspeed-autotp", "tp": tp}
        common["dtype"] = found[1]
    estimate = ask(model_of(row), per_device_batch=row["config"].get("batch", 1), **common)
    return [Query(tier(row), row["measured_bytes"], estimate, worst(counter))]
