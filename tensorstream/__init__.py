"""tensorstream: models and datasets that are bigger than your memory.

>>> import tensorstream as ts
>>> ckpt = ts.open("model.safetensors")
>>> with ckpt.stream(budget="64MiB") as stream:
...     for chunk in stream:
...         chunk.name, chunk.array

Importing it imports NumPy and ml_dtypes, nothing heavier.
"""

from __future__ import annotations

import importlib
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

    from tensorstream.chunkvideo import ChunkVideoEncoder
    from tensorstream.classic import (
        ChunkMetadata,
        LayerFilter,
        MemoryEfficientParameterStreamer,
        StreamingConfig,
        StreamingProgress,
        create_streaming_processor,
        stream_model_efficiently,
        stream_model_with_layer_filtering,
    )
    from tensorstream.compression import FrameInfo, compress, decompress, frame_info
    from tensorstream.converting import Conversion, convert
    from tensorstream.encoding import EncodedChunk, EncodingStatistics, RealTimeEncoder
    from tensorstream.estimator import Estimate, EstimatorConfig, estimate, fit
    from tensorstream.quantizing import (
        QuantizationError,
        QuantizedTensor,
        dequantize,
        quantize,
    )
    from tensorstream.salvaging import Loss, Salvage, salvage
    from tensorstream.saving import TensorWriter, Writer, create, load, save

logging.getLogger("tensorstream").addHandler(logging.NullHandler())

__all__ = [
    "BudgetError",
    "CancelledError",
    "ChangedError",
    "Checkpoint",
    "Chunk",
    "ChunkMetadata",
    "ChunkVideoEncoder",
    "Conversion",
    "CorruptionError",
    "EncodedChunk",
    "EncodingStatistics",
    "Error",
    "Estimate",
    "EstimatorConfig",
    "FormatError",
    "FrameInfo",
    "Layer",
    "LayerFilter",
    "Loss",
    "MemoryEfficientParameterStreamer",
    "MemoryMonitor",
    "MemorySample",
    "Plan",
    "Progress",
    "QuantizationError",
    "QuantizedTensor",
    "RealTimeEncoder",
    "Salvage",
    "Stream",
    "StreamingConfig",
    "StreamingProgress",
    "TensorInfo",
    "TensorStats",
    "TensorWriter",
    "UnsupportedError",
    "Verification",
    "Writer",
    "__version__",
    "compress",
    "convert",
    "create",
    "create_streaming_processor",
    "decompress",
    "dequantize",
    "estimate",
    "fit",
    "format_size",
    "frame_info",
    "load",
    "memory",
    "open",
    "parse_size",
    "quantize",
    "salvage",
    "save",
    "stream_model_efficiently",
    "stream_model_with_layer_filtering",
]

# Imported when they are first asked for: from which module.
_LATER = {
    **dict.fromkeys(
        (
            "ChunkMetadata",
            "LayerFilter",
            "MemoryEfficientParameterStreamer",
            "StreamingConfig",
            "StreamingProgress",
            "create_streaming_processor",
            "stream_model_efficiently",
            "stream_model_with_layer_filtering",
        ),
        "classic",
    ),
    "ChunkVideoEncoder": "chunkvideo",
    **dict.fromkeys(("FrameInfo", "compress", "decompress", "frame_info"), "compression"),
    **dict.fromkeys(("Conversion", "convert"), "converting"),
    **dict.fromkeys(
        ("QuantizationError", "QuantizedTensor", "dequantize", "quantize"), "quantizing"
    ),
    **dict.fromkeys(("Loss", "Salvage", "salvage"), "salvaging"),
    **dict.fromkeys(("TensorWriter", "Writer", "create", "load", "save"), "saving"),
    **dict.fromkeys(("EncodedChunk", "EncodingStatistics", "RealTimeEncoder"), "encoding"),
    **dict.fromkeys(("Estimate", "EstimatorConfig", "estimate", "fit"), "estimator"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'tensorstream' has no attribute {name!r}")
    module = importlib.import_module(f"tensorstream.{_LATER[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)


def open(
    source: str | os.PathLike[str] | Mapping[str, Any] | torch.nn.Module,
    *,
    base: Any = None,
    verify: bool = True,
) -> Checkpoint:
    """Open a checkpoint by what is in it; reads and checks its headers only.

    Args:
        source: a safetensors, GGUF, PyTorch zip (.pt .pth .bin), .npy or .npz file; an
            index json over shards, or a folder holding one; a Hub id whose files are in
            the local cache; a mapping of names to arrays; a live torch.nn.Module.
        base: the checkpoint that compressed differences were made against; only needed
            for a file that was saved so.
        verify: compare each chunk of a compressed tensor with its hash before it is
            unpacked.  Without it damage may go unseen, and no more than that.

    Raises:
        FileNotFoundError: nothing there.
        FormatError: the file is not what it says it is; the sentence names the tensor, the
            field and the byte.
        UnsupportedError: a valid file with something in it that cannot be read here.

    >>> with ts.open("model.safetensors") as ckpt:
    ...     print(ckpt)
    """
    return Checkpoint(source, base=base, verify=verify)
