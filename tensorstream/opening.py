"""From what people have in hand to a catalog: a path, a folder, a Hub id, arrays, a module."""

from __future__ import annotations

import glob
import os
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tensorstream import _core
from tensorstream.arrays import as_row

if TYPE_CHECKING:
    pass

Source = "str | os.PathLike[str] | Mapping[str, Any] | torch.nn.Module"

# What a folder is searched for, the best first.
_INDEXES = (
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
_SINGLES = (
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "adapter_model.bin",
)
_SUFFIXES = (".safetensors", ".gguf", ".pt", ".pth", ".bin", ".npz", ".npy")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+\Z")


def open_catalog(source: Any, base: _core.Catalog | None = None) -> tuple[_core.Catalog, str]:
    """The catalog of a source and a label for people.

    Args:
        base: where compressed differences find the tensors that they differ from.

    Raises:
        FileNotFoundError: nothing at that path, and no such repository in the Hub cache.
        FormatError: the file is damaged or of no known format.
        TypeError: the source is of no known kind.
    """
    if isinstance(source, (str, os.PathLike)):
        path = find_file(source)
        return _core.open_catalog(path, base=base), os.fspath(path)
    if isinstance(source, Mapping):
        return _core.memory_catalog(_flat_rows(source)), "arrays in memory"
    if is_module(source):
        rows = _flat_rows(source.state_dict(keep_vars=True))
        return _core.memory_catalog(rows), type(source).__name__
    raise TypeError(
        f"cannot open a {type(source).__name__}: a path, a mapping of arrays or a "
        "torch.nn.Module is needed"
    )


def is_module(source: object) -> bool:
    """Is it a torch.nn.Module?  Never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def find_file(source: str | os.PathLike[str]) -> pathlib.Path:
    """The file that a path, a folder or a Hub id stands for."""
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path)
    index = path.with_name(f"{path.name}.index.json")
    if not path.exists() and index.is_file():
        return index  # where `save` was asked for shards
    if not path.exists() and path.suffix == ".gguf":
        path = _first_part(path)
    if path.exists() or not (isinstance(source, str) and _HUB_ID.match(source)):
        return path
    return _in_folder(_hub_folder(source))


def _first_part(path: pathlib.Path) -> pathlib.Path:
    """Of the GGUF in parts that is called so, if there is just one; else the path."""
    found = [
        part
        for part in path.parent.glob(f"{glob.escape(path.stem)}-00001-of-*.gguf")
        if _PART.search(part.name)
    ]
    return found[0] if len(found) == 1 else path


def _in_folder(folder: pathlib.Path) -> pathlib.Path:
    for name in (*_INDEXES, *_SINGLES):
        if (folder / name).is_file():
            return folder / name
    indexes = sorted(folder.glob("*.index.json"))
    if len(indexes) == 1:
        return indexes[0]
    found = [path for path in sorted(folder.iterdir()) if _is_entry(path)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise FileNotFoundError(
            f"no checkpoint in {folder}: looked for an index json and for files ending in "
            + ", ".join(_SUFFIXES)
        )
    raise ValueError(
        f"{folder} holds {len(found)} checkpoints; open one of "
        + ", ".join(path.name for path in found[:8])
    )


def _is_entry(path: pathlib.Path) -> bool:
    """A checkpoint file; of a GGUF in parts only the first."""
    part = _PART.search(path.name)
    return (
        path.suffix in _SUFFIXES
        and path.is_file()
        and (part is None or int(part.group(1)) == 1)
    )


def _hub_folder(repo: str) -> pathlib.Path:
    """The newest snapshot of a Hub repository on this disk; the network is never asked."""
    try:
        import huggingface_hub
    except ImportError:
        raise FileNotFoundError(
            f"no file or folder {repo!r}; to open it as a Hub repository from the local "
            "cache install huggingface_hub"
        ) from None
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(repo, local_files_only=True))
    except Exception as error:
        raise FileNotFoundError(
            f"no file or folder {repo!r}, and no repository of that name in the local Hub "
            f"cache ({type(error).__name__}); download it first"
        ) from None


def _flat_rows(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[Any, ...]]:
    """Nested mappings become dotted names; each array once."""
    rows: list[tuple[Any, ...]] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += _flat_rows(value, f"{name}.")
        else:
            rows.append(as_row(name, value))
    return rows
