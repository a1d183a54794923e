"""Make corpus/pickle: the pickles inside the golden torch files, and a few
that use the instructions torch itself seldom writes."""

import io
import pickle
import zipfile
from collections import OrderedDict

from seeds import GOLDEN, write_seeds

PLAIN = {
    "epoch": 3,
    "big": 2**70,
    "floats": [0.5, -1.0],
    "bytes": b"\x00\xff",
    "set": {1, 2},
    "frozen": frozenset("ab"),
    "ordered": OrderedDict(a=None, b=True),
    "nested": [[], (), {}, ((1,), (1, 2), (1, 2, 3))],
}


def main() -> None:
    seeds = {f"protocol-{n}": pickle.dumps(PLAIN, n) for n in range(2, 6)}
    for path in sorted(GOLDEN.glob("*/*.pt")):
        raw = path.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(raw)):
            continue
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    seeds[path.stem] = archive.read(name)
    write_seeds("pickle", seeds)


if __name__ == "__main__":
    main()
