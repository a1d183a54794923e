"""The original's names: what its document says, and what it did not do."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from files import write_safetensors

import tensorstream as ts
from tensorstream import _core
from tensorstream.classic import (
    ChunkMetadata,
    LayerFilter,
    MemoryEfficientParameterStreamer,
    StreamingConfig,
    StreamingProgress,
    create_streaming_processor,
    stream_model_efficiently,
    stream_model_with_layer_filtering,
)

MEGA = 1024**2
FIXED = {"adaptive_chunk_sizing": False}


def numbers(count: int, start: int = 0) -> np.ndarray[Any, Any]:
    """Distinct float32 values, so that a lost or repeated element shows."""
    return np.arange(start, start + count, dtype=np.float32)


def tiny_model() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "model.embed_tokens.weight": numbers(3000).reshape(100, 30),
        "model.layers.0.self_attn.q_proj.weight": numbers(900, 10000).reshape(30, 30),
        "model.layers.0.mlp.up_proj.weight": numbers(1800, 20000).reshape(60, 30),
        "model.layers.0.post_attention_layernorm.weight": numbers(30, 30000),
        "model.layers.1.self_attn.q_proj.weight": numbers(900, 40000).reshape(30, 30),
        "model.norm.weight": numbers(30, 50000),
        "lm_head.weight": numbers(3000, 60000).reshape(100, 30),
    }


def collect(deliveries: Any) -> tuple[dict[str, np.ndarray[Any, Any]], list[ChunkMetadata]]:
    """Chunks joined by tensor, after checking that the metadata agrees with them."""
    parts: dict[str, list[np.ndarray[Any, Any]]] = {}
    metadata, seen = [], 0
    for chunk, about, progress in deliveries:
        assert chunk.ndim == 1
        assert about.parameter_count == chunk.size > 0
        assert about.start_index == seen
        assert about.end_index == seen + chunk.size - 1
        assert about.dtype == chunk.dtype.name
        seen += chunk.size
        assert progress.processed_parameters == about.end_index + 1
        before = parts.setdefault(about.layer_name, [])
        assert about.offset == sum(part.size for part in before)
        before.append(chunk.copy())
        metadata.append(about)
    return {name: np.concatenate(part) for name, part in parts.items()}, metadata


# ---- exactly once --------------------------------------------------


def test_every_element_of_every_tensor_comes_once() -> None:
    model = tiny_model()
    got, metadata = collect(stream_model_efficiently(model, chunk_size=256))
    assert list(got) == list(model)
    for name, array in model.items():
        np.testing.assert_array_equal(got[name], array.reshape(-1))
    lasts = [about for about in metadata if about.is_last]
    assert [about.layer_name for about in lasts] == list(model)
    assert metadata[0].shape == (100, 30)
    assert [about.chunk_id for about in metadata] == list(range(len(metadata)))


@pytest.mark.parametrize("size", [1, 7, 255, 256, 1000, 65536, 99999])
def test_a_fixed_chunk_size_is_exact_except_at_the_end_of_a_tensor(size: int) -> None:
    # 300 rows of 768: blocks of 256 KiB end on rows, chunks must not.
    model = {"a": numbers(300 * 768).reshape(300, 768), "b": numbers(5, 10**6)}
    if size < 100:
        model["a"] = model["a"][:3]
    config = StreamingConfig(chunk_size=size, **FIXED)
    streamer = MemoryEfficientParameterStreamer(config)
    got, metadata = collect(streamer.stream_model_parameters(model))
    for name, array in model.items():
        np.testing.assert_array_equal(got[name], array.reshape(-1))
    assert all(about.parameter_count == size or about.is_last for about in metadata)
    assert all(about.parameter_count <= size for about in metadata)


def test_no_element_is_lost_while_memory_goes_up_and_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The original changed the step of its slices but not of its loop.

    With memory high it dropped 74.8 % of one tensor, with memory low it delivered elements
    again and again.  Here the size goes up and down many times in one tensor.
    """
    count = 1_000_000
    model = {"embeddings.word_embeddings.weight": numbers(count).reshape(1000, 1000)}
    used = 300  # MB of 1024: low
    monkeypatch.setattr(_core, "resident", lambda: (used * MEGA, used * MEGA))
    streamer = MemoryEfficientParameterStreamer(StreamingConfig(chunk_size=1024))
    seen, sizes = np.zeros(count, np.uint8), []
    for chunk, about, _ in streamer.stream_model_parameters(model):
        seen[chunk.astype(np.int64)] += 1
        sizes.append(about.chunk_size)
        if about.chunk_id % 40 == 0:
            used = 980 if used == 300 else 300
        streamer._next_sample = 0.0  # look at every block
    np.testing.assert_array_equal(seen, 1)
    changes = np.sign(np.diff(sizes))
    assert (changes > 0).any() and (changes < 0).any(), "the size went both ways"
    assert min(sizes) == 256 and max(sizes) <= 8192


@pytest.mark.parametrize(
    ("size", "pressure", "expected"),
    [
        (1024, 0.95, 819),
        (1024, 0.91, 819),
        (300, 0.95, 256),
        (256, 2.0, 256),
        (1024, 0.9, 1024),
        (1024, 0.5, 1024),
        (1024, 0.7, 1024),
        (1024, 0.3, 1228),
        (8000, 0.1, 8192),
        (8192, 0.1, 8192),
        (1024, 0.0, 1024),  # unknown
    ],
)
def test_the_rule_of_the_chunk_size(size: int, pressure: float, expected: int) -> None:
    assert _core.classic_size(size, pressure, 256, 8192) == expected


def test_under_pressure_chunks_shrink_to_the_least_and_stay_there() -> None:
    config = StreamingConfig(chunk_size=4096, max_memory_mb=1)  # any process is above that
    config.max_chunk_size = 4096
    streamer = MemoryEfficientParameterStreamer(config)
    got, metadata = collect(streamer.stream_model_parameters({"w": numbers(200_000)}))
    np.testing.assert_array_equal(got["w"], numbers(200_000))
    assert metadata[0].chunk_size == 4096
    assert metadata[-1].chunk_size == streamer.chunk_size == 256


def test_a_chunk_size_outside_the_bounds_moves_the_bound() -> None:
    assert StreamingConfig(chunk_size=50).bounds() == (50, 8192)
    assert StreamingConfig(chunk_size=10_000).bounds() == (256, 10_000)
    assert StreamingConfig(chunk_size=10_000, **FIXED).bounds() == (10_000, 10_000)


# ---- dtypes --------------------------------------------------


def test_floats_come_as_float32_and_integers_keep_their_value() -> None:
    model = {
        "half": np.array([1.5, -2.25], ml_dtypes.bfloat16),
        "double": np.array([0.1, 1e300]),
        "ids": np.array([2**24 + 1, 2**53 + 1]),
        "mask": np.array([True, False]),
    }
    got, _ = collect(stream_model_efficiently(model))
    assert got["half"].dtype == got["double"].dtype == np.float32
    np.testing.assert_array_equal(got["half"], [1.5, -2.25])
    assert got["ids"].dtype == np.int64
    np.testing.assert_array_equal(got["ids"], model["ids"])
    assert got["mask"].dtype == np.bool_


def test_chunks_are_read_only_and_stay_valid_when_kept(tmp_path: pathlib.Path) -> None:
    data = numbers(600_000)
    path = write_safetensors(tmp_path / "m.safetensors", {"w": data.reshape(600, 1000)})
    kept = [chunk for chunk, _, _ in stream_model_efficiently(path, chunk_size=777)]
    np.testing.assert_array_equal(np.concatenate(kept), data)
    assert not any(chunk.flags.writeable for chunk in kept)


def test_what_is_kept_counts_against_the_memory(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"w": numbers(3_000_000)})
    streamer = create_streaming_processor(max_memory_mb=4)
    kept = []
    with pytest.raises(ts.BudgetError, match="w"):
        for chunk, _, _ in streamer.stream_model_parameters(path):
            kept.append(chunk)
    joined = np.concatenate(kept)
    np.testing.assert_array_equal(joined, numbers(joined.size))


# ---- choosing --------------------------------------------------


def test_layer_types_are_true_ones() -> None:
    kind = LayerFilter().classify_layer_type
    assert kind("embeddings.word_embeddings.weight") == "embedding"
    assert kind("model.layers.0.post_attention_layernorm.weight") == "normalization"
    assert kind("model.layers.0.self_attn.q_proj.weight") == "attention"
    assert kind("transformer.h.0.mlp.c_fc.weight") == "mlp"
    assert kind("transformer.ln_f.weight") == "normalization"
    assert kind("lm_head.weight") == "output"
    assert kind("some.thing.weight") == "other"


def test_a_kind_means_the_kind_and_other_words_are_parts_of_names() -> None:
    norm = "model.layers.0.post_attention_layernorm.weight"
    query = "model.layers.0.self_attn.q_proj.weight"
    assert not LayerFilter(["attention"]).should_include_layer(norm)
    assert LayerFilter(["Attention"]).should_include_layer(query)
    assert LayerFilter(["Q_PROJ"]).should_include_layer(query)
    assert not LayerFilter(exclude_layers=["layers.0"]).should_include_layer(query)
    assert LayerFilter(["bias"]).should_include_layer("model.layers.0.mlp.up_proj.bias")
    assert LayerFilter("mlp").target_layers == ["mlp"]


def test_a_function_decides_first_then_exclusions_then_targets() -> None:
    query = "model.layers.0.self_attn.q_proj.weight"
    assert LayerFilter(["mlp"], None, lambda name: True).should_include_layer(query)
    assert not LayerFilter(["attention"], None, lambda n: False).should_include_layer(query)
    assert LayerFilter(["attention"], None, lambda n: None).should_include_layer(query)
    assert not LayerFilter(["attention"], ["q_proj"]).should_include_layer(query)
    assert LayerFilter([]).should_include_layer(query)


def test_layer_statistics_count_kinds() -> None:
    names = [*tiny_model()]
    assert LayerFilter().get_layer_statistics(names) == {
        "embedding": 1, "attention": 2, "mlp": 1, "normalization": 2, "output": 1,
    }  # fmt: skip


def test_filters_that_are_set_after_construction_count() -> None:
    streamer = MemoryEfficientParameterStreamer()
    streamer.config.target_layers = ["attention", "mlp"]
    streamer.config.exclude_layers = ["layers.1"]
    got, metadata = collect(streamer.stream_model_parameters(tiny_model()))
    assert [*got] == [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
    ]
    assert {about.layer_type for about in metadata} == {"attention", "mlp"}


def test_a_filter_function_is_asked() -> None:
    streamer = MemoryEfficientParameterStreamer()
    stream = streamer.stream_model_parameters(
        tiny_model(), layer_filter_func=lambda name: "norm" in name
    )
    got, _ = collect(stream)
    assert [*got] == [name for name in tiny_model() if "norm" in name]


def test_filtering_statistics_have_the_documented_keys() -> None:
    streamer = create_streaming_processor(target_layers=["attention"])
    assert streamer.get_layer_filtering_statistics(tiny_model()) == {
        "total_layers": 7,
        "filtered_layers": 2,
        "filter_ratio": 2 / 7,
        "all_layer_types": {
            "embedding": 1, "attention": 2, "mlp": 1, "normalization": 2, "output": 1,
        },
        "filtered_layer_types": {"attention": 2},
        "target_layers": ["attention"],
        "exclude_layers": None,
    }  # fmt: skip
    assert "no-such-file" in streamer.get_layer_filtering_statistics("no-such-file")["error"]


@pytest.mark.parametrize("limit", [0, 1, 1000, 3000, 3001, 4321, 10**9])
def test_max_total_params_cuts_the_last_chunk(limit: int) -> None:
    everything = np.concatenate([array.reshape(-1) for array in tiny_model().values()])
    streamer = MemoryEfficientParameterStreamer(StreamingConfig(chunk_size=256))
    stream = streamer.stream_model_parameters(tiny_model(), limit)
    got = [chunk.copy() for chunk, _, _ in stream]
    np.testing.assert_array_equal(np.concatenate([[], *got]), everything[:limit])
    stats = streamer.get_streaming_statistics()
    assert stats["processed_parameters"] == stats["total_parameters"] == min(limit, 9660)


def test_stream_model_with_layer_filtering() -> None:
    got, _ = collect(
        stream_model_with_layer_filtering(
            tiny_model(), ["normalization"], 256, 40, enable_chunk_encoding=False
        )
    )
    assert [(name, array.size) for name, array in got.items()] == [
        ("model.layers.0.post_attention_layernorm.weight", 30),
        ("model.norm.weight", 10),
    ]


# ---- sources --------------------------------------------------


def test_of_a_live_module_the_trained_parameters_come() -> None:
    torch = oracle("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    model[0].bias.requires_grad = False
    streamer = MemoryEfficientParameterStreamer()
    got, _ = collect(streamer.stream_model_parameters(model))
    assert [*got] == ["0.weight", "1.weight", "1.bias"]
    np.testing.assert_array_equal(got["0.weight"], model[0].weight.detach().numpy().ravel())
    assert streamer.estimate_model_size(model) == 12 + 4 + 4
    assert streamer.current_progress is not None
    assert streamer.current_progress.model_name == "Sequential"
    # The same through an opened checkpoint, which stays open.
    with ts.open(model) as checkpoint:
        assert [*collect(streamer.stream_model_parameters(checkpoint))[0]] == [*got]
        assert len(checkpoint) == 7


def test_tied_tensors_come_once() -> None:
    shared = numbers(6)
    got, _ = collect(stream_model_efficiently({"wte": shared, "lm_head": shared}))
    assert [*got] == ["wte"]


def test_the_size_of_a_model_is_exact(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", tiny_model())
    streamer = MemoryEfficientParameterStreamer()
    assert streamer.estimate_model_size(path) == 9660
    with pytest.raises(FileNotFoundError):
        streamer.estimate_model_size(tmp_path / "none.safetensors")


def test_quantised_blocks_are_cut_anywhere(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    rng = np.random.default_rng(7)
    values = rng.standard_normal((8, 256)).astype(np.float32)
    packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("blk.0.attn_q.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = gguf.quants.dequantize(packed, kind).reshape(-1)
    streamer = MemoryEfficientParameterStreamer(StreamingConfig(chunk_size=100, **FIXED))
    taken = []
    for chunk, about, _ in streamer.stream_model_parameters(path, 1234):
        taken.append(chunk.copy())
        if about.chunk_id == 6:
            break
    saved = streamer.create_progress_checkpoint()
    assert saved["element"] == 700
    for chunk, about, _ in streamer.resume_from_checkpoint(saved):
        assert about.offset == sum(part.size for part in taken)
        taken.append(chunk.copy())
    np.testing.assert_array_equal(np.concatenate(taken), expected[:1234])


def test_empty_tensors_and_scalars() -> None:
    model = {"none": numbers(0), "one": np.float32(5), "zero": np.zeros((3, 0), np.float32)}
    got, metadata = collect(stream_model_efficiently(model))
    assert [*got] == ["one"] and metadata[0].shape == ()
    assert [*stream_model_efficiently({})] == []


# ---- progress and statistics --------------------------------------------------


def test_statistics_have_exactly_the_documented_keys() -> None:
    streamer = MemoryEfficientParameterStreamer(StreamingConfig(chunk_size=300, **FIXED))
    assert streamer.get_streaming_statistics() == {"status": "not_started"}
    assert streamer.current_progress is None
    stream = streamer.stream_model_parameters(tiny_model())
    for _, _, progress in stream:
        if progress.chunks_encoded == 5:
            break
    stats = streamer.get_streaming_statistics()
    assert list(stats) == [
        "model_name", "progress_percent", "processed_parameters", "total_parameters",
        "chunks_encoded", "processing_rate", "elapsed_time", "estimated_completion_time",
        "memory_usage_mb", "current_layer", "chunk_size", "adaptive_sizing_enabled",
        "parallel_processing", "chunk_encoding_enabled",
    ]  # fmt: skip
    assert stats["processed_parameters"] == 1500
    assert stats["total_parameters"] == 9660
    assert stats["progress_percent"] == pytest.approx(100 * 1500 / 9660)
    assert stats["current_layer"] == "model.embed_tokens.weight"
    assert stats["memory_usage_mb"] > 1
    assert stats["chunk_size"] == 300
    stream.close()
    assert streamer.get_streaming_statistics()["processed_parameters"] == 1500


def test_progress_is_one_object_and_reaches_a_hundred() -> None:
    seen, percents = set(), []
    for _, _, progress in stream_model_efficiently(tiny_model(), chunk_size=256):
        seen.add(id(progress))
        percents.append(progress.progress_percent)
    assert len(seen) == 1
    assert percents == sorted(percents) and percents[-1] == 100.0


def test_progress_by_hand() -> None:
    progress = StreamingProgress("m", total_parameters=1000, processed_parameters=250)
    assert progress.progress_percent == 25.0
    progress.start_time -= 2
    progress.update_rate()
    assert 100 < progress.processing_rate < 130
    assert 5.5 < progress.estimated_completion_time < 6.5
    progress.update_memory_usage()
    assert progress.memory_usage_mb > 1
    assert StreamingProgress("m").progress_percent == 0.0


def test_progress_is_logged_at_intervals(caplog: pytest.LogCaptureFixture) -> None:
    config = StreamingConfig(chunk_size=256, progress_interval=3000, **FIXED)
    with caplog.at_level(logging.INFO, "tensorstream"):
        collect(MemoryEfficientParameterStreamer(config).stream_model_parameters(tiny_model()))
        lines = len(caplog.records)
        config.enable_progress = False
        collect(MemoryEfficientParameterStreamer(config).stream_model_parameters(tiny_model()))
    assert lines == len(caplog.records) == 3
    assert "of 9660 parameters" in caplog.text


def test_the_memory_monitor_knows_the_peak_afterwards() -> None:
    streamer = MemoryEfficientParameterStreamer()
    collect(streamer.stream_model_parameters(tiny_model()))
    assert not streamer.memory_monitor.running
    assert streamer.memory_monitor.get_peak_memory() > 1


# ---- parallel --------------------------------------------------


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_parallel_reading_uses_threads_and_keeps_the_order(tmp_path: pathlib.Path) -> None:
    arrays = {f"layers.{i}.w": numbers(200_000, i * 1000).reshape(200, 1000) for i in range(8)}
    path = write_safetensors(tmp_path / "m.safetensors", arrays)
    orders, most = [], []
    for parallel in (False, True):
        config = StreamingConfig(
            parallel_processing=parallel, max_workers=4, enable_memory_monitoring=False
        )
        streamer = MemoryEfficientParameterStreamer(config)
        before, count = threads(), 0
        got: dict[str, list[Any]] = {}
        for chunk, about, _ in streamer.stream_model_parameters(path):
            got.setdefault(about.layer_name, []).append(chunk.copy())
            if about.chunk_id % 50 == 0:
                count = max(count, threads() - before)
        for name, array in arrays.items():
            np.testing.assert_array_equal(np.concatenate(got[name]), array.reshape(-1))
        orders.append([*got])
        most.append(count)
    assert orders[0] == orders[1] == [*arrays]
    assert most == [0, 3], "nobody beside the caller, and three"
    assert threads() == before, "nobody is left behind"


# ---- going on --------------------------------------------------


@pytest.mark.parametrize("after", [1, 5, 12, 20])
def test_resuming_goes_on_at_the_exact_element(after: int, tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", tiny_model())
    streamer = create_streaming_processor(chunk_size=301, adaptive_chunk_sizing=False)
    taken = []
    for chunk, _, progress in streamer.stream_model_parameters(path, 9000):
        taken.append(chunk.copy())
        if progress.chunks_encoded == after:
            break
    saved = json.loads(json.dumps(streamer.create_progress_checkpoint()))
    assert saved["processed_parameters"] == sum(part.size for part in taken)
    other = MemoryEfficientParameterStreamer(StreamingConfig(**FIXED))
    for chunk, about, progress in other.resume_from_checkpoint(saved):
        assert about.start_index == sum(part.size for part in taken)
        assert about.chunk_id == progress.chunks_encoded - 1 == len(taken)
        taken.append(chunk.copy())
    with ts.open(path) as checkpoint:
        everything = np.concatenate(
            [checkpoint.read(name).reshape(-1) for name in dict.fromkeys(_order(path))]
        )
    np.testing.assert_array_equal(np.concatenate(taken), everything[:9000])
    assert other.config.chunk_size == 301
    assert other.get_streaming_statistics()["progress_percent"] == 100.0


def _order(path: pathlib.Path) -> list[str]:
    return [about.layer_name for _, about, _ in stream_model_efficiently(path)]


def test_a_checkpoint_has_the_originals_keys_and_is_json() -> None:
    streamer = create_streaming_processor(target_layers=["mlp"])
    with pytest.raises(RuntimeError, match="no stream was started"):
        streamer.create_progress_checkpoint()
    collect(streamer.stream_model_parameters(tiny_model()))
    saved = streamer.create_progress_checkpoint()
    json.dumps(saved)
    for key in ("model_name", "processed_parameters", "total_parameters", "chunks_encoded",
                "current_layer", "timestamp"):  # fmt: skip
        assert key in saved
    assert saved["config"] == {
        "chunk_size": streamer.chunk_size,
        "target_layers": ["mlp"],
        "exclude_layers": None,
        "enable_chunk_encoding": False,
    }
    assert [*streamer.resume_from_checkpoint(saved, tiny_model())] == []
    with pytest.raises(ValueError, match="say again which model"):
        streamer.resume_from_checkpoint(saved)
    with pytest.raises(ValueError, match="no progress checkpoint of version 1"):
        streamer.resume_from_checkpoint({})
    del saved["stream"]
    with pytest.raises(ValueError, match="'stream'"):
        streamer.resume_from_checkpoint(saved, tiny_model())


def test_a_checkpoint_of_other_layers_or_changed_files_is_refused(
    tmp_path: pathlib.Path,
) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", tiny_model())
    streamer = create_streaming_processor()
    stream = streamer.stream_model_parameters(path)
    next(stream)
    saved = streamer.create_progress_checkpoint()
    stream.close()
    streamer.config.target_layers = ["mlp"]
    with pytest.raises(ValueError, match="another choice"):
        next(streamer.stream_model_parameters(path, resume=saved))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ts.ChangedError):
        next(streamer.resume_from_checkpoint(saved))


FIRST = """
import json, os, sys
from tensorstream import MemoryEfficientParameterStreamer as Streamer, StreamingConfig
streamer = Streamer(StreamingConfig(chunk_size=700))
total = 0.0
for chunk, about, progress in streamer.stream_model_parameters(sys.argv[1]):
    total += float(chunk.sum(dtype="f8"))
    if progress.chunks_encoded == 6:
        saved = streamer.create_progress_checkpoint()
        print(json.dumps([total, progress.processed_parameters, saved]), flush=True)
        os.abort()
"""

SECOND = """
import json, sys
from tensorstream import MemoryEfficientParameterStreamer as Streamer
saved = json.load(sys.stdin)
total, count = 0.0, 0
for chunk, about, progress in Streamer().resume_from_checkpoint(saved):
    total += float(chunk.sum(dtype="f8"))
    count += chunk.size
print(json.dumps([total, count]))
"""


def test_another_process_goes_on_after_a_crash(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", tiny_model())
    first = subprocess.run(
        [sys.executable, "-c", FIRST, str(path)], capture_output=True, text=True, timeout=60
    )
    assert first.returncode == -6, first.stderr
    head, behind, saved = json.loads(first.stdout)
    second = subprocess.run(
        [sys.executable, "-c", SECOND],
        input=json.dumps(saved), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    tail, rest = json.loads(second.stdout)
    assert behind + rest == 9660 and 0 < rest < 9660
    everything = sum(float(array.sum(dtype="f8")) for array in tiny_model().values())
    assert head + tail == everything


# ---- errors --------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("chunk_size", 0, ValueError),
        ("chunk_size", 1.5, TypeError),
        ("chunk_size", True, TypeError),
        ("chunk_size", 10**9, ValueError),
        ("max_memory_mb", 0.5, ValueError),
        ("max_memory_mb", float("nan"), ValueError),
        ("max_memory_mb", "1GB", TypeError),
        ("min_chunk_size", 9000, ValueError),
        ("max_workers", 0, ValueError),
        ("max_workers", 65, ValueError),
        ("progress_interval", -1, ValueError),
        ("target_layers", 7, TypeError),
        ("exclude_layers", [b"x"], TypeError),
        ("chunk_frame_rate", 0, ValueError),
        ("max_chunks_per_video", 0, ValueError),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=field.replace("chunk_size", "chunk")):
        StreamingConfig(**{field: value})
    config = StreamingConfig()
    setattr(config, field, value)
    streamer = MemoryEfficientParameterStreamer(config)
    with pytest.raises(error):
        streamer.stream_model_parameters({})


def test_defaults_are_the_documented_ones() -> None:
    config = StreamingConfig()
    assert (config.chunk_size, config.max_memory_mb, config.progress_interval) == (
        1024, 1024.0, 1000,
    )  # fmt: skip
    assert (config.min_chunk_size, config.max_chunk_size) == (256, 8192)
    assert config.enable_progress and config.enable_memory_monitoring
    assert config.adaptive_chunk_sizing and not config.parallel_processing
    assert config.max_workers == 2 and config.max_chunks_per_video == 1000
    assert config.chunk_video_storage_dir == "chunk_videos"
    assert (config.chunk_frame_rate, config.chunk_video_codec) == (30.0, "ffv1")


def test_without_encoding_there_is_nothing_to_retry() -> None:
    streamer = MemoryEfficientParameterStreamer()
    assert streamer.retry_failed_chunk_encoding() == {"error": "Chunk encoding not enabled"}
    assert streamer.chunk_encoder is None


def test_errors_keep_their_type(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    streamer = MemoryEfficientParameterStreamer()
    with pytest.raises(ts.FormatError):
        next(streamer.stream_model_parameters(tmp_path / "bad.safetensors"))
    with pytest.raises(FileNotFoundError):
        next(streamer.stream_model_parameters(tmp_path / "none.safetensors"))


@pytest.mark.parametrize(
    ("error", "helped", "action"),
    [
        (MemoryError("out of memory"), True, "Reduced the chunk size from 1024 to 512"),
        (FileNotFoundError("model not found"), False, "Check the path"),
        (TimeoutError("timeout"), False, "Check the connection"),
        (RuntimeError("cannot encode"), False, "nothing to retry"),
        (ts.ChangedError("changed"), False, "start again"),
        (RuntimeError("?"), False, "nothing else is known"),
    ],
)
def test_recovery_says_what_it_did(error: Exception, helped: bool, action: str) -> None:
    streamer = MemoryEfficientParameterStreamer()
    told = streamer.recover_from_streaming_error(error)
    assert list(told) == [
        "error_type", "error_message", "recovery_actions", "recovery_successful",
    ]  # fmt: skip
    assert told["error_type"] == type(error).__name__
    assert told["recovery_successful"] is helped
    assert any(action in one for one in told["recovery_actions"])


def test_leaving_the_block_stops_the_stream() -> None:
    with MemoryEfficientParameterStreamer() as streamer:
        stream = streamer.stream_model_parameters({"w": numbers(10**6)})
        next(stream)
        assert "0.1 % done" in repr(streamer)
    assert not streamer.memory_monitor.running
    with pytest.raises(ValueError, match="closed"):
        list(stream)


def test_the_names_are_at_hand_without_being_imported_early() -> None:
    code = (
        "import sys, tensorstream as ts; assert 'tensorstream.classic' not in sys.modules\n"
        "ts.StreamingConfig; assert 'tensorstream.classic' in sys.modules\n"
        "assert 'LayerFilter' in dir(ts); assert not hasattr(ts, 'nonsense')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
