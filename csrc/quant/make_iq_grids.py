"""Writes iq_grids_kernel.c: the codebooks of ggml's IQ types, taken from the gguf package.

    python csrc/quant/make_iq_grids.py > csrc/quant/iq_grids_kernel.c

Each entry of a codebook is 8 (or 4) values out of 3 (or 8); it is printed as that many fields
of 2 (or 3) bits, the first value lowest.
"""

from __future__ import annotations

import gguf.quants
import numpy as np

GRIDS = {
    "ts_iq2_xxs_grid": ("IQ2_XXS", 2),
    "ts_iq2_xs_grid": ("IQ2_XS", 2),
    "ts_iq2_s_grid": ("IQ2_S", 2),
    "ts_iq3_xxs_grid": ("IQ3_XXS", 3),
    "ts_iq3_s_grid": ("IQ3_S", 3),
    "ts_iq1_grid": ("IQ1_S", 2),
}


def entries(name: str, bits: int) -> list[int]:
    kind = getattr(gguf.quants, name)
    kind.init_grid()
    fields = np.searchsorted(kind.grid_map, kind.grid.reshape(kind.grid_shape))
    weights = 1 << (bits * np.arange(fields.shape[1]))
    return [int(entry) for entry in (fields * weights).sum(axis=1)]


def main() -> None:
    print('#include "iq.h"\n')
    print("/* Made by make_iq_grids.py; the values behind the fields: iq.h. */")
    for symbol, (name, bits) in GRIDS.items():
        codes = entries(name, bits)
        print(f"\nconst uint16_t {symbol}[{len(codes)}] = {{")
        for start in range(0, len(codes), 9):
            line = ", ".join(f"0x{code:04x}" for code in codes[start : start + 9])
            print(f"    {line},")
        print("};")


if __name__ == "__main__":
    main()
