"""What a forward pass of a real torch module keeps for its backward pass.

``record`` runs one forward under torch.autograd.graph.saved_tensors_hooks and lists the
distinct storages that the graph holds afterwards, each with the layer whose forward saved it
first, its shape, and the backward node that holds it.  Parameters, buffers and the batch are
left out: they live anyway.  torch and transformers are imported when it runs.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@dataclasses.dataclass
class Saved:
    """One storage that the graph keeps.

    Attributes:
        bytes: of the whole storage.
        shape, dtype: of the tensor that was saved first.
        layer: index of the layer that saved it; -1 outside of layers, or of several.
        module: path of the innermost module that was running.
        nodes: backward nodes that hold it, as ``MulBackward0.other``; only when asked for.
        layers: all layers that saved it.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    layer: int
    module: str
    nodes: list[str] = dataclasses.field(default_factory=list)
    layers: set[int] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Record:
    """Everything one forward saved, in the order in which it was first saved."""

    saved: list[Saved]
    layer_names: list[str]

    def of(self, layer: int) -> list[Saved]:
        """What layer `layer` keeps; -1 for what lies outside of the layers."""
        return [each for each in self.saved if each.layer == layer]

    def bytes(self, layer: int) -> int:
        """Bytes that layer `layer` keeps."""
        return sum(each.bytes for each in self.of(layer))

    def sizes(self, layer: int) -> Counter[int]:
        """How many storages of each size a layer keeps."""
        return Counter(each.bytes for each in self.of(layer))

    def table(self, layer: int) -> str:
        """The storages of one layer, a line each."""
        return "\n".join(
            f"{each.bytes:>12}  {each.dtype:<9}{list(each.shape)!s:<22}{each.module:<34}"
            f"{' '.join(dict.fromkeys(each.nodes))}"
            for each in self.of(layer)
        )


def layers_of(module: Any) -> list[tuple[str, Any]]:
    """The outermost modules that checkpointing would wrap, with their paths, in order."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    found: list[tuple[str, Any]] = []
    for name, each in module.named_modules():
        inside = any(name.startswith(outer + ".") for outer, _ in found)
        if isinstance(each, GradientCheckpointingLayer) and not inside:
            found.append((name, each))
    return found


class _Kept:
    """What the graph holds in place of one saved tensor; it dies with its backward node."""

    def __init__(self, tensor: Any, layer: int, module: str) -> None:
        self.tensor, self.layer, self.module = tensor, layer, module
        self.nodes: list[str] = []


class _Recorder:
    def __init__(self, module: Any, batch: Mapping[str, Any]) -> None:
        self.layers = layers_of(module)
        self.order = {id(each): index for index, (_, each) in enumerate(self.layers)}
        self.names = {id(each): name for name, each in module.named_modules()}
        self.running: list[Any] = []
        self.kept: list[weakref.ref[_Kept]] = []
        own = [*module.parameters(), *module.buffers()]
        own += [value for value in batch.values() if hasattr(value, "untyped_storage")]
        self.own = {each.untyped_storage().data_ptr() for each in own}
        self.node = ""

    def pack(self, tensor: Any) -> _Kept:
        layer = -1
        for module in self.running:
            layer = self.order.get(id(module), layer)
        path = self.names.get(id(self.running[-1]), "?") if self.running else ""
        kept = _Kept(tensor, layer, path)
        self.kept.append(weakref.ref(kept))
        return kept

    def unpack(self, kept: _Kept) -> Any:
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
                dtype = str(kept.tensor.dtype).removeprefix("torch.")
                shape = tuple(kept.tensor.shape)
                found[address] = Saved(size, shape, dtype, kept.layer, kept.module)
            found[address].nodes += kept.nodes
            found[address].layers.add(kept.layer)
        for each in found.values():
            if len(each.layers - {-1}) > 1:
                each.layer = -1
        return list(found.values())

    @contextmanager
    def watching(self) -> Iterator[None]:
        import torch

        def enter(module: Any, _args: Any) -> None:
            self.running.append(module)

        def leave(_module: Any, _args: Any, _out: Any) -> None:
            self.running.pop()

        before = torch.nn.modules.module.register_module_forward_pre_hook(enter)
        after = torch.nn.modules.module.register_module_forward_hook(leave)
        try:
            with torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack):
                yield
        finally:
            before.remove()
            after.remove()

    def name_nodes(self, root: Any) -> None:
        """Visits the graph and asks each node for its tensors, to learn who keeps which."""
        seen = set()
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
                        continue  # a field this node does not fill
        self.node = ""


def record(module: Any, batch: Mapping[str, Any], *, names: bool = False) -> Record:
    """Runs ``module(**batch)``, whose output has a loss, and says what its graph keeps.

    A storage that several layers saved (rotary tables, masks) counts as outside of them.

    Args:
        module: a transformers model, or one under PEFT.
        batch: its arguments, labels among them.
        names: also ask each backward node which storages it holds; where layers are
            checkpointed that computes them again.
    """
    recorder = _Recorder(module, batch)
    with recorder.watching():
        loss = module(**batch).loss
    if loss is None:
        raise ValueError("the module's output has no loss: the batch needs labels")
    if names:
        recorder.name_nodes(loss.grad_fn)
    return Record(recorder.storages(), [name for name, _ in recorder.layers])
