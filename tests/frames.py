"""Contents of tensors that call for different coders, and the golden frames made of them.

Run it to write the golden frames again, after a change of the format.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
Array = np.ndarray[Any, Any]

CONTENTS = ("weights", "rows", "sparse", "few", "equal", "counting", "noise", "repeated")


def content(kind: str, count: int, width: int, seed: int) -> Array:
    """count elements of `width` bytes as flat uint8; the same on every machine."""
    rng = np.random.Generator(np.random.PCG64(seed))
    noise = rng.integers(0, 256, (count, width), np.uint8)
    index = np.arange(count)[:, None]
    if kind == "weights":  # the top byte like an exponent
        halvings = np.minimum(rng.geometric(0.5, count), 20)
        noise[:, -1] = 60 - halvings
    elif kind == "rows":  # exponents of rows that differ in scale
        halvings = np.minimum(rng.geometric(0.5, count), 20)
        noise[:, -1] = 60 - halvings - 4 * (np.arange(count) // 2048 % 3)
    elif kind == "sparse":
        noise[rng.random(count) < 0.85] = 0
    elif kind == "few":
        noise = (index * index % 7 * 31 + np.arange(width)).astype(np.uint8)
    elif kind == "equal":
        noise = np.broadcast_to(np.arange(width) * 3 + 1, (count, width)).astype(np.uint8)
    elif kind == "counting":
        shifts = np.minimum(8 * np.arange(width), 40)
        noise = (index >> shifts).astype(np.uint8)
    elif kind == "repeated":
        noise = noise[np.arange(count) % 251 if count > 251 else slice(None)]
    return np.ascontiguousarray(noise).reshape(-1)


def _golden(kind: str, element: str, count: int, **options: Any) -> Callable[[], Any]:
    def make() -> tuple[Array, dict[str, Any]]:
        import ml_dtypes

        from tensorstream import _core

        if options.get("dtype"):
            return content(kind, count, _core.dtype_block(element)[1], 1), options
        dtype = np.dtype(getattr(ml_dtypes, element, element))
        return content(kind, count, dtype.itemsize, 1).view(dtype), options

    return make


GOLDEN = {
    "bf16": _golden("weights", "bfloat16", 2500, chunk=2048),
    "bf16-rows": _golden("rows", "bfloat16", 9000),
    "f16": _golden("weights", "float16", 2000),
    "f32-small": _golden("weights", "float32", 1100, mode="small"),
    "f64-sparse": _golden("sparse", "float64", 1500),
    "e4m3": _golden("weights", "float8_e4m3fn", 3000),
    "e5m2-portable": _golden("weights", "float8_e5m2", 3000, mode="portable"),
    "i8": _golden("weights", "int8", 3000),
    "i64-portable": _golden("counting", "int64", 1500, mode="portable"),
    "u16-few": _golden("few", "uint16", 3000),
    "bool": _golden("few", "bool", 3000),
    "f32-equal": _golden("equal", "float32", 3000, chunk=1024),
    "u8-raw": _golden("noise", "uint8", 700, mode="raw"),
    "q4_0": _golden("weights", "Q4_0", 90, dtype="Q4_0"),
    "q6_k-small": _golden("few", "Q6_K", 12, dtype="Q6_K", mode="small"),
}

if __name__ == "__main__":
    import tensorstream as ts

    for name, make in GOLDEN.items():
        array, options = make()
        (HERE / "golden_frames" / name).write_bytes(bytes(ts.compress(array, **options)))
