"""Golden files: what must open, to the bit, and what must not, with its sentence.

The tables are made, with the files, by tests/golden/make_golden_*.py.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest

import tensorstream as ts

GOLDEN = pathlib.Path(__file__).parent / "golden"


def table(kind: str) -> list[tuple[str, Any]]:
    """The rows of all tables of one folder: (file name, what is expected)."""
    rows: list[tuple[str, Any]] = []
    for path in sorted((GOLDEN / kind).glob("EXPECTED*.json")):
        rows += json.loads(path.read_text(encoding="utf-8")).items()
    return rows


@pytest.mark.parametrize(("name", "expected"), table("read"))
def test_golden_files_open_to_the_bit(name: str, expected: dict[str, Any]) -> None:
    with ts.open(GOLDEN / "read" / name) as ckpt:
        assert sorted(ckpt.keys()) == sorted(expected)
        for tensor, row in expected.items():
            info = ckpt[tensor]
            # "raw" would be the big-endian bytes of the file.
            form = None if "swapped" in info.storage else "raw"
            raw = np.ascontiguousarray(ckpt.read(tensor, dtype=form)).tobytes()
            assert (info.dtype, list(info.shape)) == (row["dtype"], row["shape"])
            assert zlib.crc32(raw) == row["crc32"], tensor


@pytest.mark.parametrize(("name", "words"), table("reject"))
def test_golden_files_are_refused_with_their_sentence(name: str, words: str) -> None:
    with pytest.raises((ts.Error, OSError)) as caught:
        ts.open(GOLDEN / "reject" / name)
    assert words in str(caught.value)


def test_every_golden_file_is_in_a_table() -> None:
    helpers = {"not-in-shard.safetensors"}  # a good shard of a bad index
    for kind in ("read", "reject"):
        names = {path.name for path in (GOLDEN / kind).iterdir()}
        tables = {name for name in names if name.startswith("EXPECTED")}
        assert names - tables - helpers == {name for name, _ in table(kind)}


@pytest.mark.parametrize(
    "script", sorted(GOLDEN.glob("make_golden_*.py")), ids=lambda p: p.stem
)
def test_golden_files_are_what_their_script_makes(
    script: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """A copy of the script, run elsewhere, writes the same bytes."""
    folder = tmp_path / "golden"
    folder.mkdir()
    for source in (script, GOLDEN.parent / "handmade.py"):
        target = folder if source is script else tmp_path
        (target / source.name).write_bytes(source.read_bytes())
    subprocess.run([sys.executable, folder / script.name], check=True)
    # Another zlib may deflate the same bytes otherwise.
    deflated = {"deflated.npz", "bomb.npz", "compressed.pt"}
    made = [path for path in folder.glob("*/*") if path.name not in deflated]
    assert made
    for path in made:
        assert path.read_bytes() == (GOLDEN / path.relative_to(folder)).read_bytes(), path.name
