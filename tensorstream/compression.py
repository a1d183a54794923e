"""Arrays to frames and back: lossless, hashed, as fast as memory.

A frame is one tensor with its dtype, shape and checksums; docs/format.md describes it to
the byte.  The work is done in C, without the GIL and by several threads.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from tensorstream import _core
from tensorstream.arrays import (
    Array,
    as_row,
    bytes_of,
    dtype_code,
    host_array,
    numpy_dtype,
)
from tensorstream.units import parse_threads

_ALIGNMENT = 64  # of an output: lets the core store past the caches

# Elements and bytes of a block, of the dtypes whose elements are no whole bytes each; what
# they lie in is shown as uint8.
_UNPACKED = {code: dtype for code in _core.dtypes if (dtype := numpy_dtype(code)) is not None}
for _code in ("F4", "F6_E2M3", "F6_E3M2"):
    del _UNPACKED[_code]


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What the front of a frame says.

    Attributes:
        dtype: of the elements, by safetensors' or ggml's name ("BF16", "Q4_K").
        shape: in elements.
        mode: what it was compressed with: "fast", "portable", "small" or "raw".
        kind: "plain"; "delta" to a base tensor; "same" bytes as a base tensor.
        base: the name of that tensor, None when plain.
        chunk: elements of a chunk, the unit of random access.
        chunks: how many there are.
        nbytes: bytes of the elements, decompressed.
        size: bytes of the frame.
        digest: 64-bit XXH3 over those of the decompressed chunks; tensors of the same
            nbytes, chunk and digest hold the same bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    mode: str
    kind: str
    base: str | None
    chunk: int
    chunks: int
    nbytes: int
    size: int
    digest: int

    @property
    def ratio(self) -> float:
        """Compressed by original size; 1.0 for an empty tensor."""
        return self.size / self.nbytes if self.nbytes else 1.0


def compress(
    array: Any,
    mode: str | None = "fast",
    *,
    dtype: Any = None,
    chunk: int | None = None,
    base: Any = None,
    base_name: str = "base",
    threads: int | None = None,
) -> _core.Buffer:
    """A frame of an array: bytes-like, self-describing, decompressed by `decompress`.

    Args:
        array: array-like of any shape, strides and byte order, or a torch tensor; bfloat16
            and the small floats through ml_dtypes.
        mode: "fast" decompresses at the speed of memory; "portable" packs with standard
            zstd frames only; "small" takes its time; "raw" or None packs nothing, for the
            hashes and the random access alone.
        dtype: for uint8 arrays that hold packed elements: "Q4_K" and the other ggml blocks,
            "F4", "F6_E2M3", "F6_E3M2".  The last axis of the array counts their bytes.
        chunk: elements that are packed together and read together; None is 131072.
        base: an array of the same dtype and shape: the frame holds the difference (XOR),
            small when only some bits changed, and needs the base to be decompressed.
        base_name: what the frame calls it.
        threads: at most so many; None is one a core.

    Returns:
        A read-only Buffer: len(), bytes(), file.write(), np.frombuffer() take it.

    Raises:
        TypeError: no array of a dtype that tensor files hold.
        ValueError: an unknown mode, a chunk that is no whole number of blocks or takes more
            than 16 MiB, a base of another dtype or shape.
        MemoryError: no memory.
    """
    code, shape, flat = _elements(array, dtype)
    below: Array | None = None
    if base is not None:
        base_code, base_shape, below = _elements(base, dtype)
        if (base_code, base_shape) != (code, shape):
            raise ValueError(
                f"the base is {base_code} of shape {base_shape}, the array {code} of "
                f"shape {shape}"
            )
        if not isinstance(base_name, str) or not base_name:
            raise ValueError(f"the base needs a name, not {base_name!r}")
    if mode is not None and not isinstance(mode, str):
        raise TypeError(f"mode is 'fast', 'portable', 'small', 'raw' or None, not {mode!r}")
    if chunk is not None and not isinstance(chunk, SupportsIndex):
        raise TypeError(f"chunk is a number of elements, not {chunk!r}")
    if chunk is not None and not 0 < operator.index(chunk) < 1 << 32:
        raise ValueError(f"a chunk has 1 to {(1 << 32) - 1} elements, not {chunk}")
    return _core.compress(
        flat, code, shape, mode or "raw", chunk or 0, parse_threads(threads), below, base_name
    )


def decompress(
    frame: Any,
    out: Array | None = None,
    *,
    base: Any = None,
    verify: bool = True,
    threads: int | None = None,
) -> Array:
    """The array that a frame holds.

    Args:
        frame: any bytes-like object that begins with a frame.
        out: a C-contiguous, writable array of the frame's dtype and shape to decompress
            into; memory that is used again is several times faster than fresh memory.
        base: the base tensor, for frames of kind "delta" and "same".
        verify: compare the hashes of the front, of every chunk and, with a base, of the
            result.  Without, bytes that are not what was written may go unnoticed; memory
            stays safe.
        threads: at most so many; None is one a core.

    Returns:
        `out`, or a new array.  Packed dtypes (ggml blocks, F4, F6) come as uint8 whose last
        axis counts bytes.

    Raises:
        FormatError: no frame, or one that contradicts itself.
        CorruptionError: a hash differs; the sentence names the chunk.
        ValueError: `out` or `base` of another size, dtype or shape.
        MemoryError: no memory.
    """
    info = frame_info(frame)
    dtype, shape = _array_of(info)
    if out is None:
        out = _aligned(dtype, shape)
    elif not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}, not an array")
    elif out.dtype != dtype or out.shape != shape or not out.flags.c_contiguous:
        raise ValueError(
            f"out is {out.dtype} of shape {out.shape}, not a C-contiguous {dtype} of "
            f"shape {shape}"
        )
    elif not out.flags.writeable:
        raise ValueError("out is read-only")
    below: Array | None = None
    if base is not None and info.kind != "plain":
        below = bytes_of(np.ascontiguousarray(host_array(base)))
    _core.decompress(frame, bytes_of(out), below, parse_threads(threads), verify)
    return out


def frame_info(frame: Any) -> FrameInfo:
    """What a frame holds, from its first bytes.

    Args:
        frame: any bytes-like object that holds a frame.

    Raises:
        FormatError: it does not begin with a frame, or is too short for it.
        UnsupportedError: a frame of a later version.
    """
    dtype, shape, kind, mode, chunk, chunks, nbytes, size, digest, base = _core.frame_facts(
        frame
    )
    return FrameInfo(
        dtype=dtype,
        shape=shape,
        mode=mode,
        kind=kind,
        base=base,
        chunk=chunk,
        chunks=chunks,
        nbytes=nbytes,
        size=size,
        digest=digest,
    )


def _elements(array: Any, dtype: Any) -> tuple[str, tuple[int, ...], Array]:
    """(dtype, shape in elements, flat bytes) of an array-like."""
    _, code, shape, flat = as_row("array", array)
    if dtype is None:
        return code, shape, flat
    wanted = dtype_code(dtype)
    if wanted == code:
        return code, shape, flat
    if code != "U8" or wanted in _UNPACKED:
        raise TypeError(f"dtype={dtype!r} is for uint8 arrays of packed elements, not {code}")
    count, size = _core.dtype_block(wanted)
    if not shape or shape[-1] % size:
        raise ValueError(
            f"the last axis of shape {shape} is no whole number of {wanted} blocks of "
            f"{size} bytes"
        )
    return wanted, (*shape[:-1], shape[-1] // size * count), flat


def _array_of(info: FrameInfo) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype and shape of the array that a frame becomes."""
    known = _UNPACKED.get(info.dtype)
    if known is not None:
        return known, info.shape
    count, size = _core.dtype_block(info.dtype)
    if info.shape and info.shape[-1] % count == 0:
        return np.dtype(np.uint8), (*info.shape[:-1], info.shape[-1] // count * size)
    return np.dtype(np.uint8), (info.nbytes,)


def _aligned(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """A new array whose memory begins where a cache line does."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.__array_interface__["data"][0] % _ALIGNMENT
    made: Array = memory[start : start + size].view(dtype).reshape(shape)
    return made
