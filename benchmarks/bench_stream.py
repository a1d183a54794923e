"""How fast tensors stream, beside those who do the same and what the machine can do.

    python benchmarks/bench_stream.py                     all of it: about ten minutes
    python benchmarks/bench_stream.py --only consume,loop
    python benchmarks/bench_stream.py --quick             a smaller file, three rounds
    python benchmarks/bench_stream.py --publish           also stream.json and README.md

README.md says what each measure does and how to read it.  Contenders that are not
installed are left out and named.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import make_checkpoint
import numpy as np
from contenders import (
    THREADS,
    Bench,
    fastest_ring,
    memcpy,
    of_twins,
    ours,
    peer,
    raw,
    rings,
    runai,
    safetensors,
)
from measures import Measured, Script, evictor, run_script
from race import Entry, MiB, Missing, Row, best, find

# -- the measures ------------------------------------------------------------------------


def consume(bench: Bench) -> Measured:
    """Every byte seen in C, the file cached."""
    summing: dict[str, Any] = {"algorithm": "sum64", "threads": THREADS}
    summed = ours(bench, "sum64, 8 MiB", "checksums", "8MiB", **summing)
    stats = ours(bench, "stats, 8 MiB", "stats", "8MiB", threads=THREADS)
    with bench.workers() as workers:
        entries = [
            summed,
            stats,
            *(
                ours(bench, f"sum64 of {suffix}", "checksums", "8MiB", path=twin, **summing)
                for worker, suffix in (("torch", ".pt"), ("gguf", ".gguf"))
                if (twin := bench.twin(workers, worker, suffix))
            ),
            runai(bench, "consume"),
            runai(bench, "consume", least=True),
            peer(bench, "fastsafetensors, nogds", "fastsafetensors", "consume", streams=True),
            *safetensors(bench, "loop"),
            peer(bench, "np.memmap", "numpy", "memmap"),
            peer(bench, f"np.memmap, {THREADS} threads", "numpy", "memmap", threads=THREADS),
            *of_twins(bench, workers, "consume"),
            *memcpy(bench),
            *rings(bench, "pread", "read"),
            *rings(bench, "pread + sum", "sum"),
        ]
        rows, absent = bench.race(entries, workers)
    ring = fastest_ring(rows, "sum", THREADS)
    found = Measured("Consumed in C, 2 threads, cached", rows, absent, ring)
    found.at_least("consumed in C", found.median(summed), 28, "GB/s")
    found.at_least("consumed in C, of the raw ring", found.share(summed, ring), 0.9, "")
    found.at_least("stats, of the raw ring", found.share(stats, ring), 0.9, "")
    fastest = best(rows, streams=True)
    times = found.share(summed, fastest)
    found.at_least("consumed in C, times the fastest streamer", times, 2.5, "")
    found.within_budget(summed)
    found.within_budget(stats)
    return found


def loop(bench: Bench) -> Measured:
    """A Python loop whose consumer sums each array in NumPy."""
    roomy = ours(bench, "64 MiB", "loop", "64MiB")
    tight = ours(bench, "8 MiB", "loop", "8MiB")
    with bench.workers() as workers:
        entries = [
            roomy,
            tight,
            *safetensors(bench, "loop"),
            runai(bench, "loop"),
            peer(bench, "fastsafetensors, nogds", "fastsafetensors", "loop"),
            peer(bench, "np.memmap", "numpy", "memmap"),
            *of_twins(bench, workers, "loop"),
            *memcpy(bench),
            *rings(bench, "pread + sum", "sum"),
        ]
        rows, absent = bench.race(entries, workers)
    ring = fastest_ring(rows, "sum", 1)
    found = Measured("Python loop, summed in NumPy", rows, absent, ring)
    found.at_least("Python loop", found.median(roomy), 12, "GB/s")
    found.within_budget(roomy)
    found.within_budget(tight)
    return found


def into(bench: Bench) -> Measured:
    """The whole model into memory: the caller's own where the contender can."""
    mine = ours(bench, "read_into", "into", threads=THREADS)
    placed = [raw(bench, "pread into place", "place", n, 2 * MiB) for n in (1, THREADS)]
    with bench.workers() as workers:
        entries = [
            mine,
            peer(bench, "readinto, array made before", "numpy", "readinto"),
            peer(bench, "np.fromfile, fresh", "numpy", "fromfile"),
            *safetensors(bench, "into"),
            peer(bench, "runai, fresh", "runai", "into", threads=THREADS),
            *memcpy(bench),
            *placed,
        ]
        rows, absent = bench.race(entries, workers)
    found = Measured("Into the caller's arrays", rows, absent, find(rows, placed[-1].label))
    found.at_least("into the caller's arrays", found.median(mine), 16, "GB/s")
    return found


def cold(bench: Bench) -> Measured:
    """From the disk: the page cache holds nothing of the file."""
    mine = ours(bench, "sum64, 64 MiB", "checksums", "64MiB", algorithm="sum64", threads=None)
    counts = (1, 2) if bench.quick else (1, 2, 4)
    entries = [
        mine,
        *(raw(bench, "O_DIRECT, 1 MiB", "read", n, MiB, direct=True) for n in counts),
        *(raw(bench, "O_DIRECT, 4 MiB", "read", n, 4 * MiB, direct=True) for n in counts),
        *(raw(bench, "buffered, 1 MiB", "read", n, MiB) for n in counts),
        peer(bench, "np.memmap", "numpy", "memmap"),
        safetensors(bench, "loop")[0],
    ]
    title = "Cold cache"
    with bench.workers() as workers:
        try:
            rows, absent = bench.race(entries, workers, before=evictor(bench.model))
        except Missing as missing:
            return Measured(title, [], [str(missing)])
    fastest = best(rows, role="ceiling")
    found = Measured(title, rows, absent, fastest)
    found.at_least("cold, of the best raw read", found.share(mine, fastest), 0.95, "")
    found.notes.append("the page cache was seen to hold nothing of the file before each run")
    return found


def checked(bench: Bench) -> Measured:
    """A checksum of every tensor."""
    mine = {
        name: ours(
            bench,
            f"{name}, 8 MiB",
            "checksums",
            "8MiB",
            sees=name,
            algorithm=name,
            threads=THREADS,
        )
        for name in ("crc32c", "xxh3", "crc32")
    }
    entries = [
        *mine.values(),
        peer(bench, "xxhash's xxh3 of np.memmap", "xxhash", "xxh3", sees="xxh3"),
        peer(bench, "zlib.crc32 of np.memmap", "numpy", "crc32", sees="crc32"),
        *memcpy(bench),
        *rings(bench, "pread + sum", "sum"),
    ]
    with bench.workers() as workers:
        rows, absent = bench.race(entries, workers)
    ring = fastest_ring(rows, "sum", THREADS)
    found = Measured("Checksummed stream", rows, absent, ring)
    for name in ("crc32c", "xxh3"):
        found.at_least(f"stream with {name}", found.median(mine[name]), 20, "GB/s")
    return found


def widen(bench: Bench) -> Measured:
    """bfloat16 to float32 while the bytes are read; figures are of the file's bytes."""
    mine = ours(bench, "float32, 8 MiB", "widen", "8MiB", sees="elements")
    with bench.workers() as workers:
        entries = [
            mine,
            *safetensors(bench, "widen", sees="elements"),
            peer(bench, "np.memmap, shifted in place", "numpy", "widen", sees="elements"),
            *memcpy(bench),
            *rings(bench, "pread + bf16 to f32", "widen"),
        ]
        if pt := bench.twin(workers, "torch", ".pt"):
            label = "torch.load(mmap=True), .float()"
            entries.append(peer(bench, label, "torch", "widen", sees="elements", path=pt))
        rows, absent = bench.race(entries, workers)
    ring = fastest_ring(rows, "widen", THREADS)
    found = Measured("bf16 to f32 fused with the read", rows, absent, ring)
    found.at_least("bf16 to f32 fused", found.median(mine), 14, "GB/s")
    found.within_budget(mine)
    return found


# Bytes of a block, its elements, which bytes are scales and what keeps those finite; the
# rate wanted, and the one ggml was measured at elsewhere (the table).
KINDS: dict[str, tuple[int, int, list[tuple[int, int]], float, float]] = {
    "MXFP4": (17, 32, [(0, 0x7F)], 7, 1.31),
    "Q6_K": (210, 256, [(209, 0x3F)], 6, 1.18),
    "IQ4_NL": (18, 32, [(1, 0x3F)], 6, 1.46),
    "NVFP4": (36, 64, [(0, 0x77), (1, 0x77), (2, 0x77), (3, 0x77)], 4, 0.82),
    "Q4_0": (18, 32, [(1, 0x3F)], 8, 3.60),
    "Q4_K": (144, 256, [(1, 0x3F), (3, 0x3F)], 9, 6.86),
    "Q8_0": (34, 32, [(1, 0x3F)], 16, 15.97),
}
TILE = 64 << 10  # elements: 256 KiB of float32, which a second-level cache holds


def decode(bench: Bench) -> Measured:
    """Quantised blocks to float32 on one thread, in cache; figures are of the blocks."""
    entries = [entry for kind in KINDS for entry in decoders(bench, kind)]
    with bench.workers() as workers:
        rows, absent = bench.race([*entries, *memcpy(bench)[:1]], workers)
    found = Measured("Quantised blocks to f32, one thread, in cache", rows, absent)
    for kind, (_, _, _, wanted, published) in KINDS.items():
        mine = find(rows, f"tensorstream, {kind}")
        found.at_least(f"{kind} to f32", mine.median if mine else None, wanted, "GB/s")
        theirs = find(rows, f"ggml, {kind}")
        if mine and theirs:
            found.notes.append(
                f"{kind}: {mine.over(theirs):.1f} times ggml here, which on another machine "
                f"was published at {published} GB/s"
            )
    found.notes.append("all decoders of a kind were seen to agree to the bit")
    return found


def decoders(bench: Bench, kind: str) -> Iterator[Entry]:
    """Ours, ggml's and gguf's on one tile of random blocks."""
    size, elements, scales, wanted, published = KINDS[kind]
    blocks = np.random.default_rng(5).integers(0, 256, (TILE // elements, size), np.uint8)
    for at, mask in scales:
        blocks[:, at] &= mask
    tile = bench.folder / f"tile-{kind}.bin"
    blocks.tofile(tile)
    span = 4e6 if bench.quick else 40e6  # bytes at 1 GB/s: a run of 4 or 40 ms
    for role, worker, label, rate in (
        ("ours", "kernels", "tensorstream", wanted),
        ("peer", "ggml", "ggml", published),
        ("peer", "gguf", "gguf.quants", 0.1),
    ):
        times = max(1, round(span * rate / blocks.nbytes))
        yield Entry(
            label=f"{label}, {kind}",
            worker=worker,
            call="decode",
            arguments={"kind": kind, "tile": str(tile), "count": TILE, "times": times},
            role=role,
            nbytes=times * blocks.nbytes,
            sees=kind,
        )


def headers(bench: Bench) -> Measured:
    """Opening a file of 72,192 tensors: as a mixture of experts of 94 layers has."""
    path = bench.folder / "experts.safetensors"
    if not path.exists():
        header, data = make_checkpoint.header_of(experts(94, 128), "F8_E4M3", 1)
        path.write_bytes(header)
        os.truncate(path, len(header) + data)  # a hole, which takes no room on the disk
    entries = [
        Entry(label, worker, "names", {"path": str(path)}, role, sees="names")
        for label, worker, role in (
            ("tensorstream.open", "tensorstream", "ours"),
            ("safetensors.safe_open", "safetensors", "peer"),
            ("json.loads", "numpy", "ceiling"),
        )
    ]
    with bench.workers() as workers:
        rows, absent = bench.race(entries, workers)
    found = Measured("Header of 72,192 tensors", rows, absent)
    found.at_most("header of 72,192 tensors", found.median(entries[0]), 16, "ms")
    return found


def experts(layers: int, count: int) -> make_checkpoint.Shapes:
    shapes: make_checkpoint.Shapes = {}
    for layer in range(layers):
        for expert in range(count):
            for part in ("down_proj", "gate_proj", "up_proj"):
                name = f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight"
                shape = (4096, 1536) if part == "down_proj" else (1536, 4096)
                shapes[name] = shape
                shapes[name + "_scale_inv"] = (shape[0] // 128, shape[1] // 128)
    return shapes


CHUNKS = [f"{1 << power}KiB" for power in range(6, 14)]  # 64 KiB to 8 MiB


def adaptive(bench: Bench) -> Measured:
    """The chunk size that finds itself, against every fixed one."""
    found = Measured("Adaptive chunk against fixed ones", [])
    for cell in (_warm, _cold, _fused, _tmpfs):
        name = cell.__name__.strip("_")
        try:
            with cell(bench) as (path, call, before), bench.workers() as workers:
                entries = [
                    ours(
                        bench,
                        f"{name}, {chunk or 'adaptive'}",
                        call,
                        "64MiB",
                        sees=f"{name} {call}",
                        path=path,
                        chunk=chunk,
                    )
                    for chunk in (*CHUNKS, None)
                ]
                rows, absent = bench.race(entries, workers, before)
        except (Missing, OSError) as missing:
            found.absent.append(f"{name}: {missing}")
            continue
        found.rows += rows
        found.absent += absent
        *fixed, mine = rows
        fastest = best(fixed)
        if fastest is not None:
            what = f"adaptive chunk, {name}: below {fastest.entry.label.split()[-1]}"
            found.at_most(what, 100 * (1 - mine.over(fastest)), 5, "%")
    return found


Cell = Iterator[tuple[str, str, Callable[[], None] | None]]


@contextmanager
def _warm(bench: Bench) -> Cell:
    yield bench.path, "sweep", None


@contextmanager
def _cold(bench: Bench) -> Cell:
    yield bench.path, "sweep", evictor(bench.model)


@contextmanager
def _fused(bench: Bench) -> Cell:
    yield bench.path, "widen", None


@contextmanager
def _tmpfs(bench: Bench) -> Cell:
    place = pathlib.Path("/dev/shm")
    if not place.is_dir() or shutil.disk_usage(place).free < 2 * bench.size:
        raise Missing(f"{place} has no room for a copy of the file")
    copy = place / f"{os.getpid()}-{bench.model.name}"
    try:
        yield str(shutil.copyfile(bench.model, copy)), "sweep", None
    finally:
        copy.unlink(missing_ok=True)


def imports(bench: Bench) -> Measured:
    """import tensorstream, in processes that have NumPy and ml_dtypes already."""
    code = (
        "import time, numpy, ml_dtypes; began = time.perf_counter(); import {}; "
        "print(time.perf_counter() - began)"
    )
    entries = [
        Entry(f"import {name}", "python", name, {}, role)
        for name, role in (("tensorstream", "ours"), ("safetensors", "peer"))
    ]
    rows = [Row(one) for one in entries if bench.with_peers or one.role != "peer"]
    absent: list[str] = []
    for _ in range(bench.rounds):
        for row in rows:
            command = [sys.executable, "-c", code.format(row.entry.call)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode == 0:
                row.figures.append(float(run.stdout) * 1e3)
            elif not row.figures:
                absent.append(f"{row.entry.label}: {run.stderr.splitlines()[-1]}")
    found = Measured("Import, NumPy loaded", [row for row in rows if row.figures], absent)
    found.at_most("import with NumPy loaded", found.median(entries[0]), 60, "ms")
    return found


MEASURES: dict[str, Callable[[Bench], Measured]] = {
    "consume": consume,
    "loop": loop,
    "into": into,
    "cold": cold,
    "checked": checked,
    "widen": widen,
    "decode": decode,
    "headers": headers,
    "adaptive": adaptive,
    "imports": imports,
}


if __name__ == "__main__":
    run_script(Script(__doc__, MEASURES, "stream"))
