"""The benchmark runs, and what it writes is what others read.  No figure is judged here."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import pytest

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
MEASURES = {
    "consume", "loop", "into", "cold", "checked", "widen", "decode", "headers", "adaptive",
    "imports",
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="the benchmark compiles its ceilings with gcc"
)


def bench(
    tmp_path: pathlib.Path, *arguments: str, script: str = "bench_stream.py"
) -> dict[str, Any]:
    kept = tmp_path / "result.json"
    command = [sys.executable, str(BENCHMARKS / script), "--json", str(kept)]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(kept.read_text())
    return result


def ours(measure: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in measure["rows"] if row["role"] == "ours"]


def test_every_measure_is_taken(tmp_path: pathlib.Path) -> None:
    result = bench(tmp_path, "--quick", "--size", "64MiB", "--no-peers")
    assert set(result["measures"]) == MEASURES
    assert result["machine"]["cores"] >= 1
    assert 40e6 < result["file_bytes"] < 80e6
    for name, measure in result["measures"].items():
        if measure["absent"]:  # no room in /dev/shm, a disk that keeps its cache
            continue
        assert ours(measure), name
        for row in measure["rows"]:
            assert len(row["rounds"]) == 3, row
            assert 0 < row["least"] <= row["median"] <= row["most"], row
        for target in measure["targets"]:
            assert set(target) == {"what", "wanted", "measured", "met"}


def test_memory_stays_in_the_budget(tmp_path: pathlib.Path) -> None:
    result = bench(tmp_path, "--quick", "--no-peers", "--only", "consume,loop,widen")
    rows = [row for one in result["measures"].values() for row in ours(one)]
    assert len(rows) >= 5
    for row in rows:
        assert row["extra_peak"] <= row["budget"] + (4 << 20), row["label"]


def test_peers_see_the_same_bytes(tmp_path: pathlib.Path) -> None:
    result = bench(tmp_path, "--quick", "--size", "16MiB", "--only", "consume")
    rows = result["measures"]["consume"]["rows"]
    assert {row["label"] for row in rows if row["role"] == "peer"} >= {"np.memmap"}
    assert all(row["of_memcpy"] > 0 and row["of_raw"] > 0 for row in rows)


def test_the_tables_go_between_the_markers(tmp_path: pathlib.Path) -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import report
    finally:
        sys.path.remove(str(BENCHMARKS))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    result = bench(tmp_path, "--quick", "--size", "16MiB", "--no-peers", "--only", "imports")
    for _ in range(2):
        report.fill(readme, result)
        written = readme.read_text()
        assert written.startswith("before\n") and written.endswith("\nafter\n")
        assert "old" not in written
        assert "| **import tensorstream** |" in written
        assert "import with NumPy loaded" in written


def test_the_codec_is_measured_both_ways(tmp_path: pathlib.Path) -> None:
    kept = tmp_path / "codec.json"
    command = [sys.executable, str(BENCHMARKS / "bench_codec.py"), "--json", str(kept)]
    command += [
        "--quick",
        "--size",
        "1MiB",
        "--rounds",
        "1",
        "--no-peers",
        "--only",
        "bf16,e4m3",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    measures = json.loads(kept.read_text())["measures"]
    chunks = measures.pop("chunks")
    assert {"memcpy", "read of rows, verified"} <= {row["label"] for row in chunks["rows"]}
    assert list(measures) == ["bf16-decode", "bf16-encode", "e4m3-decode", "e4m3-encode"]
    for measure in measures.values():
        assert {"fast, 1T", "portable, 1T", "small, 1T"} <= set(measure["percent"])
        assert len(ours(measure)) == len(measure["percent"])
        assert all(50 < percent < 90 for percent in measure["percent"].values())
        assert all(row["of_memcpy"] > 0 for row in measure["rows"])
    assert len(measures["bf16-decode"]["targets"]) == 7


def test_loading_is_measured_warm_and_cold(tmp_path: pathlib.Path) -> None:
    small = ("--quick", "--size", "16MiB", "--rounds", "1")
    result = bench(tmp_path, *small, script="bench_load.py")
    measures = result["measures"]
    assert list(measures) == ["warm", "cold", "seen-warm", "seen-cold", "piece"]
    for name, measure in measures.items():
        if name.endswith("cold") and measure["absent"]:  # a disk that keeps its cache
            continue
        assert len(ours(measure)) >= 1, name
        labels = {row["label"] for row in measure["rows"]}
        if name in ("warm", "cold"):
            assert "raw pread of the compressed file, 1 thread" in labels
            assert all(row["of_memcpy"] > 0 and row["of_raw"] > 0 for row in measure["rows"])
    [pieces] = measures["piece"]["targets"]
    assert pieces["wanted"] == "<= 15 us" and pieces["measured"] > 0


def test_a_part_is_published_into_a_run_of_the_same_machine_only() -> None:
    script = (
        "import json, sys; sys.path.insert(0, 'benchmarks'); import measures;"
        "run = json.load(open('benchmarks/stream.json'));"
        "more = json.loads(json.dumps(run));"
        "more['machine']['versions']['another'] = '1';"
        "assert measures._alike(run, more);"
        "more['machine']['cores'] += 1;"
        "assert not measures._alike(run, more)"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, cwd=pathlib.Path(__file__).parent.parent
    )
