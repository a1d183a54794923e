"""Chunks of a stream as frames of lossless videos: what `enable_chunk_encoding` asks for.

    chunk --int8 under one scale and zero--> codes --Hilbert curve--> image --FFV1--> frame

Whoever has chunks hands them over; a thread writes each video when it is full.  A video is
kept in memory until then, because the file begins with what its frames stand for; how much
of that may wait is bounded, and beyond it the giver waits.  A video appears under its name
complete or not at all.
"""

from __future__ import annotations

import os
import pathlib
import queue
import secrets
import threading
import time
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from tensorstream import hilbert
from tensorstream.arrays import FLOAT_TARGETS, Array, code_of
from tensorstream.encoding import EncodingStatistics

_WAITING = 16 << 20  # bytes of pixels in a video that is not written yet


@dataclass(slots=True)
class _Video:
    """Frames on their way to one file."""

    path: pathlib.Path
    frames: list[hilbert.Frame] = field(default_factory=list)
    pixels: int = 0  # bytes of them
    source: int = 0  # bytes of the chunks

    def add(self, frame: hilbert.Frame, nbytes: int) -> int:
        """The number of the frame."""
        self.frames.append(frame)
        self.pixels += frame.image.pixels.nbytes
        self.source += nbytes
        return len(self.frames) - 1


class ChunkRefused(ValueError):
    """A chunk has values for which a frame has no code: a NaN, an infinity."""


class ChunkFrame(NamedTuple):
    """Where a chunk is, and what its frame is like.

    Attributes:
        path: of the video.
        number: of the frame in it, from 0.
        means: float32, of runs of 4, 16, ... elements (`hilbert.means`), one level behind
            the other.
        dimensions: of the image.
        quality: the cosine between the values and what the frame decodes to.
    """

    path: pathlib.Path
    number: int
    means: Array
    dimensions: tuple[int, ...]
    quality: float


class ChunkFailure(NamedTuple):
    """A chunk that is in no video.

    Attributes:
        name: of its tensor.
        offset: of its first element in the flat tensor.
        error: why.
    """

    name: str
    offset: int
    error: Exception


class ChunkVideoEncoder:
    """Makes videos of chunks; `hilbert.load_chunks` gives them back.

    Args:
        storage_dir: where videos go; made when the first one is written.  Names are never
            used twice.
        frame_rate: frames a second, for those who play it.
        video_codec: "ffv1", or "rawvideo", which is larger and faster; neither loses anything.
        max_chunks_per_video: frames of a file.
        max_waiting_bytes: of pixels: a video is closed before it holds more.  Three such
            videos may be in memory: one that grows, one that waits, one that is written.

    Raises:
        ImportError: PyAV is not installed (`pip install tensorstream[video]`).
        ValueError: a codec that loses values, or that is not known.
    """

    def __init__(
        self,
        storage_dir: str | os.PathLike[str] = "chunk_videos",
        frame_rate: float = 30.0,
        video_codec: str = "ffv1",
        max_chunks_per_video: int = 1000,
        *,
        max_waiting_bytes: int = _WAITING,
    ) -> None:
        hilbert.check_codec(video_codec)
        if max_chunks_per_video < 1:
            raise ValueError(f"max_chunks_per_video must be at least 1: {max_chunks_per_video}")
        self.storage_dir = pathlib.Path(storage_dir)
        self.frame_rate = frame_rate
        self.video_codec = video_codec
        self.max_chunks_per_video = max_chunks_per_video
        self._most = max_waiting_bytes
        # By time, so that a later run comes behind; by chance, so that none meets another.
        self._run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self._videos = 0
        self._open: _Video | None = None
        self._queue: queue.Queue[_Video | None] = queue.Queue(1)
        self._thread: threading.Thread | None = None
        self._begun: float | None = None  # when the first chunk since a pause came
        self._lock = threading.Lock()  # guards what follows
        self._statistics = EncodingStatistics()
        self._busy = 0.0
        self._pending = 0
        self._skipped = 0
        self._refused: list[ChunkFailure] = []
        self._unwritten: list[tuple[_Video, Exception]] = []
        self._unseen: Exception | None = None  # not yet raised to the giver

    # -- the giver's side --

    def encode(self, chunk: Array, metadata: Any) -> ChunkFrame | None:
        """Make a frame of a chunk; waits while too much waits to be written.

        Args:
            chunk: float16, bfloat16, float32 or float64.  It is not needed afterwards.
            metadata: a `ChunkMetadata`.

        Returns:
            where it will be found once that video is written; None of a chunk that holds no
            floats, which is skipped.

        Raises:
            ChunkRefused: a NaN or an infinity, with its tensor and place.
            OSError: an earlier video could not be written; once.  Its frames are kept for
                `retry_failed_chunks`; this chunk was not taken: give it again.
        """
        self._raise_unseen()
        began = time.perf_counter()
        if self._begun is None:
            self._resume(began)
        if code_of(chunk.dtype) not in FLOAT_TARGETS:
            with self._lock:
                self._skipped += 1
            return None
        try:
            image = hilbert.encode(chunk)
        except ValueError as error:
            name, offset = metadata.layer_name, metadata.offset
            refused = ChunkRefused(
                f"tensor {name!r}, elements {offset} to {offset + chunk.size - 1}: {error}"
            )
            with self._lock:
                self._refused.append(ChunkFailure(name, offset, refused))
            raise refused from None
        levels = hilbert.means(chunk)
        quality = image.error(chunk).cosine
        with self._lock:
            self._pending += 1
            self._busy += time.perf_counter() - began
        frame = hilbert.Frame(metadata.layer_name, image, metadata.offset, metadata.shape)
        path, number = self._add(frame, chunk.nbytes)
        return ChunkFrame(
            path, number, np.concatenate(levels or [chunk[:0]]), image.pixels.shape, quality
        )

    def encode_chunk(self, chunk: Array, metadata: Any) -> dict[str, Any]:
        """`encode` as the original had it.

        Returns:
            ``video_path``, ``frame_index``, ``hierarchical_indices``, ``dimensions``,
            ``compression_quality`` and ``encoded_successfully`` True; or
            ``encoded_successfully`` False, ``error`` and ``chunk_id``.

        Raises:
            OSError: as `encode`.
        """
        error = f"{chunk.dtype} is no floating-point type"
        try:
            frame = self.encode(chunk, metadata)
        except ChunkRefused as refused:
            frame, error = None, str(refused)
        if frame is None:
            return {
                "encoded_successfully": False,
                "error": error,
                "chunk_id": metadata.chunk_id,
            }
        return {
            "video_path": str(frame.path),
            "frame_index": frame.number,
            "hierarchical_indices": frame.means,
            "dimensions": frame.dimensions,
            "compression_quality": frame.quality,
            "encoded_successfully": True,
        }

    def finish(self) -> None:
        """Write what waits, as a video of its own, and wait until all is written."""
        if self._open is not None:
            self._close_video()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._begun = None

    def flush(self) -> None:
        """`finish`, and tell what went wrong.

        Raises:
            OSError: a video could not be written, and this was not raised yet.
        """
        self.finish()
        self._raise_unseen()

    def retry_failed_chunks(self) -> dict[str, int]:
        """Try once more to write each video that could not be written, in order.

        What waits is written first.

        What was refused for its values would be refused again, and stays a failure.

        Returns:
            ``retried_chunks``, ``successful_retries`` and ``remaining_failures``.
        """
        self.finish()
        with self._lock:
            tries, self._unwritten = self._unwritten, []
            tried = sum(len(video.frames) for video, _ in tries)
            self._pending += tried
        self._resume(time.perf_counter())
        for video, _ in tries:
            self._write(video)
        self._begun = None
        with self._lock:
            self._unseen = None  # told by what is returned
            left = self._failed()
            mended = tried - (left - len(self._refused))
        return {
            "retried_chunks": tried,
            "successful_retries": mended,
            "remaining_failures": left,
        }

    def cleanup_failed_chunks(self) -> int:
        """Forget all failures, and the frames that were kept; returns how many there were."""
        with self._lock:
            count = self._failed()
            self._refused, self._unwritten, self._unseen = [], [], None
        return count

    # -- what there is to know --

    @property
    def statistics(self) -> EncodingStatistics:
        """Of the chunks that are in videos under their names; bytes_out is of files."""
        with self._lock:
            return replace(self._statistics, failures=self._failed())

    @property
    def failures(self) -> list[ChunkFailure]:
        """Each chunk that is in no video, and why."""
        with self._lock:
            unwritten = [
                ChunkFailure(frame.name, frame.offset, error)
                for video, error in self._unwritten
                for frame in video.frames
            ]
            return [*self._refused, *unwritten]

    @property
    def seconds(self) -> float:
        """That were spent quantising and writing, by both threads together."""
        with self._lock:
            return self._busy

    def get_encoding_statistics(self) -> dict[str, Any]:
        """`statistics` and the settings, by the original's names and a few more.

        ``pending_chunks`` are in videos that are not written yet; ``skipped_chunks`` were
        no floats.  The rate is bytes a second before encoding; the ratio is bytes after over
        bytes before.
        """
        found = self.statistics
        with self._lock:
            pending, skipped = self._pending, self._skipped
        return {
            "total_chunks_encoded": found.chunks,
            "failed_chunks": found.failures,
            "pending_chunks": pending,
            "skipped_chunks": skipped,
            "success_rate": found.success_rate,
            "bytes_in": found.bytes_in,
            "bytes_out": found.bytes_out,
            "compression_ratio": found.ratio,
            "bytes_per_second": found.rate,
            "storage_directory": str(self.storage_dir),
            "video_codec": self.video_codec,
            "frame_rate": self.frame_rate,
            "max_chunks_per_video": self.max_chunks_per_video,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()
        if error is None:  # else it is told by the next call
            self._raise_unseen()

    def _failed(self) -> int:
        return len(self._refused) + sum(len(video.frames) for video, _ in self._unwritten)

    def _raise_unseen(self) -> None:
        with self._lock:
            error, self._unseen = self._unseen, None
        if error is not None:
            raise error

    # -- videos --

    def _add(self, frame: hilbert.Frame, nbytes: int) -> tuple[pathlib.Path, int]:
        """Put it into a video that has room; full ones go to the thread that writes."""
        video = self._open
        if video is not None and video.pixels + frame.image.pixels.nbytes > self._most:
            self._close_video()
            video = None
        if video is None:
            name = f"chunks-{self._run}-{self._videos:04}.mkv"
            video = self._open = _Video(self.storage_dir / name)
            self._videos += 1
        number = video.add(frame, nbytes)
        if len(video.frames) == self.max_chunks_per_video:
            self._close_video()
        return video.path, number

    def _close_video(self) -> None:
        video, self._open = self._open, None
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="tensorstream-video", daemon=True
            )
            self._thread.start()
        self._queue.put(video)

    def _resume(self, now: float) -> None:
        """Count the seconds from here on, behind those that were counted."""
        self._begun = now - self.statistics.seconds

    def _work(self) -> None:
        while (video := self._queue.get()) is not None:
            self._write(video)

    def _write(self, video: _Video) -> None:
        began = time.perf_counter()
        begun = self._begun
        assert begun is not None
        try:
            self.storage_dir.mkdir(parents=True, exist_ok=True)
            hilbert.save_frames(
                video.path, video.frames, fps=self.frame_rate, codec=self.video_codec
            )
            size = video.path.stat().st_size
        except Exception as error:
            first = video.frames[0]
            error.add_note(f"while encoding {len(video.frames)} chunks from {first.name!r} on")
            with self._lock:
                self._pending -= len(video.frames)
                self._unwritten.append((video, error))
                self._unseen = self._unseen or error
            return
        ended = time.perf_counter()
        with self._lock:
            now = self._statistics
            self._pending -= len(video.frames)
            self._busy += ended - began
            self._statistics = replace(
                now,
                chunks=now.chunks + len(video.frames),
                bytes_in=now.bytes_in + video.source,
                bytes_out=now.bytes_out + size,
                seconds=ended - begun,
            )
