"""tensorstream: models and datasets that are bigger than your memory.

>>> import tensorstream as ts
>>> ckpt = ts.open("model.safetensors")
>>> with ckpt.stream(budget="64MiB") as stream:
...     for chunk in stream:
...         chunk.name, chunk.array

Importing it imports NumPy and ml_dtypes, nothing heavier.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tensorstream._core import (
    BudgetError,
    CancelledError,
    ChangedError,
    Chunk,
    CorruptionError,
    Error,
    FormatError,
    UnsupportedError,
)
from tensorstream._version import __version__
from tensorstream.checkpoint import Checkpoint, Layer, TensorInfo, Verification
from tensorstream.monitor import MemoryMonitor, MemorySample, memory
from tensorstream.progress import Progress
from tensorstream.streaming import Plan, Stream, TensorStats
from tensorstream.units import format_size, parse_size

if TYPE_CHECKING:
    import torch

logging.getLogger("tensorstream").addHandler(logging.NullHandler())

__all__ = [
    "BudgetError",
    "CancelledError",
    "ChangedError",
    "Checkpoint",
    "Chunk",
    "CorruptionError",
    "Error",
    "FormatError",
    "Layer",
    "MemoryMonitor",
    "MemorySample",
    "Plan",
    "Progress",
    "Stream",
    "TensorInfo",
    "TensorStats",
    "UnsupportedError",
    "Verification",
    "__version__",
    "format_size",
    "memory",
    "open",
    "parse_size",
]


def open(source: str | os.PathLike[str] | Mapping[str, Any] | torch.nn.Module) -> Checkpoint:
    """Open a checkpoint by what is in it; reads and checks its headers only.

    Args:
        source: a safetensors, GGUF, PyTorch zip (.pt .pth .bin), .npy or .npz file; an
            index json over shards, or a folder holding one; a Hub id whose files are in
            the local cache; a mapping of names to arrays; a live torch.nn.Module.

    Raises:
        FileNotFoundError: nothing there.
        FormatError: the file is not what it says it is; the sentence names the tensor, the
            field and the byte.
        UnsupportedError: a valid file with something in it that cannot be read here.

    >>> with ts.open("model.safetensors") as ckpt:
    ...     print(ckpt)
    """
    return Checkpoint(source)
