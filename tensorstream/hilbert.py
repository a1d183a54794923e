"""Parameters as images along a Hilbert curve, and as frames of a lossless video.

>>> import numpy as np
>>> from tensorstream import hilbert
>>> image = hilbert.encode(np.linspace(-1, 1, 1000, dtype=np.float32))
>>> image.pixels.shape, image.padding
((32, 32), 24)
>>> bool(np.abs(image.decode() - np.linspace(-1, 1, 1000)).max() <= image.scale / 2 + 1e-6)
True

A sequence is laid along the curve through the smallest square whose side is a power of two,
so that neighbours stay neighbours.  Values are quantised to 8 bits under one scale and zero
point that are kept, so `decode` gives back exactly what was encoded.  What is kept of the
rest is the number of elements: padding has the code of zero.
"""

from __future__ import annotations

import io
import json
import math
import os
import types
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tensorstream import _core
from tensorstream.arrays import Array, bytes_of, code_of, host_array, numpy_dtype
from tensorstream.quantizing import QuantizationError, QuantizedTensor, quantize

_TAG = "TENSORSTREAM"
_VERSION = 1
_LEAST_SIDE = 16  # of a frame: coders want room


@dataclass(frozen=True, slots=True, eq=False)
class HilbertImage:
    """An array as a square of 8-bit pixels; `encode` makes it.

    Attributes:
        pixels: uint8, side by side; element d of the flattened array at the d-th place of
            the curve, its code plus 128.
        shape: of the array.
        dtype: of the array, a NumPy (or ml_dtypes) dtype.
        scale: a step of one code.
        zero: the pixel that stands for 0.
    """

    pixels: npt.NDArray[np.uint8]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero: int

    @property
    def count(self) -> int:
        """Elements of the array."""
        return math.prod(self.shape)

    @property
    def padding(self) -> int:
        """Pixels that stand for nothing: those at the end of the curve."""
        return self.pixels.size - self.count

    def quantized(self) -> QuantizedTensor:
        """The same as int8 codes under one scale and zero point, without the curve."""
        codes = np.empty(self.count, np.uint8)
        collect(self.pixels, codes)
        codes ^= np.uint8(128)
        columns = self.shape[-1] if self.shape else 1
        return QuantizedTensor(
            scheme="int8",
            shape=self.shape,
            dtype=self.dtype,
            data=codes.reshape(-1, columns) if columns else codes.reshape(0, 0),
            scales=np.array([self.scale], np.float32),
            zeros=np.array([self.zero - 128], np.int8),
            group="tensor",
        )

    def decode(self, dtype: npt.DTypeLike = "float32") -> Array:
        """The array: (pixel - zero) * scale.

        Args:
            dtype: float16, bfloat16, float32 or float64; rounded once from float32.
        """
        return self.quantized().dequantize(dtype)

    def error(self, original: Any) -> QuantizationError:
        """What the 8 bits lost, as `QuantizedTensor.error` measures it."""
        return self.quantized().error(original)


def encode(array: Any) -> HilbertImage:
    """Quantise an array to 8 bits and lay it along the curve.

    Args:
        array: float16, bfloat16, float32 or float64, of any shape, at most 2**32 elements.

    Raises:
        ValueError: a NaN or an infinity, by row and column; too many elements.
        TypeError: an array that is not of these floats.
    """
    made = quantize(array, "int8", group="tensor", symmetric=False)
    assert made.scales is not None and made.zeros is not None
    zero = int(made.zeros[0]) + 128
    pixels = spread(made.data.reshape(-1) ^ 128, fill=zero)
    return HilbertImage(pixels, made.shape, made.dtype, float(made.scales[0]), zero)


def spread(sequence: Array, fill: Any = 0) -> Array:
    """Lay a sequence along the curve through the smallest square that holds it.

    Args:
        sequence: 1-D, elements of 1, 2, 4 or 8 bytes.
        fill: what the places beyond its end hold.

    Returns:
        a new 2-D array, its side a power of two; place (0, 0) is the first.

    Raises:
        ValueError: other elements, or more than 2**32.
    """
    order = _core.hilbert_order(sequence.size)
    image = np.full((1 << order, 1 << order), fill, sequence.dtype)
    flat = bytes_of(np.require(sequence, requirements=["C", "A"]))
    _core.hilbert_map(flat, bytes_of(image), order, sequence.itemsize)
    return image


def collect(image: Array, out: Array) -> Array:
    """Pick up the first `out.size` elements along the curve; returns `out`.

    Raises:
        ValueError: the image is no square of a power of two, or smaller than `out`, or of
            another dtype.
    """
    side = len(image)
    if image.shape != (side, side) or side & (side - 1) or image.dtype != out.dtype:
        raise ValueError(
            f"an image of {image.dtype} and shape {image.shape} for elements of {out.dtype}: "
            "the same dtype and a square whose side is a power of two are needed"
        )
    pixels = bytes_of(np.require(image, requirements=["C", "A"]))
    _core.hilbert_unmap(pixels, bytes_of(out), side.bit_length() - 1, out.itemsize)
    return out


def means(array: Any, levels: int | None = None) -> list[npt.NDArray[np.float32]]:
    """Means of ever larger squares of an array laid along the curve.

    Runs of 4**k elements of the flattened array are squares of 2**k pixels a side, so these
    are the image at a half, a quarter, and so on, each level along its own curve; `spread`
    makes an image of one.

    Args:
        array: floats of any shape; taken as float32, sums are float64.
        levels: how many; by default until one mean is left.

    Returns:
        one float32 array for each level, of ceil(size / 4**k) means; padding is left out.
    """
    values = host_array(array).astype(np.float32, copy=False).reshape(-1)
    values = np.require(values, requirements=["C", "A"])
    levels = _core.hilbert_order(values.size) if levels is None else levels
    sizes = [-(-values.size // 4**k) for k in range(1, levels + 1)]
    out = np.empty(sum(sizes), np.float32)
    _core.hilbert_means(bytes_of(values), bytes_of(out), levels)
    return np.split(out, np.cumsum(sizes)[:-1]) if sizes else []


# -- video -------------------------------------------------------------------------------


class Frame(NamedTuple):
    """An image in a video: a tensor, or a chunk of one.

    Attributes:
        name: of the tensor.
        image: of the elements.
        offset: of the first of them in the flat tensor.
        tensor_shape: of the whole tensor.
    """

    name: str
    image: HilbertImage
    offset: int
    tensor_shape: tuple[int, ...]


def save_video(
    path: str | os.PathLike[str],
    images: Iterable[tuple[str, HilbertImage]],
    fps: float = 30,
    codec: str = "ffv1",
) -> None:
    """Write images as frames of a lossless video: Matroska, gray.

    What the pixels stand for (name, shape, dtype, scale, zero of each frame) and a checksum
    of each image are kept in the file as a tag.  Frames have the side of the largest image;
    smaller ones lie in a corner.  The file appears complete or not at all.

    Args:
        path: ends with .mkv.
        images: (name, image) pairs, each a frame, in order.
        fps: frames a second, for those who play it.
        codec: "ffv1", or "rawvideo", which is larger and faster.

    Raises:
        ImportError: PyAV is not installed (`pip install tensorstream[video]`).
        ValueError: no images, another kind of file, or a codec that loses something.
    """
    frames = [Frame(name, image, 0, image.shape) for name, image in images]
    save_frames(path, frames, fps=fps, codec=codec)


def save_frames(
    path: str | os.PathLike[str],
    frames: Sequence[Frame],
    *,
    fps: float = 30,
    codec: str = "ffv1",
) -> None:
    """The same for frames that may be chunks; see `save_video`."""
    check_codec(codec)
    if not frames:
        raise ValueError("a video needs at least one image")
    if not os.fspath(path).endswith(".mkv"):
        raise ValueError(f"{os.fspath(path)!r} does not end with .mkv")
    _core.write_file(path, _video(frames, fps, codec))


def load_video(path: str | os.PathLike[str]) -> list[tuple[str, HilbertImage]]:
    """The images that `save_video` wrote, pixel for pixel.

    Raises:
        ImportError: PyAV is not installed (`pip install tensorstream[video]`).
        FormatError: a video that does not say what its pixels stand for, or that holds
            other frames than it says.
        CorruptionError: an image is not what was written.
    """
    return [(frame.name, frame.image) for frame in load_chunks(path)]


def load_chunks(path: str | os.PathLike[str]) -> list[Frame]:
    """The same with the place of each image in its tensor.

    >>> for frame in hilbert.load_chunks("chunk_videos/chunks-20261121-141500-3fa2c1-0000.mkv"):
    ...     stop = frame.offset + frame.image.count
    ...     flat[frame.name][frame.offset : stop] = frame.image.decode()
    """
    av = _av()
    file_name = os.fspath(path)
    try:
        with av.open(file_name) as file:
            rows = _rows(file_name, file.metadata)
            planes = [frame.to_ndarray() for frame in file.decode(video=0)]
    except av.error.InvalidDataError as error:
        raise _core.CorruptionError(f"{file_name}: {error.strerror}") from None
    if len(planes) != len(rows):
        raise _core.FormatError(
            f"{file_name}: {len(planes)} frames where {len(rows)} were written"
        )
    return [_frame(file_name, row, plane) for row, plane in zip(rows, planes)]


# What loses nothing of 8-bit gray and has a place in Matroska; of FFV1 version 3, which has
# a checksum a slice.
_CODECS: dict[str, dict[str, str]] = {"ffv1": {"level": "3", "slicecrc": "1"}, "rawvideo": {}}


def check_codec(codec: str) -> None:
    """Is it one that loses nothing, and can it be had?

    Raises:
        ImportError: PyAV is not installed (`pip install tensorstream[video]`).
        ValueError: it is none of them.
    """
    if codec not in _CODECS:
        raise ValueError(
            f"{codec!r} is no codec that keeps every pixel: {' and '.join(_CODECS)} are"
        )
    _av()


def _av() -> types.ModuleType:
    try:
        import av
        import av.error
    except ImportError as error:
        raise ImportError(
            "videos need PyAV, which is not installed: pip install tensorstream[video]"
        ) from error
    module: types.ModuleType = av
    return module


def _video(frames: Sequence[Frame], fps: float, codec: str) -> memoryview:
    """The bytes of the file."""
    av = _av()
    written = io.BytesIO()
    side = max(_LEAST_SIDE, *(len(frame.image.pixels) for frame in frames))
    rows = [_row(frame) for frame in frames]
    with av.open(written, "w", format="matroska") as file:
        file.metadata[_TAG] = json.dumps({"version": _VERSION, "frames": rows})
        rate = Fraction(fps).limit_denominator(1001)
        stream = file.add_stream(codec, rate=rate, options=_CODECS[codec])
        stream.width = stream.height = side
        stream.pix_fmt = "gray"
        pixels = np.zeros((side, side), np.uint8)
        for frame in frames:
            own = len(frame.image.pixels)
            pixels[:own, :own] = frame.image.pixels
            pixels[:own, own:] = 0
            pixels[own:] = 0
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        file.mux(stream.encode(None))
    return written.getbuffer()


def _row(frame: Frame) -> dict[str, Any]:
    image = frame.image
    row = {
        "name": frame.name,
        "shape": image.shape,
        "dtype": code_of(image.dtype),
        "scale": image.scale.hex(),
        "zero": image.zero,
        "side": len(image.pixels),
        "offset": frame.offset,
        "tensor_shape": frame.tensor_shape,
    }
    return {**row, "crc32": _checksum(row, image.pixels)}


def _checksum(row: dict[str, Any], pixels: Array) -> int:
    """Of an image and of what it stands for."""
    return zlib.crc32(pixels.data, zlib.crc32(json.dumps(row).encode()))


def _rows(path: str, tags: dict[str, str]) -> list[dict[str, Any]]:
    text = tags.get(_TAG) or tags.get(_TAG.lower())
    if text is None:
        raise _core.FormatError(f"{path}: no {_TAG} tag says what its frames stand for")
    try:
        told = json.loads(text)
        version, rows = told["version"], list(told["frames"])
    except (ValueError, TypeError, KeyError) as error:
        raise _core.FormatError(f"{path}: its {_TAG} tag is malformed: {error}") from None
    if version != _VERSION:
        raise _core.FormatError(f"{path}: version {version} of its tag; {_VERSION} is known")
    return rows


def _frame(path: str, row: dict[str, Any], plane: Array) -> Frame:
    try:
        name, side, shape = str(row["name"]), int(row["side"]), _shape(row["shape"])
        dtype = numpy_dtype(row["dtype"])
        scale, zero = float.fromhex(row["scale"]), int(row["zero"])
        told = {key: value for key, value in row.items() if key != "crc32"}
        wanted = row["crc32"]
        offset, tensor_shape = int(row["offset"]), _shape(row["tensor_shape"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _core.FormatError(f"{path}: a frame's record is malformed: {error}") from None
    count = math.prod(shape)
    fits = (
        plane.ndim == 2
        and plane.dtype == np.uint8
        and 0 < side <= min(plane.shape)
        and side & (side - 1) == 0
        and count <= side * side
        and 0 <= offset <= math.prod(tensor_shape) - count
    )
    if not fits or dtype is None or not 0 <= zero <= 255 or not math.isfinite(scale):
        raise _core.FormatError(
            f"{path}: a frame of shape {plane.shape} does not hold an image of side {side} "
            f"for an array of shape {shape}"
        )
    pixels = plane[:side, :side].copy()
    if _checksum(told, pixels) != wanted:
        raise _core.CorruptionError(f"{path}: the image of {name!r} at {offset} is damaged")
    return Frame(name, HilbertImage(pixels, shape, dtype, scale, zero), offset, tensor_shape)


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in value)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return shape
