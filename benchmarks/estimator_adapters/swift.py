"""ms-swift 2.x, Benchmark.md: torch.cuda.max_memory_reserved on 80 GB A100s.

Data vary in length up to max_length, so the allocator reserves several generations of logits,
up to what the device has: it frees its cache before it gives up.  Two GPUs are a naive pipeline
(device_map), of which the table lists each; the row is the fuller one.
"""

from __future__ import annotations

import math
import re
from typing import Any

from benchmarks.estimator_adapters import NotCovered, Query, Row, ask, by, model_of, worst
from tensorstream.estimator import Estimate, frameworks, models

SINGLE, PACKED = "single-GPU fine-tuning", "QLoRA"
ROOM = 85_000_000_000 - 1_000_000_000  # an A100's 79.2 GiB, less the CUDA context
FORMATS = {
    "int4 (bnb)": "nf4", "int8 (bnb)": "int8", "int8 (gptq)": "gptq_int8",
    "int4 (gptq)": "gptq_int4", "int4 (awq)": "awq_int4", "int8 (eetq)": "int8",
    "int4 (hqq)": "int4_g64", "int8 (hqq)": "int8_g128",
}  # fmt: skip
# Model types whose code of 2023 has no FlashAttention and makes a mask, so that torch's
# scaled_dot_product_attention writes the scores out.
WITHOUT_FLASH = ("chatglm",)
# Model types of transformers itself, which before 4.45 cast all logits to float32 and copy them
# shifted; the others' code of the Hub is cast by autocast, inside the loss.
FLOATS = ("llama", "mistral")
TARGETS = {"DEFAULT": ("qkv",), "DEFAULT (qkv)": ("qkv",), "ALL": ("all-linear",)}


def claims(row: Row) -> bool:
    return by(row).startswith("ms-swift 2")


def quantization(config: Row) -> str | None:
    """The number format of packed matrices, None where they are not."""
    word = config.get("quantization", "bf16")
    if word == "bf16":
        return None
    if word not in FORMATS:
        raise NotCovered(f"quantization {word!r}")
    return FORMATS[word]


def tier(row: Row) -> str:
    word = row["config"].get("quantization", "bf16")
    packed = word != "bf16" or "q4" in row["config"].get("exp", "")
    return PACKED if packed else SINGLE


def tuner(config: Row) -> dict[str, Any]:
    """What trains, as fields of the question."""
    method = config["method"]
    options = dict(re.findall(r"(\w+)=([^/]+)", config.get("tuner_params", "")))
    count = re.match(r"([\d.]+)\(", config.get("trainable", ""))
    if method == "full":
        fields: dict[str, Any] = {"optimizer_dtype": "bf16"}
        if "galore_rank" in options:
            # "quantize": states in 8 bits.
            states = "int8" if "quantize" in config["exp"] else "bf16"
            fields |= {
                "optimizer_dtype": states,
                "optimizer": "galore",
                "run": {"optimizer_rank": int(options["galore_rank"])},
            }
        if "lisa_activated_layers" in options:
            fields["run"] = {"trained_layers": int(options["lisa_activated_layers"])}
        return fields
    if method not in ("lora", "longlora", "adalora", "adapter", "llamapro"):
        raise NotCovered(f"method {method!r}")
    words = TARGETS[config.get("lora_targets") or options.get("target", "DEFAULT")]
    lora = {"rank": config.get("lora_rank") or int(options.get("rank", 8))}
    lora |= {"target_modules": words, "dropout": 0.05}
    lora |= {"dora": options.get("use_dora") == "True"}
    if method == "llamapro":  # copies of layers, in the model's own dtype
        return {
            "lora": {**lora, "dtype": "bf16", "dropout": 0.0},
            "optimizer_dtype": "bf16",
            "run": {"adapter_count": round(float(count[1]) * 1e6) if count else 0},
        }
    known: dict[str, Any] = {"adapter_count": round(float(count[1]) * 1e6)} if count else {}
    return {"lora": lora, "run": known}


def yes(value: Any) -> bool:
    return str(value).lower() == "true"


def generations(config: Row, length: int) -> int:
    """Permille of the logits that the allocator keeps in blocks of shorter sequences.

    The longer max_length is against the data's mean, the fewer sequences come near it.
    """
    found = re.search(r"mean (\d+) tokens", config["dataset"])
    usual = frameworks.profile("ms-swift-2").constants["logit_generations"]
    if found is None or int(found[1]) >= length:
        return usual
    return usual * math.isqrt(10**6 * int(found[1]) // length) // 1000


def attention(row: Row) -> str:
    kind = models.model(model_of(row)).config["model_type"]
    return (
        "flash" if yes(row["config"]["flash_attn"]) and kind not in WITHOUT_FLASH else "eager"
    )


def reserved(estimate: Estimate) -> int:
    return max(worst("allocated")(estimate), min(worst("reserved")(estimate), ROOM))


def queries(row: Row) -> list[Query]:
    config = row["config"]
    if "unsloth" in config.get("exp", "") or "aqlm" in row["model"]:
        raise NotCovered("unsloth and AQLM have their own kernels")
    packed = quantization(config)
    # bitsandbytes: prepare_model_for_kbit_training casts what is not packed to float32.
    rest = {"packed_rest": 4 if "bnb" in str(config.get("quantization")) else 0}
    if models.model(model_of(row)).config["model_type"] in FLOATS:
        rest |= {"logit_forward": 6, "logit_loss": 12, "logit_backward": 16}
    length = config.get("max_length") or int(config["dataset"].rpartition("max_length ")[2])
    estimate = ask(
        model_of(row),
        profile="ms-swift-2",
        seq_len=length,
        per_device_batch=config["batch_size"],
        grad_accum=config.get("grad_accum", 16),
        recompute="full" if yes(config["gradient_checkpointing"]) else "none",
        attention=attention(row),
        weight_format=packed,
        constants={**rest, "logit_generations": generations(config, length)},
        pp=row.get("n_gpus") or 1,
        **tuner(config),
    )
    return [Query(tier(row), row["measured_bytes"], estimate, reserved)]
