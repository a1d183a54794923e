"""Configurations from files and step by step; every unknown word is an error that helps."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Self

from tensorstream.estimator import names
from tensorstream.estimator.config import SECTIONS, EstimatorConfig

# Sections of a file that hold fields of the config itself.
_GROUPS = {
    "training": (
        "seq_len", "per_device_batch", "grad_accum", "dtype", "mode", "optimizer",
        "optimizer_dtype", "master_weights", "recompute", "recompute_layers", "attention",
        "loss", "loss_chunk", "new_tokens", "source_seq", "is_seq2seq", "vocab_size_override",
        "use_kv_cache",
    ),
    "parallelism": (
        "dp", "tp", "pp", "vpp", "cp", "sp", "ulysses", "ep", "etp", "zero_stage", "fsdp",
        "replicas", "hpz", "quantized_gather",
    ),
}  # fmt: skip


def fields() -> list[str]:
    """Names of an EstimatorConfig's fields."""
    return [field.name for field in dataclasses.fields(EstimatorConfig)]


def from_dict(data: Mapping[str, Any]) -> EstimatorConfig:
    """A config from nested sections or flat fields.

    ``training`` and ``parallelism`` may group fields; ``optimizations`` is a list of names or
    a mapping of names to parameters; ``lora``, ``vision``, ``offload``, ``kv``, ``overheads``,
    ``factors``, ``probe`` are mappings, true or false.

    Raises:
        ValueError: an unknown key; the sentence names its section and the near one.
    """
    known = [*fields(), *_GROUPS]
    names.check("the configuration", data, known)
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if key not in _GROUPS:
            flat[key] = value
            continue
        if not isinstance(value, Mapping):
            raise TypeError(f"{key} is a mapping, not {value!r}")
        names.check(key, value, _GROUPS[key])
        flat |= value
    if "model" not in flat:
        raise ValueError("the configuration has no 'model'")
    return EstimatorConfig(**flat)


def as_config(given: Any, extra: Mapping[str, Any]) -> EstimatorConfig:
    """A configuration from itself, from a dict of its fields, or from a model and fields.

    A dict with a `model` and no `model_type` is one of fields; any other is a config.json.

    Raises:
        TypeError: a whole configuration and further fields.
        ValueError: as of `from_dict`.
    """
    if isinstance(given, EstimatorConfig):
        if extra:
            raise TypeError("an EstimatorConfig and further fields: give one or the other")
        return given
    if isinstance(given, Mapping) and "model" in given and "model_type" not in given:
        return from_dict({**given, **extra})
    names.check("the configuration", extra, fields())
    return EstimatorConfig(given, **extra)


def load_config(path: str | os.PathLike[str]) -> EstimatorConfig:
    """A config from a JSON or YAML file.

    Raises:
        ValueError: another suffix, or an unknown key.
        ImportError: YAML without PyYAML; the sentence names the extra.
    """
    file = pathlib.Path(path)
    text = file.read_text("utf-8")
    if file.suffix == ".json":
        data = json.loads(text)
    elif file.suffix in (".yaml", ".yml"):
        data = _yaml(text)
    else:
        raise ValueError(f"{file}: a configuration is .json, .yaml or .yml")
    if not isinstance(data, Mapping):
        raise ValueError(f"{file}: a mapping is wanted at the top")
    return from_dict(data)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError(
            "YAML needs PyYAML: pip install 'tensorstream[yaml]', or write the file as JSON"
        ) from None
    return yaml.safe_load(text)


def validate_config(config: EstimatorConfig) -> list[str]:
    """What is wrong with a config, a sentence each; empty when it can be estimated."""
    problems = []
    for part in (config.to_model, config.to_profile, config.to_run, config.effects):
        try:
            part()
        except (ValueError, TypeError) as error:
            problems.append(str(error))
    lora = config.lora
    if lora is not None and getattr(lora, "alpha", 1) <= 0:
        problems.append(f"lora: alpha is {getattr(lora, 'alpha', None)}, not above 0")
    if config.qlora_enabled and config.dtype not in ("bf16", "fp16"):
        problems.append(f"lora: quantized weights compute in bf16 or fp16, not {config.dtype}")
    if config.probe is not None and (
        config.zero_stage or config.dp * config.tp * config.pp > 1
    ):
        problems.append("probe: one process on one device, so no zero_stage, dp, tp or pp")
    if problems:
        return problems
    from tensorstream.estimator import estimate

    try:
        estimate(config)
    except (ValueError, NotImplementedError) as error:
        problems.append(str(error))
    return problems


class ConfigBuilder:
    """A config step by step; each step returns the builder.

    >>> ConfigBuilder().for_model("Qwen/Qwen3-8B").with_lora(rank=16).build()
    """

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def override(self, **given: Any) -> Self:
        """Any fields of the config, by name."""
        names.check("the configuration", given, fields())
        self._fields |= given
        return self

    def for_model(self, model: Any) -> Self:
        return self.override(model=model)

    def with_training(self, **given: Any) -> Self:
        """Fields of the section ``training``: seq_len, per_device_batch, optimizer ..."""
        names.check("training", given, _GROUPS["training"])
        return self.override(**given)

    def with_dtype(self, dtype: str) -> Self:
        return self.override(dtype=dtype)

    def with_parallelism(self, **given: int) -> Self:
        """Fields of the section ``parallelism``: dp, tp, pp, cp, ep ..."""
        names.check("parallelism", given, _GROUPS["parallelism"])
        return self.override(**given)

    def with_zero(self, stage: int) -> Self:
        return self.override(zero_stage=stage)

    def enable_optimization(self, name: str, **parameters: Any) -> Self:
        on = dict(self._fields.get("optimizations", {}))
        return self.override(optimizations={**on, name: parameters or True})

    def with_section(self, name: str, **given: Any) -> Self:
        """A section: lora, vision, offload, kv, overheads, factors, probe."""
        names.choose("section", name, SECTIONS)
        return self.override(**{name: SECTIONS[name](**given)})

    def with_lora(self, **given: Any) -> Self:
        return self.with_section("lora", **given)

    def with_vision(self, **given: Any) -> Self:
        return self.with_section("vision", **given)

    def with_probe(self, **given: Any) -> Self:
        return self.with_section("probe", **given)

    def build(self) -> EstimatorConfig:
        """The config.

        Raises:
            ValueError: no model was named, or what validate_config finds.
        """
        config = from_dict(self._fields)
        problems = validate_config(config)
        if problems:
            raise ValueError("; ".join(problems))
        return config
