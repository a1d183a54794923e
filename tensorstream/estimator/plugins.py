"""Optimizations as data: what each changes, what it excludes, how it is explained.

    Optimization(
        name="flashattention",
        doc="attention without a matrix of scores",
        run={"attention": "flash"},
        suggest_when="attention is eager",
    )

An optimization may set fields of the run and constants of the profile, and it may declare
effects on areas of memory (components): multiply, add, replace, each with a condition.  Plugins
come by call (``Registry.register``) or by entry point (group ``tensorstream.estimator``); a
registry belongs to whoever made it, so nothing leaks from one estimate into another.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any

from tensorstream.estimator import core, names

GROUP = "tensorstream.estimator"
KINDS = ("multiply", "add", "replace")
Run = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Effect:
    """A change of one area.

    Attributes:
        area: a component (``weights``, ``logits`` ...).
        kind: ``multiply`` (value is a factor), ``add`` (bytes), ``replace`` (bytes).
        value: a number, or a function of the run that gives one.
        when: the effect holds where this of the run is true; None: always.
    """

    area: str
    kind: str
    value: float | Callable[[Run], float]
    when: Callable[[Run], bool] | None = None

    def __post_init__(self) -> None:
        names.choose("an effect's area", self.area, core.components())
        names.choose("an effect's kind", self.kind, KINDS)

    def apply(self, size: int, run: Run) -> int:
        """Bytes of the area after the effect; never below 0."""
        if self.when is not None and not self.when(run):
            return size
        value = self.value(run) if callable(self.value) else self.value
        changed = {"multiply": size * value, "add": size + value, "replace": value}[self.kind]
        return max(0, round(changed))


@dataclasses.dataclass(frozen=True)
class Optimization:
    """One thing that can be switched on.

    Attributes:
        name: lower case letters, digits, underscores.
        doc: one sentence.
        run: fields of the core's run that it sets.
        constants: fields of the profile that it sets.
        effects: changes of areas beyond what the core knows.
        conflicts_with: names that cannot be on at the same time.
        parameters: names and defaults of what can be given with it; a function of them may
            stand for `run`.
    """

    name: str
    doc: str
    run: Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]] = (
        dataclasses.field(default_factory=dict)
    )
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    conflicts_with: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"an optimization's name is lower case words, not {self.name!r}")
        names.check(f"optimization {self.name}", self.constants, core.fields("profile"))

    def fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The run's fields, with the parameters that were given.

        Raises:
            ValueError: a parameter that it does not have.
        """
        names.check(f"optimization {self.name}", given, self.parameters)
        asked = {**self.parameters, **given}
        fields = dict(self.run(asked) if callable(self.run) else self.run)
        names.check(f"optimization {self.name}", fields, core.fields("run"))
        return fields


def _recompute(asked: Mapping[str, Any]) -> dict[str, Any]:
    reduction = asked["reduction"]
    if not 0 < reduction <= 1:
        raise ValueError(f"gradient_checkpointing: reduction is {reduction}, not in (0, 1]")
    return {"recompute": "full", "reduction_permille": round(1000 * reduction)}


BUILT_IN = (
    Optimization(
        "flashattention",
        "Attention without a matrix of scores.",
        run={"attention": "flash"},
    ),
    Optimization(
        "gradient_checkpointing",
        "Layers keep their input only and compute again in backward.",
        run=_recompute,
        parameters={"reduction": 0.35},
    ),
    Optimization(
        "fused_loss",
        "The gradient of the logits takes their place.",
        run={"loss": "fused", "fused_loss": 1},
        conflicts_with=("liger", "chunked_loss"),
    ),
    Optimization(
        "chunked_loss",
        "Logits of so many tokens at a time.",
        run=lambda asked: {"loss": "chunked", "loss_chunk": asked["tokens"]},
        conflicts_with=("liger", "fused_loss"),
        parameters={"tokens": 1024},
    ),
    Optimization(
        "liger",
        "Liger's kernels: head and loss fused, norms that keep their input as it is, SwiGLU"
        " that keeps two widths.",
        run={"loss": "liger"},
        constants={"norm_kept": 2, "norm_weight_kept": 0, "gate_kept": 2},
        conflicts_with=("fused_loss", "chunked_loss"),
    ),
    Optimization(
        "cpu_offload",
        "Optimizer state lives in host memory.",
        run={"offload_optimizer": 1},
    ),
)


class Registry:
    """Optimizations by name: the built-in ones, those of entry points, and what is registered.

    Args:
        discover: look for entry points of the group ``tensorstream.estimator``; each is an
            Optimization or a function that returns one.
    """

    def __init__(self, discover: bool = True) -> None:
        self._known = {one.name: one for one in BUILT_IN}
        if discover:
            for entry in metadata.entry_points(group=GROUP):
                found = entry.load()
                self.register(found() if callable(found) else found)

    def register(self, optimization: Optimization) -> None:
        """Add one.

        Raises:
            ValueError: the name is taken.
            TypeError: it is no Optimization.
        """
        if not isinstance(optimization, Optimization):
            raise TypeError(f"an Optimization is wanted, not {optimization!r}")
        if optimization.name in self._known:
            raise ValueError(f"an optimization {optimization.name!r} is registered already")
        self._known[optimization.name] = optimization

    def __iter__(self) -> Iterator[Optimization]:
        return iter(self._known.values())

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def get(self, name: str) -> Optimization:
        """One by name; ValueError with the near name and all names otherwise."""
        if name not in self._known:
            raise ValueError(
                f"Unknown optimization {name!r}.{names.near(name, self._known)} "
                f"Known: {', '.join(sorted(self._known))}"
            )
        return self._known[name]

    def documentation(self) -> str:
        """Names, sentences and parameters, a line each."""
        return "\n".join(
            f"{one.name}: {one.doc}"
            + (f" Parameters: {dict(one.parameters)}." if one.parameters else "")
            for one in sorted(self, key=lambda one: one.name)
        )

    def chosen(self, asked: Mapping[str, Any]) -> list[tuple[Optimization, dict[str, Any]]]:
        """What is switched on, with its parameters.

        Raises:
            ValueError: an unknown name, parameter, or two that exclude each other.
        """
        on = [(self.get(name), _parameters(name, given)) for name, given in asked.items()
              if given is not False]  # fmt: skip
        present = {one.name for one, _ in on}
        for one, _ in on:
            for other in one.conflicts_with:
                if other in present:
                    raise ValueError(
                        f"optimizations {one.name!r} and {other!r} exclude each other"
                    )
        return on


def _parameters(name: str, given: Any) -> dict[str, Any]:
    if given is None or given is True:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"optimization {name}: parameters are a dict, not {given!r}")
    return dict(given)
