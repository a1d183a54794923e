"""What the page asks, and the configuration that the answers make.

A control is one field of an ``EstimatorConfig`` (``"seq_len"``) or of one of its sections
(``"lora.rank"``).  Its default is the field's own, and a field at its default is left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tensorstream.estimator import core, frameworks, gpus, models, names
from tensorstream.estimator.config import DTYPES, SECTIONS, EstimatorConfig, target_groups

MODES = {"train": "Train", "generate": "Serve", "load": "Load only"}
# What trains; each but the first is a section `lora` that says so.
ADAPTERS: dict[str, dict[str, Any] | None] = {
    "all weights": None,
    "LoRA": {},
    "DoRA": {"dora": True},
    "QLoRA": {"quantized": True},
    "QDoRA": {"quantized": True, "dora": True},
}
KNOWN, PASTED = "known model", "config.json"
USUAL = ""  # a choice that leaves the field to the framework
MOST_TEXT = 1 << 20  # characters of a config.json
# Fields that the page has elsewhere, or that no JSON can say.
_RESERVED = ("model", "probe", "registry")

_TRAIN, _SERVE, _ANY = ("train",), ("generate",), tuple(MODES)


@dataclasses.dataclass(frozen=True)
class Control:
    """One thing that can be set.

    Attributes:
        field: of the config, or ``section.field``.
        label: what stands above it, with its unit.
        group: the part of the form.
        kind: ``"count"``, ``"switch"``, ``"choice"`` or ``"choices"``.
        modes: in which it has a meaning.
        optional: there is a choice that leaves it to the framework.
        start: what the form begins with, where that is not the field's default.
    """

    field: str
    label: str
    group: str
    kind: str = "count"
    modes: tuple[str, ...] = _ANY
    optional: bool = False
    start: Any = None

    @property
    def default(self) -> Any:
        """The config's own."""
        section, _, field = self.field.rpartition(".")
        kind = SECTIONS[section] if section else EstimatorConfig
        found = next(one.default for one in dataclasses.fields(kind) if one.name == field)
        return list(found) if isinstance(found, tuple) else found

    @property
    def value(self) -> Any:
        """What the form begins with."""
        if self.start is not None:
            return self.start
        return USUAL if self.default is None else self.default

    @property
    def choices(self) -> list[str]:
        """Words it can be; empty for counts and switches."""
        found = list(_WORDS[self.field]()) if self.field in _WORDS else []
        return [USUAL, *found] if self.optional else found


def _run_words(field: str) -> list[str]:
    return core.fields("run")[field].words or []


_WORDS: dict[str, Any] = {
    "gpu": lambda: list(gpus.catalogue()),
    "profile": frameworks.known,
    "dtype": lambda: list(dict.fromkeys(DTYPES.values())),
    "attention": lambda: _run_words("attention"),
    "optimizer": lambda: _run_words("optimizer"),
    "optimizer_dtype": lambda: list(dict.fromkeys(DTYPES.values())),
    "recompute": lambda: _run_words("recompute"),
    "loss": lambda: _run_words("loss"),
    "master_weights": lambda: ["yes", "no"],
    "weight_format": core.formats,
    "zero_stage": lambda: ["0", "1", "2", "3"],
    "fsdp": lambda: ["0", "1", "2"],
    "lora.format": core.formats,
    "lora.dtype": lambda: list(dict.fromkeys(DTYPES.values())),
    "lora.target_modules": target_groups,
    "kv.format": core.formats,
}

CONTROLS = (
    Control("gpu", "GPU", "run", "choice", optional=True, start="A100-80GB"),
    Control("dtype", "Compute dtype", "run", "choice"),
    Control("per_device_batch", "Batch per GPU (sequences)", "run"),
    Control("seq_len", "Sequence length (tokens)", "run"),
    Control("new_tokens", "Generated after it (tokens)", "run", modes=_SERVE, start=256),
    Control("attention", "Attention", "run", "choice"),
    Control("lora.rank", "Rank", "adapters", modes=_TRAIN),
    Control("lora.target_modules", "On which matrices", "adapters", "choices", modes=_TRAIN),
    Control("lora.format", "Frozen weights, if quantised", "adapters", "choice", modes=_TRAIN),
    Control("lora.dtype", "Adapter dtype", "adapters", "choice", modes=_TRAIN),
    Control("optimizer", "Optimizer", "training", "choice", modes=_TRAIN),
    Control("optimizer_dtype", "Optimizer state dtype", "training", "choice", modes=_TRAIN),
    Control(
        "master_weights", "FP32 master weights", "training", "choice", _TRAIN, optional=True
    ),
    Control("grad_accum", "Gradient accumulation (steps)", "training", modes=_TRAIN),
    Control("recompute", "Recompute activations", "training", "choice", modes=_TRAIN),
    Control("recompute_layers", "Layers of “blocks”", "training", modes=_TRAIN),
    Control("loss", "Loss", "training", "choice", modes=_TRAIN),
    Control("loss_chunk", "Chunk of “chunked” (tokens)", "training", modes=_TRAIN),
    Control(
        "weight_format", "Weight format", "serving", "choice", (*_SERVE, "load"), optional=True
    ),
    Control("kv.format", "KV cache format", "serving", "choice", modes=_SERVE),
    Control("kv.tokens", "KV cache room (tokens, 0: of the run)", "serving", modes=_SERVE),
    Control("kv.residual", "KV tokens left unquantised", "serving", modes=_SERVE),
    Control("dp", "Data parallel (DP)", "parallel", modes=_TRAIN),
    Control("zero_stage", "ZeRO stage", "parallel", "choice", modes=_TRAIN),
    Control("fsdp", "FSDP version (0: none)", "parallel", "choice", modes=_TRAIN),
    Control("replicas", "HSDP replicas", "parallel", modes=_TRAIN),
    Control("tp", "Tensor parallel (TP)", "parallel"),
    Control("sp", "Sequence parallel norms", "parallel", "switch", modes=_TRAIN),
    Control("pp", "Pipeline stages (PP)", "parallel"),
    Control("vpp", "Model chunks per stage", "parallel", modes=_TRAIN),
    Control("cp", "Context parallel (CP)", "parallel", modes=_TRAIN),
    Control("ulysses", "Ulysses ranks", "parallel", modes=_TRAIN),
    Control("ep", "Expert parallel (EP)", "parallel"),
    Control("etp", "TP of an expert", "parallel"),
    Control("hpz", "ZeRO++ hpZ (ranks of a node)", "parallel", modes=_TRAIN),
    Control("quantized_gather", "ZeRO++ qwZ (int8 gather)", "parallel", "switch", modes=_TRAIN),
    Control("offload.parameters", "Offload parameters", "offload", "switch", modes=_TRAIN),
    Control("offload.optimizer", "Offload optimizer", "offload", "switch", modes=_TRAIN),
    Control("offload.activations", "Offload activations", "offload", "switch", modes=_TRAIN),
    Control("vision.images", "Images per sequence", "images", start=0),
    Control("vision.image_size", "Image side (pixels)", "images"),
    Control("vision.patch_size", "Patch side (pixels)", "images"),
    Control("vision.frames", "Video frames (0: still)", "images"),
    Control("vision.train", "Train the tower", "images", "switch", modes=_TRAIN),
)
GROUPS = {
    "run": "What is run",
    "adapters": "What trains",
    "training": "Training",
    "serving": "Serving",
    "parallel": "Parallelism and sharding",
    "offload": "Offload to host memory",
    "images": "Images and video",
}


def profiles(mode: str) -> list[str]:
    """The frameworks that do this, the usual one first."""
    usual = "trainer" if mode == "train" else "transformers"
    does = {"train": {"train"}, "generate": {"generate"}, "load": {"load", "generate"}}[mode]
    found = [
        name
        for name in frameworks.known()
        if frameworks.profile(name).run.get("mode", "train") in does
    ]
    return sorted(found, key=lambda name: (name != usual, name))


def config(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of some answers, as ``tensorstream estimate --config`` reads it.

    Args:
        answers: by a control's field; beside them ``source`` (KNOWN or PASTED), ``model`` (a
            known name), ``pasted`` (the text of a config.json), ``mode``, ``profile``,
            ``adapters`` (a key of ADAPTERS) and ``further`` (JSON: any other fields).

    Raises:
        ValueError: an answer that is none; the sentence names the field.
    """
    mode = names.choose("mode", answers.get("mode", "train"), MODES)
    made: dict[str, Any] = {"model": _model(answers)}
    if mode != EstimatorConfig.mode:
        made["mode"] = mode
    if answers.get("profile"):
        made["profile"] = answers["profile"]
    lora = ADAPTERS[names.choose("adapters", answers.get("adapters", "all weights"), ADAPTERS)]
    adapts = mode == "train" and lora is not None
    if adapts:
        made["lora"] = dict(lora or {})
    sees = bool(_answer(_by_field("vision.images"), answers))
    for control in CONTROLS:
        section, _, field = control.field.rpartition(".")
        off = (section == "lora" and not adapts) or (section == "vision" and not sees)
        if off or mode not in control.modes:
            continue
        value = _answer(control, answers)
        if value != control.default:
            (made.setdefault(section, {}) if section else made)[field] = value
    if adapts and not made["lora"]:
        made["lora"] = True
    if sees and "vision" not in made:
        made["vision"] = True
    return _merged(made, _further(answers.get("further") or ""))


def _by_field(field: str) -> Control:
    return next(control for control in CONTROLS if control.field == field)


def _answer(control: Control, answers: Mapping[str, Any]) -> Any:
    """What was answered, as the config has it."""
    given = answers.get(control.field, control.value)
    if control.kind == "switch":
        return bool(given)
    if control.kind == "choices":
        if not given:
            raise ValueError(f"{control.field} is empty: name at least one")
        return list(given)
    if control.kind == "count":
        return _whole(control.field, given)
    if given in (USUAL, None):
        return control.default
    if control.field == "master_weights":
        return given == "yes"
    return int(given) if isinstance(control.default, int) else given


def _whole(field: str, given: Any) -> int:
    if given is None or given == "":
        raise ValueError(f"{field} is empty: a whole number is wanted")
    if isinstance(given, float) and given.is_integer():
        return int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise ValueError(f"{field} is {given!r}, not a whole number")


def _model(answers: Mapping[str, Any]) -> Any:
    """A name of the catalogue or the dict that was pasted; never a path of the server's."""
    if answers.get("source", KNOWN) == PASTED:
        return _object("config.json", answers.get("pasted") or "")
    name = answers.get("model")
    if not name:
        raise ValueError("model is empty: choose a name, or paste a config.json")
    return models.known(str(name)).name


def _further(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    found = _object("further fields", text)
    for name in _RESERVED:
        if name in found:
            raise ValueError(f"further fields: {name!r} cannot be given here")
    return found


def _object(what: str, text: str) -> dict[str, Any]:
    """A JSON object; ValueError naming where it stops being one."""
    if not text.strip():
        raise ValueError(f"{what} is empty: paste its text")
    if len(text) > MOST_TEXT:
        raise ValueError(f"{what} has {len(text):,} characters, more than {MOST_TEXT:,}")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{what}, line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what}: an object in braces is wanted")
    return found


def _merged(made: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of both; of sections as well.  What was written out counts."""
    found = dict(made)
    for name, value in more.items():
        before = found.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            value = {**before, **value}
        found[name] = value
    return found
