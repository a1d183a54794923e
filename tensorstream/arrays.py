"""Where memory becomes NumPy arrays, and dtype names meet NumPy dtypes.

The core speaks of dtypes by the names of safetensors and ggml ("BF16", "Q4_K").
NumPy has most of the plain ones, ml_dtypes the small floats; F4 and F6 come with
one code in each byte, as ml_dtypes keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tensorstream import _core

Array = npt.NDArray[Any]

_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
    "C128": np.dtype("<c16"),
}
for _code, _name in {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F4": "float4_e2m1fn",
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
}.items():
    _NUMPY[_code] = np.dtype(getattr(ml_dtypes, _name))

_CODES = {dtype: code for code, dtype in _NUMPY.items()}

_ALIASES = {
    "f16": "F16", "half": "F16", "float16": "F16", "fp16": "F16",
    "bf16": "BF16", "bfloat16": "BF16",
    "f32": "F32", "float": "F32", "float32": "F32", "fp32": "F32", "single": "F32",
    "f64": "F64", "double": "F64", "float64": "F64", "fp64": "F64",
}  # fmt: skip

# Less than a byte an element; in arrays one code a byte.
PACKED = ("F4", "F6_E2M3", "F6_E3M2")

# What a stream can turn floating-point tensors into.
FLOAT_TARGETS = ("F16", "BF16", "F32", "F64")


def numpy_dtype(code: str) -> np.dtype[Any] | None:
    """The NumPy dtype of elements of `code`, or None for ggml's blocks."""
    return _NUMPY.get(code)


def code_of(dtype: npt.DTypeLike) -> str:
    """The core's name of a NumPy dtype.

    Raises:
        TypeError: for dtypes that no tensor file holds (objects, strings, times).
    """
    found = np.dtype(dtype)
    code = _CODES.get(found.newbyteorder("<") if found.byteorder == ">" else found)
    if code is None:
        raise TypeError(f"no tensor format holds elements of dtype {found!r}")
    return code


def float_target(dtype: Any) -> str:
    """'F32' from "float32", "f32", np.float32, ml_dtypes.bfloat16, torch.float32 ...

    Raises:
        ValueError: when floats cannot be delivered as that.
    """
    if isinstance(dtype, str):
        code = _ALIASES.get(dtype.lower().removeprefix("torch."), dtype.upper())
    elif type(dtype).__module__ == "torch":
        return float_target(str(dtype))
    else:
        code = code_of(dtype)
    if code not in FLOAT_TARGETS:
        raise ValueError(
            f"floats can be delivered as {', '.join(FLOAT_TARGETS)} or 'raw', not as {dtype!r}"
        )
    return code


def dtype_code(dtype: Any) -> str:
    """The core's name of a dtype as people say it: "bfloat16", np.float32, "Q4_K" ...

    In capitals it is safetensors' or ggml's name ("F4", "I8"); else NumPy's or ml_dtypes'
    where they have it ("f4" is float32, "i8" int64), and then ggml's in small letters.

    Raises:
        ValueError: for a name that stands for none.
        TypeError: for a NumPy dtype that no tensor file holds.
    """
    if type(dtype).__module__ == "torch":
        dtype = str(dtype).removeprefix("torch.")
    if not isinstance(dtype, str):
        return code_of(dtype)
    if dtype in _core.dtypes:
        return dtype
    if dtype in _ALIASES:
        return _ALIASES[dtype]
    try:
        return code_of(getattr(ml_dtypes, dtype, dtype))
    except TypeError:
        if dtype.upper() in _core.dtypes:
            return dtype.upper()
    raise ValueError(f"unknown dtype {dtype!r}")


def make_array(buffer: _core.Buffer | None, code: str, shape: tuple[int, ...]) -> Array:
    """A read-only array over a buffer, which it keeps alive."""
    dtype = _NUMPY[code]
    if buffer is None:
        empty = np.empty(shape, dtype)
        empty.flags.writeable = False
        return empty
    memory: Any = buffer  # NumPy's stubs do not know our buffers
    array: Array = np.frombuffer(memory, dtype).reshape(shape)
    return array


def bytes_of(array: Array) -> Array:
    """The memory of a C-contiguous array as flat uint8; no copy."""
    return array.reshape(-1).view(np.uint8)


def host_array(value: Any) -> Array:
    """An array-like as a NumPy array, copied only if it must be.

    torch tensors are taken by their memory; those on another device are copied to the host.
    """
    if type(value).__module__.split(".")[0] == "torch":
        value = _from_torch(value)
    return np.asarray(value)


def as_row(name: str, value: Any) -> tuple[str, str, tuple[int, ...], Array]:
    """(name, dtype, shape, flat bytes) of an array-like, for a catalog in memory.

    C-contiguous little-endian arrays are not copied.  torch tensors are taken by their
    memory; those on another device are copied to the host.

    Raises:
        TypeError: for what is no array of a known dtype.
    """
    array, code = as_array(name, value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    shape = array.shape  # ascontiguousarray makes 0-d arrays 1-d
    return name, code, shape, bytes_of(np.ascontiguousarray(array))


def as_array(name: str, value: Any) -> tuple[Array, str]:
    """An array-like as it lies in memory, and the core's name of its dtype.

    Raises:
        TypeError: for what is no array of a known dtype.
    """
    if type(value).__module__.split(".")[0] == "torch":
        value = _from_torch(value)
    if not hasattr(value, "dtype") and not isinstance(
        value, (int, float, complex, list, tuple)
    ):
        raise TypeError(f"{name!r} is a {type(value).__name__}, not an array")
    array = np.asarray(value)
    try:
        code = code_of(array.dtype)
    except TypeError as error:
        raise TypeError(f"{name!r}: {error}") from None
    if code in PACKED:
        raise TypeError(f"{name!r}: {array.dtype} in memory is not packed; view it as uint8")
    return array, code


def _from_torch(tensor: Any) -> Array:
    """A torch tensor's memory as an array; NumPy has no bfloat16 or float8 of its own."""
    import torch

    tensor = tensor.detach()
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    name = str(tensor.dtype).removeprefix("torch.")
    foreign = getattr(ml_dtypes, name, None) if name.startswith(("bfloat", "float8")) else None
    if foreign is None:
        return np.asarray(tensor.resolve_conj().resolve_neg().numpy())
    width = torch.int16 if tensor.element_size() == 2 else torch.uint8
    return np.asarray(tensor.contiguous().view(width).numpy().view(foreign))


def keep_maker(set_maker: Callable[[Callable[..., Array]], None]) -> None:
    """Tell the core how chunks become arrays."""
    set_maker(make_array)


keep_maker(_core.set_array_maker)
