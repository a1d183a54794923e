"""Who takes part, on which files: what the measures of bench_stream.py have in common."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import make_checkpoint
import report
from race import Entry, MiB, Missing, Row, Workers, best, disagreements, race

from tensorstream import parse_size

THREADS = 2
# The raw ring's chunks: which is best depends on the processor, from a quarter of the
# second-level cache to where its copies run longest.
RINGS = (256 << 10, 1 * MiB, 2 * MiB)
COPY = "memcpy, 1 thread"


@dataclass(slots=True)
class Bench:
    """The file, its twins, the rounds, and whether peers take part."""

    folder: pathlib.Path
    size: int
    rounds: int
    with_peers: bool
    quick: bool

    @property
    def model(self) -> pathlib.Path:
        return self.folder / f"model-{self.size >> 20}MiB.safetensors"

    @property
    def path(self) -> str:
        return str(self.model)

    @property
    def nbytes(self) -> int:
        """Of the tensors."""
        with open(self.model, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        return self.model.stat().st_size - header - 8

    def prepare(self) -> None:
        """Make the model, once."""
        if not self.model.exists():
            report.warn(f"making {self.model}")
            make_checkpoint.make(self.model, self.size)

    def workers(self) -> Workers:
        """Fresh processes: each measure has its own."""
        return Workers(self.folder / "workers.log")

    def race(
        self,
        entries: Sequence[Entry],
        workers: Workers,
        before: Callable[[], None] | None = None,
    ) -> tuple[list[Row], list[str]]:
        """Those that take part, against each other.

        Raises:
            AssertionError: one of them saw other data than the others.
        """
        chosen = [one for one in entries if self.with_peers or one.role != "peer"]
        rows, absent = race(chosen, self.rounds, workers, before=before)
        complaints = list(disagreements(rows))
        if complaints:
            raise AssertionError("; ".join(complaints))
        return rows, absent

    def twin(self, workers: Workers, worker: str, suffix: str) -> str | None:
        """The same tensors in another format, written once; None where nobody can."""
        path = self.model.with_suffix(suffix)
        if path.exists():
            return str(path)
        if not self.with_peers:
            return None
        partial = path.with_name(path.name + ".partial")
        try:
            workers.ask(worker, "make", {"path": str(partial), "source": self.path})
        except Missing as missing:
            report.warn(f"no {suffix} file: {missing}")
            return None
        copy_evenly(partial, path)
        partial.unlink()
        return str(path)


def copy_evenly(source: pathlib.Path, target: pathlib.Path) -> None:
    """In large writes: the kernel reads a cached file by the units in which it was written, and
    one that came in small pieces, or from a mapping, at half the rate of the others."""
    made = target.with_name(target.name + ".copy")
    with source.open("rb") as old, made.open("wb") as new:
        shutil.copyfileobj(old, new, 8 << 20)
    made.replace(target)


# -- ceilings ----------------------------------------------------------------------------


def memcpy(bench: Bench) -> list[Entry]:
    """Copies from memory to memory, far beyond the caches."""
    size = min(bench.size, 256 * MiB)
    return [
        Entry(
            label=f"memcpy, {_threads(count)}",
            worker="raw",
            call="memcpy",
            arguments={"size": size, "threads": count},
            role="ceiling",
            nbytes=size,
        )
        for count in (1, THREADS)
    ]


def raw(
    bench: Bench, label: str, work: str, threads: int, chunk: int, *, direct: bool = False
) -> Entry:
    """Threads that pread the file into memory they use again; see ceilings.c."""
    return Entry(
        label=f"raw {label}, {_threads(threads)}",
        worker="raw",
        call="ring",
        arguments={
            "path": bench.path,
            "work": work,
            "threads": threads,
            "chunk": chunk,
            "direct": direct,
        },
        role="ceiling",
        nbytes=bench.nbytes,
    )


def rings(bench: Bench, label: str, work: str) -> list[Entry]:
    """The raw ring on one thread and on two, with chunks of several sizes."""
    return [
        raw(bench, f"ring, {label}, {chunk >> 10} KiB", work, count, chunk)
        for count in (1, THREADS)
        for chunk in RINGS
    ]


def fastest_ring(rows: Sequence[Row], work: str, threads: int) -> Row | None:
    """The best of the rings that do this work on so many threads."""
    asked = {"work": work, "threads": threads}
    return best([row for row in rows if asked.items() <= row.entry.arguments.items()])


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


# -- ours and peers ----------------------------------------------------------------------


def ours(
    bench: Bench,
    label: str,
    call: str,
    budget: str | None = None,
    *,
    sees: str = "words",
    **arguments: Any,
) -> Entry:
    given: dict[str, Any] = {"path": bench.path, **arguments}
    if budget is not None:
        given["budget"] = budget
    return Entry(
        label=f"tensorstream, {label}",
        worker="tensorstream",
        call=call,
        arguments=given,
        role="ours",
        nbytes=bench.nbytes,
        budget=parse_size(budget, "budget") if budget is not None else None,
        sees=sees,
    )


def peer(
    bench: Bench,
    label: str,
    worker: str,
    call: str,
    *,
    streams: bool = False,
    sees: str = "words",
    **arguments: Any,
) -> Entry:
    return Entry(
        label=label,
        worker=worker,
        call=call,
        arguments={"path": bench.path, **arguments},
        nbytes=bench.nbytes,
        streams=streams,
        sees=sees,
    )


def safetensors(bench: Bench, call: str, sees: str = "words") -> list[Entry]:
    return [
        peer(
            bench,
            f"safetensors numpy, {backend}",
            "safetensors",
            call,
            streams=True,
            sees=sees,
            backend=backend,
        )
        for backend in ("mmap", "pread")
    ]


def runai(bench: Bench, call: str, *, least: bool = False) -> Entry:
    """Without a limit on its memory, or with as little as it can do with."""
    how, limit = ("its least memory", "0") if least else ("no memory limit", "-1")
    return peer(
        bench, f"runai, {how}", "runai", call, streams=True, threads=THREADS, limit=limit
    )


def of_twins(bench: Bench, workers: Workers, call: str) -> list[Entry]:
    """torch and gguf on files of their own formats."""
    entries = []
    if pt := bench.twin(workers, "torch", ".pt"):
        entries.append(peer(bench, "torch.load(mmap=True)", "torch", call, path=pt))
    if gguf := bench.twin(workers, "gguf", ".gguf"):
        entries.append(peer(bench, "gguf.GGUFReader", "gguf", "loop", path=gguf))
    return entries
