"""GPUs by name: what torch sees of their memory, and what a process takes of it."""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib import resources

from tensorstream.estimator import names

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        memory: bytes that torch reports as total.
        context: bytes that the driver takes a process.
        workspace: bytes of cuBLAS's default workspace (32 MiB from Hopper on, 8.125 before).
    """

    name: str
    memory: int
    context: int
    workspace: int

    def constants(self) -> dict[str, int]:
        """What the GPU changes in a profile."""
        return {"context_bytes": self.context, "workspace_bytes": self.workspace}


@functools.cache
def catalogue() -> dict[str, Gpu]:
    """All that are known, the smallest memory first."""
    path = resources.files("tensorstream.estimator").joinpath("gpus.json")
    found = [
        Gpu(
            name,
            int(row["memory_gib"] * GIB),
            row["context_mib"] << 20,
            (32 << 20) if row["hopper"] else 8519680,
        )
        for name, row in json.loads(path.read_text("utf-8")).items()
    ]
    return {gpu.name: gpu for gpu in sorted(found, key=lambda gpu: gpu.memory)}


def gpu(name: str) -> Gpu:
    """A GPU by name, in any case; without its memory where only one kind has that name.

    Raises:
        ValueError: unknown, or of several kinds; the sentence names them.
    """
    by_name = {known.lower(): found for known, found in catalogue().items()}
    word = str(name).lower()
    kinds = [found for known, found in by_name.items() if known.startswith(f"{word}-")]
    if word in by_name:
        return by_name[word]
    if len(kinds) > 1:
        raise ValueError(f"gpu is {name!r}: {' or '.join(kind.name for kind in kinds)}?")
    if not kinds:
        names.choose("gpu", name, catalogue())
    return kinds[0]


def is_known(name: str) -> bool:
    """Whether some GPU is meant."""
    word = name.lower()
    return any(f"{known.lower()}-".startswith(f"{word}-") for known in catalogue())


def smallest(size: int) -> Gpu | None:
    """The GPU of least memory that has this many bytes; None when there is none."""
    return next((gpu for gpu in catalogue().values() if gpu.memory >= size), None)
