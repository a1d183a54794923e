"""Print csrc/quant/nf4_tables_kernel.c.

    python csrc/quant/make_nf4_tables.py > csrc/quant/nf4_tables_kernel.c

The dynamic map of 8-bit statistics: 256 values between -1 and 1, for each of seven decades
2^k midpoints between 0.1 and 1, k growing with the decade, both signs, and 0 and 1
(Dettmers et al., "8-bit optimizers via block-wise quantization", arXiv:2110.02861;
bitsandbytes' create_dynamic_map).

The stretches of NF4: of the 31 fifteenths around -1, -14/15, ... 1 none holds two of the
midpoints between codes; each has its midpoint, or 2 where there is none, and the codes below
and above it.
"""

from __future__ import annotations

import pathlib
import re
import textwrap

import numpy as np


def edges(count: int) -> np.ndarray:
    """torch.linspace(0.1, 1, count) in float32.

    Each half is counted from its own end, in steps of float32, by a fused multiply and
    add: that is what the double precision stands for.
    """
    first, last = np.float32(0.1), np.float32(1)
    step = np.float64((last - first) / np.float32(count - 1))
    at = np.arange(count)
    up, down = np.float64(first) + step * at, np.float64(last) - step * (count - 1 - at)
    return np.where(at < count // 2, up, down).astype(np.float32)


def dynamic_map() -> np.ndarray:
    """The values in ascending order, float32; every step rounds as bitsandbytes' does."""
    values = [np.float32(0), np.float32(1)]
    for k in range(7):
        between = edges(2**k + 1)
        middles = np.float32(10.0 ** (k - 6)) * ((between[:-1] + between[1:]) / np.float32(2))
        values += [*middles, *-middles]
    return np.sort(np.array(values, np.float32))


def midpoints() -> np.ndarray:
    """Between the 16 values that nf4.h states, each rounded to float32."""
    header = (pathlib.Path(__file__).parent / "nf4.h").read_text()
    stated = header.partition("ts_nf4_values[16] = {")[2].partition("}")[0]
    values = np.array([float(text.rstrip("f")) for text in re.findall(r"[-.\df]+", stated)])
    values = values.astype(np.float32)
    return (values[:-1] + values[1:]) / np.float32(2)


def stretches() -> tuple[np.ndarray, np.ndarray]:
    """(midpoint, code below and then code above it) of each stretch; the first is no place."""
    middles = midpoints()
    place = np.rint(middles.astype(np.float64) * 15).astype(int) + 16
    assert len(set(place)) == len(place)
    at = np.full(32, 2, np.float32)
    at[place] = middles
    below = [np.sum(place < k) for k in range(32)]
    return at, np.array(below + [np.sum(place <= k) for k in range(32)])


def written(value: float) -> str:
    """The shortest hexadecimal float."""
    mantissa, _, power = float(value).hex().partition("p")
    return "0.0f" if value == 0 else f"{mantissa.rstrip('0')}p{power}f".replace(".p", ".0p")


def table(kind: str, name: str, cells: list[str]) -> None:
    print(f"\nconst {kind} {name}[{len(cells)}] = {{")
    for line in textwrap.wrap(", ".join(cells) + ",", 74):
        print(f"    {line}")
    print("};")


def main() -> None:
    print("/* Made by make_nf4_tables.py, which says what it is. */")
    print('#include "nf4.h"')
    table("float", "ts_dynamic_map", [written(value) for value in dynamic_map()])
    middles, codes = stretches()
    table("float", "ts_nf4_stretch_middles", [written(value) for value in middles])
    table("uint8_t", "ts_nf4_stretch_codes", [str(code) for code in codes])


if __name__ == "__main__":
    main()
