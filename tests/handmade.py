"""Checkpoint files written byte by byte, good ones and bad ones.

Nothing but the standard library and NumPy, and the same bytes every time:
what the golden files and the seeds of the fuzz targets are made with.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# ---- GGUF ------------------------------------------------------------------

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_PACK = {
    U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f",
    BOOL: "<?", U64: "<Q", I64: "<q", F64: "<d",
}  # fmt: skip


@dataclass
class Value:
    """A GGUF value: its type, and for arrays the type of its items."""

    type: int
    value: Any
    item: int = 0


@dataclass
class GgufTensor:
    """An entry of the tensor list; `ne` has the fastest dimension first."""

    name: str
    ne: Sequence[int]
    type: int
    data: bytes
    offset: int | None = None  # None: where the one before ends


def gguf_string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(type_: int, value: Any, item: int = 0) -> bytes:
    if type_ == STRING:
        return gguf_string(value)
    if type_ == ARRAY:
        body = b"".join(gguf_value(item, each) for each in value)
        return struct.pack("<IQ", item, len(value)) + body
    return struct.pack(_PACK[type_], value)


def _pad(raw: bytes, alignment: int) -> bytes:
    return raw + bytes(-len(raw) % alignment)


def gguf(
    keys: Mapping[str, Value] | None = None,
    tensors: Iterable[GgufTensor] = (),
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A GGUF file; `alignment` is used, but only `keys` can announce it."""
    keys = keys or {}
    tensors = list(tensors)
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for key, value in keys.items():
        out += gguf_string(key) + struct.pack("<I", value.type)
        out += gguf_value(value.type, value.value, value.item)
    data = b""
    for tensor in tensors:
        offset = len(data) if tensor.offset is None else tensor.offset
        out += gguf_string(tensor.name) + struct.pack("<I", len(tensor.ne))
        out += struct.pack(f"<{len(tensor.ne)}Q", *tensor.ne)
        out += struct.pack("<IQ", tensor.type, offset)
        data = _pad(data + tensor.data, alignment)
    return _pad(out, alignment) + data if tensors else out


# ---- zip -------------------------------------------------------------------


def archive(members: Mapping[str, bytes], *, deflate: bool = False) -> bytes:
    """A zip file; every member has the date 1980-01-01."""
    out = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", kind) as file:
        for name, raw in members.items():
            file.writestr(zipfile.ZipInfo(name), raw, kind, 9)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=(1, 0))
    return out.getvalue()


# ---- pickle and torch ------------------------------------------------------


@dataclass(frozen=True)
class Global:
    """A name that a pickle asks for."""

    module: str
    name: str


@dataclass
class Call:
    """A function that a pickle wants called."""

    function: Global
    arguments: tuple[Any, ...]


@dataclass
class Storage:
    """A persistent id: `type` such as "FloatStorage", count in elements."""

    type: str
    key: str
    count: int
    module: str = "torch"


def tensor(storage: Storage, first: int, shape: Sequence[int], strides: Sequence[int]) -> Call:
    """What torch.save writes for a tensor of a typed storage."""
    hooks = Call(Global("collections", "OrderedDict"), ())
    arguments = (storage, first, tuple(shape), tuple(strides), False, hooks)
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def tensor_v3(
    storage: Storage, shape: Sequence[int], strides: Sequence[int], dtype: str
) -> Call:
    """The same for dtypes that have no storage class of their own."""
    hooks = Call(Global("collections", "OrderedDict"), ())
    arguments = (
        storage, 0, tuple(shape), tuple(strides), False, hooks,
        Global("torch", dtype),
    )  # fmt: skip
    return Call(Global("torch._utils", "_rebuild_tensor_v3"), arguments)


def _emit_int(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def _emit_storage(value: Storage, legacy: bool) -> bytes:
    view = (None,) if legacy else ()
    type_ = Global(value.module, value.type)
    id_ = ("storage", type_, value.key, "cpu", value.count, *view)
    return emit(id_, legacy) + b"Q"


def emit(value: Any, legacy: bool = False) -> bytes:
    """The pickle instructions that leave `value` on the stack."""

    def many(values: Iterable[Any]) -> bytes:
        return b"(" + b"".join(emit(each, legacy) for each in values)

    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return _emit_int(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return emit(value.function) + emit(value.arguments, legacy) + b"R"
    if isinstance(value, Storage):
        return _emit_storage(value, legacy)
    if isinstance(value, tuple):
        return many(value) + b"t"
    if isinstance(value, list):
        return b"]" + many(value) + b"e"
    if isinstance(value, dict):
        flat = [part for pair in value.items() for part in pair]
        return b"}" + many(flat) + b"u"
    raise TypeError(f"no instructions for {type(value).__name__}")


def pickle(value: Any, legacy: bool = False) -> bytes:
    return b"\x80\x02" + emit(value, legacy) + b"."


def torch_zip(data: bytes, storages: Mapping[str, bytes], *, root: str = "archive") -> bytes:
    """The zip of torch.save around a ready pickle."""
    members = {f"{root}/data.pkl": data, f"{root}/byteorder": b"little"}
    members |= {f"{root}/data/{key}": raw for key, raw in storages.items()}
    return archive(members | {f"{root}/version": b"3\n"})


def torch_stream(value: Any, storages: Mapping[str, tuple[int, bytes]]) -> bytes:
    """What torch.save wrote before 1.6: storages are (count, bytes)."""
    magic = 0x1950A86A20F9469CFC6C
    system = {"protocol_version": 1001, "little_endian": True}
    out = pickle(magic) + pickle(1001) + pickle(system)
    out += pickle(value, legacy=True) + pickle(list(storages))
    for count, raw in storages.values():
        out += struct.pack("<Q", count) + raw
    return out


# ---- changes ---------------------------------------------------------------


def patched(raw: bytes, at: int, new: bytes) -> bytes:
    """The same with other bytes at one place; negative counts from the end."""
    at = at if at >= 0 else len(raw) + at
    return raw[:at] + new + raw[at + len(new) :]


@dataclass
class Set:
    """Named files, written out together."""

    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, raw: bytes) -> None:
        assert name not in self.files, name
        self.files[name] = raw

    def write(self, write_one: Callable[[str, bytes], object]) -> None:
        for name, raw in self.files.items():
            write_one(name, raw)
