"""Streams: every element once, in order, inside the budget, whatever happens."""

from __future__ import annotations

import gc
import json
import os
import pathlib
import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from files import model, same, write_safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstream as ts

MIB = 1 << 20


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    return model()


@pytest.fixture(scope="module")
def path(tensors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("stream")
    return write_safetensors(folder / "model.safetensors", tensors)


def gather(stream: Any) -> dict[str, list[Any]]:
    """What a stream delivers, copied; checks the order of the parts on the way."""
    parts: dict[str, list[Any]] = {}
    at: dict[str, int] = {}
    last = None
    for chunk in stream:
        assert chunk.start == at.get(chunk.name, 0)
        assert last in (None, chunk.name), "a tensor is interrupted by another"
        at[chunk.name] = chunk.stop
        parts.setdefault(chunk.name, []).append(chunk.array.reshape(-1).copy())
        last = None if chunk.is_last else chunk.name
    return parts


def check_all(stream: Any, tensors: dict[str, Any]) -> None:
    parts = gather(stream)
    assert parts.keys() == tensors.keys()
    for name, array in tensors.items():
        assert same(np.concatenate(parts[name]), np.asarray(array).reshape(-1)), name


@pytest.mark.parametrize("engine", ["auto", "pread", "direct", "mmap", "io_uring"])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_element_comes_once(
    path: pathlib.Path, tensors: dict[str, Any], threads: int, engine: str
) -> None:
    with (
        ts.open(path) as ckpt,
        ckpt.stream(budget="1MiB", threads=threads, engine=engine) as stream,
    ):
        check_all(stream, tensors)
        assert stream.progress.memory_peak <= MIB
        assert stream.progress.bytes == ckpt.nbytes
        assert stream.progress.parameters == ckpt.num_parameters


@given(
    budget=st.integers(MIB, 8 * MIB),
    chunk=st.none() | st.integers(2000, 2 * MIB),
    threads=st.integers(1, 5),
    order=st.sampled_from(["layer", "file"]),
)
@settings(max_examples=60)
def test_any_sizes_give_the_same_bytes(
    path: pathlib.Path,
    tensors: dict[str, Any],
    budget: int,
    chunk: int | None,
    threads: int,
    order: str,
) -> None:
    with (
        ts.open(path) as ckpt,
        ckpt.stream(budget=budget, chunk=chunk, threads=threads, order=order) as stream,
    ):
        check_all(stream, tensors)


def test_layer_order_is_that_of_a_forward_pass(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt, ckpt.stream() as stream:
        layers = [chunk.layer for chunk in stream]
    numbered = [layer for layer in layers if layer is not None]
    assert numbered == sorted(numbered)
    assert layers[0] is None and layers[-1] is None


def test_chunks_are_rows_of_the_tensor(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    seen = 0
    with ts.open(path) as ckpt, ckpt.stream(chunk="16KiB", budget="1MiB") as stream:
        for chunk in stream:
            whole = np.asarray(tensors[chunk.name])
            if whole.ndim == 2 and chunk.nbytes < whole.nbytes:
                first = chunk.start // whole.shape[1]
                assert chunk.array.shape[1:] == whole.shape[1:]
                assert same(chunk.array, whole[first : first + len(chunk.array)])
                seen += 1
    assert seen > 20


def test_a_tensor_larger_than_the_budget_comes_in_parts(tmp_path: pathlib.Path) -> None:
    big = np.arange(6 * MIB, dtype=np.uint32).reshape(-1, 1024)
    path = write_safetensors(tmp_path / "big.safetensors", {"w": big})
    with ts.open(path) as ckpt, ckpt.stream(budget="1MiB") as stream:
        row = 0
        for chunk in stream:
            assert same(chunk.array, big[row : row + len(chunk.array)])
            row += len(chunk.array)
        assert row == len(big)
        assert stream.progress.memory_peak <= MIB


@pytest.mark.parametrize("chunk", [1, 1000, 4096, 100_000])
def test_a_fixed_chunk_size_is_kept(path: pathlib.Path, chunk: int) -> None:
    with (
        ts.open(path) as ckpt,
        ckpt.stream(chunk=chunk, budget="1MiB", include="*.0.*") as stream,
    ):
        sizes = [one.nbytes for one in stream]
        assert stream.progress.chunk_size == chunk
    assert max(sizes) <= max(chunk, 4)
    assert chunk == 1 or max(sizes) > chunk // 2 or chunk > 73728


# ---- memory that somebody keeps ---------------------------------------------------------


def test_kept_arrays_stay_valid_and_fill_the_budget(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    kept: list[tuple[str, int, Any]] = []
    with ts.open(path) as ckpt, ckpt.stream(budget="1MiB", chunk="64KiB") as stream:
        with pytest.raises(ts.BudgetError, match=r"held by arrays still in use.*embed_tokens"):
            for chunk in stream:
                kept.append((chunk.name, chunk.start, chunk.array))
        assert stream.progress.memory_peak <= MIB
        for name, start, array in kept:
            flat = np.asarray(tensors[name]).reshape(-1)
            assert same(array.reshape(-1), flat[start : start + array.size])
        # Let go of them, and the stream goes on where it was.
        before = len(kept)
        name, start, array = kept[-1]
        end = start + array.size
        kept.clear()
        del array, chunk
        gc.collect()
        more = next(stream)
        assert (more.name, more.start) == (name, end) or more.start == 0
    assert before > 4


def test_arrays_outlive_stream_and_checkpoint(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    with ts.open(path) as ckpt, ckpt.stream(budget="2MiB") as stream:
        chunk = next(stream)
        array = chunk.array
    name = chunk.name
    del stream, ckpt, chunk
    gc.collect()
    flat = np.asarray(tensors[name]).reshape(-1)
    assert same(array.reshape(-1), flat[: array.size])
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_memory_in_reference_cycles_is_collected_before_giving_up(path: pathlib.Path) -> None:
    gc.disable()
    try:
        with ts.open(path) as ckpt, ckpt.stream(budget="1MiB", chunk="64KiB") as stream:
            for chunk in stream:
                knot: list[Any] = [chunk.array]
                knot.append(knot)
    finally:
        gc.enable()


# ---- conversions --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", np.float32])
def test_floats_are_converted_and_integers_left(
    path: pathlib.Path, tensors: dict[str, Any], dtype: Any
) -> None:
    target = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    with ts.open(path) as ckpt, ckpt.stream(budget="1MiB", dtype=dtype) as stream:
        for name, parts in gather(stream).items():
            source = np.asarray(tensors[name]).reshape(-1)
            want = source if source.dtype == np.int64 else source.astype(target)
            assert same(np.concatenate(parts), want), name


def test_raw_delivers_the_bytes_of_the_file(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    with ts.open(path) as ckpt, ckpt.stream(budget="1MiB", dtype="raw") as stream:
        got = {name: b"".join(p.tobytes() for p in parts) for name, parts in _raw(stream)}
    assert got == {name: np.asarray(array).tobytes() for name, array in tensors.items()}


def _raw(stream: Any) -> Any:
    parts: dict[str, list[Any]] = {}
    for chunk in stream:
        assert chunk.dtype == "U8"
        parts.setdefault(chunk.name, []).append(chunk.array.copy())
    return parts.items()


@pytest.mark.parametrize("dtype", ["int8", "float3", "Q4_K", "complex64"])
def test_other_targets_are_refused(path: pathlib.Path, dtype: str) -> None:
    with ts.open(path) as ckpt, pytest.raises(ValueError, match="delivered as"):
        ckpt.stream(dtype=dtype)


# ---- choosing -----------------------------------------------------------------------------


def names_of(ckpt: ts.Checkpoint, **chosen: Any) -> set[str]:
    return set(ckpt.plan(**chosen).names)


def test_filters(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    everything = set(tensors)
    with ts.open(path) as ckpt:
        attention = {name for name in everything if "self_attn" in name}
        assert names_of(ckpt, kinds="attention") == attention
        assert names_of(ckpt, kinds={"attention", "normalization"}) == attention | {
            name for name in everything if "norm" in name
        }
        assert names_of(ckpt, kinds="bias") == {n for n in everything if n.endswith(".bias")}
        assert names_of(ckpt, layers=2) == {n for n in everything if ".2." in n}
        both = {n for n in everything if ".1." in n or ".2." in n}
        assert names_of(ckpt, layers=range(1, 3)) == both
        assert names_of(ckpt, layers=slice(1, 3)) == both
        assert names_of(ckpt, layers={1, 2}) == both
        mlps = {n for n in everything if ".mlp." in n}
        assert names_of(ckpt, include="*.mlp.*") == mlps
        assert names_of(ckpt, exclude=["*.mlp.*", "*.3.*"]) == {
            n for n in everything if ".mlp." not in n and ".3." not in n
        }
        assert names_of(ckpt, regex=r"q_proj\.(weight|bias)$") == attention
        assert names_of(ckpt, where=lambda info: info.dtype == "F16") == {
            n for n, a in tensors.items() if np.asarray(a).dtype == np.float16
        }
        assert ckpt.plan(names=["lm_head.weight", "position_ids"]).names == [
            "lm_head.weight",
            "position_ids",
        ]
        assert names_of(ckpt, include=[]) == set()
        with pytest.raises(ValueError, match="unknown kind 'attn'"):
            ckpt.plan(kinds="attn")
        with pytest.raises(KeyError, match=r"did you mean 'lm_head.weight'"):
            ckpt.plan(names=["lm_head.weigth"])
        with pytest.raises(ValueError, match="order is"):
            ckpt.plan(order="random")


def test_nothing_chosen_is_an_empty_stream(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt, ckpt.stream(include=[]) as stream:
        assert list(stream) == []
        assert stream.progress.fraction == 1.0


# ---- plan, progress, engine ---------------------------------------------------------------


def test_a_plan_says_what_happens_before_a_byte_is_read(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt:
        plan = ckpt.plan(budget="1MiB", chunk="32KiB")
        assert plan.peak_bytes <= plan.budget == MIB
        assert plan.total_bytes == ckpt.nbytes
        assert plan.tensors == len(ckpt) and plan.layers == 4
        with ckpt.stream(budget="1MiB", chunk="32KiB") as stream:
            for _ in stream:
                pass
            assert stream.progress.chunks == plan.chunks
            assert stream.progress.memory_peak <= plan.peak_bytes
        assert ckpt.plan(dtype="float64").delivered_bytes > plan.delivered_bytes
        assert "4 layers" in str(plan)


def test_progress_reaches_every_total(path: pathlib.Path) -> None:
    told: list[ts.Progress] = []
    with ts.open(path) as ckpt, ckpt.stream(budget="1MiB", progress=told.append) as stream:
        for _ in stream:
            pass
        end = stream.progress
    assert told[-1].bytes == told[-1].bytes_total == ckpt_bytes(path)
    assert end.layers == end.layers_total == 4
    assert end.tensors == end.tensors_total
    assert end.parameters == end.parameters_total
    assert end.memory_peak <= MIB and end.rss > 0 and end.rate > 0
    assert [one.bytes for one in told] == sorted(one.bytes for one in told)


def ckpt_bytes(path: pathlib.Path) -> int:
    with ts.open(path) as ckpt:
        return ckpt.nbytes


def test_a_bar_is_drawn(path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    with ts.open(path) as ckpt, ckpt.stream(progress=True) as stream:
        for _ in stream:
            pass
    assert "100%" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress is"):
        ckpt = ts.open(path)
        ckpt.stream(progress="yes")


def test_the_engine_says_which_and_why(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    path.read_bytes()
    with ts.open(path) as ckpt:
        with ckpt.stream() as stream:
            assert "nothing read yet" in stream.engine
            for _ in stream:
                pass
        assert stream.engine == "pread: the files were in the page cache"
        with ckpt.stream(engine="mmap") as stream:
            for _ in stream:
                pass
            assert stream.engine == "mmap: as asked"
    with ts.open({"a": np.arange(3.0)}) as ckpt, ckpt.stream() as stream:
        next(stream)
        assert stream.engine == "memory: the arrays are in memory"


def test_statistics_and_checksums_on_the_way(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    import zlib

    with (
        ts.open(path) as ckpt,
        ckpt.stream(budget="1MiB", stats=True, checksum="crc32", dtype="float32") as stream,
    ):
        for _ in stream:
            pass
        found, sums = stream.statistics, stream.checksums
    for name, array in tensors.items():
        values = np.asarray(array).astype(np.float64)
        assert found[name].count == values.size
        assert found[name].min == values.min() and found[name].max == values.max()
        assert found[name].absmax == np.abs(values).max()
        assert found[name].mean == pytest.approx(values.mean(), rel=1e-6, abs=1e-9)
        assert sums[name] == f"{zlib.crc32(np.asarray(array).tobytes()):08x}"
    with ts.open(path) as ckpt, pytest.raises(ValueError, match="xxh3 needs whole tensors"):
        ckpt.stream(checksum="xxh3")


# ---- stopping and going on -----------------------------------------------------------------


def test_resume_goes_on_at_the_exact_element(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    for stop in (0, 1, 5, 17):
        parts: dict[str, list[Any]] = {}
        with ts.open(path) as ckpt, ckpt.stream(budget="1MiB", chunk="50000") as stream:
            for _, chunk in zip(range(stop), stream, strict=False):
                parts.setdefault(chunk.name, []).append(chunk.array.reshape(-1).copy())
            state = json.loads(json.dumps(stream.state()))
        with ts.open(path) as ckpt, ckpt.stream(budget="2MiB", resume=state) as stream:
            for chunk in stream:
                parts.setdefault(chunk.name, []).append(chunk.array.reshape(-1).copy())
            assert stream.progress.bytes == stream.progress.bytes_total == ckpt.nbytes
            assert stream.progress.tensors == len(tensors)
        for name, array in tensors.items():
            assert same(np.concatenate(parts[name]), np.asarray(array).reshape(-1))


def test_resume_refuses_what_changed(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"a": np.arange(9.0), "b": np.ones(4)})
    with ts.open(path) as ckpt, ckpt.stream() as stream:
        next(stream)
        state = stream.state()
    with ts.open(path) as ckpt:
        with pytest.raises(ValueError, match="another choice"):
            ckpt.stream(resume=state, names=["b"])
        with pytest.raises(ValueError, match="another choice"):
            ckpt.stream(resume=state, dtype="float32")
        with pytest.raises(ValueError, match="version"):
            ckpt.stream(resume={**state, "version": 99})
        with pytest.raises(ValueError, match="tensor 77 of 2"):
            ckpt.stream(resume={**state, "item": 77})
    write_safetensors(path, {"a": np.arange(9.0) + 1, "b": np.ones(4)})
    with ts.open(path) as ckpt, pytest.raises(ts.ChangedError, match="changed since"):
        ckpt.stream(resume=state)


def test_cancel_from_another_thread(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt, ckpt.stream(chunk="4KiB", budget="1MiB") as stream:
        timer = threading.Timer(0.05, stream.cancel)
        timer.start()
        with pytest.raises(ts.CancelledError):
            for _ in stream:
                time.sleep(0.001)
        timer.join()


def uncached(path: pathlib.Path) -> bool:
    """Take the file out of the page cache, where that can be done."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with ts.open(path) as ckpt:
        engines: dict[str, Any] = {}
        with ckpt.stream(budget="64MiB") as stream:
            next(stream)
            engines = stream._run.core.progress()["engines"]
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return set(engines) != {"pread"}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cold_compressed_file_is_read_many_chunks_at_a_time(
    tmp_path: pathlib.Path, threads: int
) -> None:
    values = np.random.default_rng(9).standard_normal((6000, 1000)).astype(np.float16)
    tensors = {"a": values, "b": values[:4567] * 2, "c": np.arange(777, dtype=np.int32)}
    path = ts.save(tmp_path / "m.safetensors", tensors, compression="fast")
    if not uncached(path):
        pytest.skip("this disk keeps its cache")
    with ts.open(path) as ckpt, ckpt.stream(budget="64MiB", threads=threads) as stream:
        for chunk in stream:
            flat = tensors[chunk.name].reshape(-1)[chunk.start : chunk.stop]
            assert np.array_equal(chunk.array.reshape(-1), flat)
        calls = stream._run.core.progress()["read_calls"]
    stored = -(-values.size // 131072) + -(-4567 * 1000 // 131072)
    assert calls < stored / 2, f"{calls} reads for {stored} chunks"


def test_a_closed_stream_tells_how_it_ended(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt, ckpt.stream() as stream:
        next(stream)
    stream.close()
    assert stream.progress.chunks == 1
    assert stream.state()["version"] == 1
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_a_replaced_file_is_noticed(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"a": np.arange(9.0)})
    ckpt = ts.open(path)
    path.unlink()
    write_safetensors(path, {"a": np.arange(9.0)})
    with pytest.raises(ts.ChangedError, match=r"m\.safetensors"):
        ckpt.stream()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("budget", "1023KiB", "at least 1048576"),
        ("budget", -5, "budget"),
        ("budget", "lots", "budget"),
        ("threads", 0, "threads must be at least 1"),
        ("engine", "steam", "unknown engine 'steam'"),
        ("checksum", "md5", "unknown checksum 'md5'"),
    ],
)
def test_options_out_of_range(
    path: pathlib.Path, option: str, value: Any, sentence: str
) -> None:
    with ts.open(path) as ckpt, pytest.raises(ValueError, match=sentence):
        ckpt.stream(**{option: value})


def test_many_threads_share_a_checkpoint(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    failures: list[BaseException] = []

    def run(ckpt: ts.Checkpoint) -> None:
        try:
            for _ in range(3):
                with ckpt.stream(budget="1MiB") as stream:
                    check_all(stream, tensors)
                assert same(ckpt.read("lm_head.weight"), tensors["lm_head.weight"])
        except BaseException as error:
            failures.append(error)

    with ts.open(path) as ckpt:
        threads = [threading.Thread(target=run, args=(ckpt,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_two_streams_of_one_checkpoint_interleave(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    with (
        ts.open(path) as ckpt,
        ckpt.stream(budget="1MiB") as one,
        ckpt.stream(budget="1MiB", order="file") as two,
    ):
        for left, right in zip(one, two, strict=False):
            for chunk in (left, right):
                flat = np.asarray(tensors[chunk.name]).reshape(-1)
                assert same(chunk.array.reshape(-1), flat[chunk.start : chunk.stop])
