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
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tensorstream.estimator import Estimate, EstimatorConfig
from tensorstream.estimator import models as models

Row = Mapping[str, Any]


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


def ask(model: Any, **fields: Any) -> Estimate:
    """An estimate; what the estimator refuses is not covered."""
    try:
        config = EstimatorConfig(model, **fields)
        return Estimate(config.to_model(), config.to_run(), config.to_profile())
    except ValueError as error:
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
        name in str(row.get("hardware"))
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
