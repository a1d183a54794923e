"""What pages say about the tree is held against the tree."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "csrc/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = "csrc|tests|docs|tensorstream|benchmarks|tools|examples|.ci"
# Paths of the repository in `code`; a "*" stands for anything.
PATH = re.compile(rf"`((?:{FOLDERS.replace('.', '[.]')})/[\w./*-]*)(?:::(\w+))?`")
LINK = re.compile(r"\]\(([^)\s#]+)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@each_page
def test_files_that_pages_name_exist(page: pathlib.Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path, name in PATH.findall(text):
        found = list(ROOT.glob(path.rstrip("/"))) if "*" in path else [ROOT / path]
        assert found and found[0].exists(), f"there is no {path}"
        if name:
            source = found[0].read_text(encoding="utf-8")
            assert re.search(rf"^(?:def|static void) {name}\(", source, re.M), (
                f"there is no {name} in {path}"
            )


@each_page
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_six_files_to_read_first() -> None:
    page = ROOT / "csrc" / "README.md"
    named = re.findall(r"^\d\. `([\w./]+)`", page.read_text(encoding="utf-8"), re.M)
    assert len(named) == 6 and all((page.parent / name).exists() for name in named)


def constants(path: str, prefix: str) -> dict[str, int]:
    """Names and numbers of the macros and enumerators of a header."""
    text = (ROOT / path).read_text(encoding="utf-8")
    found = re.findall(rf"\b({prefix}\w+)(?: =|\s) *(\d+)u?(?: << (\d+))?", text)
    return {name: int(number) << int(shift or 0) for name, number, shift in found}


def test_every_cap_is_stated() -> None:
    caps = constants("csrc/formats/formats.h", "TS_MAX_")
    asked = constants("csrc/stream/stream.h", "TS_STREAM_(?:LEAST|MOST)_")
    assert len(caps) >= 7 and len(asked) >= 3
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    stated = {
        name: int(number.replace(",", ""))
        for name, number in re.findall(r"^\| `(TS_\w+)` \| ([\d,]+)", page, re.M)
    }
    assert stated == caps | asked


def test_chunk_sizes_are_stated() -> None:
    layout = (ROOT / "csrc" / "stream" / "layout.c").read_text(encoding="utf-8")
    sizes = dict(re.findall(r"(\w+)_size = (\d+ \* TS_[KMG]IB);", layout))
    least, most, start = (
        re.sub(r" \* TS_(.)IB", r" \1iB", sizes[name]) for name in ("least", "most", "start")
    )
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    assert f"| {least} to {most}, from {start} (" in page


def test_the_tree_is_the_tree() -> None:
    """docs/architecture.md lists every file of csrc/, in its folder."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.partition("```\ncsrc/\n")[2].partition("```")[0]
    drawn: dict[str, set[str]] = {}
    for line in block.splitlines():
        words = line.split()
        if words[0].endswith("/"):
            folder = words.pop(0).rstrip("/")
        drawn.setdefault(folder, set()).update(words)
    real: dict[str, set[str]] = {}
    for source in (ROOT / "csrc").rglob("*.[ch]"):
        real.setdefault(source.parent.name, set()).add(source.stem)
    assert drawn == real


def test_the_table_of_dtypes_is_complete() -> None:
    """docs/formats.md states the elements and bytes of a block of every dtype."""
    header = (ROOT / "csrc" / "core" / "dtype.h").read_text(encoding="utf-8")
    rows = re.findall(r'XX\(\w+, "(\w+)", (\d+), (\d+), \w+\)', header)
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    stated: dict[str, tuple[str, str]] = {}
    for names, count, size in re.findall(r"([A-Z][\w ,]*?) \| ([\d, ]+) \| ([\d, ]+) ", page):
        several = re.split(r",? ", names)
        counts, sizes = count.split(", "), size.split(", ")
        for i, name in enumerate(several):
            stated[name] = (counts[i % len(counts)].strip(), sizes[i % len(sizes)].strip())
    assert {name: (count, size) for name, count, size in rows} == stated
