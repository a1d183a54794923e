"""What fits: the same question asked backwards, over a grid of runs in C."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import functools
import html
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tensorstream import _core
from tensorstream.estimator import core, gpus, models, names
from tensorstream.estimator.config import EstimatorConfig
from tensorstream.estimator.loader import as_config
from tensorstream.estimator.result import Estimate
from tensorstream.tables import table
from tensorstream.units import format_size, parse_size

REFUSED = np.iinfo(np.uint64).max
# Where the search for the largest ends: no more was looked for.
MOST_BATCH, MOST_SEQ = 1 << 20, 1 << 24


class Question:
    """A config asked of the core, ready to be asked again with other fields.

    Args:
        config: what stays.
        memory: bytes there are.
        margin: the upper end of the 90 % interval must fit, not the estimate alone.
    """

    def __init__(self, config: EstimatorConfig, memory: int, margin: bool = True) -> None:
        self.config, self.memory = config, memory
        self.model, self.profile = config.to_model(), config.to_profile()
        # What serves from a budget takes a share of this memory, unless another was named.
        self.run = {"device_bytes": memory, **config.to_run()}
        self.effects = config.effects()
        self.scale = self.profile.constants.get("high_permille", 1000) if margin else 1000

    def peaks(self, axes: Sequence[tuple[str, Sequence[Any]]]) -> np.ndarray[Any, Any]:
        """Device bytes over a grid of run fields, in its shape; REFUSED where impossible."""
        for name, _ in axes:
            names.check("the grid", [name], core.fields("run"))
        if self.effects:
            return self._peaks_with_effects(axes)
        raw = _core.estimate_grid(
            dict(self.model.numbers),
            dict(self.run),
            dict(self.profile.constants),
            core.COUNTERS.index("device"),
            [(name, list(values)) for name, values in axes],
        )
        shape = [len(values) for _, values in axes]
        found: np.ndarray[Any, Any] = np.frombuffer(memoryview(raw), np.uint64).reshape(shape)
        return found

    def _peaks_with_effects(
        self, axes: Sequence[tuple[str, Sequence[Any]]]
    ) -> np.ndarray[Any, Any]:
        """One by one: what plugins declare is Python."""
        fields, values = [name for name, _ in axes], [list(each) for _, each in axes]
        found = np.full([len(each) for each in values], REFUSED, np.uint64)
        for at, chosen in zip(np.ndindex(found.shape), itertools.product(*values)):
            run = {**self.run, **dict(zip(fields, chosen))}
            with contextlib.suppress(ValueError, NotImplementedError):
                found[at] = Estimate(self.model, run, self.profile, self.effects).bytes()
        return found

    def fits(self, peaks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Which of the peaks have room."""
        room = np.uint64(self.memory * 1000 // self.scale)
        found: np.ndarray[Any, Any] = peaks <= room
        return found

    def largest(self, field: str, most: int) -> int:
        """The largest value of a run field that fits, by halving; 0 when 1 does not."""

        def too_large(value: int) -> bool:
            return not bool(self.fits(self.peaks([(field, [value])]))[0])

        return bisect.bisect_left(range(1, most + 1), True, key=too_large)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One way to run it.

    Attributes:
        fields: what was chosen, by the run's names.
        gpus: GPUs in all.
        peak: device bytes of the fullest GPU.
        tokens: of one step of all GPUs.
        recomputed: whether layers are computed twice.
    """

    fields: Mapping[str, Any]
    gpus: int
    peak: int
    tokens: int
    recomputed: bool

    def how(self) -> str:
        """What differs from 1, 0 and none."""
        fields = self.fields.items()
        said = [f"{name} {value}" for name, value in fields if value not in (0, 1, "none")]
        return ", ".join(said) or "as it is"

    def cells(self) -> tuple[str, str, str, str, str]:
        """GPUs, tokens a step, recomputed, peak, how."""
        again = "yes" * self.recomputed
        return (
            str(self.gpus), str(self.tokens), again, format_size(self.peak), self.how(),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Knob:
    """One change that makes it fit, or helps: what it is, and the bytes it saves."""

    name: str
    fields: Mapping[str, Any]
    saved: int
    fits: bool


@dataclasses.dataclass(frozen=True, repr=False)
class Fit:
    """What fits in so much memory.

    Attributes:
        estimate: as asked.
        memory: bytes a GPU.
        fits: whether the upper end of the 90 % interval has room.
        batch: largest sequences a device.
        seq: longest sequence.
        gpus: fewest GPUs, and how; None when the widest grid has no room.
        knobs: single changes, the cheapest that fits first, then by bytes saved.
        pareto: plans none of which another beats in GPUs, tokens and recomputation.
    """

    estimate: Estimate
    memory: int
    fits: bool
    batch: int
    seq: int
    gpus: Plan | None
    knobs: list[Knob]
    pareto: list[Plan]

    def summary_table(self) -> str:
        """All of it as text: the verdict, the largest, the knobs, the plans."""
        verdict = "fits" if self.fits else "does not fit"
        size = format_size(self.estimate.bytes())
        lines = [
            f"{self.estimate.model!r}: {size} {verdict} in {format_size(self.memory)}",
            f"largest batch: {self.batch}, longest sequence: {self.seq}",
        ]
        if self.gpus is not None:
            lines.append(f"fewest GPUs: {self.gpus.gpus} ({self.gpus.how()})")
        lines += [
            f"- {knob.name}: saves {format_size(knob.saved)}" + ", fits" * knob.fits
            for knob in self.knobs
        ]
        if self.pareto:
            heads = ("GPUs", "tokens a step", "recomputed", "peak", "how")
            lines.append(table(heads, [plan.cells() for plan in self.pareto], left=(4,)))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary_table())}</pre>"

    def __repr__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return f"Fit({self.estimate!r} {verdict} in {format_size(self.memory)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return {
            "memory_bytes": self.memory,
            "fits": self.fits,
            "largest_batch": self.batch,
            "longest_sequence": self.seq,
            "fewest_gpus": dataclasses.asdict(self.gpus) if self.gpus else None,
            "knobs": [dataclasses.asdict(knob) for knob in self.knobs],
            "pareto": [dataclasses.asdict(plan) for plan in self.pareto],
            "estimate": self.estimate.to_dict(),
        }


# Every linear of a layer, as bits of the run's targets.
LINEARS = sum(core.TARGETS[name] for name in ("q", "k", "v", "o", "gate", "up", "down"))
# Single changes, the least costly first: what they cost is time, accuracy, or hardware.
KNOBS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("attention without a matrix of scores", {"attention": "flash"}),
    ("a fused loss", {"loss": "liger"}),
    ("a loss in chunks", {"loss": "chunked"}),
    ("recompute all layers", {"recompute": "full"}),
    ("8-bit Adam", {"optimizer": "adamw_8bit"}),
    ("optimizer state in host memory", {"offload_optimizer": 1}),
    ("saved activations in host memory", {"offload_activations": 1}),
    ("adapters instead of all weights", {"method": "lora", "targets": LINEARS}),
    ("4-bit weights under adapters",
     {"method": "lora", "targets": LINEARS, "weight_format": "nf4"}),
)  # fmt: skip

POWERS = (1, 2, 4, 8, 16, 32, 64)


def memory_of(memory: int | float | str) -> int:
    """Bytes from a size (``"80GiB"``) or a GPU's name."""
    if isinstance(memory, str) and gpus.is_known(memory):
        return gpus.gpu(memory).memory
    return parse_size(memory, "memory")


def fit(config: Any, memory: int | float | str | None = None, **fields: Any) -> Fit:
    """What fits: largest batch and sequence, fewest GPUs, cheapest change, the Pareto grid.

    Args:
        config: as of ``estimate``.
        memory: of one GPU: bytes, a size (``"80GiB"``) or a GPU's name; the config's `gpu` by
            default.
        fields: further fields of the config.

    Raises:
        ValueError: no memory is named; or as of ``estimate``.
    """
    config = as_config(config, fields)
    if memory is None and config.gpu is None:
        raise ValueError('fit: name the memory ("80GiB") or a gpu')
    room = memory_of(memory if memory is not None else config.gpu)
    asked = Question(config, room)
    found = Estimate(asked.model, asked.run, asked.profile, config.effects())
    plans = _plans(asked)
    return Fit(
        estimate=found,
        memory=room,
        fits=found.bytes() * asked.scale // 1000 <= room,
        batch=asked.largest("batch", MOST_BATCH),
        seq=asked.largest("seq", MOST_SEQ),
        gpus=min(
            plans, key=lambda plan: (plan.gpus, plan.recomputed, -plan.tokens), default=None
        ),
        knobs=_knobs(asked, found.bytes()),
        pareto=_pareto(plans),
    )


@functools.cache
def _known(name: str) -> models.Model:
    """A model that is only asked."""
    return models.known(name)


def largest_model(
    config: EstimatorConfig, memory: int | float | str, among: Iterable[str] | None = None
) -> str | None:
    """The model of most parameters that fits, of the catalogue or of those named."""
    room = memory_of(memory)
    found = [_known(name) for name in (among or models.catalogue())]
    for model in sorted(found, key=lambda model: -model.parameters):
        try:
            asked = Question(dataclasses.replace(config, model=model), room)
            if asked.fits(asked.peaks([("batch", [asked.run["batch"]])]))[0]:
                return model.name
        except (ValueError, NotImplementedError):
            continue
    return None


def _knobs(asked: Question, before: int) -> list[Knob]:
    trains = asked.run["mode"] == "train"
    found = []
    for name, fields in KNOBS:
        if not trains and "attention" not in fields:
            continue
        axes = [(field, [value]) for field, value in fields.items()]
        peaks = asked.peaks(axes)
        peak = int(peaks.reshape(-1)[0])
        if peak < before:
            found.append(Knob(name, dict(fields), before - peak, bool(asked.fits(peaks).all())))
    enough = [knob for knob in found if knob.fits]
    rest = sorted((k for k in found if not k.fits), key=lambda knob: -knob.saved)
    return [*enough, *rest]


def _axes(asked: Question) -> list[tuple[str, Sequence[Any]]]:
    """The grid: parallelism, sharding, micro-batch, recomputation."""
    trains = asked.run["mode"] == "train"
    layers = len(asked.model.numbers["decoder"]["pattern"])
    return [
        ("tp", [n for n in POWERS if n <= 8]),
        ("pp", [n for n in POWERS if n <= min(layers, 16)]),
        ("dp", POWERS if trains else (1,)),
        ("zero", (0, 1, 2, 3) if trains and not asked.run["fsdp"] else (0,)),
        ("batch", (1, 2, 4, 8, 16)),
        ("recompute", ("none", "full") if trains else ("none",)),
    ]


def _plans(asked: Question) -> list[Plan]:
    axes = _axes(asked)
    peaks = asked.peaks(axes)
    good = np.argwhere(asked.fits(peaks))
    seq = int(asked.run["seq"])
    plans = []
    for at in good:
        fields = {name: values[i] for (name, values), i in zip(axes, at)}
        if fields["zero"] and fields["dp"] == 1:
            continue  # nothing to shard over
        plans.append(
            Plan(
                fields,
                fields["tp"] * fields["pp"] * fields["dp"],
                int(peaks[tuple(at)]),
                fields["batch"] * fields["dp"] * seq,
                fields["recompute"] == "full",
            )
        )
    return plans


def _pareto(plans: Sequence[Plan]) -> list[Plan]:
    """Of plans that are equal in GPUs, tokens and recomputation the simplest; then those that
    no other beats."""

    def key(plan: Plan) -> tuple[int, int, bool]:
        return plan.gpus, -plan.tokens, plan.recomputed

    def effort(plan: Plan) -> tuple[Any, ...]:
        return (plan.fields["zero"], plan.fields["pp"], plan.fields["tp"], plan.peak)

    best: dict[tuple[int, int, bool], Plan] = {}
    for plan in plans:
        known = best.get(key(plan))
        if known is None or effort(plan) < effort(known):
            best[key(plan)] = plan
    found: list[Plan] = []
    for k, plan in sorted(best.items(), key=lambda item: item[0]):
        if not any(all(a <= b for a, b in zip(key(other), k)) for other in found):
            found.append(plan)
    return found


def grid(
    config: EstimatorConfig, **axes: Sequence[Any]
) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Device bytes over any fields of the run; REFUSED where a combination is impossible.

    >>> names, peaks = grid(config, batch=range(1, 9), seq=[2048, 4096, 8192])
    """
    asked = Question(config, 0)
    return list(axes), asked.peaks([(name, list(values)) for name, values in axes.items()])
