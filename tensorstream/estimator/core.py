"""The estimator's C core by name: its fields, words, formulas, and how it is asked.

Dicts go in and come out; what they may hold is defined once, in csrc/estimate/estimate.h.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tensorstream import _core
from tensorstream.estimator import names

Fields = Mapping[str, Any]


class Field(NamedTuple):
    """One number of a model, a run or a profile."""

    name: str
    text: str
    fallback: int
    least: int
    most: int
    words: list[str] | None


class Formula(NamedTuple):
    """How the bytes of a line are made, and where that is from."""

    name: str
    text: str
    source: str


class Line(NamedTuple):
    """Bytes that are alive at some instants."""

    component: str
    bytes: int
    instants: tuple[str, ...]
    formula: Formula


@functools.cache
def tables() -> dict[str, Any]:
    """Everything the core knows by name; asked for once."""
    return _core.estimate_fields()


@functools.cache
def fields(of: str) -> dict[str, Field]:
    """The fields of a ``"layer"``, ``"stack"``, ``"model"``, ``"run"`` or ``"profile"``."""
    return {row[0]: Field(*row) for row in tables()[of]}


@functools.cache
def formulas() -> list[Formula]:
    return [Formula(*row) for row in tables()["formulas"]]


@functools.cache
def formats() -> list[str]:
    """Names of number formats: ``bf16``, ``nf4`` ..."""
    words = fields("run")["dtype"].words
    assert words is not None
    return words


def components() -> list[str]:
    return [name for name, _ in tables()["components"]]


def instants() -> list[str]:
    return list(tables()["instants"])


COUNTERS = ("allocated", "reserved", "device")

# Bits of run["targets"]: which matrices adapters sit on (estimate.h, TS_TARGET_...).
TARGETS = {
    name: 1 << bit
    for bit, name in enumerate(
        ("q", "k", "v", "o", "gate", "up", "down", "router", "experts", "head", "embed",
         "state", "vision")
    )
}  # fmt: skip


class Ledger:
    """The answer for one pipeline stage: lines, sums at instants, counters."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._names = instants()
        self.lines = [self._line(row) for row in raw["lines"]]
        self.used = [n for i, n in enumerate(self._names) if raw["used"] >> i & 1]
        self.at = {n: raw["at"][self._names.index(n)] for n in self.used}
        self.peak_instant: str = self._names[raw["peak"]]
        self.steady_instant: str = self._names[raw["steady"]]
        self.counters: dict[str, int] = dict(zip(COUNTERS, raw["counters"]))

    def _line(self, row: tuple[int, int, int, int]) -> Line:
        component, formula, size, mask = row
        alive = tuple(n for i, n in enumerate(self._names) if mask >> i & 1)
        return Line(components()[component], size, alive, formulas()[formula])

    def live(self, instant: str) -> list[Line]:
        """What is alive at an instant, largest first."""
        alive = [line for line in self.lines if instant in line.instants]
        return sorted(alive, key=lambda line: -line.bytes)

    def components(self, instant: str) -> dict[str, int]:
        """Bytes by component at an instant; they sum to what the device sees then."""
        sums: dict[str, int] = {}
        for line in self.live(instant):
            sums[line.component] = sums.get(line.component, 0) + line.bytes
        return {name: sums[name] for name in components() if name in sums}

    def change(self, name: str, area: str, to: Callable[[int], int]) -> None:
        """Change an area at every instant to what `to` makes of its bytes, and sum again.

        The change is a line of its own, by name; it may be negative.
        """
        formula = Formula(name, f"an effect on {area}", "declared by the optimization")
        allocated = dict(tables()["components"])[area] == "allocated"
        beyond = self.counters["device"] - self.counters["allocated"]
        for instant in self.used:
            size = self.components(instant).get(area, 0)
            difference = to(size) - size
            if difference == 0:
                continue
            self.lines.append(Line(area, difference, (instant,), formula))
            if allocated:
                self.at[instant] += difference
        self.peak_instant = max(self.at, key=lambda instant: self.at[instant])
        reserved = self.counters["reserved"] - self.counters["allocated"]
        self.counters["allocated"] = self.at[self.peak_instant]
        if not allocated:
            beyond = sum(
                size
                for part, size in self.components(self.peak_instant).items()
                if dict(tables()["components"])[part] != "allocated"
            )
            reserved = self.components(self.peak_instant).get("fragmentation", 0)
        self.counters["reserved"] = self.counters["allocated"] + reserved
        self.counters["device"] = self.counters["allocated"] + beyond


def ask(model: Fields, run: Fields, profile: Fields, stage: int) -> Ledger:
    """The ledger of one pipeline stage.

    Raises:
        ValueError: an unknown field, a number out of bounds, numbers that contradict.
    """
    for what, given in (("run", run), ("profile", profile)):
        names.check(what, given, fields(what))
    return Ledger(_core.estimate(dict(model), dict(run), dict(profile), stage))
