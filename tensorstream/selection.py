"""Choosing tensors: by kind, mark, layer, name or anything a function can say."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tensorstream import _core
    from tensorstream.checkpoint import Checkpoint, TensorInfo

KINDS = ("embedding", "attention", "mlp", "normalization", "output", "other")
MARKS = ("expert", "shared_expert", "lora", "router", "bias", "scale")

Layers = int | Container[int] | slice | None
Patterns = str | Iterable[str] | None


class Selection(NamedTuple):
    """What to take of a checkpoint; every part narrows it, all None takes everything.

    Attributes:
        kinds: kinds and marks ("attention", "bias"); a tensor passes if it has any of them.
        layers: a layer number, range, slice or any container; tensors outside layers do
            not pass.
        include: shell patterns (`*.mlp.*`) of which the name must match one.
        exclude: shell patterns of which it may match none.
        regex: a pattern to be found somewhere in the name.
        where: a function of the TensorInfo.
        names: exact names; unknown ones are a KeyError.
    """

    kinds: Patterns = None
    layers: Layers = None
    include: Patterns = None
    exclude: Patterns = None
    regex: str | re.Pattern[str] | None = None
    where: Callable[[TensorInfo], bool] | None = None
    names: Iterable[str] | None = None

    def rows(self, checkpoint: Checkpoint, catalog: _core.Catalog) -> list[int]:
        """Row numbers in the order of the catalog, or of `names`.

        Raises:
            KeyError: a name that the checkpoint does not hold.
            ValueError: an unknown kind, or a malformed pattern.
        """
        rows = self._named(checkpoint)
        if self.include is not None or self.exclude is not None or self.regex is not None:
            keep = self._name_filter()
            rows = [row for row in rows if keep(catalog.name(row))]
        if self.kinds is not None or self.layers is not None:
            rows = self._by_role(rows, catalog)
        if self.where is not None:
            where = self.where
            rows = [row for row in rows if where(checkpoint.tensor(row))]
        return rows

    def _named(self, checkpoint: Checkpoint) -> list[int]:
        if self.names is None:
            return list(range(len(checkpoint)))
        names = [self.names] if isinstance(self.names, str) else self.names
        return [checkpoint.row(name) for name in names]

    def _name_filter(self) -> Callable[[str], bool]:
        included = _glob(self.include)
        excluded = _glob(self.exclude)
        found = re.compile(self.regex).search if self.regex is not None else None

        def keep(name: str) -> bool:
            return (
                (included is None or included(name) is not None)
                and (excluded is None or excluded(name) is None)
                and (found is None or found(name) is not None)
            )

        return keep

    def _by_role(self, rows: list[int], catalog: _core.Catalog) -> list[int]:
        kinds = _checked_kinds(self.kinds)
        in_layers = _layer_test(self.layers)
        kept = []
        for row in rows:
            kind, marks, layer, _, _ = catalog.role(row)
            if kinds is not None and kind not in kinds and kinds.isdisjoint(marks):
                continue
            if in_layers is not None and not (layer >= 0 and in_layers(layer)):
                continue
            kept.append(row)
        return kept


def ordered(rows: list[int], catalog: _core.Catalog, order: str) -> list[int]:
    """Rows in the order "file" (as bytes lie), "layer" (as a forward pass meets them) or
    "given".

    Raises:
        ValueError: for another order.
    """
    if order == "given":
        return rows
    if order not in ("layer", "file"):
        raise ValueError(f"order is 'layer', 'file' or 'given', not {order!r}")
    numbers = np.array(rows, dtype=np.uint32)
    catalog.order(numbers, order)
    return [int(row) for row in numbers]


def _glob(patterns: Patterns) -> Callable[[str], re.Match[str] | None] | None:
    if patterns is None:
        return None
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    if not listed:
        return re.compile(r"(?!)").match
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in listed)).match


def _checked_kinds(kinds: Patterns) -> frozenset[str] | None:
    if kinds is None:
        return None
    wanted = frozenset([kinds] if isinstance(kinds, str) else kinds)
    for kind in wanted:
        if kind not in KINDS and kind not in MARKS:
            raise ValueError(f"unknown kind {kind!r}; kinds are {KINDS}, marks are {MARKS}")
    return wanted


def _layer_test(layers: Layers) -> Callable[[int], bool] | None:
    if layers is None:
        return None
    if isinstance(layers, int):
        return lambda layer: layer == layers
    if isinstance(layers, slice):
        wanted = range(*layers.indices(1 << 30))
        return wanted.__contains__
    return layers.__contains__
