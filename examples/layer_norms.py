"""The norm of each layer's weights, kind by kind, computed while the model comes past.

python examples/layer_norms.py model.safetensors [budget]
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np

import tensorstream as ts

KINDS = ("attention", "mlp", "normalization")


def main(path: str, budget: str = "16MiB") -> None:
    squares: defaultdict[int, dict[str, float]] = defaultdict(lambda: dict.fromkeys(KINDS, 0.0))
    with (
        ts.open(path) as checkpoint,
        # Any dtype comes as float32, quantised blocks too.
        checkpoint.stream(budget=budget, kinds=KINDS, dtype="float32", progress=None) as stream,
    ):
        for chunk in stream:
            if chunk.layer is not None:
                flat = chunk.array.reshape(-1)
                squares[chunk.layer][chunk.kind] += float(np.dot(flat, flat))
    print("layer" + "".join(f"{kind:>16}" for kind in KINDS))
    for layer, row in sorted(squares.items()):
        print(f"{layer:5}" + "".join(f"{row[kind] ** 0.5:16.4f}" for kind in KINDS))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
