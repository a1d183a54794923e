"""``probe``: the real step of a real module beside what the formulas say of it.

On the processor the tensors that each layer keeps for backward are compared with the ledger, to
the byte.  On a GPU the allocator's peak over whole steps is compared with the estimate.  Either
can be appended to a list of measurements, one JSON object a line.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tensorstream import _core
from tensorstream.estimator import core, frameworks, models, modules, recording
from tensorstream.estimator.result import Estimate
from tensorstream.tables import table
from tensorstream.units import format_size


@dataclasses.dataclass
class LayerProbe:
    """One layer: the sizes of tensors that torch kept, and those of the ledger."""

    name: str
    measured: Counter[int]
    expected: Counter[int]

    @property
    def measured_bytes(self) -> int:
        return sum(size * count for size, count in self.measured.items())

    @property
    def expected_bytes(self) -> int:
        return sum(size * count for size, count in self.expected.items())

    @property
    def exact(self) -> bool:
        """Tensor by tensor, not only in sum."""
        return self.measured == self.expected


@dataclasses.dataclass
class Probe:
    """What was measured, beside what was expected.

    Attributes:
        model, run: as they were read from the module.
        layers: on the processor, one row a layer; empty on a GPU.
        peak: on a GPU, bytes by ``"allocated"`` and ``"reserved"``; None on the processor.
        estimate: the whole estimate of this run.
    """

    model: models.Model
    run: dict[str, Any]
    layers: list[LayerProbe]
    peak: dict[str, int] | None
    estimate: Estimate

    @property
    def exact(self) -> bool:
        """Whether every layer keeps what the ledger says, tensor by tensor."""
        return bool(self.layers) and all(layer.exact for layer in self.layers)

    @property
    def error(self) -> float:
        """(expected - measured) / measured, of the layers' bytes or of the allocated peak."""
        if self.peak is not None:
            measured, expected = self.peak["allocated"], self.estimate.bytes("allocated")
        else:
            measured = sum(layer.measured_bytes for layer in self.layers)
            expected = sum(layer.expected_bytes for layer in self.layers)
        return (expected - measured) / measured if measured else 0.0

    def summary_table(self) -> str:
        """Layers, or counters, as text."""
        if self.peak is not None:
            counters = [
                (name, format_size(size), format_size(self.estimate.bytes(name)))
                for name, size in self.peak.items()
            ]
            return table(("counter", "measured", "expected"), counters)
        rows = [
            (each.name, str(each.measured_bytes), str(each.expected_bytes), str(each.exact))
            for each in self.layers
        ]
        return table(("layer", "measured", "expected", "exact"), rows)

    def to_row(self) -> dict[str, Any]:
        """A measurement in the form of published ones: configuration, counter, bytes."""
        measured: dict[str, Any] = {
            "metric": "saved tensors of all layers, bytes (saved_tensors_hooks)",
            "measured_bytes": sum(each.measured_bytes for each in self.layers),
            "components": {each.name: each.measured_bytes for each in self.layers},
            "hardware": platform.machine(),
        }
        if self.peak is not None:
            measured = {
                "metric": "torch.cuda.max_memory_allocated over whole steps",
                "measured_bytes": self.peak["allocated"],
                "components": dict(self.peak),
                "hardware": _device_name(),
            }
        return {
            "framework": "tensorstream probe",
            "kind": "training",
            "modality": "llm",
            "model": self.model.name,
            "config": {"model": self.model.config, "run": self.run},
            "quality": "A",
            **measured,
        }

    def append(self, path: str | os.PathLike[str]) -> None:
        """Adds the measurement to a file of JSON lines."""
        with open(path, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(self.to_row(), default=str) + "\n")

    def __repr__(self) -> str:
        how = "exact" if self.exact else f"{self.error:+.2%}"
        return f"Probe({self.model.name!r}, {len(self.layers)} layers, {how})"


def probe(
    module: Any,
    batch: Mapping[str, Any],
    *,
    optimizer: Any = None,
    steps: int = 3,
    warmup: int = 1,
) -> Probe:
    """Measures a module's step and estimates it.

    On the processor that is one forward pass and changes nothing.  On a GPU `warmup` + `steps`
    whole steps are run: with an optimizer, they train.

    Args:
        module: a live transformers model, or one under PEFT.
        batch: what it is called with: ``input_ids``, ``labels`` ...
        optimizer: a torch optimizer, for GPUs; None leaves its step out.
        steps, warmup: whole steps measured, and run before.

    Raises:
        TypeError: not a module, or one without a transformers config.
        ValueError: a step that the core cannot describe; the sentence says which part.
    """
    if not modules.is_module(module):
        raise TypeError(f"probe takes a live torch module, not {module!r}")
    model, run = modules.model_of(module), modules.run_of(module, batch)
    constants = frameworks.profile("trainer")
    optimizers = {} if optimizer is not None else {"optimizer": "none"}
    estimate = Estimate(model, {**run, **optimizers}, constants)
    if run["host"]:
        return Probe(model, run, _layers(module, batch, model, run), None, estimate)
    if steps < 1:
        raise ValueError(f"steps is {steps}: at least one is measured")
    import torch

    peak = _peak(torch.cuda, lambda: _step(module, batch, optimizer), steps, warmup)
    return Probe(model, run, [], peak, estimate)


def _layers(
    module: Any, batch: Mapping[str, Any], model: models.Model, run: dict[str, Any]
) -> list[LayerProbe]:
    record = recording.record(module, batch)
    grad = run["method"] == "full" or _input_has_gradient(module)
    return [
        LayerProbe(name, record.sizes(layer), saved(model, run, layer, grad or layer > 0))
        for layer, name in enumerate(record.layer_names)
    ]


def _input_has_gradient(module: Any) -> bool:
    """enable_input_require_grads leaves a hook on the embedding."""
    return bool(getattr(modules.base(module), "_require_grads_hooks", None))


def saved(
    model: models.Model, run: Mapping[str, Any], layer: int, grad: bool = True
) -> Counter[int]:
    """How many tensors of each size the ledger says a layer of the decoder keeps.

    Args:
        grad: the layer's input needs a gradient.
    """
    fields = {name: value for name, value in run.items() if name in core.fields("run")}
    rows = _core.saved_tensors(model.numbers, fields, 0, layer, grad)
    return Counter(size for _, size, _ in rows)


# ---- on a GPU ----


def _step(module: Any, batch: Mapping[str, Any], optimizer: Any) -> None:
    module(**batch).loss.backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    else:
        module.zero_grad(set_to_none=True)


def _peak(cuda: Any, step: Any, steps: int, warmup: int) -> dict[str, int]:
    for _ in range(warmup):
        step()
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    for _ in range(steps):
        step()
    cuda.synchronize()
    return {
        "allocated": int(cuda.max_memory_allocated()),
        "reserved": int(cuda.max_memory_reserved()),
    }


def _device_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())
