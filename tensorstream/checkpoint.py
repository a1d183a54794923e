"""Checkpoint: what an opened source holds, and the ways to get at it."""

from __future__ import annotations

import html
import operator
import os
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from tensorstream import _core
from tensorstream.arrays import Array, bytes_of, code_of, numpy_dtype
from tensorstream.opening import open_catalog
from tensorstream.selection import Layers, Patterns, Selection, ordered
from tensorstream.streaming import (
    DEFAULT_BUDGET,
    Plan,
    Run,
    Stream,
    TensorStats,
    Wanted,
    file_marks,
    form_of,
    make_plan,
    options,
)
from tensorstream.units import Size, format_size

CHECKSUMS = ("xxh3", "crc32c", "crc32", "sum64")

# What one thread reads at once before a stream with several pays.
_PICKED = 4 << 20
_PICKABLE = ("stored", "swapped", "framed")


class TensorInfo(NamedTuple):
    """What a file says about one tensor.

    Attributes:
        name: unique in its checkpoint.
        dtype: of the elements in the file: "F32", "BF16", "F8_E4M3", "Q4_K" ...
        shape: row-major, slowest dimension first; () for a scalar.
        num_elements: the product of the shape.
        nbytes: of the elements in the file.
        file: path of the file that holds it.
        offset: of its first byte in that file.
        layer: number of the outermost block it belongs to, or None.
        kind: embedding, attention, mlp, normalization, output or other.
        marks: any of expert, shared_expert, lora, router, bias, scale.
        expert: number of the expert, or None.
        stack: the part of the name before the layer's number: "model.layers".
        strides: in elements, None when row-major and contiguous.
        storage: "stored", "swapped" (big-endian), "deflated", "deflated-swapped", "framed"
            (compressed by this package; docs/format.md).
        alias_of: name of the first tensor on the same memory, or None.
        stored_nbytes: bytes that it takes in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_elements: int
    nbytes: int
    file: str
    offset: int
    layer: int | None
    kind: str
    marks: tuple[str, ...]
    expert: int | None
    stack: str
    strides: tuple[int, ...] | None
    storage: str
    alias_of: str | None
    stored_nbytes: int

    @property
    def numpy_dtype(self) -> np.dtype[Any] | None:
        """What arrays of it have: None for quantised blocks, which come as float32."""
        return numpy_dtype(self.dtype)

    @property
    def is_quantized(self) -> bool:
        """Is it made of ggml's blocks?"""
        return numpy_dtype(self.dtype) is None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its number, the stack it is in, the names in it, their bytes."""

    index: int
    stack: str
    names: list[str]
    nbytes: int


class Verification(NamedTuple):
    """What `Checkpoint.verify` found.

    Attributes:
        ok: is there no problem?
        problems: a sentence for each.
        checked: tensors or archive members whose checksum was compared.
        unchecked: tensors for which the file carries no checksum.
        nbytes: bytes that were read for it.
    """

    ok: bool
    problems: list[str]
    checked: int
    unchecked: int
    nbytes: int


class Checkpoint:
    """An opened checkpoint: names, shapes and places, without the values.

    It is a read-only mapping from names to `TensorInfo`.  Opening reads and checks the
    headers only; `stream`, `read` and `read_into` bring values.  Any number of threads may
    use one checkpoint.
    """

    def __init__(self, source: Any, *, base: Any = None, verify: bool = True) -> None:
        if base is not None and not isinstance(base, Checkpoint):
            base = Checkpoint(base)
        below = base.catalog if base is not None else None
        self._begin(source, *open_catalog(source, below), base, not verify)

    def _begin(
        self,
        source: Any,
        catalog: _core.Catalog,
        label: str,
        base: Checkpoint | None = None,
        trust: bool = False,
    ) -> None:
        self._source = source
        self._catalog, self._label = catalog, label
        self._base, self._trust = base, trust
        self._pickers: list[_core.Picker] = []
        self._infos: dict[int, TensorInfo] = {}
        self._metadata: dict[str, Any] | None = None
        self._closed = False

    @classmethod
    def _of_catalog(cls, catalog: _core.Catalog, label: str) -> Checkpoint:
        """A checkpoint of what the core has opened."""
        made = cls.__new__(cls)
        made._begin(None, catalog, label)
        return made

    # -- a mapping of names --

    @property
    def trusts(self) -> bool:
        """Was it opened with verify=False?"""
        return self._trust

    @property
    def catalog(self) -> _core.Catalog:
        """The core's view of it."""
        if self._closed:
            raise ValueError("the checkpoint is closed")
        return self._catalog

    def __len__(self) -> int:
        return len(self.catalog)

    def __iter__(self) -> Iterator[str]:
        return iter(self.catalog.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.catalog.find(name) is not None

    def __getitem__(self, name: str) -> TensorInfo:
        return self.tensor(self.row(name))

    def get(self, name: str, default: Any = None) -> Any:
        """`self[name]`, or `default` where there is no such tensor."""
        row = self.catalog.find(name)
        return default if row is None else self.tensor(row)

    def keys(self) -> KeysView[str]:
        """The names, in the order of the file."""
        return KeysView(self)

    def values(self) -> ValuesView[TensorInfo]:
        """A TensorInfo of each tensor."""
        return ValuesView(self)

    def items(self) -> ItemsView[str, TensorInfo]:
        """(name, TensorInfo) of each tensor."""
        return ItemsView(self)

    def row(self, name: str) -> int:
        """The number of a tensor in the order of the file.

        Raises:
            KeyError: no such tensor; names that are near are suggested.
        """
        row = self.catalog.find(name)
        if row is None:
            raise KeyError(self._no_such(name))
        return row

    def _no_such(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self.catalog.names()[:20000], n=3)
        hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
        return f"no tensor {name!r} in {self._label}{hint}"

    def tensor(self, row: int) -> TensorInfo:
        """The TensorInfo of a row number."""
        catalog = self.catalog
        (
            name, dtype, shape, elements, nbytes, file, offset, strides, storage, alias, stored,
        ) = catalog.tensor(row)  # fmt: skip
        kind, marks, layer, expert, stack = catalog.role(row)
        return TensorInfo(
            name=name,
            dtype=dtype,
            shape=shape,
            num_elements=elements,
            nbytes=nbytes,
            file=self.files[file],
            offset=offset,
            layer=layer if layer >= 0 else None,
            kind=kind,
            marks=marks,
            expert=expert if expert >= 0 else None,
            stack=stack,
            strides=strides,
            storage=storage,
            alias_of=catalog.name(alias) if alias != row else None,
            stored_nbytes=stored,
        )

    # -- what it holds --

    @property
    def source(self) -> Any:
        """What it was opened from, as it was given."""
        return self._source

    @property
    def format(self) -> str:
        """safetensors, shards, gguf, torch, npy, npz or memory."""
        return self.catalog.format

    @property
    def label(self) -> str:
        """What it was opened from, for people: the path, or what is in memory."""
        return self._label

    @property
    def files(self) -> list[str]:
        """Paths of the files it is made of."""
        if not hasattr(self, "_files"):
            self._files = [one["path"] for one in self.catalog.files()]
        return self._files

    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says besides tensors: strings, numbers, lists, NumPy arrays."""
        if self._metadata is None:
            self._metadata = {
                key: _array_of(*value) if isinstance(value, tuple) else value
                for key, value in self.catalog.metadata().items()
            }
        return self._metadata

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in the file; tensors on the same memory count once."""
        return self.catalog.totals()[0]

    @property
    def num_parameters(self) -> int:
        """Elements of all tensors; tensors on the same memory count once."""
        return self.catalog.totals()[1]

    def layers(self) -> list[Layer]:
        """The layers in the order of a forward pass, each with its tensors."""
        catalog = self.catalog
        rows = ordered(list(range(len(catalog))), catalog, "layer")
        found: dict[tuple[str, int], Layer] = {}
        for row in rows:
            _, _, number, _, stack = catalog.role(row)
            if number < 0:
                continue
            layer = found.setdefault((stack, number), Layer(number, stack, [], 0))
            layer.names.append(catalog.name(row))
            size = layer.nbytes + catalog.tensor(row)[4]
            found[stack, number] = replace(layer, nbytes=size)
        return list(found.values())

    # -- values --

    def _select(self, selection: Selection, order: str) -> list[Wanted]:
        if selection.names is not None and order == "layer":
            order = "given"
        rows = ordered(selection.rows(self, self.catalog), self.catalog, order)
        return [Wanted(row, 0, self.catalog.tensor(row)[3]) for row in rows]

    def stream(
        self,
        *,
        budget: Size = DEFAULT_BUDGET,
        order: str = "layer",
        kinds: Patterns = None,
        layers: Layers = None,
        include: Patterns = None,
        exclude: Patterns = None,
        regex: Any = None,
        where: Any = None,
        names: Iterable[str] | None = None,
        dtype: Any = None,
        chunk: Size | None = None,
        threads: int | None = None,
        engine: str = "auto",
        stats: bool = False,
        checksum: str | None = None,
        progress: Any = False,
        resume: dict[str, Any] | None = None,
    ) -> Stream:
        """Chunks of the chosen tensors, in order, inside a hard memory budget.

        Args:
            budget: bytes, or "64MiB"; at least 1 MiB.  All bulk memory of the stream and
                every array that somebody still keeps.
            order: "layer" (as a forward pass meets them), "file" (as the bytes lie) or
                "given" (as `names` lists them).
            kinds, layers, include, exclude, regex, where, names: see `Selection`.
            dtype: None delivers each tensor in its own dtype (quantised blocks as
                float32); "float32", "float16", "bfloat16", "float64" or a NumPy dtype
                converts floating-point tensors of any kind and leaves integers and
                booleans alone; "raw" delivers the bytes of the file as uint8.
            chunk: a fixed size in bytes; None lets it follow measured speed and memory
                pressure.
            threads: that read, the calling one included; None is one a core, 2 to 4. With 1
                nothing is read ahead.
            engine: "auto", "pread", "direct", "mmap" or "io_uring".
            stats: also measure each tensor; see `Stream.statistics`.
            checksum: "crc32c" or "crc32"; see `Stream.checksums`.
            progress: True draws a bar, None does on a terminal, a function gets a
                `Progress` about ten times a second.
            resume: a `Stream.state()` to go on from.

        Raises:
            ValueError: an option out of range; a state of another selection.
            KeyError: a name that is not here.
            ChangedError: a file changed since it was opened, or since `resume`.
            BudgetError: from iteration, when kept arrays fill the budget.
        """
        chosen = options(
            dtype=dtype, budget=budget, threads=threads, engine=engine, chunk=chunk,
            stats=stats, checksum=checksum,
        )  # fmt: skip
        selection = Selection(kinds, layers, include, exclude, regex, where, names)
        wanted = self._select(selection, order)
        self.catalog.check()
        return Stream(self, wanted, chosen, order=order, progress=progress, resume=resume)

    def plan(
        self,
        *,
        budget: Size = DEFAULT_BUDGET,
        order: str = "layer",
        kinds: Patterns = None,
        layers: Layers = None,
        include: Patterns = None,
        exclude: Patterns = None,
        regex: Any = None,
        where: Any = None,
        names: Iterable[str] | None = None,
        dtype: Any = None,
        chunk: Size | None = None,
        threads: int | None = None,
        engine: str = "auto",
    ) -> Plan:
        """What `stream` would do with the same arguments: peak bytes, chunks, totals.

        Reads no tensor.
        """
        chosen = options(
            dtype=dtype, budget=budget, threads=threads, engine=engine, chunk=chunk
        )
        selection = Selection(kinds, layers, include, exclude, regex, where, names)
        return make_plan(self, self._select(selection, order), chosen, order)

    def read(
        self,
        name: str,
        rows: Any = None,
        out: Array | None = None,
        *,
        dtype: Any = None,
        threads: int | None = None,
    ) -> Array:
        """One tensor, or some of its rows, as an array of its own.

        Args:
            name: of the tensor.
            rows: of the first dimension: an int (which drops that dimension), a slice, a
                range or a list of ints; None for all.
            out: a writable C-contiguous array of the right shape and dtype to fill.
            dtype: as in `stream`.

        Returns:
            `out`, or a new array of shape (rows, *shape[1:]); flat uint8 for dtype="raw".

        Raises:
            KeyError: no such tensor.
            IndexError: a row outside the tensor.
            ValueError: `out` does not fit; rows of quantised blocks that are no whole
                blocks.
        """
        row = self.row(name)
        info = self._infos.get(row) or self._remembered(row)
        ranges, shape = _row_ranges(info, rows)
        form, target = form_of(dtype)
        wanted = [Wanted(row, start, stop) for start, stop in ranges]
        made, shape = _destination(info, form, target, shape, wanted, out)
        if len(wanted) == 1 and made.nbytes <= _PICKED and info.storage in _PICKABLE:
            self._pick(wanted[0], form, target, bytes_of(made))
        elif wanted:
            self._fill(wanted, dtype, _pieces(made, wanted), threads=threads)
        return made.reshape(shape) if out is None else out

    def _remembered(self, row: int) -> TensorInfo:
        """What was read once is often read again: rows of an embedding."""
        if len(self._infos) > 1000:
            self._infos.clear()
        return self._infos.setdefault(row, self.tensor(row))

    def _pick(self, wanted: Wanted, form: str, target: str | None, into: Array) -> None:
        """A range that is not worth a stream; each thread that reads has a picker."""
        try:
            picker = self._pickers.pop()
        except IndexError:
            picker = _core.picker(self.catalog, self._trust)
        picker.read(wanted.row, wanted.start, wanted.stop, form, target, into)
        if not self._closed:
            self._pickers.append(picker)

    def _fill(
        self,
        wanted: list[Wanted],
        dtype: Any,
        destinations: list[Array],
        *,
        budget: Size = DEFAULT_BUDGET,
        threads: int | None = None,
        engine: str = "auto",
        progress: Any = False,
    ) -> None:
        size = sum(into.nbytes for into in destinations)
        if threads is None and size < 4 << 20:
            threads = 1  # a second thread costs more than it brings
        chosen = options(dtype=dtype, budget=budget, threads=threads, engine=engine)
        run = Run(self, wanted, chosen, "into", progress, destinations)
        try:
            run.wait()
        finally:
            run.close()

    def read_into(
        self,
        arrays: Mapping[str, Array],
        *,
        budget: Size = DEFAULT_BUDGET,
        threads: int | None = None,
        engine: str = "auto",
        progress: Any = False,
    ) -> None:
        """Fill arrays that you already have, with every core.

        Args:
            arrays: name to a writable C-contiguous array of the tensor's shape.  Its dtype
                is the tensor's own, or float16, bfloat16, float32 or float64 for a
                floating-point tensor.

        Raises:
            KeyError: no such tensor.
            ValueError: a shape or dtype that does not fit.
        """
        groups: dict[Any, list[tuple[Wanted, Array]]] = {}
        for name, array in arrays.items():
            row = self.row(name)
            info = self.tensor(row)
            dtype = _conversion(info, array)
            _check_fits(info, info.shape, array)
            piece = (Wanted(row, 0, info.num_elements), bytes_of(array))
            groups.setdefault(dtype, []).append(piece)
        for dtype, pieces in groups.items():
            self._fill(
                [wanted for wanted, _ in pieces],
                dtype,
                [into for _, into in pieces],
                budget=budget, threads=threads, engine=engine, progress=progress,
            )  # fmt: skip

    # -- looking --

    def _look(
        self, wanted: list[Wanted], *, stats: bool, checksum: str | None,
        budget: Size, threads: int | None, engine: str, progress: Any,
    ) -> list[tuple[str, Any, int]]:  # fmt: skip
        chosen = options(
            budget=budget, threads=threads, engine=engine, stats=stats, checksum=checksum
        )
        run = Run(self, wanted, chosen, "look", progress)
        try:
            run.wait()
            return list(run.outcomes())
        finally:
            run.close()

    def stats(
        self,
        *,
        kinds: Patterns = None,
        layers: Layers = None,
        include: Patterns = None,
        exclude: Patterns = None,
        regex: Any = None,
        where: Any = None,
        names: Iterable[str] | None = None,
        budget: Size = "8MiB",
        threads: int | None = None,
        engine: str = "auto",
        progress: Any = False,
    ) -> dict[str, TensorStats]:
        """Minimum, maximum, mean, absmax, NaNs and infinities of each chosen tensor.

        Values are measured as the file holds them; quantised blocks as float32.
        """
        selection = Selection(kinds, layers, include, exclude, regex, where, names)
        wanted = self._select(selection, "file" if names is None else "given")
        found = self._look(
            wanted, stats=True, checksum=None,
            budget=budget, threads=threads, engine=engine, progress=progress,
        )  # fmt: skip
        return {name: TensorStats(**stats) for name, stats, _ in found}

    def checksums(
        self,
        algorithm: str = "xxh3",
        *,
        kinds: Patterns = None,
        layers: Layers = None,
        include: Patterns = None,
        exclude: Patterns = None,
        regex: Any = None,
        where: Any = None,
        names: Iterable[str] | None = None,
        budget: Size = "8MiB",
        threads: int | None = None,
        engine: str = "auto",
        progress: Any = False,
    ) -> dict[str, str]:
        """A checksum of each chosen tensor's bytes, in hex.

        Args:
            algorithm: "xxh3" (64 bits), "crc32c", "crc32" (zip's), or "sum64" (the sum of
                64-bit words: shows that bytes were read, finds little else).
        """
        if algorithm not in CHECKSUMS:
            raise ValueError(f"checksum is one of {', '.join(CHECKSUMS)}, not {algorithm!r}")
        selection = Selection(kinds, layers, include, exclude, regex, where, names)
        wanted = self._select(selection, "file" if names is None else "given")
        found = self._look(
            wanted, stats=False, checksum=algorithm,
            budget=budget, threads=threads, engine=engine, progress=progress,
        )  # fmt: skip
        digits = 8 if algorithm.startswith("crc") else 16
        return {name: f"{value:0{digits}x}" for name, _, value in found}

    def verify(self, *, progress: Any = False, threads: int | None = None) -> Verification:
        """Check structure, that no file changed, and every checksum that the files carry.

        Opening has already checked the structure to the byte.  Archives (torch, npz) carry
        a CRC-32 for each member, compressed tensors a hash for each chunk; every one is
        compared, and every damaged chunk is listed.  Other tensors carry none.
        """
        problems: list[str] = []
        try:
            self.catalog.check()
        except _core.ChangedError as error:
            return Verification(False, [str(error)], 0, len(self), 0)
        members = self.catalog.members()
        framed = [row for row in range(len(self)) if self.catalog.frame(row) is not None]
        problems += self._verify_frames(framed, progress, threads)
        if len(members):
            problems += self._verify_members(members, progress, threads)
        covered = len(self) if len(members) else len(framed)
        return Verification(
            ok=not problems,
            problems=problems,
            checked=len(members) + len(framed),
            unchecked=len(self) - covered,
            nbytes=members.totals()[0] + sum(self.tensor(row).nbytes for row in framed),
        )

    def _verify_frames(self, rows: list[int], progress: Any, threads: int | None) -> list[str]:
        """A sentence for each damaged chunk; tensors are shared out among threads."""
        from concurrent.futures import ThreadPoolExecutor

        catalog = self.catalog
        first = [row for row in rows if catalog.tensor(row)[9] == row]
        problems = []
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for row, found in zip(first, pool.map(catalog.damage, first), strict=True):
                info = self.tensor(row)
                problems += [
                    f"{info.file}: tensor {info.name!r}: {sentence}" for *_, sentence in found
                ]
        return problems

    def _verify_members(
        self, members: _core.Catalog, progress: Any, threads: int | None
    ) -> list[str]:
        view = Checkpoint._of_catalog(members, self._label)
        wanted = [Wanted(row, 0, members.tensor(row)[3]) for row in range(len(members))]
        try:
            found = view._look(
                wanted, stats=False, checksum="crc32",
                budget="8MiB", threads=threads, engine="auto", progress=progress,
            )  # fmt: skip
        except (_core.FormatError, OSError) as error:
            return [str(error)]
        problems = []
        for row, (name, _, value) in enumerate(found):
            want = members.crc32(row)
            if value != want:
                problems.append(
                    f"{view.files[members.tensor(row)[5]]}: tensor {name!r}: the archive says "
                    f"CRC-32 {want:08x}, its bytes have {value:08x}"
                )
        return problems

    # -- life --

    def close(self) -> None:
        """Close the files.  Streams and arrays that exist go on working."""
        self._closed = True
        self._pickers.clear()
        del self._catalog

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._closed:
            self.close()

    def __reduce__(self) -> Any:
        if not isinstance(self._source, (str, os.PathLike)):
            raise TypeError("only a checkpoint of files can be pickled: it is opened again")
        return _reopen, (
            os.path.abspath(self._label), file_marks(self), self._base, not self._trust,
        )  # fmt: skip

    def __repr__(self) -> str:
        if self._closed:
            return f"<Checkpoint {self._label!r}, closed>"
        return (
            f"<Checkpoint {self._label!r}: {self.format}, {len(self)} tensors, "
            f"{self.num_parameters:,} parameters, {format_size(self.nbytes)}>"
        )

    def _repr_html_(self) -> str:
        head = f"<b>{html.escape(repr(self)[1:-1])}</b>"
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
            for cells in (
                (one.name, one.dtype, str(one.shape), format_size(one.nbytes), one.kind)
                for one in map(self.tensor, range(min(len(self), 20)))
            )
        )
        more = f"<p>and {len(self) - 20} more</p>" if len(self) > 20 else ""
        titles = "".join(f"<th>{t}</th>" for t in ("name", "dtype", "shape", "size", "kind"))
        return f"{head}<table><tr>{titles}</tr>{rows}</table>{more}"


def _reopen(
    path: str, marks: list[dict[str, Any]], base: Checkpoint | None, verify: bool
) -> Checkpoint:
    """Unpickle: open again, and refuse files that are not what they were."""
    checkpoint = Checkpoint(path, base=base, verify=verify)
    now = file_marks(checkpoint)
    if [(one["size"], one["mtime_ns"]) for one in now] != [
        (one["size"], one["mtime_ns"]) for one in marks
    ]:
        raise _core.ChangedError(f"{path} changed since the checkpoint was pickled")
    return checkpoint


def _array_of(kind: str, width: int, raw: bytes) -> Array:
    dtype = np.dtype(np.bool_) if kind == "b" else np.dtype(f"<{kind}{width}")
    return np.frombuffer(raw, dtype)


# -- rows and destinations ---------------------------------------------------------------


def _row_ranges(info: TensorInfo, rows: Any) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """Element ranges of the wanted rows, neighbours joined, and the shape they make."""
    if rows is None:
        return [(0, info.num_elements)] if info.num_elements else [], info.shape
    if not info.shape:
        raise IndexError(f"tensor {info.name!r} is a scalar and has no rows")
    count, inner = info.shape[0], info.shape[1:]
    numbers, single = _row_numbers(info, rows, count)
    unit = info.num_elements // count if count else 0
    ranges: list[tuple[int, int]] = []
    for number in numbers if unit else ():
        start = number * unit
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], start + unit)
        else:
            ranges.append((start, start + unit))
    return ranges, inner if single else (len(numbers), *inner)


def _row_numbers(info: TensorInfo, rows: Any, count: int) -> tuple[Any, bool]:
    if isinstance(rows, slice):
        return range(*rows.indices(count)), False
    try:
        single = operator.index(rows)
    except TypeError:
        numbers = [operator.index(number) for number in rows]
        return [_checked_row(info, number, count) for number in numbers], False
    return [_checked_row(info, single, count)], True


def _checked_row(info: TensorInfo, number: int, count: int) -> int:
    if not -count <= number < count:
        raise IndexError(f"row {number} of tensor {info.name!r}, which has {count}")
    return number % count


def _destination(
    info: TensorInfo,
    form: str,
    target: str | None,
    shape: tuple[int, ...],
    wanted: list[Wanted],
    out: Array | None,
) -> tuple[Array, tuple[int, ...]]:
    """The array to fill and its shape."""
    code = info.dtype
    if form == "raw":
        elements = sum(item.stop - item.start for item in wanted)
        shape = (info.nbytes * elements // info.num_elements if elements else 0,)
        code = "U8"
    elif target is not None and _is_float(info):
        code = target
    elif info.is_quantized:
        code = "F32"
    dtype = numpy_dtype(code)
    assert dtype is not None
    if out is None:
        return np.empty(shape, dtype), shape
    if out.dtype != dtype:
        raise ValueError(f"tensor {info.name!r} comes as {dtype}, `out` is {out.dtype}")
    _check_fits(info, shape, out)
    return out, shape


def _is_float(info: TensorInfo) -> bool:
    return info.is_quantized or info.dtype.startswith(("F", "BF"))


def _check_fits(info: TensorInfo, shape: tuple[int, ...], array: Array) -> None:
    if array.shape != shape:
        raise ValueError(f"tensor {info.name!r} has shape {shape}, the array {array.shape}")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(f"the array for {info.name!r} must be C-contiguous and writable")


def _conversion(info: TensorInfo, array: Array) -> Any:
    """The dtype option that fills this array: None when it has the tensor's own dtype."""
    own = numpy_dtype("F32" if info.is_quantized else info.dtype)
    if array.dtype == own:
        return None
    if not _is_float(info):
        raise ValueError(f"tensor {info.name!r} is {info.dtype}, the array {array.dtype}")
    return code_of(array.dtype)


def _pieces(made: Array, wanted: list[Wanted]) -> list[Array]:
    """The memory of each range, one behind the other."""
    flat = bytes_of(made)
    elements = sum(item.stop - item.start for item in wanted)
    pieces, at = [], 0
    for item in wanted:
        size = flat.nbytes * (item.stop - item.start) // elements
        pieces.append(flat[at : at + size])
        at += size
    return pieces
