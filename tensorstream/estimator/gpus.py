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
    """A GPU by name, in any case.

    Raises:
        ValueError: unknown; the sentence names the near one.
    """
    by_name = {known.lower(): found for known, found in catalogue().items()}
    if name.lower() not in by_name:
        names.choose("gpu", name, catalogue())
    return by_name[name.lower()]


def smallest(size: int) -> Gpu | None:
    """The GPU of least memory that has this many bytes; None when there is none."""
    return next((gpu for gpu in catalogue().values() if gpu.memory >= size), None)
