"""What a forward pass of a real torch module keeps for its backward pass.

`measure` runs one forward under torch.autograd.graph.saved_tensors_hooks and lists the distinct
storages that the graph holds afterwards, each with the layer whose forward saved it first, its
shape, and the backward node that holds it.  Parameters, buffers and the batch are left out:
they live anyway.  This is the oracle that csrc/estimate/saved.h is held against.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass
class Saved:
    """One storage that the graph keeps."""

    bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    layer: int  # position among the layers; -1 outside of them
    module: str  # path of the innermost module that was running
    nodes: list[str] = field(default_factory=list)  # backward nodes, "MulBackward0.other"
    layers: set[int] = field(default_factory=set)


@dataclass
class Report:
    """Everything one forward saved, in the order in which it was first saved."""

    saved: list[Saved]
    layer_names: list[str]

    def layer(self, index: int) -> int:
        """Bytes that layer `index` keeps; -1 for what lies outside of the layers."""
        return sum(each.bytes for each in self.saved if each.layer == index)

    def layers(self) -> list[int]:
        """Bytes of each layer, in order."""
        return [self.layer(index) for index in range(len(self.layer_names))]

    def table(self, index: int) -> str:
        """The storages of one layer, a line each, for people."""
        rows = (
            f"{each.bytes:>9}  {str(each.dtype).removeprefix('torch.'):<9}"
            f"{list(each.shape)!s:<22}{each.module:<34}{' '.join(dict.fromkeys(each.nodes))}"
            for each in self.saved
            if each.layer == index
        )
        return "\n".join(rows)

    def counts(self, index: int) -> Counter[int]:
        """How many storages of each size one layer keeps."""
        return Counter(each.bytes for each in self.saved if each.layer == index)


def layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The outermost modules that gradient checkpointing would wrap, in order of their names."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        if isinstance(module, GradientCheckpointingLayer) and not inside:
            found.append((name, module))
    return found


class _Kept:
    """What the graph holds in place of one saved tensor; it dies with its backward node."""

    def __init__(self, tensor: torch.Tensor, layer: int, module: str) -> None:
        self.tensor, self.layer, self.module = tensor, layer, module
        self.nodes: list[str] = []


class _Recorder:
    def __init__(self, model: nn.Module, batch: dict[str, Any]) -> None:
        self.layers = layers_of(model)
        self.order = {id(module): index for index, (_, module) in enumerate(self.layers)}
        self.names = {id(module): name for name, module in model.named_modules()}
        self.stack: list[nn.Module] = []
        self.kept: list[weakref.ref[_Kept]] = []
        own = [*model.parameters(), *model.buffers()]
        own += [value for value in batch.values() if isinstance(value, torch.Tensor)]
        self.own = {each.untyped_storage().data_ptr() for each in own}
        self.node = ""

    def pack(self, tensor: torch.Tensor) -> _Kept:
        layer = -1
        for module in self.stack:
            layer = self.order.get(id(module), layer)
        path = self.names.get(id(self.stack[-1]), "?") if self.stack else ""
        kept = _Kept(tensor, layer, path)
        self.kept.append(weakref.ref(kept))
        return kept

    def unpack(self, kept: _Kept) -> torch.Tensor:
        if self.node:
            kept.nodes.append(self.node)
        return kept.tensor

    def storages(self) -> list[Saved]:
        """What is alive, each storage once, at the first place that saved it."""
        found: dict[int, Saved] = {}
        for reference in self.kept:
            kept = reference()
            if kept is None:
                continue
            storage = kept.tensor.untyped_storage()
            address, size = storage.data_ptr(), storage.nbytes()
            if address in self.own or size == 0:
                continue
            if address not in found:
                shape, dtype = tuple(kept.tensor.shape), kept.tensor.dtype
                found[address] = Saved(size, shape, dtype, kept.layer, kept.module)
            found[address].nodes += kept.nodes
            found[address].layers.add(kept.layer)
        for each in found.values():
            if len(each.layers - {-1}) > 1:
                each.layer = -1
        return list(found.values())

    @contextmanager
    def watching(self) -> Iterator[None]:
        def enter(module: nn.Module, _args: Any) -> None:
            self.stack.append(module)

        def leave(_module: nn.Module, _args: Any, _out: Any) -> None:
            self.stack.pop()

        before = nn.modules.module.register_module_forward_pre_hook(enter)
        after = nn.modules.module.register_module_forward_hook(leave)
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack):
                yield
        finally:
            before.remove()
            after.remove()

    def name_nodes(self, root: torch.autograd.graph.Node | None) -> None:
        """Visits the graph and asks each node for its tensors, to learn who keeps which."""
        seen: set[torch.autograd.graph.Node] = set()
        todo = [root]
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
            for attribute in dir(node):
                if attribute.startswith("_saved_") or attribute == "saved_tensors":
                    self.node = f"{node.name()}.{attribute.removeprefix('_saved_')}"
                    try:
                        getattr(node, attribute)
                    except (RuntimeError, AttributeError):
                        continue
        self.node = ""


def measure(
    model: nn.Module, batch: dict[str, Any], *, names: bool = False, autocast: bool = False
) -> Report:
    """Runs `model(**batch)`, whose output has a `loss`, and reports what its graph keeps.

    `names` also asks every backward node which storages are its own.  A storage that several
    layers saved (rotary tables, masks) is reported outside of the layers.
    """
    recorder = _Recorder(model, batch)
    with recorder.watching(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(**batch).loss
    if names:
        recorder.name_nodes(loss.grad_fn)
    return Report(recorder.storages(), [name for name, _ in recorder.layers])
