"""Checkpoints are written: whole, tensor by tensor, or row by row as they come.

A file appears at its path complete or not at all.  Until then it has another name in the
same folder, and what stood at the path stands there untouched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from tensorstream import _core
from tensorstream.arrays import (
    PACKED,
    Array,
    as_array,
    bytes_of,
    dtype_code,
    float_target,
    numpy_dtype,
)
from tensorstream.checkpoint import Checkpoint, TensorInfo
from tensorstream.opening import is_module
from tensorstream.selection import Layers, Patterns, Selection
from tensorstream.streaming import DEFAULT_BUDGET
from tensorstream.units import Size, parse_size, parse_threads

FORMATS = {".safetensors": "safetensors", ".gguf": "gguf", ".npz": "npz"}
LEAST_BUDGET, LEAST_PACKING = 1 << 20, 4 << 20
FOLDER_SHARDS = "5GB"  # of a checkpoint in a folder, as the Hub has them
TIED = "tensorstream.tied."
_NAMED = "a mapping of names to arrays, a module or pairs (name, array) are saved"
_MODES = "'fast', 'portable', 'small', 'raw'"

# Small tensors are loaded into common memory of at most this size.
_GROUP, _SMALL = 32 << 20, 4 << 20
_ALIGNMENT = 64
_PAGE, _HUGE = 4 << 10, 2 << 20
_WORTH_PLACING = 64 << 10  # bytes for which a copy costs more than a page that is skipped


class Row(NamedTuple):
    """A tensor that will be written; None as the first dimension: rows as they come."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    nbytes: int


def format_of(path: str | os.PathLike[str], format: str | None = None) -> str:
    """The format to write: as said, or by the suffix of the path.

    Raises:
        ValueError: for another one.
    """
    suffix = pathlib.Path(path).suffix.lower()
    found = FORMATS.get(suffix) if format is None else str(format).lower()
    if found is None or found not in FORMATS.values():
        what = f"format {format!r}" if format is not None else f"suffix {suffix!r}"
        hint = "" if suffix or format is not None else "; a suffix or format= tells which"
        raise ValueError(f"{what}: the formats written are {', '.join(FORMATS.values())}{hint}")
    return found


# -- metadata --------------------------------------------------------------------------------


def put_metadata(core: _core.Writer, format: str, metadata: Mapping[str, Any]) -> None:
    """Hand metadata to a writer: strings to safetensors, typed values to GGUF.

    In safetensors what is no string is written as JSON.  In GGUF an int is a u32 or, where it
    does not fit, i32, u64 or i64; a float an f32; lists are arrays of these; NumPy numbers
    and arrays keep their type.  npz files hold no metadata.

    Raises:
        TypeError: for values of other types.
    """
    if format == "npz":
        return
    for key, value in metadata.items():
        if format == "safetensors":
            text = value if isinstance(value, str) else json.dumps(value, default=_jsonable)
            core.value(key, "s", 0, text.encode(), 0)
        else:
            core.value(key, *_typed(key, value))


def _jsonable(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"metadata of type {type(value).__name__} cannot be written")


def _typed(key: str, value: Any) -> tuple[str, int, Any, int]:
    """(kind, width, content, count) as the core takes them."""
    if isinstance(value, str):
        return "s", 0, value.encode(), 0
    if isinstance(value, (bool, np.bool_)):
        return "b", 1, bool(value), 0
    if isinstance(value, int):
        return ("u" if value >= 0 else "i"), _int_width(value), value, 0
    if isinstance(value, float) and not isinstance(value, np.generic):
        return "f", 4, value, 0
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        parts = [text.encode() for text in value]
        packed = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
        return "S", 0, packed, len(parts)
    array = _number_array(key, value)
    if array.ndim == 0:
        return array.dtype.kind, array.dtype.itemsize, array.item(), 0
    return array.dtype.kind.upper(), array.dtype.itemsize, array.tobytes(), array.size


def _int_width(value: int) -> int:
    small = 0 <= value < 1 << 32 or -(1 << 31) <= value < 0
    return 4 if small else 8


def _number_array(key: str, value: Any) -> Array:
    if isinstance(value, (list, tuple)):
        array = np.asarray(value)
        if array.dtype == np.int64 and all(-(1 << 31) <= one < 1 << 31 for one in value):
            array = array.astype(np.int32)
        elif array.dtype == np.float64:
            array = array.astype(np.float32)
    else:
        array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or array.ndim > 1:
        raise TypeError(f"metadata {key!r} of type {type(value).__name__} cannot be written")
    return array.astype(array.dtype.newbyteorder("<"))


# -- bytes -----------------------------------------------------------------------------------


def pieces(array: Array, most: int) -> Iterator[Array]:
    """The elements of an array in order, as flat uint8.

    C-contiguous little-endian memory comes as it is, anything else in copies of at most
    `most` bytes (or of one element).
    """
    if array.flags.c_contiguous and array.dtype.byteorder != ">":
        yield bytes_of(array)
    elif array.nbytes <= most or array.ndim == 0:
        yield bytes_of(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))
    else:
        rows = max(most * len(array) // array.nbytes, 1)
        for start in range(0, len(array), rows):
            block = array[start : start + rows]
            inner = block if rows > 1 or block.nbytes <= most else block[0]
            yield from pieces(inner, most)


def _row_of(name: str, value: Any) -> Row:
    array, code = as_array(name, value)
    return Row(name, code, array.shape, array.nbytes)


# -- the writer --------------------------------------------------------------------------------


class Writer:
    """A checkpoint that is being written.  Made by `create`.

    Use it in a `with` block: leaving it puts the file in place, and an exception inside it
    takes everything back.

    Attributes:
        metadata: may be added to and changed until the end.
        path: of the file to open afterwards: the one asked for, or the index of shards.
        files: all that were written, once it is closed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        format: str | None = None,
        compression: str | None = None,
        shard_size: Size | None = None,
        budget: Size | None = None,
        threads: int | None = None,
        base: Any = None,
        digests: bool = False,
    ) -> None:
        place = pathlib.Path(path).expanduser()
        if place.is_dir():
            place /= f"model.{format or 'safetensors'}"
            if shard_size is None and place.suffix == ".safetensors":
                shard_size = FOLDER_SHARDS
        self.format = format_of(place, format)
        self.path = place
        self.files: list[pathlib.Path] = []
        self._base = place
        self._limit = _shard_limit(self.format, shard_size)
        if self._limit and self.format == "gguf":
            _check_no_parts(place)
        size = _budget(budget, LEAST_BUDGET if compression is None else LEAST_PACKING)
        self._copy = min(size // 4, _SMALL)
        self.compression = compression
        self._options: dict[str, Any] = {
            "digests": digests, "compression": compression, "threads": parse_threads(threads),
            "budget": size - self._copy,
        }  # fmt: skip
        self._below: Checkpoint | None = None
        self._owns_below = False
        if base is not None:
            self._go_over(base)
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError(f"metadata is a mapping, not a {type(metadata).__name__}")
        if compression is not None and not isinstance(compression, str):
            raise TypeError(f"compression is {_MODES} or None, not {compression!r}")
        self.metadata = dict(metadata or {})
        if self.format == "safetensors":
            self.metadata.setdefault("format", "pt")  # transformers asks for it
        self._plan: list[Row] = []
        self._values_from: tuple[_core.Catalog, tuple[str, ...]] | None = None
        self._names: set[str] = set()
        self._in_shard: set[str] = set()
        self._header = 0  # bytes before the tensors of the shard
        self._shards: list[_core.Writer] = []
        self._open: TensorWriter | None = None
        self._closed = False
        # Now, so that a path that cannot be written is told at once.
        try:
            self._shards.append(self._new_shard())
        except BaseException:
            self._leave_base()
            raise

    def _go_over(self, base: Any) -> None:
        """Write differences to this checkpoint."""
        if self.compression is None:
            raise ValueError("base= is for compressed files: say compression='fast' as well")
        self._owns_below = not isinstance(base, Checkpoint)
        self._below = Checkpoint(base) if self._owns_below else base
        if self._below.format != "memory":
            self._spare(map(pathlib.Path, self._below.files))
        name = os.fsencode(os.path.basename(self._below.label)).decode("utf-8", "replace")
        self._options |= {"base": self._below.catalog, "base_name": name}

    def _spare(self, files: Iterable[pathlib.Path]) -> None:
        """What is below must still be there afterwards."""
        gone = {os.path.realpath(path) for path in [self._base, *_old_shards(self._base)]}
        for path in files:
            if os.path.realpath(path) in gone:
                self._leave_base()
                raise ValueError(
                    f"{self._base} would take the place of its own base, {path}; write "
                    "beside it"
                )

    def _leave_base(self) -> None:
        if self._below is not None and self._owns_below:
            self._below.close()
        self._below = None

    def _new_shard(self) -> _core.Writer:
        return _core.Writer(self._base, self.format, **self._options)

    # -- what is known beforehand --

    def expect(self, rows: Iterable[Row]) -> None:
        """The tensors that will be written, in order: saves moving data and finds a full disk
        before any work is done."""
        self._plan = list(rows)

    def keep_metadata_of(self, catalog: _core.Catalog, besides: tuple[str, ...]) -> None:
        """Take the metadata of a GGUF catalog over, in its own types."""
        self._values_from = catalog, besides

    def _start_shard(self, core: _core.Writer) -> None:
        """All that can be known of it before its first tensor."""
        is_first = core is self._shards[0]
        if self._values_from is not None and is_first:
            core.copy_values(*self._values_from)
        if is_first or self.format == "safetensors":
            put_metadata(core, self.format, self.metadata)
        size = 0
        coming = self._plan[len(self._names) :]
        for at, row in enumerate(coming):
            if size > 0 and self._limit and size + row.nbytes > self._limit:
                coming = coming[:at]
                is_first = False
                break
            size += row.nbytes
        if self.format == "gguf" and not is_first:
            _tell_split(core, len(self._shards) - 1, 0, 0)  # room for what will be known
        for row in coming:
            core.expect(row.name, row.dtype, row.shape)

    def _leave_shard(self, core: _core.Writer) -> None:
        """It is full; parts of a GGUF say how many there are, which nobody knows yet."""
        if self.format == "gguf":
            core.rest()
            return
        put_metadata(core, self.format, self.metadata)
        core.finish()

    # -- tensors --

    def write(self, name: str, array: Any) -> None:
        """Write a whole tensor.

        Args:
            name: of the tensor, not yet in the file.
            array: of any dtype that the format holds; a NumPy or torch one is not copied
                when it is C-contiguous, and in small pieces when it is not.

        Raises:
            TypeError: it is no array of a known dtype.
            ValueError: the name is in the file, or not possible in this format.
            UnsupportedError: the format has no such dtype or shape.
            OSError: the file cannot be written: a full disk, say.
        """
        values, code = as_array(name, array)
        with self.tensor(name, code, values.shape) as tensor:
            tensor.write(values)

    def tensor(self, name: str, dtype: Any, shape: Iterable[int | None]) -> TensorWriter:
        """Begin a tensor whose rows come one after the other.

        Args:
            name: of the tensor.
            dtype: as NumPy, ml_dtypes, torch, safetensors or ggml call it: "bfloat16",
                np.float32, "F8_E4M3", "Q4_K" ...
            shape: row-major; None as the first dimension when the number of rows is not
                known: it will be as many as are written.

        Returns:
            A context manager with `write(rows)`.
        """
        if self._closed:
            raise _core.Error("the writer is closed")
        if self._open is not None:
            raise ValueError(f"{name!r} begins while {self._open.name!r} is being written")
        dims = tuple(shape)
        code = dtype_code(dtype)
        return TensorWriter(self, name, code, dims)

    def _begin(self, tensor: TensorWriter) -> _core.Writer:
        if tensor.name in self._names:
            raise ValueError(f"tensor {tensor.name!r} is already in the checkpoint")
        core = self._shards[-1]
        size = core.size - self._header + tensor.nbytes
        if self._limit and self._in_shard and size > self._limit:
            self._leave_shard(core)
            core = self._new_shard()
            self._shards.append(core)
            self._in_shard = set()
        if not self._in_shard:
            self._start_shard(core)
        core.begin(tensor.name, tensor.dtype, tensor.shape)
        if not self._in_shard:
            self._header = core.size
        self._in_shard.add(tensor.name)
        self._names.add(tensor.name)
        self._open = tensor
        return core

    def tie(self, name: str, first: str) -> None:
        """Say that a tensor is another one that was written before.

        A compressed file holds it as a tensor that refers to the other.  Else metadata says
        so: {name: first} in safetensors, as safetensors.torch.save_model has it,
        {"tensorstream.tied.name": first} in GGUF.

        Raises:
            ValueError: no tensor is called so; npz has no way to say it.
        """
        if first not in self._names or name in self._names:
            raise ValueError(f"{name!r} cannot be {first!r}: one is there, one is not")
        if self.compression is not None and first in self._in_shard:
            self._shards[-1].repeat(name, first)
            self._names.add(name)
            self._in_shard.add(name)
        elif self.format == "npz":
            raise ValueError(f"npz cannot say that {name!r} is {first!r}")
        else:
            key = name if self.format == "safetensors" else TIED + name
            self.metadata.setdefault(key, first)

    # -- the end --

    def digests(self) -> dict[str, str]:
        """XXH3 of the elements of each tensor, in hex, where asked for; of compressed ones the
        digest of their frames."""
        return {
            name: f"{digest:016x}"
            for core in self._shards
            for name, _, _, _, digest, *_ in core.rows()
        }

    def differences(self) -> int:
        """How many tensors were written as differences to the base."""
        return sum(differs for core in self._shards for *_, differs in core.rows())

    def close(self) -> None:
        """Put the file in place; a second call does nothing.

        Raises:
            ValueError: a tensor is not complete.
            OSError: it cannot be written; the old file is untouched.
        """
        if self._closed:
            return
        try:
            if self._open is not None:
                raise ValueError(f"tensor {self._open.name!r} is not complete")
            core = self._shards[-1]
            if not self._in_shard:
                self._start_shard(core)
            self._finish()
            self._publish()
        except BaseException:
            self.abort()
            raise
        self._closed = True
        self._leave_base()

    def abort(self) -> None:
        """Give up: nothing is left of it, and the old file is as it was."""
        self._closed = True
        for core in self._shards:
            core.close()
        self._leave_base()

    def _finish(self) -> None:
        if self.format != "gguf":
            put_metadata(self._shards[-1], self.format, self.metadata)
            self._shards[-1].finish()
            return
        put_metadata(self._shards[0], self.format, self.metadata)
        for number, core in enumerate(self._shards):
            if len(self._shards) > 1:
                _tell_split(core, number, len(self._shards), len(self._names))
            core.finish()

    def _publish(self) -> None:
        old = _old_shards(self._base)
        if len(self._shards) == 1:
            self._shards[0].publish()
            self.files = [self._base]
            _remove(old)
        elif self.format == "gguf":
            self._publish_parts()
        else:
            self._publish_shards(old)

    def _publish_parts(self) -> None:
        """The first one last: where it is, all are."""
        _check_no_parts(self._base)
        parts = [
            self._base.with_name(name) for name in _numbered(self._base, "", len(self._shards))
        ]
        for part, core in reversed(list(zip(parts, self._shards, strict=True))):
            core.publish(part.name)
        self.path, self.files = parts[0], parts
        _remove([self._base])

    def _publish_shards(self, old: list[pathlib.Path]) -> None:
        names = _shard_names(self._base, len(self._shards))
        weight_map: dict[str, str] = {}
        total = 0
        for name, core in zip(names, self._shards, strict=True):
            core.publish(name)
            for tensor, _, nbytes, *_ in core.rows():
                weight_map[tensor] = name
                total += nbytes
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
        self.path = _index_of(self._base)
        _core.write_file(self.path, text.encode())
        self.files = [self.path, *map(self._base.with_name, names)]
        _remove([*old, self._base], keep=self.files)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            self.abort()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._names)} tensors so far"
        return f"<Writer of {os.fspath(self.path)!r}: {self.format}, {state}>"


class TensorWriter:
    """One tensor that is being written.  Made by `Writer.tensor`."""

    def __init__(
        self, out: Writer, name: str, dtype: str, shape: tuple[int | None, ...]
    ) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self._out = out
        self._numpy = numpy_dtype(dtype)
        self._packed = self._numpy is None or dtype in PACKED
        known = [0 if size is None else size for size in shape]
        width = 1 if self._packed or self._numpy is None else self._numpy.itemsize
        self.nbytes = int(np.prod(known, dtype=object)) * width
        self._core = out._begin(self)

    def write(self, rows: Any) -> None:
        """Write the next rows.

        Args:
            rows: an array of the tensor's dtype, with or without the first dimension of
                the tensor; a flat array or `bytes` of any length are taken as the next
                bytes where they are uint8 (so are blocks of "Q4_K" and its like).

        Raises:
            ValueError: a shape that does not fit, more than the tensor holds.
            TypeError: another dtype.
        """
        if isinstance(rows, (bytes, bytearray, memoryview)):
            self._core.write(rows)
            return
        array, code = as_array(self.name, rows)
        if code != self.dtype and not (code == "U8" and (self._packed or array.ndim == 1)):
            raise TypeError(f"tensor {self.name!r} is {self.dtype}, the rows are {code}")
        if code == self.dtype and array.ndim != 1:
            self._check_shape(array.shape)
        for piece in pieces(array, self._out._copy):
            self._core.write(piece)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        inner = self.shape[1:]
        if shape in (self.shape, inner) or (len(shape) > 0 and shape[1:] == inner):
            return
        raise ValueError(
            f"tensor {self.name!r} has rows of shape {inner}, the array has shape {shape}"
        )

    def close(self) -> None:
        """The tensor is complete.

        Raises:
            ValueError: it got fewer elements than its shape holds.
        """
        if self._out._open is self:
            self._core.end()
            self._out._open = None

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()


# -- shards ------------------------------------------------------------------------------------


def _budget(budget: Size | None, least: int) -> int:
    size = parse_size(DEFAULT_BUDGET if budget is None else budget, "budget")
    if size < least:
        raise ValueError(f"budget must be at least {least} bytes, not {size}")
    return size


def _shard_limit(format: str, shard_size: Size | None) -> int:
    if shard_size is None:
        return 0
    if format == "npz":
        raise ValueError("shard_size is for safetensors and GGUF; npz files are written whole")
    size = parse_size(shard_size, "shard_size")
    if size == 0:
        raise ValueError("shard_size must be positive")
    return size


def _index_of(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".index.json")


def _shard_names(path: pathlib.Path, count: int) -> list[str]:
    """Names of shards as the Hub has them: model-00001-of-00003.safetensors.

    None of them is there yet: an index that is still in place may name files of today.
    """
    for tag in ["", *(f"-{number}" for number in range(2, 1000))]:
        names = _numbered(path, tag, count)
        if not any(path.with_name(name).exists() for name in names):
            return names
    raise FileExistsError(f"shards of {path} are there under a thousand names")


def _numbered(path: pathlib.Path, tag: str, count: int) -> list[str]:
    return [
        f"{path.stem}{tag}-{number:05d}-of-{count:05d}{path.suffix}"
        for number in range(1, count + 1)
    ]


def _tell_split(core: _core.Writer, number: int, count: int, tensors: int) -> None:
    """Which part of a GGUF it is, as llama.cpp's gguf-split says it."""
    core.value("split.no", "u", 2, number, 0)
    core.value("split.count", "u", 2, count, 0)
    core.value("split.tensors.count", "i", 4, tensors, 0)


def _check_no_parts(path: pathlib.Path) -> None:
    """Parts of a GGUF have no index by which new ones could replace them all at once."""
    ours = re.compile(rf"{re.escape(path.stem)}-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}")
    there = sorted(name for name in os.listdir(path.parent) if ours.fullmatch(name))
    if there:
        raise FileExistsError(
            errno.EEXIST,
            f"parts of {path.name} are there: {', '.join(there[:3])}"
            f"{' ...' if len(there) > 3 else ''}; remove them or write beside them",
            os.fspath(path),
        )


def _old_shards(path: pathlib.Path) -> list[pathlib.Path]:
    """The index beside a path and the shards it names, where they are called as ours are."""
    index = _index_of(path)
    ours = re.compile(
        rf"{re.escape(path.stem)}(-\d+)?-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}"
    )
    try:
        named = json.loads(index.read_bytes())["weight_map"].values()
        shards = {name for name in named if ours.fullmatch(name)}
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # no index of a checkpoint: not ours to remove
    return [index, *(path.with_name(name) for name in sorted(shards))]


def _remove(paths: list[pathlib.Path], keep: Iterable[pathlib.Path] = ()) -> None:
    """Take away what the new files stand for, the index first."""
    kept = set(keep)
    for path in paths:
        if path not in kept:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


# -- whole checkpoints -------------------------------------------------------------------------


def create(
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
    format: str | None = None,
    compression: str | None = None,
    shard_size: Size | None = None,
    budget: Size | None = None,
    threads: int | None = None,
    base: Any = None,
) -> Writer:
    """Begin a checkpoint whose tensors come one after the other, larger than memory if need be.

    Args:
        path: a file ending in .safetensors, .gguf or .npz; or a folder, which gets
            model.safetensors.
        metadata: strings for safetensors; for GGUF also numbers, lists and NumPy values.
            Safetensors get "format": "pt" unless it says otherwise.
        format: "safetensors", "gguf" or "npz" where the suffix does not tell.
        compression: None; "fast" (decodes at the speed of memory), "portable" (zstd decodes
            its parts), "small" (the best ratio) or "raw" (checksums and random access only).
            The file is a valid safetensors file all the same, of uint8 tensors to others,
            and `ts.open` gives the tensors back.
        shard_size: "5GB": start a new file before one grows above it, and write
            an index; a GGUF becomes parts called as llama.cpp's gguf-split calls them, of
            which each tells how many there are.  Of folders the default is 5GB, of files none.
        budget: bytes for buffers, at least 1 MiB, 4 MiB with compression; None is 64MiB.
        threads: that compress, besides the one that writes; None is one a core, 1 none.
        base: a checkpoint that this one differs little from, whatever `open` takes or an open
            one: a fine-tune's, say.  What has a tensor of the same name, dtype and shape
            there is written as the difference (XOR), chunk by chunk where that is smaller,
            and opens with `ts.open(path, base=...)` only.  Needs compression.

    Returns:
        A `Writer`, to be used in a `with` block.

    Raises:
        ValueError: an unknown format; shards of npz; a base without
            compression, that the new file would replace, or that holds differences itself.
        BudgetError: the budget is too small to unpack the base beside packing.
        FileExistsError: parts of a GGUF of that name are there.
        OSError: the folder is not there or not writable.

    >>> with ts.create("new.safetensors") as out:
    ...     out.write("a", np.ones((2, 3), np.float32))
    ...     with out.tensor("b", "bfloat16", (None, 64)) as b:
    ...         for rows in source:
    ...             b.write(rows)
    """
    return Writer(
        path, metadata=metadata, format=format, compression=compression,
        shard_size=shard_size, budget=budget, threads=threads, base=base,
    )  # fmt: skip


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any] | Iterable[tuple[str, Any]],
    metadata: Mapping[str, Any] | None = None,
    *,
    format: str | None = None,
    compression: str | None = None,
    shard_size: Size | None = None,
    tied: str = "once",
    budget: Size | None = None,
    threads: int | None = None,
    base: Any = None,
) -> pathlib.Path:
    """Write arrays to a checkpoint, which appears whole or not at all.

    Args:
        path, metadata, format, compression, shard_size, budget, threads, base: see `create`.
        tensors: a mapping of names to arrays (nested ones become dotted names), a
            torch.nn.Module, or an iterable of (name, array), of which one at a time is held.
        tied: "once": of arrays on the same memory in a mapping only the first is written, and
            the others are told to be the same (see `Writer.tie`); "copy": each is, as it
            always is in npz.  In a compressed file equal tensors are stored once anyway.

    Returns:
        The path to open: `path`, or the index of the shards.

    Raises:
        TypeError: something is no array of a known dtype.
        ValueError, UnsupportedError: a name, dtype or shape that the format does not hold.
        OSError: it cannot be written; what was at the path is untouched.

    >>> ts.save("model.safetensors", {"w": np.zeros((4, 4), np.float32)})
    """
    if tied not in ("once", "copy"):
        raise ValueError(f"tied is 'once' or 'copy', not {tied!r}")
    named = _named_arrays(tensors)
    with create(
        path, metadata=metadata, format=format, compression=compression,
        shard_size=shard_size, budget=budget, threads=threads, base=base,
    ) as out:  # fmt: skip
        if isinstance(named, dict):
            ties = tied_arrays(named) if tied == "once" and out.format != "npz" else {}
            rows = [_row_of(name, value) for name, value in named.items() if name not in ties]
            if out.format == "safetensors" and compression is None:  # others align themselves
                rows = aligned(rows)
            out.expect(rows)
            for row in rows:
                out.write(row.name, named[row.name])
            for name, first in ties.items():
                out.tie(name, first)
        else:
            for name, value in named:
                out.write(name, value)
    return out.path


def _named_arrays(tensors: Any) -> dict[str, Any] | Iterator[tuple[str, Any]]:
    if is_module(tensors):
        return _flat(tensors.state_dict(keep_vars=True))
    if isinstance(tensors, Mapping):
        return _flat(tensors)
    if isinstance(tensors, np.ndarray) or not isinstance(tensors, Iterable):
        raise TypeError(f"{_NAMED}, not a {type(tensors).__name__}")
    return map(_pair, tensors)


def _pair(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return item
    raise TypeError(f"{_NAMED}; one of what came is a {type(item).__name__}")


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def tied_arrays(named: Mapping[str, Any]) -> dict[str, str]:
    """Names of arrays that lie on the memory of an earlier one, and the name of that."""
    seen: dict[Any, str] = {}
    ties = {}
    for name, value in named.items():
        array, code = as_array(name, value)
        if array.nbytes == 0:
            continue
        key = (array.__array_interface__["data"][0], code, array.shape, array.strides)
        first = seen.setdefault(key, name)
        if first != name:
            ties[name] = first
    return ties


def aligned(rows: list[Row]) -> list[Row]:
    """The rows in an order in which each element lies on a multiple of its size.

    The given order where it already is so, which it is unless tensors of an odd number of
    small elements are among larger ones; else those of wide elements come first.
    """
    at = 0
    for row in rows:
        dtype = numpy_dtype(row.dtype)
        if dtype is not None and at % min(dtype.itemsize, 8):
            return sorted(rows, key=_narrowness)
        at += row.nbytes
    return rows


def _narrowness(row: Row) -> int:
    dtype = numpy_dtype(row.dtype)
    return -1 if dtype is None else -dtype.itemsize


# -- loading -----------------------------------------------------------------------------------


def load(
    source: Any,
    *,
    kinds: Patterns = None,
    layers: Layers = None,
    include: Patterns = None,
    exclude: Patterns = None,
    regex: Any = None,
    where: Any = None,
    names: Iterable[str] | None = None,
    dtype: Any = None,
    budget: Size | None = None,
    threads: int | None = None,
    base: Any = None,
    engine: str = "auto",
    progress: Any = False,
) -> dict[str, Array]:
    """Read a checkpoint, or chosen tensors of it, into new arrays, with every core.

    Args:
        source: whatever `open` takes, or an open `Checkpoint`.
        kinds, layers, include, exclude, regex, where, names: see `Selection`.
        dtype: None keeps each tensor's own (quantised blocks come as float32); "float32",
            "float16", "bfloat16", "float64" convert floating-point tensors.
        budget: for reading, besides the arrays themselves; None is 64MiB.
        base: where compressed differences find what they differ from; see `open`.
        threads, engine, progress: as in `Checkpoint.stream`.

    Returns:
        Names to writable arrays, in the order of the file.  Names that the file ties to
        another tensor, as `save` notes them, are the same array.  Tensors below 4 MiB share
        memory with their neighbours, in blocks of up to 32 MiB.

    Raises:
        MemoryError: the arrays do not fit in memory.
        FormatError, OSError: the file is damaged or cannot be read.

    >>> arrays = ts.load("model.safetensors", layers=range(2))
    """
    ckpt = source if isinstance(source, Checkpoint) else Checkpoint(source, base=base)
    try:
        selection = Selection(kinds, layers, include, exclude, regex, where, names)
        rows = selection.rows(ckpt, ckpt.catalog)
        target = None if dtype is None else float_target(dtype)
        arrays = _empty_arrays([ckpt.tensor(row) for row in rows], target)
        budget = DEFAULT_BUDGET if budget is None else budget
        ckpt.read_into(arrays, budget=budget, threads=threads, engine=engine, progress=progress)
        for name, first in tied_names(ckpt).items():
            if first in arrays and names is None:
                arrays.setdefault(name, arrays[first])
        return arrays
    finally:
        if ckpt is not source:
            ckpt.close()


def tied_names(ckpt: Checkpoint) -> dict[str, str]:
    """Names that are no tensors but stand for one, as the metadata has it."""
    found = {}
    for key, value in ckpt.metadata.items():
        name = key.removeprefix(TIED)
        if isinstance(value, str) and name not in ckpt and value in ckpt:
            found[name] = value
    return found


def _loaded_dtype(info: TensorInfo, target: str | None) -> np.dtype[Any]:
    code = info.dtype
    if info.is_quantized:
        code = target or "F32"
    elif target is not None and code.startswith(("F", "BF")):
        code = target
    dtype = numpy_dtype(code)
    assert dtype is not None
    return dtype


def _empty_arrays(infos: list[TensorInfo], target: str | None) -> dict[str, Array]:
    """New arrays; small ones in common blocks, which cost a page fault for many."""
    arrays: dict[str, Array] = {}
    group: list[tuple[str, tuple[int, ...], np.dtype[Any], int]] = []
    used = 0
    for info in infos:
        dtype = _loaded_dtype(info, target)
        size = info.num_elements * dtype.itemsize
        lead = _lead(info, dtype)
        if size >= _SMALL:
            arrays[info.name] = _fresh(size, lead).view(dtype).reshape(info.shape)
            continue
        if used + size + _PAGE > _GROUP:
            _fill_group(arrays, group, used)
            group, used = [], 0
        if size >= _WORTH_PLACING:
            used += (lead - used) % _PAGE
        arrays[info.name] = np.empty(0)  # keeps the order
        group.append((info.name, info.shape, dtype, used))
        used += -(-size // _ALIGNMENT) * _ALIGNMENT
    _fill_group(arrays, group, used)
    return arrays


def _lead(info: TensorInfo, dtype: np.dtype[Any]) -> int:
    """Bytes past a page border where an array should begin: as many as in the file.

    What is read past the page cache then lands in its place, without a copy.
    """
    if info.storage != "stored" or info.strides is not None or dtype != info.numpy_dtype:
        return 0
    lead = info.offset % _PAGE
    return lead if lead % min(dtype.itemsize, 16) == 0 else 0


def _fill_group(arrays: dict[str, Array], group: list[Any], used: int) -> None:
    block = _fresh(used)
    for name, shape, dtype, at in group:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        arrays[name] = block[at : at + size].view(dtype).reshape(shape)


def _fresh(size: int, lead: int = 0) -> Array:
    """Bytes that begin `lead` past a page border: of a huge page, if they can fill one.

    NumPy asks for huge pages, but begins anywhere: up to 4 MiB of each array came in pages
    of 4 KiB, which the kernel gives at a quarter of the speed.  What is skipped is never
    touched, and takes no memory.
    """
    grain = next((one for one in (_HUGE, _PAGE) if size >= one), _ALIGNMENT)
    block = np.empty(size + lead + grain, np.uint8)
    start = -block.__array_interface__["data"][0] % grain + lead
    return block[start : start + size]
