"""Fork while a stream runs: the child is told so, keeps its arrays, and can open its own.

usage: fork.py FILE
"""

from __future__ import annotations

import os
import signal
import sys

import tensorstream as ts


def child(stream: ts.Stream, ckpt: ts.Checkpoint, kept: object) -> int:
    signal.alarm(10)  # a lock that another thread held would never be released
    try:
        next(stream)
        return 1
    except ts.Error as error:
        if "fork" not in str(error):
            return 2
    if bytes(kept.array.tobytes()) != kept.copy:  # type: ignore[attr-defined]
        return 3
    del kept
    stream.close()
    with ckpt.stream(budget="1MiB") as own:
        count = sum(1 for _ in own)
    return 0 if count > 0 else 4


class Kept:
    def __init__(self, chunk: ts.Chunk) -> None:
        self.array = chunk.array
        self.copy = chunk.array.tobytes()


def main(path: str) -> None:
    with ts.open(path) as ckpt:
        for _ in range(20):
            with ckpt.stream(budget="1MiB", threads=4, chunk="4KiB") as stream:
                kept = Kept(next(stream))
                pid = os.fork()
                if pid == 0:
                    code = 9
                    try:
                        code = child(stream, ckpt, kept)
                    finally:
                        os._exit(code)
                _, status = os.waitpid(pid, 0)
                assert status == 0, f"the child ended with {status:#x}"
                for _ in stream:
                    pass
    print("forked")


if __name__ == "__main__":
    main(*sys.argv[1:])
