"""Save over and over in children that are killed; the checkpoint is always whole.

Arguments: a folder, and how many children.  One in three saves shards.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import sys
import time

import numpy as np

import tensorstream as ts

folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
path = folder / "model.safetensors"
OPTIONS = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
BASE = OPTIONS.get("base")
SHARD = "1KB" if BASE else "17KB"  # so that there are several
NAMES = [f"t.{i}" for i in range(5)]
GROUND = ts.load(BASE) if BASE else dict.fromkeys(NAMES, np.zeros((40, 50), np.int32))


def save(number: int) -> None:
    tensors = {name: GROUND[name] + np.int32(number) for name in NAMES}
    ts.save(path, tensors, shard_size=SHARD if number % 3 == 0 else None, **OPTIONS)


def number_there() -> int:
    """Whose checkpoint is in place; fails when it is nobody's."""
    arrays = ts.load(folder, base=BASE)
    assert list(arrays) == NAMES, list(arrays)
    values = {
        int(one) for name, array in arrays.items() for one in np.unique(array - GROUND[name])
    }
    assert len(values) == 1 and all(a.shape == (40, 50) for a in arrays.values()), values
    return values.pop()


def tidy() -> None:
    """A killed process cannot take away what it left."""
    index = folder / "model.safetensors.index.json"
    named = {"model.safetensors"}
    if index.exists():
        named = {index.name, *json.loads(index.read_bytes())["weight_map"].values()}
    for name in set(os.listdir(folder)) - named:
        if not name.endswith(".tmp"):  # those go by themselves
            os.unlink(folder / name)


start = time.perf_counter()
for warm in range(4):
    save(warm)
usual = (time.perf_counter() - start) / 4
random.seed(5)
old = new = 0
there = number_there()
for number in range(4, 4 + rounds):
    child = os.fork()
    if child == 0:
        save(number)
        os._exit(0)
    time.sleep(random.random() * usual * 1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    now = number_there()
    assert now in (there, number), f"{now} is neither {there} nor {number}"
    old, new = old + (now == there), new + (now == number)
    usual *= 1.05 if now == there else 0.95  # about as many of both on any machine
    there = now
    tidy()
for last in range(number + 1, number + 4):  # one of them with an index
    save(last)
left = [name for name in os.listdir(folder) if name.endswith(".tmp")]
assert not left, left
print(json.dumps({"old": old, "new": new}))
