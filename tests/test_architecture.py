"""The include graph of csrc/ is the architecture; keep it a ladder."""

from __future__ import annotations

import pathlib
import re

import pytest

CSRC = pathlib.Path(__file__).parent.parent / "csrc"
SIBLINGS = {"io", "codec", "quant", "monitor", "estimate"}
MAY_INCLUDE = {
    "core": set(),
    **{name: {"core"} for name in SIBLINGS},
    "formats": {"core", "io", "codec"},
    "stream": {"core", "formats", *SIBLINGS},
    "python": {"core", "formats", "stream", *SIBLINGS},
}
SOURCES = sorted(CSRC.rglob("*.[ch]"))
# Memory, arithmetic and vectors; nothing that allocates, fails or talks to the system.
KERNEL_HEADERS = {
    "assert.h", "float.h", "immintrin.h", "limits.h", "math.h", "stdbool.h", "stddef.h",
    "stdint.h", "string.h", "xxhash.h",
}  # fmt: skip

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CSRC)))


def includes(path: pathlib.Path, opening: str, closing: str) -> list[str]:
    pattern = rf"^\s*#\s*include {opening}([^{closing}]+){closing}"
    return re.findall(pattern, path.read_text(), re.M)


@each_source
def test_includes_point_down(path: pathlib.Path) -> None:
    folder = path.relative_to(CSRC).parts[0]
    for name in includes(path, '"', '"'):
        if "/" not in name:
            assert (path.parent / name).exists(), name
            continue
        target, header = name.split("/", 1)
        assert target in MAY_INCLUDE[folder] | {folder}, f"{folder} may not use {target}"
        assert target in {"core", folder} or header == f"{target}.h", (
            f"{name} is private to {target}; include {target}/{target}.h"
        )


@each_source
def test_only_the_binding_knows_python(path: pathlib.Path) -> None:
    if path.relative_to(CSRC).parts[0] != "python":
        assert "Python.h" not in path.read_text()


@each_source
def test_kernels_are_pure(path: pathlib.Path) -> None:
    if path.stem.endswith("_kernel"):
        assert set(includes(path, "<", ">")) <= KERNEL_HEADERS


@each_source
def test_headers_are_guarded_by_their_place(path: pathlib.Path) -> None:
    if path.suffix == ".h":
        place = "_".join(path.relative_to(CSRC).with_suffix("").parts).upper()
        assert f"#ifndef TS_{place}_H" in path.read_text()


def test_file_names_are_unique() -> None:
    names = [path.name for path in SOURCES]
    assert sorted(set(names)) == sorted(names)
