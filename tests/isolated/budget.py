"""Stream a 4 GiB checkpoint inside a memory limit that the kernel holds.

usage: budget.py FILE {as|cgroup} [FOLDER]

`as` sets RLIMIT_AS 160 MiB above what the process has once the file is open; `cgroup`
moves into the control group FOLDER, whose limit the test has set.  Prints what it read
and the most memory it had, as JSON.
"""

from __future__ import annotations

import json
import pathlib
import resource
import sys

import numpy as np

import tensorstream as ts

BUDGET = 32 << 20


def virtual_size() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main(path: str, kind: str, folder: str = "") -> None:
    if kind == "cgroup":
        (pathlib.Path(folder) / "cgroup.procs").write_text("0")
    ckpt = ts.open(path)
    # What NumPy and the thread libraries allocate once is not the stream's.
    np.zeros(1 << 20, np.uint64).sum()
    before = ts.memory().rss
    if kind == "as":
        limit = virtual_size() + (160 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    total, most = 0, 0
    with ckpt.stream(budget=BUDGET) as stream:
        for chunk in stream:
            total += int(chunk.array.view(np.uint8)[:: 1 << 12].size)
            most = max(most, chunk.nbytes)
        progress = stream.progress
    print(
        json.dumps(
            {
                "bytes": progress.bytes,
                "extra": progress.rss_peak - before,
                "budget_peak": progress.memory_peak,
                "touched": total,
                "largest_chunk": most,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
