"""``Estimate``: the answer, per rank and per component, and how it was come by."""

from __future__ import annotations

import functools
import html
from collections.abc import Sequence
from typing import Any

from tensorstream.estimator import core, drawing, frameworks, models, plugins
from tensorstream.tables import table
from tensorstream.units import format_size

GIB = 1 << 30


class Estimate:
    """Memory of every pipeline stage; tensor- and data-parallel ranks of a stage are alike.

    Attributes:
        model, run, profile: what was asked, as the core was.
        ledgers: one a stage, stage 0 first.
    """

    def __init__(
        self,
        model: models.Model,
        run: dict[str, Any],
        profile: frameworks.Profile,
        effects: Sequence[tuple[str, plugins.Effect]] = (),
    ) -> None:
        self.model, self.run, self.profile, self.effects = model, run, profile, tuple(effects)
        stages = int(run.get("pp", 1))
        self.ledgers = [
            core.ask(model.numbers, run, profile.constants, stage) for stage in range(stages)
        ]
        for ledger in self.ledgers:
            for name, effect in self.effects:
                ledger.change(name, effect.area, functools.partial(effect.apply, run=run))

    @functools.cached_property
    def worst(self) -> core.Ledger:
        """The stage that needs most device memory."""
        return max(self.ledgers, key=lambda ledger: ledger.counters["device"])

    def bytes(self, counter: str = "device") -> int:
        """Peak bytes of the worst stage by ``"allocated"``, ``"reserved"`` or ``"device"``."""
        return max(ledger.counters[counter] for ledger in self.ledgers)

    @property
    def peak_total_gib(self) -> float:
        """Peak of the worst stage as the device sees it, GiB."""
        return float(self.bytes() / GIB)

    @property
    def steady_total_gib(self) -> float:
        """Between steps, or while generating: the same stage, GiB."""
        ledger = self.worst
        beyond = ledger.counters["device"] - ledger.counters["allocated"]
        return float((ledger.at[ledger.steady_instant] + beyond) / GIB)

    def interval(self, counter: str = "device") -> tuple[int, int]:
        """Bytes between which 9 of 10 measurements of this kind lay."""
        low = self.profile.constants.get("low_permille", 1000)
        high = self.profile.constants.get("high_permille", 1000)
        return self.bytes(counter) * low // 1000, self.bytes(counter) * high // 1000

    def components(self) -> dict[str, int]:
        """Bytes by component at the peak of the worst stage; they sum to the device's peak."""
        return self.worst.components(self.worst.peak_instant)

    def explain(self) -> str:
        """What is alive at the peak, largest first, with formulas and their sources."""
        ledger = self.worst
        rows = [
            (line.component, format_size(line.bytes), line.formula.text, line.formula.source)
            for line in ledger.live(ledger.peak_instant)
        ]
        head = f"peak: {ledger.peak_instant}, {format_size(ledger.counters['device'])}"
        return (
            head
            + "\n"
            + table(("component", "bytes", "formula", "source"), rows, left=(0, 2, 3))
        )

    def summary_table(self) -> str:
        """Components, counters and interval as text."""
        sizes = [(name, format_size(size)) for name, size in self.components().items()]
        sizes += [(f"peak {name}", format_size(self.bytes(name))) for name in core.COUNTERS]
        low, high = self.interval()
        sizes.append(("90 % interval", f"{format_size(low)} to {format_size(high)}"))
        if len(self.ledgers) > 1:
            sizes += [
                (f"stage {stage}", format_size(ledger.counters["device"]))
                for stage, ledger in enumerate(self.ledgers)
            ]
        return table(("part", "size"), sizes)

    def fits(self, memory: int | float | str) -> bool:
        """Whether the upper end of the 90 % interval has room in so many bytes.

        Args:
            memory: bytes, a size (``"80GiB"``) or a GPU's name.
        """
        from tensorstream.estimator.fitting import memory_of

        return self.interval()[1] <= memory_of(memory)

    def advice(self) -> list[str]:
        """Single changes in order of bytes saved, a sentence each."""
        from tensorstream.estimator import fitting

        found = []
        for name, fields in fitting.KNOBS:
            if self.run["mode"] != "train" and "attention" not in fields:
                continue
            try:
                changed = Estimate(
                    self.model, {**self.run, **fields}, self.profile, self.effects
                )
            except ValueError:
                continue  # not with this framework
            saved = self.bytes() - changed.bytes()
            if saved > 0:
                found.append((saved, f"{name}: saves {format_size(saved)}"))
        return [sentence for _, sentence in sorted(found, reverse=True)]

    @property
    def not_modelled(self) -> list[str]:
        """What the profile's formulas leave out."""
        return list(self.profile.not_modelled)

    def draw(self, memory: int | float | str | None = None) -> str:
        """The breakdown as SVG: the peak large, every instant below it, on one axis of GiB.

        Args:
            memory: drawn as a line across: bytes, a size (``"80GiB"``) or a GPU's name.
        """
        from tensorstream.estimator.fitting import memory_of

        ledger = self.worst
        rows = [
            drawing.Row(instant, ledger.components(instant), instant == ledger.peak_instant)
            for instant in ledger.used
        ]
        room = None
        if memory is not None:
            name = memory if isinstance(memory, str) else "memory"
            room = drawing.Room(name, memory_of(memory))
        return drawing.breakdown(rows, self.interval(), room, f"Memory of {self.model.name}")

    def _repr_html_(self) -> str:
        """The drawing and the counters, for notebooks."""
        title = html.escape(f"{self.model.name}, {self.profile.name}")
        counters = ", ".join(
            f"{name} {format_size(self.bytes(name))}" for name in core.COUNTERS
        )
        return (
            f"<figure style='margin:0;max-width:{drawing.WIDTH:g}px'><figcaption>{title}: "
            f"{counters}</figcaption>{self.draw()}</figure>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and words: bytes, unless a name says otherwise."""
        return {
            "model": self.model.name,
            "parameters": self.model.parameters,
            "profile": self.profile.name,
            "run": dict(self.run),
            "peak_bytes": {name: self.bytes(name) for name in core.COUNTERS},
            "interval_bytes": list(self.interval()),
            "peak_instant": self.worst.peak_instant,
            "components": self.components(),
            "instants": self.worst.at,
            "stages": [ledger.counters for ledger in self.ledgers],
            "steady_bytes": round(self.steady_total_gib * GIB),
            "not_modelled": self.not_modelled,
        }

    def __repr__(self) -> str:
        size = format_size(self.bytes())
        return f"Estimate({self.model.name!r}, {self.profile.name}, peak {size})"
