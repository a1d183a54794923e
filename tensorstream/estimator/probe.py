"""``probe``: the real step of a real module beside what the formulas say of it.

On the processor the tensors that each layer keeps for backward are compared with the ledger, to
the byte.  On a GPU the allocator's peak over whole steps is compared with the estimate.  Either
can be appended to a list of measurements, one JSON object a line.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tensorstream import _core
from tensorstream.estimator import core, frameworks, models, modules, recording
from tensorstream.estimator.config import EstimatorConfig, LoraConfig, ProbeConfig
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


def probe_config(config: EstimatorConfig) -> Probe:
    """Builds the model of a configuration with random weights, and probes a step of it.

    The configuration's ``probe`` section says on which device and how many steps.

    Raises:
        ImportError: without torch or transformers, or without PEFT for adapters.
        ValueError: more than one process; an optimizer, a recomputation or a device that the
            probe has not.
    """
    torch, transformers = _needed("torch"), _needed("transformers")
    wanted = config.probe if isinstance(config.probe, ProbeConfig) else ProbeConfig()
    if config.zero_stage or config.fsdp or config.dp * config.tp * config.pp * config.cp > 1:
        raise ValueError("probe: one process on one device, so no zero_stage, dp, tp, pp or cp")
    found = config.to_model()
    if not found.config:
        raise ValueError(f"probe: {found.name} has no config to build a module of")
    device = _device(torch, wanted)
    run = {**config.to_run(), "host": int(device.type == "cpu")}
    arguments = {name: value for name, value in found.config.items() if name != "aliases"}
    module = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**arguments),
        attn_implementation="eager" if run["attention"] == "eager" else "sdpa",
    ).to(device=device, dtype=_dtype(torch, config))
    module.train()
    _prepare(module, config)
    if isinstance(config.lora, LoraConfig):
        module = _adapted(module, config.lora)
    shape = (config.per_device_batch, config.seq_len)
    ids = torch.randint(int(found.numbers["vocab"]), shape, device=device)
    optimizer = _optimizer(torch, config.optimizer, module) if device.type != "cpu" else None
    batch = {"input_ids": ids, "labels": ids}
    return probe(module, batch, optimizer=optimizer, steps=wanted.steps, warmup=wanted.warmup)


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(f"a probe of this needs {name}: pip install {name}") from None


def _device(torch: Any, wanted: ProbeConfig) -> Any:
    if wanted.device == "cpu":
        return torch.device("cpu")
    if wanted.device != "cuda":
        raise ValueError(f"probe: device is {wanted.device!r}. Known: cpu, cuda")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not 0 <= wanted.device_id < count:
        raise ValueError(
            f"probe: device_id is {wanted.device_id}, and torch sees {count} CUDA devices"
            " (device: cpu compares the tensors that layers keep)"
        )
    return torch.device("cuda", wanted.device_id)


def _dtype(torch: Any, config: EstimatorConfig) -> Any:
    known = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if config.dtype not in known or config.qlora_enabled or config.weight_format is not None:
        raise ValueError("probe: modules are built in bf16, fp16 or fp32, without packing")
    return known[config.dtype]


def _prepare(module: Any, config: EstimatorConfig) -> None:
    recompute = config.to_run()["recompute"]
    if recompute == "full":
        module.gradient_checkpointing_enable({"use_reentrant": False})
    elif recompute != "none":
        raise ValueError(
            f"probe: recompute is {recompute!r}, and transformers has none or full"
        )


def _adapted(module: Any, lora: LoraConfig) -> Any:
    peft = _needed("peft")
    words = lora.target_modules
    names = words[0] if tuple(words) == ("all-linear",) else list(words)
    given = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=names,
    )
    return peft.get_peft_model(module, given)


def _optimizer(torch: Any, name: str, module: Any) -> Any:
    trained = [one for one in module.parameters() if one.requires_grad]
    known: dict[str, Callable[[], Any]] = {
        "adamw": lambda: torch.optim.AdamW(trained),
        "sgd": lambda: torch.optim.SGD(trained, lr=1e-6),
        "momentum": lambda: torch.optim.SGD(trained, lr=1e-6, momentum=0.9),
        "adafactor": lambda: torch.optim.Adafactor(trained),
        "none": lambda: None,
    }
    if name not in known:
        raise ValueError(f"probe: optimizer is {name!r}. Known: {', '.join(known)}")
    return known[name]()


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
