"""Ctrl-C while a checkpoint is saved: how long it takes, and that nothing is left.

Arguments: a folder, and options of `save` as JSON.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import threading
import time

import numpy as np

import tensorstream as ts

folder = pathlib.Path(sys.argv[1])
options = json.loads(sys.argv[2])
path = folder / "m.safetensors"
path.write_bytes(b"old")
block = np.random.default_rng(1).standard_normal(1 << 20)
strided = np.lib.stride_tricks.as_strided(block, (1 << 10, 1 << 20), (0, 8))  # 8 GiB
asked = 0.0


def ask() -> None:
    global asked
    time.sleep(0.5)
    asked = time.perf_counter()
    os.kill(os.getpid(), signal.SIGINT)


threading.Thread(target=ask).start()
try:
    ts.save(path, {"endless": strided}, **options)
except KeyboardInterrupt:
    took = time.perf_counter() - asked
names = sorted(os.listdir(folder))
print(json.dumps({"took": took, "names": names, "old": path.read_bytes() == b"old"}))
