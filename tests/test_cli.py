"""The command line as a person or a script meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from files import write_safetensors

import tensorstream as ts
from tensorstream.cli import LayerRanges, main, parse_layers
from tensorstream.tables import facts, plain, shown, table

ROOT = pathlib.Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "tensorstream"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
ENVIRONMENT.pop("TENSORSTREAM_DEBUG", None)


def run(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT, cwd="/", **options,
    )  # fmt: skip


def run_json(*words: Any, status: int = 0) -> Any:
    done = run(*words, "--json")
    assert done.returncode == status, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def small_model() -> dict[str, Any]:
    rng = np.random.default_rng(1)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32)

    tensors = {"model.embed_tokens.weight": normal(100, 16).astype(ml_dtypes.bfloat16)}
    for i in range(4):
        tensors[f"model.layers.{i}.self_attn.q_proj.weight"] = normal(16, 16)
        tensors[f"model.layers.{i}.mlp.up_proj.weight"] = normal(64, 16)
        tensors[f"model.layers.{i}.input_layernorm.weight"] = normal(16)
    return tensors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("cli")
    return write_safetensors(
        folder / "model.safetensors", small_model(), {"format": "pt", "evil": "a\x1b[31m\nb"}
    )


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    values = np.array([1, np.nan, np.inf, -2], np.float32)
    tensors = {"bad\x1b]0;title\x07": values, "good": np.ones(3, np.float32)}
    return write_safetensors(tmp_path_factory.mktemp("cli") / "sick.safetensors", tensors)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """8 GiB that take no room: a hole behind a header."""
    path = tmp_path_factory.mktemp("cli") / "large.safetensors"
    count = 16
    size = 512 << 20
    header = json.dumps(
        {
            f"model.layers.{i}.mlp.up_proj.weight": {
                "dtype": "BF16",
                "shape": [size // 8192, 4096],
                "data_offsets": [i * size, (i + 1) * size],
            }
            for i in range(count)
        }
    ).encode()
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + count * size)
    return path


# ---- info ----------------------------------------------------------------------------


def test_info_prints_tables(model: pathlib.Path) -> None:
    done = run("info", model, "--tensors", "--by-layer")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        str(model),
        "format      safetensors",
        f"files       1, {ts.format_size(model.stat().st_size)}",
        "tensors     13",
        "parameters  6,784 in 23.4 KiB",
        "layers      4",
    ]
    squeezed = {re.sub(" +", " ", line) for line in lines}
    assert "kind tensors parameters size share" in squeezed
    assert "mlp 4 4,096 16.0 KiB 68.4%" in squeezed
    assert "F32 12 5,184 20.2 KiB 86.6%" in squeezed
    assert "model.layers.0 3 1,296 5.1 KiB 21.7%" in squeezed
    assert "model.layers.3.mlp.up_proj.weight F32 mlp 3 64x16 4.0 KiB" in squeezed
    assert "  format = pt" in lines
    assert r"  evil = a\x1b[31m\nb" in lines
    assert "\x1b" not in done.stdout


def test_info_as_json(model: pathlib.Path) -> None:
    found = run_json("info", model, "--tensors", "--by-layer")
    assert (found["format"], found["tensors"], found["layers"]) == ("safetensors", 13, 4)
    assert found["parameters"] == 6784 and found["bytes"] == 23936
    assert found["kinds"]["attention"] == {"tensors": 4, "parameters": 1024, "bytes": 4096}
    assert [*found["dtypes"]] == ["F32", "BF16"]
    assert found["files"] == [{"path": str(model), "size": model.stat().st_size}]
    assert found["metadata"]["evil"] == "a\x1b[31m\nb"
    assert len(found["tensor_list"]) == 13 and found["tensor_list"][0]["shape"] == [100, 16]
    assert [one["name"] for one in found["layer_list"]] == [
        f"model.layers.{i}" for i in range(4)
    ]


@pytest.mark.parametrize(
    ("words", "tensors"),
    [
        (["--kinds", "attention,mlp"], 8),
        (["--kinds", "attention", "--kinds", "embedding"], 5),
        (["--layers", "1:3"], 6),
        (["--layers", "0,3:"], 6),
        (["--include", "*.mlp.*", "--include", "*embed*"], 5),
        (["--exclude", "*layers*"], 1),
        (["--regex", r"layers\.[12]\."], 6),
        (["--layers", "2", "--kinds", "mlp", "--regex", "up"], 1),
        (["--layers", "70"], 0),
    ],
)
def test_filters_mean_the_same_everywhere(
    model: pathlib.Path, words: list[str], tensors: int
) -> None:
    assert run_json("info", model, *words)["tensors"] == tensors
    assert run_json("stream", model, *words)["tensors"] == tensors
    assert len(run_json("stats", model, *words)["stats"]) == tensors
    assert len(run_json("plan", model, *words, "--tensors")["names"]) == tensors


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("3", [3]),
        ("8:12", [8, 9, 10, 11]),
        (":2", [0, 1]),
        ("38:", [38, 39]),
        ("0:10:4", [0, 4, 8]),
        ("1, 5:7", [1, 5, 6]),
        (":", [*range(40)]),
    ],
)
def test_layer_ranges(text: str, inside: list[int]) -> None:
    layers = parse_layers(text)
    assert isinstance(layers, LayerRanges)
    assert [number for number in range(40) if number in layers] == inside


@pytest.mark.parametrize("text", ["", "x", "-1", "1,,2", "1:2:0", "1:2:3:4", "9" * 99, "٣"])
def test_bad_layer_ranges_are_wrong_usage(text: str, model: pathlib.Path) -> None:
    done = run("info", model, f"--layers={text}")
    assert done.returncode == 2
    assert "such as 3 or 8:16" in done.stderr


# ---- stream ----------------------------------------------------------------------------


def test_stream_tells_what_came(model: pathlib.Path) -> None:
    done = run("stream", model, "--budget", "2MiB", "--threads", "1", "--engine", "pread")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"read       23\.4 KiB in \d+\.\d\d s, \d+\.\d\d GB/s", lines[1])
    assert lines[2] == "delivered  23.4 KiB in 13 chunks"
    assert lines[3] == "holding    13 tensors, 4 layers, 6,784 parameters"
    assert re.fullmatch(r"memory .* KiB at most, of a budget of 2\.0 MiB", lines[4])
    assert lines[6] == "engine     pread: as asked"


def test_stream_as_json(model: pathlib.Path) -> None:
    found = run_json("stream", model, "--dtype", "float32", "--checksum", "crc32c")
    assert found["bytes"] == 23936 and found["delivered_bytes"] == 6784 * 4
    assert found["memory_peak"] <= 64 << 20
    assert found["kinds"]["mlp"]["parameters"] == 4096
    with ts.open(model) as checkpoint:
        assert found["checksums"] == checkpoint.checksums("crc32c")


def test_a_bar_is_drawn_when_asked_for(model: pathlib.Path) -> None:
    pytest.importorskip("tqdm")
    done = run("stream", model, "--progress")
    assert done.returncode == 0
    assert "100%" in done.stderr and "layer 4/4" in done.stderr


SLOW = ["--threads", "1", "--chunk", "4KiB", "--progress"]


def stop_in_the_middle(path: pathlib.Path, number: int, *words: str) -> tuple[int, str, str]:
    process = subprocess.Popen(
        [*COMMAND, "stream", str(path), *SLOW, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stderr is not None
    head = b""
    while b"layer " not in head:  # the bar is there: the stream runs
        head += os.read(process.stderr.fileno(), 4096)
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(number)
    out, error = process.communicate(timeout=20)
    assert time.monotonic() - started < 2, "it stops at once"
    return process.returncode, out.decode(), (head + error).decode()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle_it_says_where_and_goes_on(
    large: pathlib.Path, tmp_path: pathlib.Path, number: int, status: int
) -> None:
    pytest.importorskip("tqdm")
    file = tmp_path / "state.json"
    got, out, error = stop_in_the_middle(large, number, "--state", str(file))
    assert got == status
    assert out == "" and "Traceback" not in error
    assert f"go on with --resume {file}" in error
    state = json.loads(file.read_text())
    assert 0 < state["progress"]["bytes"] < 8 << 30
    assert os.listdir(tmp_path) == ["state.json"], "no partial file is left"
    # Going on with another choice is refused; with the same one it is a shorter way.
    refused = run("stream", large, "--layers", "15", "--resume", file)
    assert refused.returncode == 2 and "another choice" in refused.stderr
    state["item"], state["element"] = 15, (512 << 20) // 2 - 4096
    file.write_text(json.dumps(state))
    rest = run_json("stream", large, "--resume", file)
    assert rest["kinds"]["mlp"]["parameters"] == 4096


def test_stopped_without_a_state_file_it_is_quiet(large: pathlib.Path) -> None:
    pytest.importorskip("tqdm")
    got, out, error = stop_in_the_middle(large, signal.SIGINT)
    assert (got, out) == (130, "")
    assert "Traceback" not in error and "tensorstream:" not in error


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_a_state_file_that_is_none(
    model: pathlib.Path, tmp_path: pathlib.Path, text: str
) -> None:
    (tmp_path / "state").write_text(text)
    done = run("stream", model, "--resume", tmp_path / "state")
    assert done.returncode == 2
    assert "is no state of a stream" in done.stderr


# ---- stats, verify, plan -----------------------------------------------------------------


def test_stats_prints_a_row_for_each_tensor(model: pathlib.Path) -> None:
    done = run("stats", model, "--kinds", "embedding")
    assert done.returncode == 0
    head, row, _, last = done.stdout.splitlines()
    assert head.split() == ["name", "count", "min", "max", "mean", "absmax", "NaN", "Inf"]
    assert row.split()[:2] == ["model.embed_tokens.weight", "1,600"]
    assert row.split()[-2:] == ["0", "0"]
    assert last == "1 tensor, 0 with NaNs"


def test_nans_can_fail_a_script(model: pathlib.Path, sick: pathlib.Path) -> None:
    assert run("stats", sick).returncode == 0
    assert run("stats", sick, "--fail-on-nan").returncode == 1
    assert run("stats", model, "--fail-on-nan").returncode == 0
    done = run("stats", sick, "--nan-only")
    assert "good" not in done.stdout
    assert r"bad\x1b]0;title\x07" in done.stdout and "\x1b" not in done.stdout
    found = run_json("stats", sick, "--nan-only", "--fail-on-nan", status=1)
    (one,) = found["stats"].values()
    assert (one["nan_count"], one["inf_count"], one["min"], one["max"]) == (1, 1, -2, 1)
    assert found["tensors"] == 2 and found["tensors_with_nan"] == 1


def test_verify_of_what_is_sound(model: pathlib.Path) -> None:
    done = run("verify", model)
    assert done.returncode == 0
    assert "sound; 13 tensors, its format carries no checksums" in done.stdout
    assert run_json("verify", model)["ok"] is True


def test_verify_finds_a_flipped_byte(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, first=np.arange(1000), second=np.ones(10))
    assert run_json("verify", path)["checked"] == 2
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("first.npy").header_offset + 2000
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    done = run("verify", path)
    assert done.returncode == 1
    assert "CRC-32" in done.stdout and "first" in done.stdout
    found = run_json("verify", path, status=1)
    assert found["ok"] is False and len(found["problems"]) == 1


def test_verify_of_a_truncated_file_is_a_problem(
    model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(model.read_bytes()[:-10])
    done = run("verify", path)
    assert done.returncode == 1 and str(path) in done.stdout
    assert run_json("verify", path, status=1)["tensors"] is None
    assert run("info", path).returncode == 2


def test_plan_reads_nothing_and_says_the_order(large: pathlib.Path) -> None:
    found = run_json("plan", large, "--budget", "4MiB", "--layers", "2:4", "--tensors")
    assert found["total_bytes"] == 1 << 30
    assert found["peak_bytes"] <= 4 << 20
    assert found["names"] == [f"model.layers.{i}.mlp.up_proj.weight" for i in (2, 3)]
    done = run("plan", large, "--layers", "2", "--tensors")
    assert "1 tensors in 1 layers" in done.stdout or "1 tensor" in done.stdout
    assert "65536x4096  512.0 MiB" in done.stdout


# ---- what goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["info", "stream", "stats", "verify", "plan"])
def test_what_is_not_there_is_one_line(command: str, tmp_path: pathlib.Path) -> None:
    done = run(command, tmp_path / "none.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"tensorstream: .*none\.safetensors: .*No such file.*\n", done.stderr)


@pytest.mark.parametrize("command", ["info", "stream", "stats", "plan"])
def test_a_file_of_another_kind_is_one_line(command: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "note.safetensors"
    path.write_text("Dear reader, this is not a checkpoint.\n")
    done = run(command, path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tensorstream: ") and done.stderr.count("\n") == 1
    assert str(path) in done.stderr


def test_a_folder_without_a_checkpoint_and_one_with_two(tmp_path: pathlib.Path) -> None:
    done = run("info", tmp_path)
    assert done.returncode == 2 and "no checkpoint in" in done.stderr
    for name in ("a", "b"):
        write_safetensors(tmp_path / f"{name}.safetensors", {"w": np.ones(3, np.float32)})
    done = run("info", tmp_path)
    assert done.returncode == 2 and "a.safetensors, b.safetensors" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--budget", "1"], "at least"),
        (["--budget", "lots"], "is not a size"),
        (["--dtype", "int3"], "not as 'int3'"),
        (["--threads", "0"], "at least 1"),
        (["--kinds", "nonsense"], "unknown kind 'nonsense'"),
        (["--regex", "("], "argument --regex"),
        (["--engine", "magic"], "invalid choice"),
        (["--order", "random"], "invalid choice"),
        (["--resume", "/no/such/state"], "No such file"),
    ],
)
def test_wrong_options_are_told_without_a_traceback(
    model: pathlib.Path, words: list[str], text: str
) -> None:
    done = run("stream", model, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr and "Traceback" not in done.stderr


def test_a_hostile_name_of_a_file_cannot_write_to_the_terminal(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a\x1b[2J\nb.safetensors"
    path.write_bytes(b"nothing here")
    done = run("info", path)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr and done.stderr.count("\n") == 1


def test_debug_shows_where_an_error_came_from(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [*COMMAND, "info", str(tmp_path / "none")],
        capture_output=True, text=True, timeout=60,
        env={**ENVIRONMENT, "TENSORSTREAM_DEBUG": "1"},
    )  # fmt: skip
    assert "Traceback" in done.stderr and done.returncode == 1


def test_a_reader_that_leaves_early_is_no_error(tmp_path: pathlib.Path) -> None:
    tensors = {f"layers.{i}.w": np.ones(1, np.float32) for i in range(20_000)}
    path = write_safetensors(tmp_path / "many.safetensors", tensors)
    line = f"{sys.executable} -m tensorstream info {path} --tensors | head -3"
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "141"
    assert len(done.stdout.splitlines()) == 4


def test_a_terminal_that_knows_only_ascii(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"größe": np.ones(2, np.float32)})
    done = subprocess.run(
        [*COMMAND, "info", str(path), "--tensors"], capture_output=True, timeout=60,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfe" in done.stdout


def test_help_tells_the_exit_codes() -> None:
    for words in ([], ["info"], ["stream"], ["stats"], ["verify"], ["plan"]):
        done = run(*words, "--help")
        assert done.returncode == 0
        assert "exit status:" in done.stdout and "130" in done.stdout
    assert run().returncode == 2
    assert run("--version").stdout == f"tensorstream {ts.__version__}\n"


# ---- in this process ----------------------------------------------------------------------


def test_main_returns_its_status(
    model: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(model)]) == 0
    assert main(["info"]) == 2
    assert main(["verify", str(model), "--json"]) == 0
    assert "sound" not in capsys.readouterr().err


def test_tables_line_up() -> None:
    assert table(("name", "n"), [("long name", "1"), ("x", "1,000")]).splitlines() == [
        "name           n",
        "long name      1",
        "x          1,000",
    ]
    assert table(("name", "n"), []) == "name  n"
    assert facts([("a", "b"), ("long", "c")]) == "a     b\nlong  c"


def test_what_is_unprintable_is_escaped() -> None:
    assert shown("größe 名前") == "größe 名前"
    assert shown("a\tb\x1b[31m\u202e\udc80") == r"a\tb\x1b[31m\u202e\udc80"


def test_json_has_no_nan() -> None:
    value = {"a": float("nan"), "b": [np.float32(np.inf), np.int8(3)], "c": np.arange(2)}
    assert plain(value) == {"a": None, "b": [None, 3], "c": [0, 1]}
