"""Encoding on the way: what a stream brings becomes few bits and goes on to a sink.

Two ways to the same end.  `Stream.encode` pulls: the threads that read a chunk also quantise
it while it is in cache, and pieces come in order.  `RealTimeEncoder` is pushed: whoever has
chunks hands them over, one thread encodes them and feeds the sink, and a bounded queue makes
the giver wait rather than lose anything.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstream import _core
from tensorstream.arrays import Array
from tensorstream.quantizing import (
    SCHEMES,
    QuantizedTensor,
    group_or_default,
    quantize,
    scheme_name,
)
from tensorstream.units import format_size

if TYPE_CHECKING:
    from tensorstream.streaming import Stream


class EncodedChunk(NamedTuple):
    """One piece of a tensor, encoded.

    Attributes:
        name, layer, kind: of the tensor.
        start, stop: the elements that it stands for.
        is_last: is it the end of its tensor?
        scheme: how it is encoded; None for tensors that hold no floats and come as they are.
        tensor_shape: of the whole tensor.
        data: uint8, the codes; of a tensor that comes as it is, its bytes.
        scales: float32, one a group, or None where the scheme keeps none apart.
        zeros: int8, one a group, or None.
    """

    name: str
    layer: int | None
    kind: str
    start: int
    stop: int
    is_last: bool
    scheme: str | None
    tensor_shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32] | None
    zeros: npt.NDArray[np.int8] | None

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zeros together."""
        parts = (self.data, self.scales, self.zeros)
        return sum(part.nbytes for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class EncodingStatistics:
    """What came of an encoding so far.

    Attributes:
        chunks: that the sink has taken.
        failures: chunks that could not be encoded or stored, and were not mended since.
        bytes_in: of the chunks taken, before.
        bytes_out: of the same, after.
        seconds: from the first chunk to the last; pauses between two runs are not counted.
    """

    chunks: int = 0
    failures: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second, before encoding."""
        return self.bytes_in / self.seconds if self.seconds > 0 else 0.0

    @property
    def ratio(self) -> float:
        """Bytes after over bytes before; 1 of nothing."""
        return self.bytes_out / self.bytes_in if self.bytes_in else 1.0

    @property
    def success_rate(self) -> float:
        """The part of all chunks that was stored; 1 of nothing."""
        tried = self.chunks + self.failures
        return self.chunks / tried if tried else 1.0

    def __str__(self) -> str:
        failed = f", {self.failures} failed" if self.failures else ""
        return (
            f"{self.chunks:,} chunks, {format_size(self.bytes_in)} into "
            f"{format_size(self.bytes_out)} ({self.ratio:.1%}) at "
            f"{self.rate / 1e9:.2f} GB/s{failed}"
        )


# -- pulled ----------------------------------------------------------------------------------


def encoding_of(
    scheme: str, group: int | str | None = None, *, symmetric: bool = True
) -> tuple[str, int | str, bool]:
    """(scheme, group, has a zero) as the core's streams take it.

    Raises:
        ValueError: a group of a whole tensor, which a stream never has at once.
    """
    name = scheme_name(scheme)
    group = group_or_default(name, group)
    if group == "tensor":
        raise ValueError(
            "one scale for a whole tensor needs all of it at once, and a stream brings it in "
            'parts; use group="row" or quantize()'
        )
    return name, group or 0, not symmetric


class EncodingStream:
    """Encoded chunks, in order; made by `Stream.encode`.

    Iterate over it, or let `drain` hand everything to a sink.  The arrays of a chunk are
    valid as long as they are kept, and count against the budget of the stream.
    """

    def __init__(self, stream: Stream, encoding: tuple[str, int | str, bool]) -> None:
        self._stream = stream
        self._encoding = encoding
        self._begun = 0.0
        self._statistics = EncodingStatistics()

    @property
    def statistics(self) -> EncodingStatistics:
        """Of the chunks that were taken so far."""
        return self._statistics

    def __iter__(self) -> Iterator[EncodedChunk]:
        self._begun = time.perf_counter()
        for chunk in self._stream:
            piece = self._split(chunk)
            yield piece
            self._count(chunk, piece)

    def _split(self, chunk: _core.Chunk) -> EncodedChunk:
        data: Array = chunk.array
        scales = zeros = None
        parts = chunk.parts
        if parts is None:
            data = data.reshape(-1).view(np.uint8)
        else:
            count, codes, zero_count = parts
            begin, end = 4 * count, 4 * count + codes
            scales = data[:begin].view(np.float32) if count else None
            zeros = data[end:].view(np.int8) if zero_count else None
            data = data[begin:end]
        return EncodedChunk(
            chunk.name, chunk.layer, chunk.kind, chunk.start, chunk.stop, chunk.is_last,
            self._encoding[0] if parts else None, chunk.tensor_shape, data, scales, zeros,
        )  # fmt: skip

    def _count(self, chunk: _core.Chunk, piece: EncodedChunk) -> None:
        now = self._statistics
        self._statistics = EncodingStatistics(
            chunks=now.chunks + 1,
            bytes_in=now.bytes_in + chunk.source_nbytes,
            bytes_out=now.bytes_out + piece.nbytes,
            seconds=time.perf_counter() - self._begun,
        )

    def drain(self, sink: Callable[[EncodedChunk], Any]) -> EncodingStatistics:
        """Hand every chunk to the sink, in order; what it raises ends the stream."""
        try:
            for piece in self:
                sink(piece)
        finally:
            self._stream.close()
        return self._statistics


# -- pushed ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Failure:
    """A chunk that was not stored, kept for another try."""

    chunk: Any
    metadata: Any
    error: Exception = field(repr=False)


def _encoder_of(encoder: Any, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    if isinstance(encoder, str):
        name = scheme_name(encoder)
        return lambda chunk, metadata: quantize(chunk, name, **options)
    if options:
        raise TypeError(
            f"{', '.join(options)} belong to a scheme by name ({', '.join(SCHEMES)})"
        )
    if hasattr(encoder, "quantize_chunk"):
        return encoder.quantize_chunk  # type: ignore[no-any-return]
    if callable(encoder):
        return lambda chunk, metadata: encoder(chunk)
    raise TypeError(
        f"an encoder is the name of a scheme, a function or has quantize_chunk, not "
        f"{type(encoder).__name__}"
    )


def _sink_of(sink: Any) -> Callable[[Any, Any], Any]:
    if hasattr(sink, "store_chunk"):
        return sink.store_chunk  # type: ignore[no-any-return]
    if callable(sink):
        return sink  # type: ignore[no-any-return]
    raise TypeError(
        f"a sink is a function of (encoded, metadata) or has store_chunk, not "
        f"{type(sink).__name__}"
    )


def _nbytes(value: Any) -> int:
    return int(value.nbytes) if hasattr(value, "nbytes") else memoryview(value).nbytes


class RealTimeEncoder:
    """Encode chunks as they come and hand them to a sink, in the order they came.

    One thread encodes and stores, so that the giver goes on reading meanwhile; the encoders
    of this package let go of the GIL.  When the queue is full the giver waits: nothing is
    dropped.  A chunk that cannot be encoded or stored raises once, with the tensor's name,
    at the next call; it is kept for `retry_failed`, and the others go on.

    Args:
        encoder: the name of a scheme of `quantize` ("q8_0", "nf4" ...), a function of the
            chunk, or an object with `quantize_chunk(chunk, metadata)`.
        sink: a function of (encoded, metadata), or an object with
            `store_chunk(encoded, metadata)`.
        queue_size: chunks that may wait.
        keep_going: True raises nothing before the end; `failures` has them all.
        options: of the scheme: group, symmetric, double.

    >>> stored = []
    >>> with RealTimeEncoder("q8_0", lambda encoded, meta: stored.append(encoded)) as encoder:
    ...     encoder.encode_chunk(np.ones(64, np.float32), "layer.weight")
    >>> stored[0].nbytes, encoder.statistics.chunks
    (68, 1)
    """

    def __init__(
        self,
        encoder: Any,
        sink: Any,
        *,
        queue_size: int = 10,
        keep_going: bool = False,
        **options: Any,
    ) -> None:
        if queue_size < 1:
            raise ValueError(f"queue_size must be at least 1, not {queue_size}")
        self._encode = _encoder_of(encoder, options)
        self._store = _sink_of(sink)
        self._queue: queue.Queue[Any] = queue.Queue(queue_size)
        self._keep_going = keep_going
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # guards what follows
        self._statistics = EncodingStatistics()
        self._failed: deque[_Failure] = deque()
        self._unseen: Exception | None = None  # not yet raised to the giver
        self._begun: float | None = None  # when the first chunk since a pause came

    # -- the giver's side --

    def start_real_time_encoding(self) -> None:
        """Start the encoding thread; `encode_chunk` does so by itself."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="tensorstream-encoder", daemon=True
            )
            self._thread.start()

    def encode_chunk(self, chunk: Any, metadata: Any = None) -> None:
        """Hand over a chunk; waits while the queue is full.

        Args:
            chunk: an array.  It must not be written to before it was encoded; chunks of a
                stream never are.
            metadata: goes to the sink beside what was made; its `layer_name` or `name`, or
                its text, is what errors call the tensor.

        Raises:
            Exception: what an earlier chunk failed with, once.  The chunk of this call was
                not taken then: give it again.
        """
        self.start_real_time_encoding()
        self._raise_unseen()
        self._resume()
        self._queue.put((chunk, metadata))

    def stop_real_time_encoding(self) -> None:
        """Encode all that waits, then end the thread.

        Raises:
            Exception: what a chunk failed with and was not raised yet.
        """
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._begun = None
        self._raise_unseen()

    def _resume(self) -> None:
        """Count the seconds from here on, behind those that were counted."""
        if self._begun is None:
            self._begun = time.perf_counter() - self.statistics.seconds

    def run(self, stream: Any) -> EncodingStatistics:
        """Encode everything that a stream of chunks brings.

        Args:
            stream: from `Checkpoint.stream`, or any iterable of objects with `.array`.
        """
        try:
            for chunk in stream:
                self.encode_chunk(chunk.array, chunk)
        finally:
            self.stop_real_time_encoding()
        return self.statistics

    def __enter__(self) -> RealTimeEncoder:
        self.start_real_time_encoding()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop_real_time_encoding()
        except Exception:
            if error is None:
                raise

    def _raise_unseen(self) -> None:
        with self._lock:
            error, self._unseen = self._unseen, None
        if error is not None and not self._keep_going:
            raise error

    # -- what there is to know --

    @property
    def statistics(self) -> EncodingStatistics:
        """As far as it has come."""
        with self._lock:
            return self._statistics

    @property
    def failures(self) -> list[tuple[Any, Exception]]:
        """(metadata, error) of each chunk that is not stored."""
        with self._lock:
            return [(one.metadata, one.error) for one in self._failed]

    def retry_failed(self) -> dict[str, int]:
        """Try each failed chunk once more, in order.

        Returns:
            retried_chunks, successful_retries and remaining_failures.
        """
        with self._lock:
            tries, self._failed = self._failed, deque()
        self._resume()
        mended = sum(self._one(one.chunk, one.metadata) for one in tries)
        if self._thread is None:
            self._begun = None
        with self._lock:
            self._unseen = None
            left = len(self._failed)
            self._statistics = replace(self._statistics, failures=left)
        return {
            "retried_chunks": len(tries),
            "successful_retries": mended,
            "remaining_failures": left,
        }

    # -- the encoding thread --

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._one(*item)

    def _one(self, chunk: Any, metadata: Any) -> bool:
        begun = self._begun
        assert begun is not None
        try:
            encoded = self._encode(chunk, metadata)
            self._store(encoded, metadata)
        except Exception as error:
            error.add_note(f"while encoding {_label(metadata)}")
            self._note_failure(_Failure(chunk, metadata, error))
            return False
        with self._lock:
            now = self._statistics
            self._statistics = replace(
                now,
                chunks=now.chunks + 1,
                bytes_in=now.bytes_in + _nbytes(chunk),
                bytes_out=now.bytes_out + _nbytes(encoded),
                seconds=time.perf_counter() - begun,
            )
        return True

    def _note_failure(self, failure: _Failure) -> None:
        with self._lock:
            self._failed.append(failure)
            self._statistics = replace(self._statistics, failures=len(self._failed))
            if self._unseen is None:
                self._unseen = failure.error


def _label(metadata: Any) -> str:
    for attribute in ("layer_name", "name"):
        found = getattr(metadata, attribute, None)
        if isinstance(found, str):
            return f"tensor {found!r}"
    return "a chunk" if metadata is None else str(metadata)


def joined(chunks: list[EncodedChunk], dtype: npt.DTypeLike = np.float32) -> QuantizedTensor:
    """All pieces of one tensor, in order, as one `QuantizedTensor`.

    Raises:
        ValueError: pieces are missing, or of several tensors.
    """
    first = chunks[0]
    elements = math.prod(first.tensor_shape)
    ends = [0, *(one.stop for one in chunks)]
    if (
        any(one.name != first.name for one in chunks)
        or [one.start for one in chunks] != ends[:-1]
        or ends[-1] != elements
        or first.scheme is None
    ):
        raise ValueError(f"these are not all pieces of {first.name!r}, one behind the other")
    rows = math.prod(first.tensor_shape[:-1])
    data = np.concatenate([one.data for one in chunks])
    scales = [one.scales for one in chunks if one.scales is not None]
    zeros = [one.zeros for one in chunks if one.zeros is not None]
    made = np.concatenate(scales) if scales else None
    return QuantizedTensor(
        scheme=first.scheme,
        shape=first.tensor_shape,
        dtype=np.dtype(dtype),
        data=data if first.scheme == "nf4" else data.reshape(rows, -1),
        scales=made,
        zeros=np.concatenate(zeros) if zeros else None,
        group=_group_of(first, made, elements),
    )


def _group_of(first: EncodedChunk, scales: Array | None, elements: int) -> int | None:
    if scales is None or first.scheme == "nf4":
        return None
    return elements // scales.size
