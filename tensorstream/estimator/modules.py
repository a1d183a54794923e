"""A live torch module becomes a model and a run: what it is, and how it is about to train.

The architecture is read from the module's own transformers config; dtype, adapters, attention
and recomputing from what stands in memory.  Nothing is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tensorstream.estimator import config as words
from tensorstream.estimator import core, models

_ATTENTION = {"eager": "eager", "sdpa": "sdpa"}
_DROPOUTS = ("attention_dropout", "residual_dropout", "act_dropout")


def is_module(source: Any) -> bool:
    """Whether it looks like a torch module; torch is not imported to find out."""
    return all(
        hasattr(source, name) for name in ("named_parameters", "named_modules", "forward")
    )


def base(module: Any) -> Any:
    """The transformers model under PEFT's wrapper, or the module itself."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def model_of(module: Any) -> models.Model:
    """The architecture of a live transformers model.

    Raises:
        TypeError: it has no transformers config to be read by.
        ValueError: the model type is not known.
    """
    own = base(module)
    if not hasattr(getattr(own, "config", None), "to_dict"):
        raise TypeError(f"a {type(own).__name__} has no transformers config to be read by")
    config = own.config.to_dict()
    config["architectures"] = [type(own).__name__]
    made = models.Model(str(config.get("_name_or_path") or type(own).__name__), config)
    if not own.training:
        _silence(made.numbers)
    return made


def _silence(numbers: dict[str, Any]) -> None:
    """Nothing drops out of a module in eval mode."""
    for stack in ("decoder", "encoder"):
        for kind in numbers.get(stack, {}).get("kinds", ()):
            kind.update(dict.fromkeys(_DROPOUTS, 0))


def run_of(module: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The core's run for one step of this module on this batch.

    Raises:
        ValueError: the batch has no ``input_ids``; the module trains a part that no method
            of the core describes; an attention that is not known.
    """
    if "input_ids" not in batch:
        raise ValueError(f"the batch has no input_ids, only {', '.join(sorted(batch))}")
    rows, length = batch["input_ids"].shape
    return {
        "batch": int(rows),
        "seq": int(length),
        "dtype": _dtype(module),
        "attention": _attention(base(module)),
        "recompute": _recompute(module),
        "host": int(next(module.parameters()).device.type == "cpu"),
        **_method(module),
    }


def _dtype(module: Any) -> str:
    """The number format of most of the parameters that are not adapters."""
    counts: Counter[str] = Counter()
    for name, each in module.named_parameters():
        if "lora_" not in name and each.is_floating_point():
            counts[str(each.dtype).removeprefix("torch.")] += each.numel()
    return words.dtype(counts.most_common(1)[0][0])


def _attention(own: Any) -> str:
    named = str(getattr(own.config, "_attn_implementation", None) or "eager")
    if named.startswith("flash"):
        return "flash"
    if named not in _ATTENTION:
        raise ValueError(f"attention {named!r} is none of eager, sdpa and flash")
    return _ATTENTION[named]


def _recompute(module: Any) -> str:
    from tensorstream.estimator import recording

    on = [bool(each.gradient_checkpointing) for _, each in recording.layers_of(module)]
    if any(on) and not all(on):
        raise ValueError(
            f"{sum(on)} of {len(on)} layers are checkpointed: all or none is known"
        )
    return "full" if any(on) and base(module).training else "none"


def _method(module: Any) -> dict[str, Any]:
    trained = [name for name, each in module.named_parameters() if each.requires_grad]
    if any("lora_" in name for name in trained):
        return _adapters(module, trained)
    if not trained:
        return {"method": "frozen"}
    frozen = [name for name, each in module.named_parameters() if not each.requires_grad]
    if frozen:
        raise ValueError(
            f"{len(frozen)} of {len(frozen) + len(trained)} parameters are frozen ({frozen[0]} "
            "...): only all, none, or adapters training is known"
        )
    return {"method": "full"}


def _adapters(module: Any, trained: list[str]) -> dict[str, Any]:
    others = [name for name in trained if "lora_" not in name]
    if others:
        raise ValueError(f"beside adapters {others[0]} trains as well, which is not known")
    found = list(_adapted(module))
    ranks = {int(next(iter(each.lora_A.values())).weight.shape[0]) for _, each in found}
    if len(ranks) != 1:
        raise ValueError(f"adapters of ranks {sorted(ranks)}: one rank is known")
    first = found[0][1]
    weight = next(iter(first.lora_A.values())).weight
    drops = any(getattr(drop, "p", 0) > 0 for drop in first.lora_dropout.values())
    bits = 0
    for path, _ in found:
        bits |= _target(path)
    return {
        "method": "dora" if any("lora_magnitude" in name for name in trained) else "lora",
        "rank": ranks.pop(),
        "targets": bits,
        "adapter_dtype": words.dtype(str(weight.dtype).removeprefix("torch.")),
        "adapter_dropout": int(drops and base(module).training),
    }


def _adapted(module: Any) -> Iterator[tuple[str, Any]]:
    for path, each in module.named_modules():
        if len(getattr(each, "lora_A", ())) > 0:
            yield path, each


# Last names of modules that config.targets does not know, or that stand for two matrices.
_BITS: dict[str, tuple[str, ...]] = {
    "c_attn": ("q", "k", "v"),
    "c_fc": ("up",),
    "fc_in": ("up",),
    "fc_out": ("down",),
    "shared_expert_gate": (),
    "wi": ("up",),
    "wqkv": ("q", "k", "v"),
}


def _target(path: str) -> int:
    """The matrix an adapted module is; names that BERT and GPT-2 use twice by their parents."""
    *parents, last = path.lower().split(".")
    inside = " ".join(parents[-3:])
    if last in ("dense", "c_proj"):
        matrix = "up" if "intermediate" in inside else "o" if "att" in inside else "down"
        return core.TARGETS[matrix]
    if last in _BITS:
        return sum(core.TARGETS[name] for name in _BITS[last])
    return words.targets(last)
