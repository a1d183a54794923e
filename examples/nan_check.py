"""Is every weight a number?  Exits with 1 and says where, if not.

    python examples/nan_check.py model.safetensors

C looks at the values while they are in cache; nothing of the model stays in memory.
"""

from __future__ import annotations

import sys

import tensorstream as ts


def main(path: str) -> int:
    with ts.open(path) as checkpoint:
        found = checkpoint.stats(progress=None)
    bad = {name: one for name, one in found.items() if one.nan_count or one.inf_count}
    for name, one in bad.items():
        print(f"{name}: {one.nan_count} NaN, {one.inf_count} infinite of {one.count}")
    print(f"{len(found) - len(bad)} of {len(found)} tensors are sound")
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
