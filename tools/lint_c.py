"""Run clang-tidy and cppcheck over csrc/, as .clang-tidy and the list below say.

usage: lint_c.py [FILE ...]

clang-tidy's results are kept per file under build/lint, so that a second run looks only
at what changed.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).parent.parent
CACHE = ROOT / "build" / "lint"
FLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-DPy_LIMITED_API=0x030b0000",
    f"-I{ROOT / 'csrc'}",
    f"-I{sysconfig.get_path('include')}",
]
CPPCHECK = [
    "cppcheck",
    "--quiet",
    "--std=c11",
    "--error-exitcode=1",
    "--enable=warning,performance,portability",
    "--inline-suppr",
    "--suppress=missingIncludeSystem",
    # It does not follow macros that hold struct rows or types.
    "--suppress=preprocessorErrorDirective",
    "--suppress=unknownMacro",
    f"-I{ROOT / 'csrc'}",
    # Their headers are not read, so say which macros return.
    "-DPy_RETURN_NONE=return NULL",
    "-j2",
]


def signature(path: pathlib.Path, headers: bytes) -> str:
    return hashlib.sha256(path.read_bytes() + headers).hexdigest()


def tidy(path: pathlib.Path, headers: bytes) -> str:
    """What clang-tidy finds in a file; "" is clean."""
    note = CACHE / f"{path.name}.clean"
    mark = signature(path, headers)
    if note.exists() and note.read_text() == mark:
        return ""
    done = subprocess.run(
        ["clang-tidy", "--quiet", "--warnings-as-errors=*", str(path), "--", *FLAGS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return done.stdout + done.stderr
    note.write_text(mark)
    return ""


def main(names: list[str]) -> int:
    for tool in ("clang-tidy", "cppcheck"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed", file=sys.stderr)
            return 1
    CACHE.mkdir(parents=True, exist_ok=True)
    paths = [pathlib.Path(name) for name in names] or sorted((ROOT / "csrc").rglob("*.c"))
    headers = b"".join(path.read_bytes() for path in sorted((ROOT / "csrc").rglob("*.h")))
    headers += (ROOT / ".clang-tidy").read_bytes()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = [text for text in pool.map(lambda p: tidy(p, headers), paths) if text]
    print("\n".join(found), end="")
    checked = subprocess.run([*CPPCHECK, *map(str, paths)], cwd=ROOT, check=False)
    return 1 if found or checked.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
