"""A checkpoint of 2 GiB through 64 MiB of memory: what `make demo` shows.

    python examples/demo.py [--size 2GiB] [--budget 64MiB]

The checkpoint has the names and sizes of a language model and random weights in bfloat16.
It is made once, in build/demo/.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np

import tensorstream as ts

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAKER = ROOT / "benchmarks" / "make_checkpoint.py"
SPARE = 256 << 20  # bytes to leave free on the disk


def checkpoint_of(size: str, folder: pathlib.Path) -> pathlib.Path:
    """A checkpoint of about that size: the one from last time, or a new one."""
    nbytes = ts.parse_size(size)
    path = folder / f"llama-{nbytes}.safetensors"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < nbytes + SPARE:
        sys.exit(
            f"demo: {folder} has {ts.format_size(free)} free, the checkpoint takes "
            f"{ts.format_size(nbytes)} and {ts.format_size(SPARE)} should stay free; "
            "try --size 256MiB, or --folder on another disk"
        )
    print(f"making a checkpoint of {size}, once, in {folder}", flush=True)
    # In a process of its own, so that its memory does not count as ours.
    made = subprocess.run([sys.executable, MAKER, path, "--size", size])
    if made.returncode != 0:
        sys.exit(made.returncode)
    return path


def stream_all(checkpoint: ts.Checkpoint, budget: str) -> None:
    """Every parameter comes past once; C measures them on the way."""
    before = ts.memory().rss or 0
    tensors: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    with checkpoint.stream(budget=budget, stats=True, progress=True) as stream:
        for chunk in stream:
            # chunk.array is a NumPy array of some rows: here goes your work.
            parameters[chunk.kind] += chunk.array.size
            tensors[chunk.kind] += chunk.is_last
    done = stream.progress
    absmax: defaultdict[str, float] = defaultdict(float)
    for name, stats in stream.statistics.items():
        kind = checkpoint[name].kind
        absmax[kind] = max(absmax[kind], stats.absmax)

    peak, extra = ts.format_size(done.memory_peak), ts.format_size(done.rss_peak - before)
    print(f"""
read        {ts.format_size(done.bytes)} in {done.seconds:.2f} s
rate        {done.bytes / done.seconds / 1e9:.2f} GB/s, every value looked at
memory      {peak} of a budget of {ts.format_size(ts.parse_size(budget))}
process     {extra} more than before, at the peak
layers      {done.layers}
engine      {stream.engine}

kind            tensors   parameters  largest |value|""")
    for kind, count in parameters.most_common():
        print(f"{kind:14}{tensors[kind]:9,}{count:13,}{absmax[kind]:17.4f}")


def stream_some(checkpoint: ts.Checkpoint) -> None:
    """A plan first; then the attention of four layers, as float32, through 4 MiB."""
    chosen = {
        "kinds": "attention",
        "layers": range(2, 6),
        "dtype": "float32",
        "budget": "4MiB",
    }
    print("\nThe attention of layers 2 to 5, as float32, through 4 MiB.  The plan:\n")
    print(checkpoint.plan(**chosen))
    squares: Counter[int] = Counter()
    with checkpoint.stream(**chosen) as stream:
        for chunk in stream:
            flat = chunk.array.reshape(-1)
            squares[chunk.layer] += np.dot(flat, flat)
    print("\nlayer   norm of its attention")
    for layer, square in squares.items():
        print(f"{layer:5}{square**0.5:24.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Stream a large checkpoint in little memory.")
    parser.add_argument("--size", default="2GiB", help="of the checkpoint (2GiB)")
    parser.add_argument("--budget", default="64MiB", help="of memory (64MiB)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "demo")
    arguments = parser.parse_args()
    path = checkpoint_of(arguments.size, arguments.folder)
    with ts.open(path) as checkpoint:
        print(checkpoint, flush=True)
        stream_all(checkpoint, arguments.budget)
        stream_some(checkpoint)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
