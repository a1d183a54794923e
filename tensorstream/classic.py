"""The names of the streamer this library replaces, over the stream that replaces it.

``MemoryEfficientParameterStreamer`` walks through the parameters of a model in small flat
chunks and tells how far it is.  Programs written for it go on working; what changed is
said where it changed:

* Every parameter comes exactly once, also while the chunk size changes.
* The model is never loaded; ``max_memory_mb`` is a hard budget for what the stream holds.
* Floating-point tensors come as float32.  Integers and booleans keep their dtype: as
  float32 they would lose value above 2**24.
* Totals are exact, from the header; a checkpoint of progress can be resumed.
* Errors keep their own types (`FormatError`, `FileNotFoundError` ...) and are not wrapped.
* Videos of chunks lose nothing but what 8 bits cannot hold, and can be read again; the codec
  is FFV1, where it was mp4v.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from tensorstream import _core
from tensorstream.arrays import Array
from tensorstream.checkpoint import Checkpoint
from tensorstream.chunkvideo import ChunkRefused, ChunkVideoEncoder
from tensorstream.hilbert import check_codec
from tensorstream.monitor import MemoryMonitor
from tensorstream.opening import is_module
from tensorstream.selection import KINDS, MARKS, ordered
from tensorstream.streaming import Stream, Wanted, options

__all__ = [
    "ChunkMetadata",
    "LayerFilter",
    "MemoryEfficientParameterStreamer",
    "StreamingConfig",
    "StreamingProgress",
    "create_streaming_processor",
    "stream_model_efficiently",
    "stream_model_with_layer_filtering",
]

logger = logging.getLogger("tensorstream")

MEGA = 1024**2
# Reading /proc takes tens of microseconds: not for every chunk.
SAMPLE_SECONDS = 0.02
# Chunks are cut from blocks of this many bytes: a trip to the core costs as much as
# several chunks of the default size.
BLOCK_BYTES = 256 * 1024
# A multiple of the elements in a block of every quantised type.
ALIGNMENT = 256
CHECKPOINT_VERSION = 1

Patterns = str | Iterable[str] | None
FilterFunction = Callable[[str], bool | None]
Delivery = tuple[Array, "ChunkMetadata", "StreamingProgress"]


@dataclasses.dataclass
class StreamingConfig:
    """How to stream.  Fields may be changed until a stream starts.

    Attributes:
        chunk_size: parameters in a chunk; each tensor's last chunk may have fewer.
        max_memory_mb: MB of 1024**2 bytes.  The hard budget of what the stream holds, and
            the resident memory of the process that the adaptive rule looks at.
        enable_progress: log progress at level INFO ...
        progress_interval: ... whenever this many more parameters are behind.
        enable_memory_monitoring: keep `memory_usage_mb` up to date, and the peak.
        adaptive_chunk_sizing: above 90 % of max_memory_mb the chunk size is multiplied by
            0.8 after each chunk, below 50 % by 1.2.
        min_chunk_size, max_chunk_size: its bounds; a chunk_size outside of them moves the
            bound.
        target_layers, exclude_layers: see `LayerFilter`.
        parallel_processing: read ahead with `max_workers` threads; order stays the same.
        enable_chunk_encoding: keep each chunk of floats also as a frame of a lossless
            video (`pip install tensorstream[video]`); `hilbert.load_chunks` reads them.
        chunk_video_storage_dir: where the videos go.
        chunk_frame_rate: frames a second, for those who play them.
        chunk_video_codec: "ffv1", or "rawvideo", which is larger and faster.
        max_chunks_per_video: frames of a file; it has fewer when their pixels fill a
            sixteenth of max_memory_mb.

    Raises:
        TypeError, ValueError: naming the field, what it is and what it may be.
    """

    chunk_size: int = 1024
    max_memory_mb: float = 1024.0
    enable_progress: bool = True
    progress_interval: int = 1000
    enable_memory_monitoring: bool = True
    adaptive_chunk_sizing: bool = True
    min_chunk_size: int = 256
    max_chunk_size: int = 8192
    target_layers: list[str] | None = None
    exclude_layers: list[str] | None = None
    parallel_processing: bool = False
    max_workers: int = 2
    enable_chunk_encoding: bool = False
    chunk_video_storage_dir: str = "chunk_videos"
    chunk_frame_rate: float = 30.0
    chunk_video_codec: str = "ffv1"
    max_chunks_per_video: int = 1000

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Check every field; called again when a stream starts."""
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        for name in ("max_memory_mb", "chunk_frame_rate"):
            _check_number(name, getattr(self, name))
        for name in ("target_layers", "exclude_layers"):
            _check_patterns(name, getattr(self, name))
        least = 2 if self.enable_chunk_encoding else 1
        if self.max_memory_mb < least:
            raise ValueError(
                f"max_memory_mb must be at least {least}, not {self.max_memory_mb}"
            )
        if self.min_chunk_size > self.max_chunk_size:
            raise ValueError(
                f"min_chunk_size {self.min_chunk_size} is above "
                f"max_chunk_size {self.max_chunk_size}"
            )
        if self.max_workers > 64:
            raise ValueError(f"max_workers must be from 1 to 64, not {self.max_workers}")
        # An eighth of the budget as float32; with videos a sixteenth, which is also the
        # most that the pixels of a chunk can take.
        parts = 16 if self.enable_chunk_encoding else 8
        most = self.budget // (4 * parts)
        if self.bounds()[1] > most:
            raise ValueError(
                f"a chunk of {self.bounds()[1]} parameters is too large for max_memory_mb="
                f"{self.max_memory_mb:g}: at most {most} fit, a {parts}th of it"
            )

    @property
    def budget(self) -> int:
        """max_memory_mb in bytes."""
        return int(self.max_memory_mb * MEGA)

    @property
    def stream_budget(self) -> int:
        """What the stream may hold: beside videos, three quarters.

        The rest is for the pixels of one that grows, one that waits and one that is
        written, and for the bytes that are made of the last.
        """
        return self.budget * 3 // 4 if self.enable_chunk_encoding else self.budget

    def bounds(self) -> tuple[int, int]:
        """The least and the most parameters that a chunk may be sized for."""
        if not self.adaptive_chunk_sizing:
            return self.chunk_size, self.chunk_size
        return (
            min(self.min_chunk_size, self.chunk_size),
            max(self.max_chunk_size, self.chunk_size),
        )


_COUNTS = (
    "chunk_size",
    "progress_interval",
    "min_chunk_size",
    "max_chunk_size",
    "max_workers",
    "max_chunks_per_video",
)


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be above 0 and finite, not {value}")


def _check_patterns(name: str, value: object) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, Iterable) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{name} must be a list of strings or None, not {value!r}")


@dataclasses.dataclass
class StreamingProgress:
    """How far a stream is: one object, which goes on changing while the stream runs.

    Attributes:
        model_name: the path or id, or the class of a live module.
        total_parameters: that will be delivered, exactly.
        processed_parameters: delivered so far.
        current_layer: the tensor that the last chunk belongs to.
        chunks_encoded: chunks delivered so far.
        encoding_time: seconds that making frames and writing videos took so far, on both
            threads together; 0 without enable_chunk_encoding.
        start_time: `time.time()` when the stream began.
        memory_usage_mb: resident memory of the process at the last look.
        processing_rate: parameters a second since the start.
        estimated_completion_time: seconds that are left at that rate.
    """

    model_name: str
    total_parameters: int = 0
    processed_parameters: int = 0
    current_layer: str = ""
    chunks_encoded: int = 0
    encoding_time: float = 0.0
    start_time: float = dataclasses.field(default_factory=time.time)
    memory_usage_mb: float = 0.0
    processing_rate: float = 0.0
    estimated_completion_time: float = 0.0

    @property
    def progress_percent(self) -> float:
        """Share of the parameters that is behind, from 0 to 100."""
        if self.total_parameters == 0:
            return 0.0
        return 100.0 * self.processed_parameters / self.total_parameters

    @property
    def elapsed_time(self) -> float:
        """Seconds since the start."""
        return time.time() - self.start_time

    def update_rate(self) -> None:
        """Bring processing_rate and estimated_completion_time up to date."""
        elapsed = self.elapsed_time
        if elapsed <= 0:
            return
        self.processing_rate = self.processed_parameters / elapsed
        if self.processing_rate > 0:
            left = self.total_parameters - self.processed_parameters
            self.estimated_completion_time = left / self.processing_rate

    def update_memory_usage(self) -> None:
        """Bring memory_usage_mb up to date; unchanged where there is no /proc."""
        try:
            self.memory_usage_mb = _core.resident()[0] / MEGA
        except OSError:
            logger.debug("resident memory cannot be read", exc_info=True)


@dataclasses.dataclass(slots=True)
class ChunkMetadata:
    """What a chunk is and where it belongs.

    Attributes:
        chunk_id: its number in the stream, from 0.
        layer_name: the name of its tensor.
        layer_type: embedding, attention, mlp, normalization, output or other.
        parameter_count: parameters in it.
        chunk_size: the chunk size at that moment; parameter_count is less only at the end
            of a tensor or of the stream.
        start_index, end_index: its first and last parameter, counted over all that the
            stream delivers; the last one is inside.
        timestamp: `time.time()` when it was delivered.
        memory_usage_mb: resident memory of the process at the last look.
        video_path, frame_index: the frame that holds it, once that video is written; None
            where it was not encoded.
        hierarchical_indices: means of runs of 4, 16, ... parameters, which are squares of
            the image: `hilbert.means`, one level behind the other.
        compression_quality: of an encoded chunk, the cosine between its values and what its
            frame decodes to.
        shape: of the whole tensor.
        dtype: of the chunk, as NumPy names it.
        offset: of its first parameter in the flat tensor.
        is_last: is it the last chunk of its tensor?
    """

    chunk_id: int
    layer_name: str
    layer_type: str
    parameter_count: int
    chunk_size: int
    start_index: int
    end_index: int
    timestamp: float
    memory_usage_mb: float
    video_path: str | None = None
    frame_index: int | None = None
    hierarchical_indices: Array | None = None
    compression_quality: float = 0.95
    shape: tuple[int, ...] = ()
    dtype: str = ""
    offset: int = 0
    is_last: bool = False


class LayerFilter:
    """Which tensors to stream, by kind or name; upper and lower case are the same.

    A pattern that is a kind (embedding, attention, mlp, normalization, output, other) or a
    mark (expert, shared_expert, lora, router, bias, scale) means the tensors that are of
    it, whatever their names contain: ``post_attention_layernorm`` is a normalization.  Any
    other pattern is looked for in the name.

    The first of these to have an opinion decides: `custom_filter_func(name)`, unless it
    returns None; `exclude_layers`; `target_layers`; without targets everything passes.
    """

    def __init__(
        self,
        target_layers: Patterns = None,
        exclude_layers: Patterns = None,
        custom_filter_func: FilterFunction | None = None,
    ) -> None:
        self.target_layers = _listed(target_layers)
        self.exclude_layers = _listed(exclude_layers)
        self.custom_filter_func = custom_filter_func

    def should_include_layer(self, layer_name: str) -> bool:
        """Does a tensor of this name pass?"""
        if self.custom_filter_func is not None:
            decided = self.custom_filter_func(layer_name)
            if decided is not None:
                return bool(decided)
        role = _core.role(layer_name)
        groups = {role["kind"], *role["marks"]}
        name = layer_name.lower()
        if any(_matches(one, name, groups) for one in self.exclude_layers or ()):
            return False
        # As before, an empty list of targets is no list.
        if not self.target_layers:
            return True
        return any(_matches(one, name, groups) for one in self.target_layers)

    def classify_layer_type(self, layer_name: str) -> str:
        """The kind of a tensor of this name."""
        return _core.role(layer_name)["kind"]

    def get_layer_statistics(self, layer_names: Iterable[str]) -> dict[str, int]:
        """How many of the names are of each kind that occurs."""
        counts: dict[str, int] = {}
        for name in layer_names:
            kind = self.classify_layer_type(name)
            counts[kind] = counts.get(kind, 0) + 1
        return counts


def _listed(patterns: Patterns) -> list[str] | None:
    if patterns is None:
        return None
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _matches(pattern: str, name: str, groups: set[str]) -> bool:
    wanted = pattern.lower()
    if wanted in KINDS or wanted in MARKS:
        return wanted in groups
    return wanted in name


class _Course:
    """One stream on its way: what it delivers, and the place where it is."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        stream: Stream,
        progress: StreamingProgress,
        source: Any,
        limit: int | None,
        saved: Mapping[str, Any] | None,
        encoder: ChunkVideoEncoder | None,
    ) -> None:
        self.checkpoint = checkpoint
        self.stream = stream
        self.progress = progress
        self.source = source
        self.limit = limit
        self.encoder = encoder
        self.encoding_before = encoder.seconds if encoder is not None else 0.0
        self.refused: Exception | None = None  # the first chunk that is in no frame
        # The next element to deliver, as (wanted tensor, element in it).
        self.item: int = saved["stream"]["item"] if saved else 0
        self.element: int = saved["element"] if saved else 0
        # Elements that only came because quantised blocks come whole.
        self.skip: int = self.element - saved["stream"]["element"] if saved else 0

    def place(self) -> dict[str, Any]:
        """Where to go on: a state of the stream, and the exact element."""
        state = self.stream.state()
        state = {**state, "item": self.item, "element": self.element // ALIGNMENT * ALIGNMENT}
        return {"stream": state, "element": self.element, "max_total_params": self.limit}


class MemoryEfficientParameterStreamer:
    """Streams the parameters of a model in flat chunks.

    >>> with MemoryEfficientParameterStreamer(StreamingConfig(chunk_size=4096)) as streamer:
    ...     for chunk, metadata, progress in streamer.stream_model_parameters("model/"):
    ...         print(metadata.layer_name, chunk.size, f"{progress.progress_percent:.1f} %")

    Chunks stay valid for as long as they are kept; what is kept counts against
    max_memory_mb.

    Raises:
        ImportError: the config asks for videos, and PyAV is not installed.
        ValueError: it asks for a codec that loses values.
    """

    def __init__(self, config: StreamingConfig | None = None) -> None:
        self.config = config if config is not None else StreamingConfig()
        #: The present stream's videos, or the last one's; None before.
        self.chunk_encoder: ChunkVideoEncoder | None = None
        if self.config.enable_chunk_encoding:
            check_codec(self.config.chunk_video_codec)
        self.chunk_size = self.config.chunk_size  #: parameters, at this moment
        self.current_progress: StreamingProgress | None = None
        self.memory_monitor = MemoryMonitor()
        self._course: _Course | None = None
        self._encoding: dict[str, Any] = {}  # what the encoder was made with
        self._pressure = 0.0
        self._next_sample = 0.0

    @property
    def layer_filter(self) -> LayerFilter:
        """The filter that the config asks for now."""
        return LayerFilter(self.config.target_layers, self.config.exclude_layers)

    # -- streaming --

    def stream_model_parameters(
        self,
        source: Any,
        max_total_params: int | None = None,
        layer_filter_func: FilterFunction | None = None,
        *,
        resume: Mapping[str, Any] | None = None,
    ) -> Iterator[Delivery]:
        """Yield (chunk, metadata, progress) for all parameters that pass the filters.

        Args:
            source: what `tensorstream.open` takes, or a Checkpoint.  Of a live module the
                parameters with ``requires_grad`` come; of a file every tensor, those on
                the same memory once.
            max_total_params: stop after this many; the last chunk is cut to fit.
            layer_filter_func: gets a tensor's name; True takes it, False does not, None
                leaves it to the config's lists.
            resume: of `create_progress_checkpoint`; go on behind the last chunk it saw.

        Yields:
            chunk: 1-D and read-only; float32, or the tensor's own dtype where that is no
                floating-point type.
            metadata: a `ChunkMetadata` of its own.
            progress: always the same `StreamingProgress`, brought up to date.

        Raises:
            FileNotFoundError, FormatError: as `tensorstream.open`.
            BudgetError: chunks that are still kept fill max_memory_mb.
            OSError: a video could not be written; `retry_failed_chunk_encoding` tries again.
            ChunkRefused: a ValueError, behind the last chunk, if some had a NaN or an
                infinity, for which frames have no code; of the first of them.
            ValueError: `resume` belongs to another choice of tensors.
            ChangedError: the files are not those of `resume`.
        """
        self.config.validate()
        if self.config.enable_chunk_encoding:
            check_codec(self.config.chunk_video_codec)
        if max_total_params is not None and max_total_params < 0:
            raise ValueError(f"max_total_params must not be negative: {max_total_params}")
        return self._run(source, max_total_params, layer_filter_func, resume)

    def _run(
        self,
        source: Any,
        limit: int | None,
        filter_func: FilterFunction | None,
        resume: Mapping[str, Any] | None,
    ) -> Iterator[Delivery]:
        with _opened(source) as checkpoint:
            course = self._start(checkpoint, source, limit, filter_func, resume)
            if self.config.enable_memory_monitoring:
                self.memory_monitor.start()
            try:
                with course.encoder or contextlib.nullcontext():
                    yield from self._deliver(course)
                if course.refused is not None:
                    raise course.refused
            finally:
                self._note_encoding(course)
                course.stream.close()
                self.memory_monitor.stop()

    def _start(
        self,
        checkpoint: Checkpoint,
        source: Any,
        limit: int | None,
        filter_func: FilterFunction | None,
        resume: Mapping[str, Any] | None,
    ) -> _Course:
        config = self.config
        saved = None if resume is None else _checked(resume)
        if saved is not None and limit is None:
            limit = saved["max_total_params"]
        chosen = LayerFilter(config.target_layers, config.exclude_layers, filter_func)
        rows = [
            row
            for row in _parameter_rows(checkpoint)
            if chosen.should_include_layer(checkpoint.catalog.name(row))
        ]
        wanted, total = _wanted(checkpoint, rows, limit)
        stream = Stream(
            checkpoint,
            wanted,
            options(
                dtype="float32",
                budget=config.stream_budget,
                threads=config.max_workers if config.parallel_processing else 1,
                chunk=_block_bytes(config),
            ),
            order="layer",
            resume=saved["stream"] if saved else None,
        )
        progress = StreamingProgress(_label(source), total)
        if saved is not None:
            progress.processed_parameters = saved["processed_parameters"]
            progress.chunks_encoded = saved["chunks_encoded"]
            progress.current_layer = saved["current_layer"]
            progress.start_time -= saved["elapsed_time"]
        self.chunk_size = config.chunk_size
        self.current_progress = progress
        if config.enable_chunk_encoding:
            self._renew_encoder()
        encoder = self.chunk_encoder if config.enable_chunk_encoding else None
        self._course = _Course(checkpoint, stream, progress, source, limit, saved, encoder)
        return self._course

    def _renew_encoder(self) -> None:
        """Go on with the encoder of the last stream, unless other videos are wanted now."""
        config = self.config
        wanted: dict[str, Any] = {
            "storage_dir": config.chunk_video_storage_dir,
            "frame_rate": config.chunk_frame_rate,
            "video_codec": config.chunk_video_codec,
            "max_chunks_per_video": config.max_chunks_per_video,
            "max_waiting_bytes": config.budget // 16,
        }
        if self.chunk_encoder is None or self._encoding != wanted:
            self.chunk_encoder = ChunkVideoEncoder(**wanted)
            self._encoding = wanted

    def _deliver(self, course: _Course) -> Iterator[Delivery]:
        progress = course.progress
        total, done = progress.total_parameters, progress.processed_parameters
        number = progress.chunks_encoded
        logs = self.config.enable_progress and logger.isEnabledFor(logging.INFO)
        next_log = done + self.config.progress_interval if logs else math.inf
        least, most = self.config.bounds()
        tensor, name, kind, dtype = -1, "", "", ""
        shape: tuple[int, ...] = ()
        for piece, block, ends in self._pieces(course):
            if block.row != tensor:
                tensor, name, kind = block.row, block.name, block.kind
                shape, dtype = block.tensor_shape, piece.dtype.name
            if piece.size >= total - done:  # quantised blocks come whole
                piece, ends = piece[: total - done], True
            count, offset = piece.size, course.element
            metadata = ChunkMetadata(
                number, name, kind, count, self.chunk_size, done, done + count - 1,
                time.time(), progress.memory_usage_mb, None, None, None, 0.95,
                shape, dtype, offset, ends,
            )  # fmt: skip
            if course.encoder is not None:
                self._encode(course, piece, metadata)
            course.item += ends
            course.element = 0 if ends else offset + count
            done += count
            number += 1
            progress.processed_parameters = done
            progress.chunks_encoded = number
            progress.current_layer = name
            if done >= next_log:
                next_log = done + self.config.progress_interval
                progress.update_rate()
                logger.info(_LOG, *_log_values(progress))
            yield piece, metadata, progress
            if done >= total:
                break
            if least < most:
                self.chunk_size = _core.classic_size(
                    self.chunk_size, self._pressure, least, most
                )
        progress.update_rate()

    def _pieces(self, course: _Course) -> Iterator[tuple[Array, _core.Chunk, bool]]:
        """(elements, the block they end in, do they end the tensor?) by chunk size.

        What one block leaves over is joined with the head of the next one.
        """
        rest: Array | None = None
        for block in course.stream:
            flat = block.array.reshape(-1)[course.skip :]
            course.skip = 0
            self._look(course.progress)
            at, length, last = 0, flat.size, block.is_last
            if rest is not None:
                at = min(self.chunk_size - rest.size, length)
                joined = np.concatenate((rest, flat[:at]))
                rest = None
                if joined.size < self.chunk_size and not last:
                    rest = joined
                    continue
                joined.flags.writeable = False
                yield joined, block, last and at == length
            while at < length:
                stop = at + self.chunk_size
                if stop > length and not last:
                    rest = flat[at:]
                    break
                piece = flat[at:stop]
                at = stop
                yield piece, block, last and at >= length
            if length == 0 and last:
                course.item += 1

    # -- videos --

    def _encode(self, course: _Course, piece: Array, metadata: ChunkMetadata) -> None:
        """Make a frame of it.  What is refused comes all the same; it is told at the end."""
        assert course.encoder is not None
        try:
            frame = course.encoder.encode(piece, metadata)
        except ChunkRefused as error:
            logger.warning("%s", error)
            course.refused = course.refused or error
            return
        if frame is not None:
            metadata.video_path = str(frame.path)
            metadata.frame_index = frame.number
            metadata.hierarchical_indices = frame.means
            metadata.compression_quality = frame.quality
        self._note_encoding(course)

    def _note_encoding(self, course: _Course) -> None:
        if course.encoder is not None:
            course.progress.encoding_time = course.encoder.seconds - course.encoding_before

    # -- the chunk size --

    def _look(self, progress: StreamingProgress) -> None:
        """Sample memory and rate, if the last sample is old enough."""
        now = time.monotonic()
        if now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_SECONDS
        progress.update_rate()
        if self.config.enable_memory_monitoring or self.config.adaptive_chunk_sizing:
            progress.update_memory_usage()
        self._pressure = progress.memory_usage_mb / self.config.max_memory_mb

    # -- what there is to know --

    def estimate_model_size(self, source: Any) -> int:
        """Parameters that a stream without filters would deliver: exact, from the header.

        Raises:
            FileNotFoundError, FormatError: as `tensorstream.open`.
        """
        with _opened(source) as checkpoint:
            return _wanted(checkpoint, _parameter_rows(checkpoint), None)[1]

    def get_streaming_statistics(self) -> dict[str, Any]:
        """The present stream in numbers, or the last one; {"status": "not_started"} before.

        Rates are parameters a second, times seconds, memory MB of 1024**2 bytes.  Once there
        was a stream with videos, ``chunk_encoding_stats`` are those of `ChunkVideoEncoder`,
        with ``chunk_encoding_success_rate`` and ``failed_chunk_count`` from among them.
        """
        progress = self.current_progress
        if progress is None:
            return {"status": "not_started"}
        found = {
            "model_name": progress.model_name,
            "progress_percent": progress.progress_percent,
            "processed_parameters": progress.processed_parameters,
            "total_parameters": progress.total_parameters,
            "chunks_encoded": progress.chunks_encoded,
            "processing_rate": progress.processing_rate,
            "elapsed_time": progress.elapsed_time,
            "estimated_completion_time": progress.estimated_completion_time,
            "memory_usage_mb": progress.memory_usage_mb,
            "current_layer": progress.current_layer,
            "chunk_size": self.chunk_size,
            "adaptive_sizing_enabled": self.config.adaptive_chunk_sizing,
            "parallel_processing": self.config.parallel_processing,
            "chunk_encoding_enabled": self.config.enable_chunk_encoding,
        }
        if self.chunk_encoder is not None:
            encoded = self.chunk_encoder.get_encoding_statistics()
            found["chunk_encoding_stats"] = encoded
            found["chunk_encoding_success_rate"] = encoded["success_rate"]
            found["failed_chunk_count"] = encoded["failed_chunks"]
        return found

    def get_layer_filtering_statistics(self, source: Any) -> dict[str, Any]:
        """What the config's filters leave of a model, by kind; {"error": ...} if it fails."""
        try:
            with _opened(source) as checkpoint:
                rows = _parameter_rows(checkpoint)
                names = [checkpoint.catalog.name(row) for row in rows]
        except (_core.Error, OSError, TypeError, ValueError) as error:
            return {"error": str(error)}
        chosen = self.layer_filter
        passed = [name for name in names if chosen.should_include_layer(name)]
        return {
            "total_layers": len(names),
            "filtered_layers": len(passed),
            "filter_ratio": len(passed) / len(names) if names else 0.0,
            "all_layer_types": chosen.get_layer_statistics(names),
            "filtered_layer_types": chosen.get_layer_statistics(passed),
            "target_layers": self.config.target_layers,
            "exclude_layers": self.config.exclude_layers,
        }

    # -- going on --

    def create_progress_checkpoint(self) -> dict[str, Any]:
        """Where the present stream is, or the last one was, for `resume_from_checkpoint`.

        Holds only what JSON can, names the exact element behind the last chunk that was
        delivered, and says of which files, so that changed ones are refused.  Chunks that
        were delivered are in their videos by then, or are counted as failed.

        Raises:
            RuntimeError: nothing was streamed yet.
        """
        course = self._course
        if course is None:
            raise RuntimeError("there is no progress yet: no stream was started")
        progress = course.progress
        if course.encoder is not None:
            course.encoder.finish()
            self._note_encoding(course)
            encoding = {"chunk_encoding_stats": course.encoder.get_encoding_statistics()}
        else:
            encoding = {}
        return {
            "version": CHECKPOINT_VERSION,
            "model_name": progress.model_name,
            "source": _path_of(course.source),
            "processed_parameters": progress.processed_parameters,
            "total_parameters": progress.total_parameters,
            "chunks_encoded": progress.chunks_encoded,
            "current_layer": progress.current_layer,
            "elapsed_time": progress.elapsed_time,
            "timestamp": time.time(),
            "config": {
                "chunk_size": self.chunk_size,
                "target_layers": self.config.target_layers,
                "exclude_layers": self.config.exclude_layers,
                "enable_chunk_encoding": self.config.enable_chunk_encoding,
            },
            **course.place(),
            **encoding,
        }

    def resume_from_checkpoint(
        self,
        checkpoint: Mapping[str, Any],
        source: Any = None,
        layer_filter_func: FilterFunction | None = None,
    ) -> Iterator[Delivery]:
        """Go on where `create_progress_checkpoint` was called, here or in another process.

        Args:
            checkpoint: what it returned.  Its filters and chunk size replace the config's.
            source: the same model again; needed where it was not a path.
            layer_filter_func: the same function again, if there was one.

        Yields:
            As `stream_model_parameters`, from the next element on.

        Raises:
            ValueError: no such checkpoint, or of another choice of tensors.
            ChangedError: a file is not what it was.
        """
        saved = _checked(checkpoint)
        if source is None:
            source = saved["source"]
        if source is None:
            raise ValueError(
                f"say again which model it is: {saved['model_name']!r} was not opened by path"
            )
        before = saved["config"]
        self.config = dataclasses.replace(
            self.config,
            chunk_size=before["chunk_size"],
            target_layers=before["target_layers"],
            exclude_layers=before["exclude_layers"],
        )
        return self.stream_model_parameters(
            source, layer_filter_func=layer_filter_func, resume=saved
        )

    def recover_from_streaming_error(self, error: BaseException) -> dict[str, Any]:
        """Do what can be done about an error, and say whether that can have helped.

        Returns:
            ``error_type``, ``error_message``, ``recovery_actions`` (sentences) and
            ``recovery_successful``: True only if something changed because of which
            resuming may get further.
        """
        actions, helped = self._recover(error)
        return {
            "error_type": type(error).__name__,
            "error_message": str(error),
            "recovery_actions": actions,
            "recovery_successful": helped,
        }

    def _recover(self, error: BaseException) -> tuple[list[str], bool]:
        text = str(error).lower()
        if any(note.startswith("while encoding") for note in getattr(error, "__notes__", ())):
            return self._recover_encoding()
        if isinstance(error, MemoryError) or "memory" in text:
            return self._recover_memory()
        if isinstance(error, _core.ChangedError):
            return ["The files changed: start again from the beginning"], False
        if isinstance(error, FileNotFoundError) or "not found" in text:
            return ["Check the path or id of the model, and that it was downloaded"], False
        if isinstance(error, (ConnectionError, TimeoutError)) or any(
            word in text for word in ("network", "connection", "timeout")
        ):
            return ["Check the connection, then resume from a progress checkpoint"], False
        if "encod" in text:
            return self._recover_encoding()
        gc.collect()
        return ["Collected garbage; nothing else is known to help"], False

    def _recover_memory(self) -> tuple[list[str], bool]:
        freed = gc.collect()
        before = self.config.chunk_size
        self.config.chunk_size = max(min(self.config.min_chunk_size, before), before // 2)
        self.chunk_size = self.config.chunk_size
        actions = [f"Collected garbage: {freed} objects", "Let go of chunks that are kept"]
        if self.chunk_size < before:
            actions.insert(0, f"Reduced the chunk size from {before} to {self.chunk_size}")
        return actions, self.chunk_size < before or freed > 0

    def _recover_encoding(self) -> tuple[list[str], bool]:
        if self.chunk_encoder is None:
            return ["Chunk encoding is not enabled: there is nothing to retry"], False
        told = self.retry_failed_chunk_encoding()
        mended, left = told["successful_retries"], told["remaining_failures"]
        actions = [f"Wrote {mended} of {told['retried_chunks']} chunks that were kept"]
        if left > 0:
            actions.append(f"{left} chunks are in no video: see chunk_encoder.failures")
        return actions, mended > 0

    def retry_failed_chunk_encoding(self) -> dict[str, Any]:
        """Try once more to write the videos that could not be written.

        Returns:
            as `ChunkVideoEncoder.retry_failed_chunks`; {"error": ...} without videos.
        """
        if self.chunk_encoder is None:
            return {"error": "Chunk encoding not enabled"}
        return dict(self.chunk_encoder.retry_failed_chunks())

    # -- life --

    def close(self) -> None:
        """Stop a stream that is on its way; progress and statistics stay.

        Raises:
            OSError: a video could not be written, and that was not raised before.
        """
        if self._course is not None:
            self._course.stream.close()
        self.memory_monitor.stop()
        if self.chunk_encoder is not None:
            self.chunk_encoder.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except OSError:
            if error is None:
                raise

    def __repr__(self) -> str:
        progress = self.current_progress
        if progress is None:
            return "<MemoryEfficientParameterStreamer, not started>"
        return (
            f"<MemoryEfficientParameterStreamer of {progress.model_name!r}, "
            f"{progress.progress_percent:.1f} % done, chunks of {self.chunk_size}>"
        )


# -- what a stream is made from ------------------------------------------------------------

_LOG = "%s: %d of %d parameters (%.1f %%), %.0f a second, %s"


def _log_values(progress: StreamingProgress) -> tuple[Any, ...]:
    return (
        progress.model_name,
        progress.processed_parameters,
        progress.total_parameters,
        progress.progress_percent,
        progress.processing_rate,
        progress.current_layer,
    )


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[Checkpoint]:
    """The source as a checkpoint; closed at the end if it was not one."""
    if isinstance(source, Checkpoint):
        yield source
        return
    with Checkpoint(source) as checkpoint:
        yield checkpoint


def _parameter_rows(checkpoint: Checkpoint) -> list[int]:
    """Rows to stream: as a forward pass meets them, or as a module or mapping has them."""
    catalog = checkpoint.catalog
    rows = [row for row in range(len(catalog)) if catalog.tensor(row)[9] == row]
    source = checkpoint.source
    if is_module(source):
        trained = {name for name, one in source.named_parameters() if one.requires_grad}
        rows = [row for row in range(len(catalog)) if catalog.name(row) in trained]
    return ordered(rows, catalog, "given" if catalog.format == "memory" else "layer")


def _wanted(
    checkpoint: Checkpoint, rows: list[int], limit: int | None
) -> tuple[list[Wanted], int]:
    """Whole tensors up to the limit, and how many elements to deliver of them."""
    wanted, left = [], math.inf if limit is None else limit
    total = 0
    for row in rows:
        if total >= left:
            break
        elements = checkpoint.catalog.tensor(row)[3]
        stop = int(min(elements, left - total))
        total += stop
        # Quantised blocks come whole; what is too much of the last one is cut off later.
        stop = min(elements, -(-stop // ALIGNMENT) * ALIGNMENT)
        wanted.append(Wanted(row, 0, stop))
    return wanted, total


def _block_bytes(config: StreamingConfig) -> int:
    """Bytes to bring at once: several chunks, and a small part of the budget."""
    chunks = 4 * 4 * config.bounds()[1]
    return min(max(BLOCK_BYTES, chunks), max(config.budget // 16, 64 * 1024))


def _label(source: Any) -> str:
    if isinstance(source, Checkpoint):
        source = source.source
    path = _path_of(source, absolute=False)
    if path is not None:
        return path
    if isinstance(source, Mapping):
        return "arrays in memory"
    return type(source).__name__


def _path_of(source: Any, *, absolute: bool = True) -> str | None:
    """The path or id of a source that is found by one."""
    if isinstance(source, Checkpoint):
        source = source.source
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = os.fspath(source)
    # An id of the Hub is no path, and stays what it is.
    return os.path.abspath(path) if absolute and os.path.exists(path) else path


_SAVED = (
    "source", "processed_parameters", "chunks_encoded", "current_layer", "elapsed_time",
    "config", "stream", "element", "max_total_params",
)  # fmt: skip


def _checked(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """A progress checkpoint, if it is one.

    Raises:
        ValueError: it is of another version, or something is missing in it.
    """
    if checkpoint.get("version") != CHECKPOINT_VERSION:
        raise ValueError(
            f"no progress checkpoint of version {CHECKPOINT_VERSION}: "
            f"version is {checkpoint.get('version')!r}"
        )
    for name in _SAVED:
        if name not in checkpoint:
            raise ValueError(f"the progress checkpoint has no {name!r}")
    return checkpoint


# -- short ways ------------------------------------------------------------------------------


def create_streaming_processor(
    chunk_size: int = 1024,
    max_memory_mb: float = 1024.0,
    enable_progress: bool = True,
    adaptive_chunk_sizing: bool = True,
    target_layers: list[str] | None = None,
    enable_chunk_encoding: bool = False,
    chunk_video_storage_dir: str = "chunk_videos",
) -> MemoryEfficientParameterStreamer:
    """A streamer from the fields of its config that matter most."""
    return MemoryEfficientParameterStreamer(
        StreamingConfig(
            chunk_size=chunk_size,
            max_memory_mb=max_memory_mb,
            enable_progress=enable_progress,
            adaptive_chunk_sizing=adaptive_chunk_sizing,
            target_layers=target_layers,
            enable_chunk_encoding=enable_chunk_encoding,
            chunk_video_storage_dir=chunk_video_storage_dir,
        )
    )


def stream_model_efficiently(
    model: Any,
    chunk_size: int = 1024,
    max_params: int | None = None,
    target_layers: list[str] | None = None,
    enable_chunk_encoding: bool = False,
) -> Iterator[Delivery]:
    """Yield (chunk, metadata, progress) of a model; see `MemoryEfficientParameterStreamer`."""
    streamer = create_streaming_processor(
        chunk_size, target_layers=target_layers, enable_chunk_encoding=enable_chunk_encoding
    )
    return streamer.stream_model_parameters(model, max_params)


def stream_model_with_layer_filtering(
    model: Any,
    target_layers: list[str],
    chunk_size: int = 1024,
    max_params: int | None = None,
    enable_chunk_encoding: bool = True,
) -> Iterator[Delivery]:
    """The same, of some layers; with videos, as it always was, in `chunk_videos`."""
    return stream_model_efficiently(
        model, chunk_size, max_params, target_layers, enable_chunk_encoding
    )
