"""The Python in README.md and docs/ runs, and prints what stands below it.

The blocks of a page run in order, in one namespace, in a folder with a model.safetensors and
a model.gguf.  A block of text right behind a block of Python is what it prints; "..." stands
for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import oracle

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


# Extras that a page shows; without them its test is skipped.
NEEDS = {"hilbert.md": ["av"]}


class Block(NamedTuple):
    """Some Python, the line of the page it begins in, and what it should print."""

    line: int
    code: str
    output: str | None


def blocks(page: pathlib.Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    fences = list(FENCE.finditer(text))
    for fence, after in zip(fences, [*fences[1:], None]):
        if fence[1] != "python":
            continue
        adjoins = after is not None and not text[fence.end() : after.start()].strip()
        output = after[2] if after is not None and adjoins and after[1] == "text" else None
        yield Block(text.count("\n", 0, fence.start()) + 2, fence[2], output)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A language model of 64 MiB, and a small GGUF."""
    folder = tmp_path_factory.mktemp("models")
    maker = ROOT / "benchmarks" / "make_checkpoint.py"
    command = [sys.executable, maker, folder / "model.safetensors", "--size", "64MiB"]
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    shutil.copy(ROOT / "tests" / "golden" / "read" / "kinds.gguf", folder / "model.gguf")
    return folder


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(blocks(page))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_python_of_a_page_runs(
    page: pathlib.Path, models: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for extra in NEEDS.get(page.name, ()):
        oracle(extra)
    monkeypatch.chdir(models)
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        code = compile("\n" * (block.line - 1) + block.code, place, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        if block.output is not None:
            same = doctest.OutputChecker().check_output(
                block.output, printed.getvalue(), doctest.ELLIPSIS
            )
            assert same, f"{place} prints\n{printed.getvalue()}"
