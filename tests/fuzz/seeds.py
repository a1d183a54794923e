"""What the makers of fuzz corpora share: where seeds come from and go to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


def write_seeds(name: str, seeds: Mapping[str, bytes]) -> None:
    """Write corpus/<name>; what a fuzzer found (found-*) stays there."""
    folder = HERE / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if not old.name.startswith("found-"):
            old.unlink()
    for seed, raw in seeds.items():
        (folder / seed).write_bytes(raw)


def copy_golden(name: str, suffixes: tuple[str, ...]) -> None:
    """Golden files with one of the suffixes, of both kinds, as seeds."""
    paths = [path for path in sorted(GOLDEN.glob("*/*")) if path.suffix in suffixes]
    write_seeds(name, {f"{path.parent.name}-{path.name}": path.read_bytes() for path in paths})
