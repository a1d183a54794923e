"""Makes a checkpoint to measure with: a language model's tensors in bfloat16, of any size.

    python benchmarks/make_checkpoint.py model.safetensors --size 2GiB

The values are normal numbers of deviation 0.02: one block of them, repeated from another
place for each tensor, so that gigabytes are made as fast as the disk takes them.  Names,
shapes and the order in the file (by name: layer 10 stands before layer 2) are those of a
real Llama.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys

import ml_dtypes
import numpy as np

from tensorstream import format_size, parse_size

VOCABULARY = 32_000
WIDTHS = (4096, 2048, 1024, 512, 256, 128, 64, 32)
LEAST_LAYERS = 16
BLOCK = 1 << 22  # elements

Shapes = dict[str, tuple[int, ...]]


def shapes_of(size: int) -> Shapes:
    """Tensors of a model of about `size` bytes: the widest that has 16 layers or more."""
    for width in WIDTHS:
        ends = 2 * VOCABULARY * width * 2
        layers = round((size - ends) / _layer_bytes(width))
        if layers >= LEAST_LAYERS:
            break
    return llama(width, max(1, layers))


def _layer_bytes(width: int) -> int:
    return sum(2 * int(np.prod(shape)) for shape in _layer(width).values())


def _layer(width: int) -> Shapes:
    inner, small = width * 11 // 4, width // 4
    return {
        "input_layernorm.weight": (width,),
        "mlp.down_proj.weight": (width, inner),
        "mlp.gate_proj.weight": (inner, width),
        "mlp.up_proj.weight": (inner, width),
        "post_attention_layernorm.weight": (width,),
        "self_attn.k_proj.weight": (small, width),
        "self_attn.o_proj.weight": (width, width),
        "self_attn.q_proj.weight": (width, width),
        "self_attn.v_proj.weight": (small, width),
    }


def llama(width: int, layers: int) -> Shapes:
    """Names and shapes of a Llama, in the order in which safetensors writes them."""
    shapes: Shapes = {
        "lm_head.weight": (VOCABULARY, width),
        "model.embed_tokens.weight": (VOCABULARY, width),
        "model.norm.weight": (width,),
    }
    for number in range(layers):
        for name, shape in _layer(width).items():
            shapes[f"model.layers.{number}.{name}"] = shape
    return dict(sorted(shapes.items()))


def header_of(shapes: Shapes, dtype: str = "BF16", width: int = 2) -> tuple[bytes, int]:
    """The beginning of a safetensors file of these tensors, and the bytes of its data."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        end = at + width * int(np.prod(shape))
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, at


def make(path: pathlib.Path, size: int, seed: int = 1) -> pathlib.Path:
    """Write it at `path`; what was there before is replaced only by the whole file."""
    shapes = shapes_of(size)
    header, _ = header_of(shapes)
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(BLOCK, dtype=np.float32) * np.float32(0.02)
    block = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(header)
            for shape in shapes.values():
                left, at = int(np.prod(shape)), int(rng.integers(BLOCK))
                while left:
                    piece = block[at : at + left]
                    file.write(piece.data)
                    left, at = left - piece.size, 0
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # a full disk, Ctrl-C: gigabytes would stay
        partial.unlink(missing_ok=True)
        raise
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a checkpoint like a language model's.")
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--size", default="2GiB", help="about this large (2GiB)")
    arguments = parser.parse_args()
    try:
        made = make(arguments.path, parse_size(arguments.size, "size"))
    except OSError as error:
        sys.exit(f"cannot write {arguments.path}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"{made}: {format_size(made.stat().st_size)}")


if __name__ == "__main__":
    main()
