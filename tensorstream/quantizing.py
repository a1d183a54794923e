"""Few bits for many: arrays of floats into ggml's blocks, NF4, integers, 8-bit floats.

>>> import numpy as np, tensorstream as ts
>>> weight = np.random.default_rng(0).standard_normal((4, 256), dtype=np.float32)
>>> packed = ts.quantize(weight, "q4_k")
>>> packed.data.shape, packed.nbytes
((4, 144), 576)
>>> ts.dequantize(packed).shape
(4, 256)

The work is C (csrc/quant), bit-identical to the rules that docs/quantize.md names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tensorstream import _core
from tensorstream.arrays import FLOAT_TARGETS, Array, bytes_of, code_of, host_array, numpy_dtype

_TILE = 1 << 20  # bytes of a strided array that are made contiguous at a time
_ALIASES = {
    "float8_e4m3fn": "e4m3",
    "f8_e4m3": "e4m3",
    "float8_e5m2": "e5m2",
    "f8_e5m2": "e5m2",
}

SCHEMES: tuple[str, ...] = _core.scheme_names()
"""The names that `quantize` takes."""


def scheme_name(scheme: str) -> str:
    """The name that the core has for it: in small letters, without aliases."""
    if not isinstance(scheme, str):
        raise TypeError(f"a scheme is a name such as 'q8_0', not {scheme!r}")
    name = scheme.lower()
    return _ALIASES.get(name, name)


def group_or_default(name: str, group: int | str | None) -> int | str | None:
    """What shares a scale: integers cannot do without one, and take a row."""
    return "row" if group is None and name in ("int8", "int4") else group


@dataclass(frozen=True, slots=True)
class QuantizationError:
    """What quantising lost, over all elements as float32; see `QuantizedTensor.error`.

    Attributes:
        max_abs: the largest difference.
        rmse: the root of the mean square of the differences; 0 of an empty tensor.
        cosine: of the angle between both as vectors; 1 when both are zero.
        snr_db: signal to noise, 10 log10(sum of squares / sum of squared differences), in
            decibels; infinite when nothing was lost.
    """

    max_abs: float
    rmse: float
    cosine: float
    snr_db: float


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """Codes and all that is needed to read them; `quantize` makes it.

    Attributes:
        scheme: the rule, as `SCHEMES` names it.
        shape: of the original.
        dtype: of the original, a NumPy (or ml_dtypes) dtype.
        data: uint8, rows by bytes: what a GGUF file stores for ggml's types; for int8 the
            codes in two's complement, for int4 two of them a byte, the first in the low
            nibble; for nf4 flat, the first in the high nibble, as bitsandbytes has it.
        scales: float32, where they are kept apart: one a group, or one for each 64 elements
            of nf4.  With double quantisation uint8 codes.
        zeros: int8, the code of 0 of each group; None for symmetric schemes.
        group: elements under one scale, "row" or "tensor"; None where the scheme decides.
        nested_scales: float32, one for each 256 scales; None without double quantisation.
        nested_mean: what was taken from the scales before that.
    """

    scheme: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: npt.NDArray[np.uint8]
    scales: Array | None = None
    zeros: npt.NDArray[np.int8] | None = None
    group: int | str | None = None
    nested_scales: npt.NDArray[np.float32] | None = None
    nested_mean: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zeros together."""
        parts = (self.data, self.scales, self.zeros, self.nested_scales)
        return sum(part.nbytes for part in parts if part is not None)

    @property
    def bits(self) -> float:
        """Bits an element, scales and zeros included; 0 of an empty tensor."""
        count = math.prod(self.shape)
        return 8 * self.nbytes / count if count else 0.0

    def dequantize(
        self, dtype: npt.DTypeLike = "float32", *, out: Array | None = None
    ) -> Array:
        """The values that the codes stand for; see the function `dequantize`."""
        code = _float_code(dtype)
        target = numpy_dtype(code)
        assert target is not None
        if out is None:
            out = np.empty(self.shape, target)
        elif out.shape != self.shape or out.dtype != target or not out.flags.c_contiguous:
            raise ValueError(
                f"out is {out.dtype} of shape {out.shape}, not a C-contiguous {target} "
                f"of shape {self.shape}"
            )
        how = _how(self, code)
        rows, _ = _rows_and_columns(self.shape)
        _core.dequantize(*how, 0, rows, bytes_of(out), *self._parts())
        return out

    def error(self, original: Any) -> QuantizationError:
        """How far the codes are from the array they were made of, in one pass.

        Args:
            original: shape as `shape`; float16, bfloat16, float32 or float64.

        Raises:
            ValueError: the shape is another.
        """
        array = _floats(original)
        if array.shape != self.shape:
            raise ValueError(f"the original has shape {array.shape}, not {self.shape}")
        how = _how(self, code_of(array.dtype))
        rows, _ = _rows_and_columns(self.shape)
        flat = bytes_of(np.require(array, requirements=["C", "A"]))
        most, lost, products, before, after = _core.deviation(
            *how, 0, rows, flat, *self._parts()
        )
        count = math.prod(self.shape)
        lengths = math.sqrt(before) * math.sqrt(after)
        return QuantizationError(
            max_abs=most,
            rmse=math.sqrt(lost / count) if count else 0.0,
            cosine=products / lengths if lengths else float(before == after),
            snr_db=_decibels(before, lost),
        )

    def _parts(self) -> tuple[Array, Array, Array]:
        """Codes, float32 scales, zeros; empty where there are none."""
        scales = np.empty(0, np.float32) if self.scales is None else self.scales
        if self.nested_scales is not None:
            codes, scales = scales, np.empty(scales.size, np.float32)
            _core.nested_dequantize(scales, codes, self.nested_scales, self.nested_mean)
        zeros = np.empty(0, np.int8) if self.zeros is None else self.zeros
        return self.data, scales, zeros

    def __repr__(self) -> str:
        return (
            f"QuantizedTensor({self.scheme!r}, {'x'.join(map(str, self.shape)) or 'scalar'}, "
            f"{self.dtype}, {self.bits:.2f} bits an element)"
        )


def quantize(
    array: Any,
    scheme: str,
    *,
    group: int | str | None = None,
    symmetric: bool = True,
    double: bool = False,
) -> QuantizedTensor:
    """Quantise the rows of an array: its last axis.

    Args:
        array: float16, bfloat16, float32 or float64, of any shape, NumPy or torch, strided
            or not; float64 is rounded to float32 first.
        scheme: one of `SCHEMES`.  ggml's blocks, "q8_0" to "nvfp4", give the bytes that
            ggml's quantize without an importance matrix gives.  "nf4" is bitsandbytes'
            quantize_4bit with blocks of 64.  "int8" and "int4" round x / scale to nearest
            even; their scale is the largest magnitude over 127 or 7, or, if not symmetric,
            the range, made to include 0, over 255 or 15.  "e4m3" and "e5m2" round as
            ml_dtypes does, of x / scale if there is a group, the scale being the largest
            magnitude over 448 or 57344.
        group: for "int8", "int4", "e4m3", "e5m2": which elements share a scale: a number of
            neighbours in a row, "row", or "tensor".  By default "row" for integers and None,
            no scale, for floats.
        symmetric: False gives "int8" and "int4" a zero point for each group.
        double: "nf4" only: quantise the scales to 8 bits, as bitsandbytes'
            compress_statistics does.

    Returns:
        a QuantizedTensor.

    Raises:
        ValueError: rows that are no whole number of blocks or groups; a NaN or an infinity,
            with its row and column; options that the scheme does not have.
        UnsupportedError: an unknown scheme.
        TypeError: an array that is not of these floats.
    """
    name = scheme_name(scheme)
    if double and name != "nf4":
        raise ValueError(f"{name} has no double quantisation; nf4 has")
    group = group_or_default(name, group)
    source = _floats(array)
    rows, columns = _rows_and_columns(source.shape)
    how = (name, code_of(source.dtype), columns, group or 0, not symmetric)
    codes, count = _core.quantized_sizes(*how, rows)
    data = np.empty(codes, np.uint8)
    scales = np.empty(count, np.float32)
    zeros = np.empty(0 if symmetric else count, np.int8)
    if group == "tensor":
        _whole_scale(source, how, scales, zeros)
    _fill(source, how, data, scales, zeros)
    made = QuantizedTensor(
        scheme=name,
        shape=source.shape,
        dtype=source.dtype,
        data=data if name == "nf4" else data.reshape(rows, codes // rows if rows else 0),
        scales=scales if count or group else None,
        zeros=None if symmetric else zeros,
        group=group,
    )
    return _doubled(made, scales) if double else made


def dequantize(
    tensor: QuantizedTensor, dtype: npt.DTypeLike = "float32", *, out: Array | None = None
) -> Array:
    """The array that the codes stand for.

    Args:
        tensor: what `quantize` returned.
        dtype: float16, bfloat16, float32 or float64; the values are float32, rounded once.
        out: a C-contiguous array of that shape and dtype to write into.

    Returns:
        a new array of `tensor.shape`, or `out`.

    Raises:
        ValueError: another dtype, or `out` does not fit.
    """
    return tensor.dequantize(dtype, out=out)


# -- pieces ------------------------------------------------------------------------------

_How = tuple[str, str, int, int | str, bool]


def _float_code(dtype: npt.DTypeLike) -> str:
    code = code_of(dtype)
    if code not in FLOAT_TARGETS:
        raise ValueError(f"{np.dtype(dtype)} is not float16, bfloat16, float32 or float64")
    return code


def _floats(value: Any) -> Array:
    array = host_array(value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if code_of(array.dtype) not in FLOAT_TARGETS:
        raise TypeError(
            f"{array.dtype} is quantised by nothing here: float16, bfloat16, float32 and "
            "float64 are"
        )
    return array


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """The last axis is the row; a scalar is a row of one."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def _how(tensor: QuantizedTensor, code: str) -> _How:
    _, columns = _rows_and_columns(tensor.shape)
    return tensor.scheme, code, columns, tensor.group or 0, tensor.zeros is not None


def _matrices(array: Array) -> Iterator[Array]:
    """The array as one matrix after the other, without copying it as a whole."""
    if array.ndim < 2:
        yield array.reshape(1, -1)
    elif array.ndim == 2:
        yield array
    else:
        for part in array:
            yield from _matrices(part)


def _tiles(array: Array, is_flat: bool) -> Iterator[tuple[int, Array]]:
    """(first row, contiguous rows): all at once where they lie so already."""
    rows, columns = _rows_and_columns(array.shape)
    if is_flat or (array.flags.c_contiguous and array.flags.aligned):
        yield 0, np.require(array, requirements=["C", "A"]).reshape(rows, columns)
        return
    first = 0
    step = max(1, _TILE // max(1, columns * array.itemsize))
    for matrix in _matrices(array):
        for start in range(0, len(matrix), step):
            tile = np.require(matrix[start : start + step], requirements=["C", "A"])
            yield first, tile
            first += len(tile)


def _fill(
    source: Array,
    how: _How,
    data: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float32],
    zeros: npt.NDArray[np.int8],
) -> None:
    """Quantise tile by tile, each into its place."""
    codes_done = scales_done = 0
    for first, tile in _tiles(source, how[0] == "nf4"):
        codes, count = _core.quantized_sizes(*how, len(tile))
        part = slice(0, 1) if how[3] == "tensor" else slice(scales_done, scales_done + count)
        _core.quantize(
            *how,
            first,
            len(tile),
            bytes_of(tile),
            data[codes_done : codes_done + codes],
            scales[part],
            zeros[part],
        )
        codes_done += codes
        scales_done += count


def _whole_scale(
    source: Array, how: _How, scales: npt.NDArray[np.float32], zeros: npt.NDArray[np.int8]
) -> None:
    """One scale, and a zero, for everything: a pass of its own."""
    least = most = 0.0
    for _, tile in _tiles(source, False):
        found = _core.statistics(bytes_of(tile), how[1], tile.size)
        if not math.isnan(found["min"]):
            least, most = min(least, found["min"]), max(most, found["max"])
    scales[:], zero = _core.quantize_scale(*how, least, most)
    zeros[:] = zero


def _doubled(made: QuantizedTensor, scales: npt.NDArray[np.float32]) -> QuantizedTensor:
    codes = np.empty(scales.size, np.uint8)
    nested = np.empty(-(-scales.size // 256), np.float32)
    mean = _core.nested_quantize(scales, codes, nested)
    return QuantizedTensor(
        scheme=made.scheme,
        shape=made.shape,
        dtype=made.dtype,
        data=made.data,
        scales=codes,
        nested_scales=nested,
        nested_mean=mean,
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
