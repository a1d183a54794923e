"""Adapters: rows of a list of measurements become questions to the estimator.

One module a framework.  Each has

    def claims(row) -> bool            whether the row is this framework's
    def queries(row) -> list[Query]    what it asks; raises NotCovered(reason)
    def tier(row) -> str               where a row is listed that is not covered

Nothing here may know a single model: what differs between models comes from the catalogue.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tensorstream.estimator import Estimate, EstimatorConfig
from tensorstream.estimator import models as models

Row = Mapping[str, Any]

TEXTS = ("framework", "kind", "modality", "model", "hardware", "metric", "source")
_WORDS = {"true": True, "false": False, "null": None, "": None}
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def plain(row: Row) -> dict[str, Any]:
    """A row in the one form that adapters read, whoever wrote it.

    Texts are there, if empty; nothing is null; numbers and truths that were spelled as texts
    are numbers and truths, and whole numbers are ints.
    """
    kept = {name: _plain(value) for name, value in row.items() if name not in TEXTS}
    made = {name: value for name, value in kept.items() if value is not None}
    made |= {name: str(row.get(name) or "").strip() for name in TEXTS}
    made |= {name: made[name].lower() for name in ("kind", "modality")}
    if "id" in made:
        made["id"] = str(row["id"])
    if "measured_bytes" not in made and isinstance(made.get("measured_GiB"), (int, float)):
        made["measured_bytes"] = round(made["measured_GiB"] * 2**30)
    if not isinstance(made.get("config"), dict):
        made["config"] = {}
    return made


def _plain(value: Any) -> Any:
    """A value in one form; None where it says nothing."""
    if isinstance(value, str):
        word = value.strip()
        if word.lower() in _WORDS:
            return _WORDS[word.lower()]
        return _plain(float(word)) if _NUMBER.fullmatch(word) else word
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        pairs = ((str(name), _plain(part)) for name, part in value.items())
        return {name: part for name, part in pairs if part is not None}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


class NotCovered(Exception):
    """The row cannot be expressed; the reason is listed."""


@dataclasses.dataclass(frozen=True)
class Query:
    """One measured figure and the estimate that answers it.

    Attributes:
        tier: the line of the table that it belongs to.
        measured: bytes.
        estimate: the answer.
        read: how the reported counter is read off it, in bytes.
    """

    tier: str
    measured: int
    estimate: Estimate
    read: Callable[[Estimate], int]

    @property
    def estimated(self) -> int:
        return self.read(self.estimate)

    @property
    def interval(self) -> tuple[int, int]:
        """The 90 % interval around what was read."""
        constants = self.estimate.profile.constants
        low = constants.get("low_permille", 1000)
        high = constants.get("high_permille", 1000)
        return self.estimated * low // 1000, self.estimated * high // 1000


def sees(row: Row) -> bool:
    """Whether the row is of a model with a tower for images, whatever its figure is of."""
    if row.get("modality") == "vlm":
        return True
    try:
        return bool(models.model(row["model"]).numbers.get("vision"))
    except ValueError:
        return False


def by(row: Row) -> str:
    """The framework in lower case: lists spell it in several ways."""
    return str(row["framework"]).lower()


def ranks(row: Row, fallback: int = 1) -> int:
    """GPUs of the row; the fallback where it does not say."""
    found = row.get("n_gpus") or fallback
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise NotCovered(f"n_gpus {found!r}")
    return found


# What tables call an architecture's numbers, by the name that configs of the Hub have.
WIDTHS = {
    "hidden_size": ("hidden", "n_embd", "d_model", "dim"),
    "num_hidden_layers": ("n_layers", "num_layers", "n_layer", "layers"),
    "num_attention_heads": ("n_heads", "n_head", "heads", "num_heads"),
    "num_key_value_heads": ("n_kv_heads", "kv_heads", "num_kv_heads"),
    "head_dim": (),
    "intermediate_size": ("ffn", "ffn_hidden_size", "ffn_dim", "hidden_dim"),
    "vocab_size": ("vocab",),
}
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def model_of(row: Row) -> str | dict[str, Any]:
    """The row's model: its name where that is known, else the widths that its config holds.

    Widths that come without a `model_type` are taken for layers written as Llama's.
    """
    try:
        models.known(row["model"])
        return str(row["model"])
    except ValueError:
        pass
    given = [row["config"], *(v for v in row["config"].values() if isinstance(v, Mapping))]
    for config in given:
        found = {
            name: config[word]
            for name, others in WIDTHS.items()
            for word in reversed((name, *others))
            if word in config
        }
        if "vocab_size" in found and all(name in found for name in _NEEDED):
            kind = config.get("model_type", "llama")
            return {**config, **found, "model_type": kind, "_name_or_path": row["model"]}
    return str(row["model"])


def alike(layers: Any) -> bytes:
    """The pattern of a stack whose layers are all of its first kind."""
    if not isinstance(layers, int) or not 1 <= layers <= 1024:
        raise NotCovered(f"{layers!r} layers")
    return bytes(layers)


def ask(model: Any, **fields: Any) -> Estimate:
    """An estimate; what the estimator refuses is not covered."""
    try:
        config = EstimatorConfig(model, **fields)
        return Estimate(config.to_model(), config.to_run(), config.to_profile())
    except (TypeError, ValueError, OverflowError) as error:
        raise NotCovered(str(error)) from None


def worst(counter: str) -> Callable[[Estimate], int]:
    """The peak of the rank that needs most."""
    return lambda estimate: estimate.bytes(counter)


def total(counter: str) -> Callable[[Estimate], int]:
    """The sum of all stages' peaks, as sources that add their GPUs up report."""
    return lambda estimate: sum(ledger.counters[counter] for ledger in estimate.ledgers)


def last(counter: str) -> Callable[[Estimate], int]:
    """The peak of the last pipeline stage."""
    return lambda estimate: estimate.ledgers[-1].counters[counter]


def steady(counter: str) -> Callable[[Estimate], int]:
    """The sum over stages of what stays: no temporaries."""

    def read(estimate: Estimate) -> int:
        return sum(
            ledger.at[ledger.steady_instant]
            + ledger.counters[counter]
            - ledger.counters["allocated"]
            for ledger in estimate.ledgers
        )

    return read


def hopper(row: Row) -> bool:
    """Whether the row's GPU is of the Hopper generation or later."""
    return any(
        name in str(row.get("hardware")).upper()
        for name in ("H100", "H200", "H20", "H800", "GH200", "B200", "GB200")
    )


def workspace(row: Row) -> int:
    """Bytes of cuBLAS's default workspace on the row's GPU (CUBLAS_WORKSPACE_CONFIG)."""
    return (32 << 20) if hopper(row) else 8519680


def component(*names: str) -> Callable[[Estimate], int]:
    """Components of the worst stage at its peak."""
    return lambda estimate: sum(estimate.components().get(name, 0) for name in names)


@functools.cache
def adapters() -> list[ModuleType]:
    """All modules of this folder."""
    found = [info.name for info in pkgutil.iter_modules(__path__)]
    return [importlib.import_module(f"{__name__}.{name}") for name in sorted(found)]


def adapter(row: Row) -> ModuleType | None:
    """The adapter that claims the row.

    Raises:
        LookupError: two do.
    """
    claiming = [module for module in adapters() if module.claims(row)]
    if len(claiming) > 1:
        raise LookupError(f"{row['id']}: {', '.join(m.__name__ for m in claiming)}")
    return claiming[0] if claiming else None
