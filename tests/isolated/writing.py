"""Rows of 512 MiB are written; prints how much the process grew meanwhile."""

from __future__ import annotations

import json
import os
import sys

import numpy as np

import tensorstream as ts

rows = np.arange(1 << 17, dtype=np.float64).reshape(8, -1)  # 1 MiB
before = ts.memory().rss_peak
with ts.create(sys.argv[1], budget="8MiB", **json.loads("".join(sys.argv[2:]) or "{}")) as out:
    with out.tensor("rows", "float64", (None, 1 << 14)) as tensor:
        for _ in range(256):
            tensor.write(rows)
    turned = np.lib.stride_tricks.as_strided(rows, (1 << 14, 1 << 11), (8, 0))
    out.write("strided", turned)  # 256 MiB that are nowhere in memory
size = os.path.getsize(out.path)
print(json.dumps({"size": size, "extra": ts.memory().rss_peak - before}))
