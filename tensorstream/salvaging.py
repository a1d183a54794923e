"""Out of a damaged checkpoint what is sound, and a report of what is not.

Compressed tensors are known chunk by chunk, archives member by member, a file that was cut
short to the byte; and where the disk refuses to read, as much is lost as it refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tensorstream import _core
from tensorstream.arrays import PACKED, Array, bytes_of, numpy_dtype
from tensorstream.checkpoint import Checkpoint, TensorInfo
from tensorstream.converting import Step, converted, make_steps, metadata_into
from tensorstream.opening import find_file
from tensorstream.saving import LEAST_PACKING, TensorWriter, Writer
from tensorstream.streaming import Options, Stream, Wanted, options
from tensorstream.units import Size, parse_size

FILLS = ("nan", "zero", "drop")
NOTE = "tensorstream.salvaged"

_MOST_HEADER = 100_000_000  # as every reader of safetensors has it
_STEP = 1 << 20  # bytes given up where the disk refuses to read
_PIECE = 1 << 18  # elements of what stands in for lost ones


class Loss(NamedTuple):
    """Elements of a tensor that are lost.

    Attributes:
        name: of the tensor.
        dtype, shape: of it; "U8" and its bytes where nothing else is known.
        first, elements: what is lost, in row-major order.
        chunk: number of the chunk of a compressed tensor, else None.
        reason: one sentence.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    elements: int
    chunk: int | None
    reason: str


class Salvage(NamedTuple):
    """What `salvage` did.

    Attributes:
        path: of the file that was written.
        tensors: in the source, tied ones once.
        sound: of them, without any loss.
        partial: written with something in the place of what is lost.
        dropped: names of those that were not written.
        elements, elements_lost: in all, and of them lost.
        losses: each of them.
    """

    path: pathlib.Path
    tensors: int
    sound: int
    partial: int
    dropped: list[str]
    elements: int
    elements_lost: int
    losses: list[Loss]


# -- what is lost ----------------------------------------------------------------------------


class _Ward(NamedTuple):
    """A checkpoint to be salvaged: opened as far as it can be."""

    ckpt: Checkpoint
    cut: int | None  # bytes of the file that are there; None: all
    is_packed: bool


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str], folder: pathlib.Path) -> Iterator[_Ward]:
    path = find_file(source)
    with contextlib.ExitStack() as stack:
        cut = None
        try:
            catalog = _core.open_catalog(path, lenient=True)
        except _core.FormatError:
            length = _told_length(path)
            size = path.stat().st_size
            if length is None or length == size:
                raise
            cut = min(size, length)
            mended = stack.enter_context(_mended(path, cut, length, folder))
            catalog = _core.open_catalog(mended, lenient=True)
        ckpt = Checkpoint._of_catalog(catalog, os.fspath(path))
        stack.callback(ckpt.close)
        yield _Ward(ckpt, cut, "tensorstream.frames" in ckpt.metadata)


def _told_length(path: pathlib.Path) -> int | None:
    """The length that the header of a safetensors file tells; None where it has no such."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _MOST_HEADER:
            return None
        try:
            header = json.loads(file.read(size))
            ends = [
                entry["data_offsets"][1]
                for name, entry in header.items()
                if name != "__metadata__"
            ]
            return 8 + size + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return None


@contextlib.contextmanager
def _mended(
    path: pathlib.Path, cut: int, length: int, folder: pathlib.Path
) -> Iterator[pathlib.Path]:
    """A copy of the right length, with a hole where bytes are missing."""
    handle, name = tempfile.mkstemp(prefix=".salvage.", suffix=".tmp", dir=folder)
    try:
        with open(handle, "wb") as copy, path.open("rb") as file:
            left = cut
            while left > 0:
                piece = file.read(min(left, _STEP))
                if not piece:
                    break
                copy.write(piece)
                left -= len(piece)
            copy.truncate(length)
        yield pathlib.Path(name)
    finally:
        os.unlink(name)


def _losses(ward: _Ward, steps: list[Step], threads: int | None) -> list[Loss]:
    """What can be known to be lost before the tensors are copied."""
    catalog = ward.ckpt.catalog
    bad_members = _bad_members(ward.ckpt, threads)
    own = [step for step in steps if step.tied_to is None]
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        found = pool.map(lambda step: _damage(catalog, step), own)
        losses = []
        for step, damages in zip(own, found, strict=True):
            info = step.info
            if ward.is_packed and info.storage != "framed":
                losses.append(_all(info, "its front is damaged: what it is, is not known"))
                continue
            losses += damages
            if ward.cut is not None and info.storage == "stored":
                losses += _cut_off(info, ward.cut)
            losses += [_all(info, why) for why in _of_members(info, bad_members)]
    return losses


def _damage(catalog: _core.Catalog, step: Step) -> list[Loss]:
    try:
        found = catalog.damage(step.row)
    except (OSError, _core.FormatError) as error:
        return [_all(step.info, str(error))]
    return [
        Loss(step.info.name, step.info.dtype, step.info.shape, first, elements, chunk, reason)
        for chunk, first, elements, reason in found
        if elements
    ]


def _all(info: TensorInfo, reason: str) -> Loss:
    return Loss(info.name, info.dtype, info.shape, 0, info.num_elements, None, reason)


def _cut_off(info: TensorInfo, cut: int) -> list[Loss]:
    if info.offset + info.nbytes <= cut:
        return []
    whole = max(cut - info.offset, 0) * info.num_elements // max(info.nbytes, 1)
    reason = f"the file ends at byte {cut} of the {info.offset + info.nbytes} it needs"
    lost = info.num_elements - whole
    return [Loss(info.name, info.dtype, info.shape, whole, lost, None, reason)]


class _Member(NamedTuple):
    file: str
    start: int
    stop: int
    reason: str


def _bad_members(ckpt: Checkpoint, threads: int | None) -> list[_Member]:
    """Members of an archive whose bytes have another checksum than it says."""
    members = ckpt.catalog.members()
    if not len(members):
        return []
    view = Checkpoint._of_catalog(members, "archive")
    bad = []
    for row in range(len(members)):
        info = view.tensor(row)
        want = members.crc32(row)
        try:
            (value,) = view.checksums("crc32", names=[info.name], threads=threads).values()
            reason = f"the archive says CRC-32 {want:08x}, its bytes have {value}"
        except (OSError, _core.FormatError) as error:
            value, reason = "", str(error)
        if value != f"{want:08x}":
            stop = info.offset + max(info.nbytes, 1)
            bad.append(_Member(info.file, info.offset, stop, reason))
    return bad


def _of_members(info: TensorInfo, members: list[_Member]) -> Iterator[str]:
    for one in members:
        if one.file == info.file and one.start <= info.offset < one.stop and info.nbytes:
            yield one.reason


# -- copying ---------------------------------------------------------------------------------


def _sound_ranges(count: int, losses: list[Loss]) -> Iterator[tuple[int, int, bool]]:
    """(start, stop, is it sound) over all elements, in order."""
    at = 0
    for loss in sorted(losses, key=lambda loss: loss.first):
        start, stop = max(loss.first, at), loss.first + loss.elements
        if stop <= at:
            continue
        if start > at:
            yield at, start, True
        yield start, stop, False
        at = stop
    if at < count:
        yield at, count, True


class _Range(NamedTuple):
    """Elements of a tensor that are believed sound."""

    step: Step
    start: int
    stop: int


class _Source:
    """Reads ranges in the order in which they are listed; neighbours share a stream."""

    def __init__(self, ckpt: Checkpoint, chosen: Options, ranges: list[_Range]) -> None:
        self._ckpt, self._chosen, self._ranges = ckpt, chosen, ranges
        self._next = 0
        self._stream: Stream | None = None

    def read(self, wanted: _Range) -> Iterator[tuple[Any, int]]:
        """(bytes, where they stop) of the next range, or of what is left of the last."""
        step, done = wanted.step, wanted.start
        try:
            stream = self._stream or self._open(wanted)
            while done < wanted.stop:
                chunk = next(stream)
                yield converted(bytes_of(chunk.array), step, chunk.stop - done), chunk.stop
                done = chunk.stop
        except (OSError, _core.FormatError):
            self.close()
            raise
        if self._next < len(self._ranges) and self._ranges[self._next].step.way != step.way:
            self.close()

    def begin(self) -> _Range:
        """The next range."""
        self._next += 1
        return self._ranges[self._next - 1]

    def _open(self, first: _Range) -> Stream:
        way = first.step.way
        wanted = [Wanted(first.step.row, first.start, first.stop)]
        for one in self._ranges[self._next :]:
            if one.step.way != way:
                break
            wanted.append(Wanted(one.step.row, one.start, one.stop))
        chosen = self._chosen._replace(form=way.form, dtype=way.target)
        self._stream = Stream(self._ckpt, wanted, chosen, order="given")
        return self._stream

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Copier:
    """Copies what is sound, and puts something in the place of the rest."""

    def __init__(self, source: _Source, fill: str) -> None:
        self._source, self._fill = source, fill
        self.losses: list[Loss] = []

    def copy(self, out: Writer, step: Step, losses: list[Loss]) -> None:
        with out.tensor(step.info.name, step.dtype, step.info.shape) as tensor:
            for start, stop, sound in _sound_ranges(step.info.num_elements, losses):
                if sound:
                    self._copy_range(tensor, self._source.begin())
                else:
                    self._fill_range(tensor, step, stop - start)

    def _copy_range(self, tensor: TensorWriter, wanted: _Range) -> None:
        """Where reading fails after all, a step is given up and the rest tried."""
        pieces = self._source.read(wanted)
        while wanted.start < wanted.stop:
            try:
                data, end = next(pieces)
            except (OSError, _core.FormatError) as error:
                end = min(wanted.start + _step_of(wanted.step.info), wanted.stop)
                self._give_up(tensor, wanted, end, str(error))
                wanted = wanted._replace(start=end)
                pieces = self._source.read(wanted)
                continue
            tensor.write(data)
            wanted = wanted._replace(start=end)
        next(pieces, None)  # the source may let go of its stream

    def _give_up(self, tensor: TensorWriter, wanted: _Range, end: int, reason: str) -> None:
        info, start = wanted.step.info, wanted.start
        self.losses.append(
            Loss(info.name, info.dtype, info.shape, start, end - start, None, reason)
        )
        self._fill_range(tensor, wanted.step, end - start)

    def _fill_range(self, tensor: TensorWriter, step: Step, elements: int) -> None:
        while elements > 0:
            count = min(elements, _PIECE)
            tensor.write(_stand_in(step, count, self._fill))
            elements -= count


def _step_of(info: TensorInfo) -> int:
    """Elements of about _STEP bytes: whole blocks of any dtype."""
    return max(_STEP * info.num_elements // info.nbytes // 256, 1) * 256


def _stand_in(step: Step, count: int, fill: str) -> Array:
    """Bytes for elements that are lost: NaN where the dtype has one, else zeros."""
    dtype = numpy_dtype(step.dtype)
    if dtype is None or step.dtype in PACKED:
        size = count * step.info.nbytes // step.info.num_elements
        return np.zeros(size, np.uint8)
    if fill == "nan" and step.dtype.startswith(("F", "BF", "C")):
        return bytes_of(np.full(count, np.nan, dtype))
    return np.zeros(count * dtype.itemsize, np.uint8)


# -- the whole -------------------------------------------------------------------------------


def salvage(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    fill: str = "nan",
    format: str | None = None,
    compression: str | None = None,
    budget: Size = "64MiB",
    threads: int | None = None,
) -> Salvage:
    """Write what is sound of a damaged checkpoint, and tell what is lost.

    Compressed checkpoints are looked through chunk by chunk, npz and torch archives member by
    member.  Safetensors that were cut short, or are too long, are taken as far as they go.
    Other files carry no checksums, so only what cannot be read is found.

    Args:
        source: a file, or the index of shards that are all there.
        target: as in `convert`; not the source.
        fill: what stands for lost elements: "nan" (of floats; zeros elsewhere) or "zero"; or
            "drop": tensors with a loss are left out.
        format, compression: as in `convert`; a compressed source is written compressed
            ("fast") unless told otherwise.
        budget: bytes for everything on the way, at least 8 MiB.
        threads: that read and check.

    Returns:
        What was done and lost.  The target's metadata says so as well, under
        "tensorstream.salvaged".

    Raises:
        FormatError: nothing can be made of the file: its header is damaged.
        ValueError: an option out of range; source and target are the same file.

    >>> ts.salvage("damaged.safetensors", "sound.safetensors").elements_lost
    """
    if fill not in FILLS:
        raise ValueError(f"fill is one of {', '.join(FILLS)}, not {fill!r}")
    size = parse_size(budget, "budget")
    if size < 2 * LEAST_PACKING:
        raise ValueError(f"budget must be at least {2 * LEAST_PACKING} bytes, not {size}")
    place = pathlib.Path(target).expanduser()
    if place.exists() and place.samefile(find_file(source)):
        raise ValueError(f"{place} is the file to be salvaged; write to another one")
    with _opened(source, place if place.is_dir() else place.parent) as ward:
        if compression is None and ward.is_packed and format in (None, "safetensors"):
            compression = "fast" if place.suffix in ("", ".safetensors") else None
        steps = make_steps(ward.ckpt, place, format, compression)
        losses = _losses(ward, steps, threads)
        chosen = options(budget=size // 2, threads=threads)
        out = Writer(
            place, format=format, compression=compression, budget=size // 2, threads=threads
        )
        with out:
            metadata_into(ward.ckpt, out, steps)
            return _write(ward, out, steps, losses, chosen, fill)


def _write(
    ward: _Ward, out: Writer, steps: list[Step], found: list[Loss], chosen: Options, fill: str
) -> Salvage:
    losses: dict[str, list[Loss]] = {}
    for loss in found:
        losses.setdefault(loss.name, []).append(loss)
    dropped = _dropped(ward, steps, losses, fill)
    copied = [step for step in steps if step.tied_to is None and step.info.name not in dropped]
    ranges = [
        _Range(step, start, stop)
        for step in copied
        for start, stop, sound in _sound_ranges(
            step.info.num_elements, losses.get(step.info.name, [])
        )
        if sound
    ]
    source = _Source(ward.ckpt, chosen, ranges)
    copier = _Copier(source, fill)
    try:
        for step in steps:
            if step.info.name in dropped:
                continue
            if step.tied_to is not None:
                out.tie(step.info.name, step.tied_to)
            else:
                copier.copy(out, step, losses.get(step.info.name, []))
    finally:
        source.close()
    done = _summary(out, steps, [*found, *copier.losses], list(dropped))
    if done.losses and out.format != "npz":
        report = {
            "elements_lost": done.elements_lost,
            "tensors": sorted({loss.name for loss in done.losses}),
            "dropped": done.dropped,
        }
        out.metadata[NOTE] = json.dumps(report)
    return done


def _dropped(
    ward: _Ward, steps: list[Step], losses: dict[str, list[Loss]], fill: str
) -> dict[str, None]:
    """Names of tensors that are not written, in order: asked for, or of unknown dtype."""
    dropped: dict[str, None] = {}
    for step in steps:
        unknown = ward.is_packed and step.info.storage != "framed"
        lost = step.info.name in losses and (fill == "drop" or unknown)
        if lost or step.tied_to in dropped:
            dropped[step.info.name] = None
    return dropped


def _summary(out: Writer, steps: list[Step], losses: list[Loss], dropped: list[str]) -> Salvage:
    own = [step.info for step in steps if step.tied_to is None]
    harmed: dict[str, list[Loss]] = {}
    for loss in losses:
        harmed.setdefault(loss.name, []).append(loss)
    lost = sum(
        stop - start
        for info in own
        if info.name in harmed
        for start, stop, sound in _sound_ranges(info.num_elements, harmed[info.name])
        if not sound
    )
    return Salvage(
        path=out.path,
        tensors=len(own),
        sound=sum(info.name not in harmed for info in own),
        partial=len(harmed.keys() - set(dropped)),
        dropped=dropped,
        elements=sum(info.num_elements for info in own),
        elements_lost=lost,
        losses=losses,
    )
