"""Every example runs as its first lines say, and says what is true."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from files import model, write_safetensors

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(name: str, *words: Any, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, words)],
        capture_output=True, text=True, timeout=120, env=ENVIRONMENT, cwd="/",
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_safetensors(tmp_path_factory.mktemp("examples") / "m.safetensors", model())


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'"(\w+\.py)"', pathlib.Path(__file__).read_text()))
    assert {one.name for one in EXAMPLES.glob("*.py")} <= tested


def test_demo(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tqdm")
    done = run("demo.py", "--size", "200MiB", "--budget", "8MiB", "--folder", tmp_path)
    assert "making a checkpoint of 200MiB" in done.stdout
    assert "100%" in done.stderr
    used = re.search(r"^memory +(\S+) MiB of a budget of 8\.0 MiB$", done.stdout, re.MULTILINE)
    assert used is not None and float(used[1]) <= 8
    assert re.search(r"^rate +\d+\.\d\d GB/s", done.stdout, re.MULTILINE)
    assert re.search(r"^embedding +1 +[\d,]+ +0\.\d+$", done.stdout, re.MULTILINE)
    assert "norm of its attention" in done.stdout
    again = run("demo.py", "--size", "200MiB", "--budget", "8MiB", "--folder", tmp_path)
    assert "making" not in again.stdout


def test_demo_on_a_full_disk(tmp_path: pathlib.Path) -> None:
    done = run("demo.py", "--size", "4EiB", "--folder", tmp_path, status=1)
    assert "free, the checkpoint takes 4.0 EiB" in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_checkpoint_that_finds_no_room_leaves_nothing(tmp_path: pathlib.Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    maker = ROOT / "benchmarks" / "make_checkpoint.py"
    code = (
        f"{limit}; import runpy, sys; "
        f"sys.argv = ['make', {str(tmp_path / 'm.safetensors')!r}, '--size', '16MiB']; "
        f"runpy.run_path({str(maker)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, env=ENVIRONMENT, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1 and "cannot write" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not any(tmp_path.iterdir())


@pytest.mark.parametrize("demo", ["basic", "adaptive", "filtering", "memory", "comprehensive"])
def test_streaming_processor_demo(
    path: pathlib.Path, tmp_path: pathlib.Path, demo: str
) -> None:
    file = tmp_path / "results.json"
    words = ["--demo", demo, "--model", path, "--save-results", file]
    done = run("streaming_processor_demo.py", *words)
    assert "results are in" in done.stdout and "NO" not in done.stdout
    results = json.loads(file.read_text())
    count = sum(np.asarray(array).size for array in model().values())
    if demo == "basic":
        assert results["statistics"]["processed_parameters"] == count
    if demo == "adaptive":
        assert results["fixed"]["chunk_sizes"] == {"first": 1024, "last": 1024}
        assert results["adaptive"]["chunk_sizes"]["last"] > 1024
        assert results["under pressure"]["chunk_sizes"]["last"] == 256
    if demo == "filtering":
        assert results["attention"]["filtered_layers"] == 8
    if demo == "memory":
        assert all(found["peak_memory_mb"] > 1 for found in results.values())
    if demo == "comprehensive":
        assert sum(results["resumed"].values()) == count


def test_streaming_processor_demo_takes_the_original_flags() -> None:
    done = run(
        "streaming_processor_demo.py", "--demo", "filtering", "--chunk-size", 2048,
        "--max-memory", 256.0, "--layers", "attention", "norm", "--adaptive-sizing",
        "--monitor-memory",
    )  # fmt: skip
    assert re.search(r"--layers +37 ", done.stdout)
    assert "comprehensive" in run("streaming_processor_demo.py", "--help").stdout


def test_streaming_processor_demo_encodes(tmp_path: pathlib.Path) -> None:
    saved = tmp_path / "results.json"
    run("streaming_processor_demo.py", "--demo", "encoding", "--save-results", str(saved))
    found = json.loads(saved.read_text())
    assert found["q8_0"]["ratio"] == pytest.approx(34 / 64)
    assert 0 < found["q8_0"]["relative_error"] < 0.01 < found["nf4"]["relative_error"] < 0.15
    assert 0.5 < found["lossless"]["ratio"] < 0.75
    if importlib.util.find_spec("av") is not None:
        videos = found["videos"]
        assert videos["failed_chunks"] == videos["not_in_a_video"] == 0
        assert videos["bytes_in"] == 4_000_000 and videos["compression_ratio"] < 0.5
        assert 0 < videos["worst_error"] < 0.01


def test_streaming_processor_demo_refuses_what_it_cannot() -> None:
    done = run("streaming_processor_demo.py", "--model", "/no/such/model", status=1)
    assert "No such file" in done.stderr


def test_nan_check(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert "24 of 24 tensors are sound" in run("nan_check.py", path).stdout
    bad = np.array([1, np.nan, np.inf], np.float32)
    sick = write_safetensors(tmp_path / "sick.safetensors", {"w": bad})
    assert "w: 1 NaN, 1 infinite of 3" in run("nan_check.py", sick, status=1).stdout


def test_layer_norms(path: pathlib.Path) -> None:
    lines = run("layer_norms.py", path, "2MiB").stdout.splitlines()
    assert lines[0].split() == ["layer", "attention", "mlp", "normalization"]
    tensors = model()
    for line in lines[1:]:
        layer, attention, *_ = line.split()
        flat = np.concatenate(
            [
                np.asarray(array, np.float64).reshape(-1)
                for name, array in tensors.items()
                if f".{layer}.self_attn" in name
            ]
        )
        assert float(attention) == pytest.approx(np.linalg.norm(flat), rel=1e-4)
    assert len(lines) == 5


def test_resume_after_crash(tmp_path: pathlib.Path) -> None:
    # Gigabytes of nothing between two tensors of ones.
    ones, hole = np.ones(1000, np.float32), 1 << 30
    header = {
        "model.layers.0.w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]},
        "model.layers.1.w": {
            "dtype": "F32", "shape": [hole // 4], "data_offsets": [4000, 4000 + hole],
        },
        "model.layers.2.w": {
            "dtype": "F32", "shape": [1000], "data_offsets": [4000 + hole, 8000 + hole],
        },
    }  # fmt: skip
    text = json.dumps(header).encode()
    path, job = tmp_path / "large.safetensors", tmp_path / "job.json"
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + ones.tobytes())
        file.seek(hole, os.SEEK_CUR)
        file.write(ones.tobytes())
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "resume_after_crash.py", path, job],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not job.exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads(job.read_text())["sum"] == 1000
    done = run("resume_after_crash.py", path, job)
    assert "going on at" in done.stdout
    assert "sum of all values: 2000.000000" in done.stdout
    assert not job.exists()
