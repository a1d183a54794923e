"""Small checkpoints for tests, written without any of our code."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16",
    "uint32": "U32", "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16",
    "float32": "F32", "float64": "F64", "complex64": "C64", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip


def write_safetensors(
    path: pathlib.Path,
    tensors: Mapping[str, Any],
    metadata: dict[str, str] | None = None,
    *,
    pad: int = 8,
) -> pathlib.Path:
    """A safetensors file of arrays, or of (dtype, shape, bytes) for what NumPy lacks."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata is not None else {}
    blobs, at = [], 0
    for name, value in tensors.items():
        if isinstance(value, tuple):
            dtype, shape, blob = value
        else:
            array = np.asarray(value)
            dtype, shape, blob = CODES[array.dtype.name], array.shape, array.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [at, at + len(blob)],
        }
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % pad)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))
    return path


def model(layers: int = 4, width: int = 96, seed: int = 3) -> dict[str, Any]:
    """A small transformer's worth of tensors of several dtypes, in odd sizes."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, dtype: Any = ml_dtypes.bfloat16) -> Any:
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)

    tensors = {"model.embed_tokens.weight": normal(1001, width)}
    for i in range(layers):
        prefix = f"model.layers.{i}."
        tensors[prefix + "input_layernorm.weight"] = normal(width, dtype=np.float32)
        tensors[prefix + "self_attn.q_proj.weight"] = normal(width, width)
        tensors[prefix + "self_attn.q_proj.bias"] = normal(width)
        tensors[prefix + "mlp.up_proj.weight"] = normal(4 * width, width, dtype=np.float16)
        tensors[prefix + "mlp.down_proj.weight"] = normal(width, 4 * width)
    tensors["model.norm.weight"] = normal(width, dtype=np.float32)
    tensors["position_ids"] = np.arange(2**24 - 3, 2**24 + 500, dtype=np.int64)
    tensors["lm_head.weight"] = normal(1001, width, dtype=np.float32)
    return tensors


def same(left: Any, right: Any) -> bool:
    """The same shape, dtype and bytes: NaNs count as what they are."""
    left, right = np.asarray(left), np.asarray(right)
    return (
        left.shape == right.shape
        and left.dtype == right.dtype
        and left.tobytes() == right.tobytes()
    )
