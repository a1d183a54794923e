"""Make corpus/quantize: for each scheme weights, ties, extremes; and raw blocks."""

from __future__ import annotations

import random
import struct

from seeds import write_seeds

SCHEMES = 21
BLOCKS = 16  # the first so many of them need no group


def floats(kind: str, count: int, chance: random.Random) -> bytes:
    extremes = [3.4e38, -3.4e38, 1e-45, -1e-45, 0.0, -0.0, 1.0, 2.0**-126]
    values = {
        "weights": lambda: chance.gauss(0, 0.02),
        "ties": lambda: chance.randrange(-8, 8) / 4,
        "extremes": lambda: chance.choice(extremes),
    }[kind]
    return struct.pack(f"<{count}f", *(values() for _ in range(count)))


def main() -> None:
    chance = random.Random(1)
    seeds = {}
    for scheme in range(SCHEMES):
        group = 0 if scheme <= BLOCKS else 3 << 2
        columns = bytes([0x40 | group, 8])  # times 32: 256
        for kind in ("weights", "ties", "extremes"):
            seeds[f"{scheme:02}-{kind}"] = bytes([scheme]) + columns + floats(kind, 256, chance)
    seeds["not-finite"] = bytes([4, 0, 32]) + struct.pack("<32f", *[float("nan")] * 32)
    seeds["blocks"] = bytes([0, 0, 32]) + chance.randbytes(700)
    write_seeds("quantize", seeds)


if __name__ == "__main__":
    main()
