"""512 MiB are written, by rows and strided; prints how much the process grew meanwhile.

Arguments: the path, and options of `create` as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np

import tensorstream as ts

rows = np.arange(1 << 17, dtype=np.float64).reshape(8, -1)  # 1 MiB
turned = np.lib.stride_tricks.as_strided(rows, (1 << 14, 1 << 11), (8, 0))
before = ts.memory().rss_peak
with ts.create(sys.argv[1], **json.loads(sys.argv[2])) as out:
    with out.tensor("rows", "float64", (None, 1 << 14)) as tensor:
        for _ in range(256):
            tensor.write(rows)
    out.write("strided", turned)  # 256 MiB that are nowhere in memory
extra = ts.memory().rss_peak - before
with ts.open(sys.argv[1]) as ckpt:
    print(json.dumps({"bytes": ckpt.nbytes, "extra": extra}))
