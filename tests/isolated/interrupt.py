"""Ctrl-C in the middle of each long call: how long until Python has it back?

usage: interrupt.py FILE

FILE is large enough that no call ends by itself within 50 ms.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import tensorstream as ts


def measure(call: Callable[[], object]) -> float:
    """Seconds between the signal and the exception."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(0.05)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        call()
    except KeyboardInterrupt:
        took = time.perf_counter() - sent[0]
        thread.join()
        return took
    thread.join()
    raise AssertionError("the call ended before the signal")


def main(path: str) -> None:
    ckpt = ts.open(path)
    before = len(os.listdir("/proc/self/task"))  # NumPy's own among them

    def iterate() -> None:
        while True:
            with ckpt.stream(budget="1MiB") as stream:
                for _ in stream:
                    pass

    def into() -> None:
        name = max(ckpt, key=lambda one: ckpt[one].nbytes)
        array = np.empty(ckpt[name].shape, ckpt[name].numpy_dtype)
        while True:
            ckpt.read_into({name: array})

    for call in (iterate, into, lambda: [ckpt.stats() for _ in range(10000)]):
        took = measure(call)
        assert took < 0.2, f"{took:.3f} s until KeyboardInterrupt"
    assert len(os.listdir("/proc/self/task")) == before, "a thread is left"
    print("interrupted")


if __name__ == "__main__":
    main(*sys.argv[1:])
