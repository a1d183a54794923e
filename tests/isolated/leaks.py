"""Open, stream, fail and close many times: memory, descriptors and threads stay level.

usage: leaks.py FILE BROKEN_FILE
"""

from __future__ import annotations

import gc
import os
import pathlib
import sys
import tracemalloc

import tensorstream as ts


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def resident() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096


def once(path: str, broken: str) -> None:
    with ts.open(path) as ckpt:
        with ckpt.stream(budget="1MiB") as stream:
            for chunk in stream:
                chunk.array, chunk.name, chunk.kind  # noqa: B018
        with ckpt.stream(budget="1MiB", stats=True, checksum="crc32c") as stream:
            next(stream)  # and leave the rest
        ckpt.read(next(iter(ckpt)))
        ckpt.stats()
        ckpt.metadata  # noqa: B018
    for wrong in (broken, "/nonexistent/x.safetensors", "/dev/null"):
        try:
            ts.open(wrong)
        except (ts.Error, OSError, ValueError):
            continue
        raise AssertionError(f"{wrong} was opened")


def main(path: str, broken: str) -> None:
    for _ in range(30):
        once(path, broken)
    gc.collect()
    tracemalloc.start()
    files, tasks, memory = descriptors(), threads(), resident()
    traced = tracemalloc.get_traced_memory()[0]
    for _ in range(300):
        once(path, broken)
    gc.collect()
    grown = resident() - memory
    python = tracemalloc.get_traced_memory()[0] - traced
    assert descriptors() == files, f"{files} descriptors became {descriptors()}"
    assert threads() == tasks, f"{tasks} threads became {threads()}"
    assert grown < 8 << 20, f"{grown} bytes more after 300 rounds"
    assert python < 200_000, f"{python} bytes of Python objects more after 300 rounds"
    print("level")


if __name__ == "__main__":
    main(*sys.argv[1:])
