"""How fast a compressed checkpoint loads, beside those who load the raw one.

    python benchmarks/bench_load.py                     all of it: some minutes
    python benchmarks/bench_load.py --only warm,cold
    python benchmarks/bench_load.py --quick             a smaller file, three rounds
    python benchmarks/bench_load.py --publish           also load.json and README.md

GB/s are of the tensors, whatever the file holds of them.  Every load goes into fresh memory,
as that of a process that just began.
"""

from __future__ import annotations

import dataclasses
import pathlib

from contenders import Bench, memcpy, ours, peer, raw
from measures import Measured, Script, evictor, run_script
from race import Entry, MiB, Missing, Workers, best, find

PIECE = 256 << 10  # bytes: a chunk of bfloat16 as the codec cuts it
PIECES = 1000  # of them in a call: milliseconds of a call are microseconds of a piece


def compressed(bench: Bench, workers: Workers) -> pathlib.Path:
    """The compressed twin, written once."""
    path = bench.model.with_suffix(".fast.safetensors")
    if not path.exists():
        partial = path.with_suffix(".partial.safetensors")
        workers.ask("tensorstream", "compress", {"path": str(partial), "source": bench.path})
        partial.replace(path)
    return path


def loaders(bench: Bench, twin: pathlib.Path) -> list[Entry]:
    """Everybody who brings all tensors into memory of their own."""
    return [
        ours(bench, "ts.load, compressed", "load", path=str(twin)),
        ours(bench, "ts.load, compressed, unverified", "load", path=str(twin), verify=False),
        ours(bench, "ts.load, raw", "load"),
        peer(bench, "safetensors.numpy.load_file", "safetensors", "load_file"),
        peer(bench, "safetensors numpy, pread", "safetensors", "into", backend="pread"),
        peer(bench, "safetensors.torch.load_file, cloned", "torch", "load_file", clone=True),
        # One array of everything, which no loader of tensors is.
        dataclasses.replace(peer(bench, "np.fromfile", "numpy", "fromfile"), role="ceiling"),
    ]


def reads(bench: Bench, twin: pathlib.Path) -> list[Entry]:
    """The files themselves, into memory that was touched; both as the tensors they hold."""
    placed = [raw(bench, "pread of the raw file", "place", n, 2 * MiB) for n in (1, 2)]
    return placed + [
        dataclasses.replace(
            one,
            label=one.label.replace("raw file", "compressed file"),
            arguments={**one.arguments, "path": str(twin)},
        )
        for one in placed
    ]


def judge(found: Measured, name: str) -> Measured:
    """Faster than the fastest who loads the raw file; how much smaller."""
    mine, plain = (
        find(found.rows, f"tensorstream, ts.load, {one}") for one in ("compressed", "raw")
    )
    fastest = best(found.rows, role="peer")
    if mine and fastest:
        what = f"{name}: compressed, times {fastest.entry.label}"
        found.at_least(what, mine.over(fastest), 1, "")
    if mine and plain:
        found.notes.append(f"compressed is {mine.over(plain):.2f} times as fast as raw")
    return found


def load(bench: Bench, title: str, *, is_cold: bool) -> Measured:
    with bench.workers() as workers:
        twin = compressed(bench, workers)
        entries = [*loaders(bench, twin), *memcpy(bench), *reads(bench, twin)]
        before = evictor(bench.model, twin) if is_cold else None
        try:
            rows, absent = bench.race(entries, workers, before)
        except Missing as missing:  # a file system that keeps its cache
            return Measured(title, [], [str(missing)])
    reading = [row for row in rows if "pread of the raw" in row.entry.label]
    found = Measured(title, rows, absent, best(reading, role="ceiling"))
    share = twin.stat().st_size / bench.model.stat().st_size
    found.notes.append(f"the compressed file is {share:.1%} of the raw one")
    return judge(found, title.split(",")[-1].strip())


def warm(bench: Bench) -> Measured:
    """All tensors into fresh memory, the file in the page cache."""
    return load(bench, "Loading all tensors, warm", is_cold=False)


def cold(bench: Bench) -> Measured:
    """The same with nothing of the file in the page cache."""
    return load(bench, "Loading all tensors, cold", is_cold=True)


def seen(bench: Bench, title: str, *, is_cold: bool) -> Measured:
    with bench.workers() as workers:
        twin = compressed(bench, workers)
        entries = [
            ours(bench, "ts.load, compressed", "see", path=str(twin)),
            ours(bench, "stream, compressed", "loop", "64MiB", path=str(twin)),
            ours(bench, "ts.load, raw", "see"),
            peer(bench, "safetensors.numpy.load_file", "safetensors", "see"),
            peer(bench, "safetensors.torch.load_file", "torch", "see"),
            *memcpy(bench),
        ]
        before = evictor(bench.model, twin) if is_cold else None
        try:
            rows, absent = bench.race(entries, workers, before)
        except Missing as missing:
            return Measured(title, [], [str(missing)])
    found = Measured(title, rows, absent)
    found.notes.append(
        "safetensors.torch.load_file maps the file: it keeps no memory of its own"
    )
    return found


def seen_warm(bench: Bench) -> Measured:
    """Loaded and summed once in NumPy: also those who only map the file have read it then."""
    return seen(bench, "Loaded and summed once, warm", is_cold=False)


def seen_cold(bench: Bench) -> Measured:
    """The same with nothing of the file in the page cache."""
    return seen(bench, "Loaded and summed once, cold", is_cold=True)


def piece(bench: Bench) -> Measured:
    """256 KiB out of the largest tensor, again and again, the file in the page cache."""
    of = {"size": PIECE, "count": PIECES}
    with bench.workers() as workers:
        twin = compressed(bench, workers)
        entries = [
            dataclasses.replace(entry, nbytes=None)
            for entry in (
                ours(bench, "compressed", "pieces", path=str(twin), raw=bench.path, **of),
                peer(bench, "safetensors numpy, get_slice", "safetensors", "pieces", **of),
                Entry("raw pread", "raw", "pieces", {"path": bench.path, **of}, "ceiling"),
            )
        ]
        rows, absent = bench.race(entries, workers)
    found = Measured("1000 pieces of 256 KiB: ms, or us each", rows, absent)
    found.at_most("256 KiB out of a compressed file", found.median(entries[0]), 15, "us")
    found.notes.append(
        "get_slice copies out of a mapping; ours and the raw read are one pread each"
    )
    return found


MEASURES = {
    "warm": warm,
    "cold": cold,
    "seen-warm": seen_warm,
    "seen-cold": seen_cold,
    "piece": piece,
}

if __name__ == "__main__":
    run_script(Script(__doc__, MEASURES, "load", "<!-- load: begin -->", "<!-- load: end -->"))
