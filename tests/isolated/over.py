"""A checkpoint is converted over a base; prints how much the process grew meanwhile.

Arguments: a folder, and options of `convert` as JSON.  The base is compressed.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

import ml_dtypes
import numpy as np

import tensorstream as ts

folder, options = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
ROWS, PIECES = 1 << 10, 48  # of 2 MiB


def prepare() -> None:
    rng = np.random.default_rng(0)
    shape = (ROWS * PIECES, 1 << 10)
    with (
        ts.create(folder / "base.safetensors", compression="fast", budget="16MiB") as base,
        ts.create(folder / "tuned.safetensors") as tuned,
        base.tensor("w", "bfloat16", shape) as below,
        tuned.tensor("w", "bfloat16", shape) as above,
    ):
        for _ in range(PIECES):
            rows = rng.standard_normal((ROWS, 1 << 10), np.float32).astype(ml_dtypes.bfloat16)
            below.write(rows)
            rows.view(np.uint16)[:, ::37] ^= 1
            above.write(rows)


child = os.fork()  # whose memory is not counted
if child == 0:
    prepare()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
before = ts.memory().rss_peak
done = ts.convert(
    folder / "tuned.safetensors", folder / "over.safetensors", compression="fast",
    base=folder / "base.safetensors", **options,
)  # fmt: skip
extra = ts.memory().rss_peak - before
print(json.dumps({"bytes": done.bytes_in, "ratio": done.ratio, "extra": extra}))
