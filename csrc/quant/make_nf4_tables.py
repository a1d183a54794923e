"""Print csrc/quant/nf4_tables_kernel.c: the dynamic map of 8-bit statistics.

    python csrc/quant/make_nf4_tables.py > csrc/quant/nf4_tables_kernel.c

256 values between -1 and 1: for each of seven decades 2^k midpoints between 0.1 and 1,
k growing with the decade, both signs, and 0 and 1 (Dettmers et al., "8-bit optimizers via
block-wise quantization", arXiv:2110.02861; bitsandbytes' create_dynamic_map).
"""

from __future__ import annotations

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


def main() -> None:
    print("/* Made by make_nf4_tables.py, which says what it is. */")
    print('#include "nf4.h"\n')
    print("const float ts_dynamic_map[256] = {")
    values = [f"{float(value).hex()}f" for value in dynamic_map()]
    values = [v.replace("0000000p", "p").replace("0x0.0p+0f", "0.0f") for v in values]
    for i in range(0, 256, 4):
        print("    " + ", ".join(values[i : i + 4]) + ",")
    print("};")


if __name__ == "__main__":
    main()
