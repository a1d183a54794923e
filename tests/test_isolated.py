"""What needs a process of its own: kernel limits, leaks, fork, signals, import."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from files import model, write_safetensors

HERE = pathlib.Path(__file__).parent
GIB = 1 << 30
MIB = 1 << 20


def run(script: str, *arguments: Any, timeout: float = 120) -> str:
    command = [sys.executable, str(HERE / "isolated" / f"{script}.py"), *map(str, arguments)]
    # The package under test, also where it is not installed.
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def four_gib(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A checkpoint of 4 GiB and 3 tensors, one of them 3 GiB; sparse on the disk."""
    folder = tmp_path_factory.mktemp("large")
    sizes = {"model.embed_tokens.weight": 3 * GIB, "layers.0.a": GIB - 8, "layers.1.b": 8}
    header, at = {}, 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path = folder / "large.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return path


def test_budget_holds_under_an_address_space_limit(four_gib: pathlib.Path) -> None:
    told = json.loads(run("budget", four_gib, "as"))
    assert told["bytes"] == 4 * GIB
    assert told["extra"] <= (32 + 4) * MIB
    assert told["budget_peak"] <= 32 * MIB


def test_budget_holds_in_a_control_group(four_gib: pathlib.Path) -> None:
    folder = make_group(256 * MIB)
    try:
        told = json.loads(run("budget", four_gib, "cgroup", folder))
        assert told["bytes"] == 4 * GIB
        assert told["extra"] <= (32 + 4) * MIB
    finally:
        folder.rmdir()


def make_group(limit: int) -> pathlib.Path:
    """A control group with a memory limit, v2 or v1; skips where none may be made."""
    own = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    places = []
    for line in own:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            place = pathlib.Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            places.append((place, "memory.limit_in_bytes"))
        elif controllers == "":
            place = pathlib.Path("/sys/fs/cgroup") / path.lstrip("/")
            places.append((place, "memory.max"))
    for place, name in places:
        folder = place / f"tensorstream-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / name).write_text(str(limit))
        except OSError:
            folder.rmdir()
            continue
        return folder
    pytest.skip("this process may not make a memory control group")


def test_nothing_leaks(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", model(layers=2))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:-1])
    assert run("leaks", path, broken) == "level\n"


def test_fork_in_the_middle_of_a_stream(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", model())
    assert run("fork", path) == "forked\n"


def test_ctrl_c_within_a_fifth_of_a_second(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(
        tmp_path / "m.safetensors", {"layers.0.w": np.zeros((8192, 4096), np.float32)}
    )
    assert run("interrupt", path) == "interrupted\n"


IMPORT = """
import sys, numpy, ml_dtypes
before = set(sys.modules)
import tensorstream
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_importing_brings_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    new = set(eval(done.stdout))
    heavy = {"torch", "transformers", "tqdm", "matplotlib", "huggingface_hub", "safetensors",
             "gguf", "asyncio", "multiprocessing", "concurrent", "http"}  # fmt: skip
    assert not new & heavy
    outside = {name for name in new if name not in sys.stdlib_module_names}
    assert {name for name in outside if not name.startswith("_")} <= {"numpy", "tensorstream"}
