"""Chunks as frames of videos: what comes back, what the figures say, what happens on errors."""

from __future__ import annotations

import errno
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import oracle

import tensorstream as ts
from tensorstream import hilbert
from tensorstream.chunkvideo import ChunkRefused, ChunkVideoEncoder
from tensorstream.classic import (
    ChunkMetadata,
    MemoryEfficientParameterStreamer,
    StreamingConfig,
    create_streaming_processor,
    stream_model_efficiently,
    stream_model_with_layer_filtering,
)

Arrays = dict[str, np.ndarray[Any, Any]]
RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def pyav() -> None:
    oracle("av")


def model() -> Arrays:
    return {
        "model.embed_tokens.weight": RNG.standard_normal((100, 30), np.float32),
        "model.layers.0.self_attn.q_proj.weight": RNG.standard_normal((50, 50), np.float32),
        "model.layers.0.mlp.up_proj.weight": RNG.standard_normal((60, 30)).astype(np.float16),
        "model.position_ids": np.arange(900),
        "lm_head.weight": RNG.standard_normal((100, 30), np.float32),
    }


def config(folder: pathlib.Path, **changes: Any) -> StreamingConfig:
    fields: dict[str, Any] = {
        "chunk_size": 1000, "adaptive_chunk_sizing": False, "enable_chunk_encoding": True,
        "chunk_video_storage_dir": str(folder / "videos"),
    }  # fmt: skip
    return StreamingConfig(**(fields | changes))


def metadata(number: int, size: int, name: str = "w", **changes: Any) -> ChunkMetadata:
    fields: dict[str, Any] = {"shape": (10**6,), "offset": number * size}
    return ChunkMetadata(number, name, "mlp", size, size, 0, 0, 0.0, 0.0, **(fields | changes))


def videos(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files of the folder, of which there are none but whole videos."""
    found = sorted(folder.iterdir()) if folder.exists() else []
    assert all(path.suffix == ".mkv" and path.name.startswith("chunks-") for path in found)
    return found


def decoded(folder: pathlib.Path) -> Arrays:
    """Tensors again, out of the frames; each element was in exactly one of them."""
    flat: Arrays = {}
    counts: Arrays = {}
    for path in videos(folder):
        for frame in hilbert.load_chunks(path):
            size = int(np.prod(frame.tensor_shape))
            into = flat.setdefault(frame.name, np.zeros(size, np.float32))
            count = counts.setdefault(frame.name, np.zeros(size, int))
            place = slice(frame.offset, frame.offset + frame.image.count)
            into[place] = frame.image.decode()
            count[place] += 1
            flat[frame.name] = into
    assert all((count == 1).all() for count in counts.values())
    return flat


def refuse_writing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[str]:
    """The disk is full for so many videos; returns the names of all that were tried."""
    tried: list[str] = []
    write = hilbert.save_frames

    def save(path: pathlib.Path, frames: Any, **options: Any) -> None:
        tried.append(path.name)
        if len(tried) <= times:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, frames, **options)

    monkeypatch.setattr(hilbert, "save_frames", save)
    return tried


# -- there and back ------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["ffv1", "rawvideo"])
@pytest.mark.parametrize("most", [1, 3, 1000])
def test_decoding_the_videos_gives_what_was_encoded(
    tmp_path: pathlib.Path, codec: str, most: int
) -> None:
    source = model()
    asked = config(tmp_path, chunk_video_codec=codec, max_chunks_per_video=most)
    with MemoryEfficientParameterStreamer(asked) as streamer:
        told = [
            (chunk.copy(), about)
            for chunk, about, _ in streamer.stream_model_parameters(source)
        ]
    images = {}
    for path in videos(tmp_path / "videos"):
        frames = hilbert.load_chunks(path)
        assert len(frames) <= most
        for number, frame in enumerate(frames):
            images[str(path), number] = frame
    encoded = 0
    for chunk, about in told:
        if about.layer_name == "model.position_ids":
            assert about.video_path is None and about.frame_index is None
            continue
        assert about.video_path is not None and about.frame_index is not None
        frame = images[about.video_path, about.frame_index]
        want = hilbert.encode(chunk)
        assert np.array_equal(frame.image.pixels, want.pixels)
        assert np.array_equal(frame.image.decode(), want.decode())
        assert (frame.name, frame.offset) == (about.layer_name, about.offset)
        assert about.compression_quality == want.error(chunk).cosine > 0.999
        assert np.array_equal(about.hierarchical_indices, np.concatenate(hilbert.means(chunk)))
        encoded += 1
    assert encoded == len(images) == 3 + 3 + 2 + 3
    back = decoded(tmp_path / "videos")
    assert set(back) == set(source) - {"model.position_ids"}
    for name, values in back.items():
        want_flat = source[name].reshape(-1).astype(np.float32)
        assert np.abs(values - want_flat).max() < 0.02 * np.abs(want_flat).max()


def test_the_figures_are_true(tmp_path: pathlib.Path) -> None:
    source = model()
    streamer = MemoryEfficientParameterStreamer(config(tmp_path, max_chunks_per_video=4))
    assert "chunk_encoding_stats" not in streamer.get_streaming_statistics()
    for _, _, progress in streamer.stream_model_parameters(source):
        assert 0 <= progress.encoding_time < 60
    found = streamer.get_streaming_statistics()
    stats = found["chunk_encoding_stats"]
    floats = [array for array in source.values() if array.dtype.kind == "f"]
    written = videos(tmp_path / "videos")
    assert len(written) == 3  # 11 chunks, 4 a video
    assert stats == {
        "total_chunks_encoded": 11, "failed_chunks": 0, "pending_chunks": 0,
        "skipped_chunks": 1, "success_rate": 1.0,
        "bytes_in": 4 * sum(array.size for array in floats),  # they come as float32
        "bytes_out": sum(path.stat().st_size for path in written),
        "compression_ratio": stats["bytes_out"] / stats["bytes_in"],
        "bytes_per_second": stats["bytes_per_second"],
        "storage_directory": str(tmp_path / "videos"), "video_codec": "ffv1",
        "frame_rate": 30.0, "max_chunks_per_video": 4,
    }  # fmt: skip
    assert 0.25 < stats["compression_ratio"] < 0.6 and stats["bytes_per_second"] > 0
    assert found["chunk_encoding_success_rate"] == 1.0 and found["failed_chunk_count"] == 0
    assert streamer.current_progress is not None
    assert streamer.current_progress.encoding_time > 0
    assert streamer.retry_failed_chunk_encoding() == {
        "retried_chunks": 0, "successful_retries": 0, "remaining_failures": 0,
    }  # fmt: skip


def test_a_second_stream_adds_videos_and_replaces_none(tmp_path: pathlib.Path) -> None:
    source = {"w": model()["lm_head.weight"]}
    for count in (1, 2):
        streamer = MemoryEfficientParameterStreamer(config(tmp_path))
        list(streamer.stream_model_parameters(source))
        assert len(videos(tmp_path / "videos")) == count
    list(streamer.stream_model_parameters(source))
    assert len(videos(tmp_path / "videos")) == 3
    stats = streamer.get_streaming_statistics()["chunk_encoding_stats"]
    assert stats["total_chunks_encoded"] == 6  # of both streams of this streamer


def test_the_frame_rate_is_that_of_the_video(tmp_path: pathlib.Path) -> None:
    import av

    source = {"w": model()["lm_head.weight"]}
    streamer = MemoryEfficientParameterStreamer(config(tmp_path, chunk_frame_rate=12.5))
    list(streamer.stream_model_parameters(source))
    with av.open(str(videos(tmp_path / "videos")[0])) as file:
        assert float(file.streams.video[0].average_rate) == 12.5
        assert file.streams.video[0].codec_context.name == "ffv1"


def test_the_short_ways_encode_too(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(stream_model_with_layer_filtering(model(), ["attention"]))
    assert {
        frame.name for frame in hilbert.load_chunks(videos(tmp_path / "chunk_videos")[0])
    } == {"model.layers.0.self_attn.q_proj.weight"}
    list(stream_model_efficiently(model(), enable_chunk_encoding=True))
    assert len(videos(tmp_path / "chunk_videos")) == 2
    streamer = create_streaming_processor(
        enable_chunk_encoding=True, chunk_video_storage_dir=str(tmp_path / "here")
    )
    list(streamer.stream_model_parameters(model()))
    assert len(videos(tmp_path / "here")) == 1


def test_a_pause_is_no_time_of_encoding(tmp_path: pathlib.Path) -> None:
    encoder = ChunkVideoEncoder(tmp_path / "videos")
    for number in range(2):
        encoder.encode_chunk(np.ones(16, np.float32), metadata(number, 16))
        encoder.flush()
        time.sleep(0.5)
    assert 0 < encoder.statistics.seconds < 0.5
    assert encoder.statistics.rate == encoder.statistics.bytes_in / encoder.statistics.seconds


# -- bounds --------------------------------------------------------------------------------


def test_a_video_is_closed_before_it_fills_its_part_of_the_memory(
    tmp_path: pathlib.Path,
) -> None:
    source = {"w": RNG.standard_normal((400, 512), np.float32)}
    asked = config(tmp_path, chunk_size=4096, max_memory_mb=2.0)
    list(MemoryEfficientParameterStreamer(asked).stream_model_parameters(source))
    counts = [len(hilbert.load_chunks(path)) for path in videos(tmp_path / "videos")]
    assert counts == [32, 18]  # of 4 KiB each, 128 KiB in all
    with pytest.raises(ValueError, match="a 16th of it"):
        config(tmp_path, chunk_size=40_000, max_memory_mb=2.0)
    with pytest.raises(ValueError, match="at least 2, not 1"):
        config(tmp_path, max_memory_mb=1.0)


def test_the_giver_waits_and_nothing_is_dropped(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    write = hilbert.save_frames

    def slow(*arguments: Any, **options: Any) -> None:
        may_write.wait(20)
        write(*arguments, **options)

    monkeypatch.setattr(hilbert, "save_frames", slow)
    encoder = ChunkVideoEncoder(tmp_path / "videos", max_chunks_per_video=2)
    given: list[int] = []

    def give() -> None:
        for number in range(20):
            encoder.encode_chunk(np.full(16, number, np.float32), metadata(number, 16))
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    time.sleep(0.2)
    # One video is being written, one waits, and a third is full and finds no room.
    assert giver.is_alive() and len(given) == 5
    assert encoder.get_encoding_statistics()["pending_chunks"] == 6
    may_write.set()
    giver.join()
    encoder.flush()
    frames = [
        frame for path in videos(tmp_path / "videos") for frame in hilbert.load_chunks(path)
    ]
    assert [frame.offset for frame in frames] == [16 * number for number in range(20)]
    assert encoder.statistics.chunks == 20
    assert not any(one.name == "tensorstream-video" for one in threading.enumerate())


# -- errors --------------------------------------------------------------------------------


def test_a_nan_is_told_once_at_the_end_and_all_values_come(tmp_path: pathlib.Path) -> None:
    source = model()
    source["lm_head.weight"][40, 7] = np.nan  # element 1207: of the second chunk
    streamer = MemoryEfficientParameterStreamer(config(tmp_path))
    taken: list[ChunkMetadata] = []
    with pytest.raises(ChunkRefused, match="NaN") as caught:
        taken += [about for _, about, _ in streamer.stream_model_parameters(source)]
        raise AssertionError("the stream ended without a word")
    assert "'lm_head.weight', elements 1000 to 1999" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    streamer.close()  # it was told
    assert streamer.current_progress is not None
    assert streamer.current_progress.progress_percent == 100
    found = streamer.get_streaming_statistics()
    assert found["failed_chunk_count"] == 1
    assert found["chunk_encoding_stats"]["total_chunks_encoded"] == 10
    assert found["chunk_encoding_success_rate"] == pytest.approx(10 / 11)
    # The values would be refused again: retrying ends, and says so.
    assert streamer.retry_failed_chunk_encoding() == {
        "retried_chunks": 0, "successful_retries": 0, "remaining_failures": 1,
    }  # fmt: skip
    encoder = streamer.chunk_encoder
    assert encoder is not None
    assert [(one.name, one.offset) for one in encoder.failures] == [("lm_head.weight", 1000)]
    assert encoder.cleanup_failed_chunks() == 1 and encoder.failures == []


def test_a_full_disk_is_told_once_and_retrying_mends_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = model()
    tried = refuse_writing(monkeypatch, times=1)
    streamer = MemoryEfficientParameterStreamer(config(tmp_path, max_chunks_per_video=2))
    deliveries = streamer.stream_model_parameters(source)
    with pytest.raises(OSError, match="No space left") as caught:
        list(deliveries)
    assert any("'model.embed_tokens.weight'" in note for note in caught.value.__notes__)
    streamer.close()  # it was told
    assert streamer.get_streaming_statistics()["failed_chunk_count"] == 2
    assert {one.offset for one in streamer.chunk_encoder.failures} == {0, 1000}
    told = streamer.recover_from_streaming_error(caught.value)
    assert told["recovery_successful"] and "Wrote 2 of 2" in told["recovery_actions"][0]
    rest = list(streamer.resume_from_checkpoint(streamer.create_progress_checkpoint(), source))
    assert rest
    assert sorted(tried)[:2] == [tried[0]] * 2  # the same name, with which it was told of
    stats = streamer.get_streaming_statistics()["chunk_encoding_stats"]
    assert stats["total_chunks_encoded"] == 11 and stats["failed_chunks"] == 0
    back = decoded(tmp_path / "videos")
    assert set(back) == set(source) - {"model.position_ids"}


def test_retrying_what_never_works_ends(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_writing(monkeypatch, times=10**9)
    encoder = ChunkVideoEncoder(tmp_path / "videos")
    for number in range(3):
        encoder.encode_chunk(np.ones(16, np.float32), metadata(number, 16))
    with pytest.raises(OSError, match="No space left"):
        encoder.flush()
    for _ in range(2):
        assert encoder.retry_failed_chunks() == {
            "retried_chunks": 3, "successful_retries": 0, "remaining_failures": 3,
        }  # fmt: skip
        encoder.flush()
    assert encoder.statistics.success_rate == 0 and videos(tmp_path / "videos") == []
    assert encoder.cleanup_failed_chunks() == 3


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    asked = config(tmp_path, chunk_video_storage_dir=str(tmp_path / "file" / "videos"))
    with pytest.raises(OSError, match="file"):
        list(MemoryEfficientParameterStreamer(asked).stream_model_parameters(model()))


def test_an_error_that_nobody_saw_is_told_when_the_streamer_closes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_writing(monkeypatch, times=1)
    streamer = MemoryEfficientParameterStreamer(config(tmp_path))
    deliveries = streamer.stream_model_parameters(model())
    next(deliveries)
    deliveries.close()  # writes what waits, and must not raise
    with pytest.raises(OSError, match="No space left"):
        streamer.close()
    streamer.close()


@pytest.mark.parametrize("kept", ["closed", "dropped"])
def test_stopping_in_the_middle_keeps_what_came(tmp_path: pathlib.Path, kept: str) -> None:
    streamer = MemoryEfficientParameterStreamer(config(tmp_path))
    deliveries = streamer.stream_model_parameters(model())
    first = [next(deliveries)[1] for _ in range(4)]
    if kept == "closed":
        streamer.close()
    else:
        del deliveries
    frames = hilbert.load_chunks(videos(tmp_path / "videos")[0])
    assert [(frame.name, frame.offset) for frame in frames] == [
        (about.layer_name, about.offset) for about in first
    ]


def test_what_a_checkpoint_calls_done_is_in_a_video(tmp_path: pathlib.Path) -> None:
    source = model()
    streamer = MemoryEfficientParameterStreamer(config(tmp_path))
    deliveries = streamer.stream_model_parameters(source)
    for _ in range(5):
        next(deliveries)
    saved = streamer.create_progress_checkpoint()
    assert saved["chunk_encoding_stats"]["total_chunks_encoded"] == 5
    assert saved["config"]["enable_chunk_encoding"]
    assert len(hilbert.load_chunks(videos(tmp_path / "videos")[0])) == 5
    # As if the process ended here: another one goes on.
    other = MemoryEfficientParameterStreamer(config(tmp_path))
    list(other.resume_from_checkpoint(saved, source))
    assert set(decoded(tmp_path / "videos")) == set(source) - {"model.position_ids"}
    deliveries.close()


def test_the_originals_dicts(tmp_path: pathlib.Path) -> None:
    with ChunkVideoEncoder(tmp_path / "videos") as encoder:
        values = np.linspace(-1, 1, 300, dtype=np.float32)
        found = encoder.encode_chunk(values, metadata(0, 300))
        levels = found.pop("hierarchical_indices")
        assert levels.size == 75 + 19 + 5 + 2 + 1
        assert found.pop("compression_quality") > 0.9999
        assert found == {
            "video_path": found["video_path"], "frame_index": 0, "dimensions": (32, 32),
            "encoded_successfully": True,
        }  # fmt: skip
        values[3] = np.inf
        failed = encoder.encode_chunk(values, metadata(1, 300))
        assert not failed["encoded_successfully"] and failed["chunk_id"] == 1
        assert "'w', elements 300 to 599" in failed["error"] and "infinite" in failed["error"]
        skipped = encoder.encode_chunk(np.arange(5), metadata(2, 5))
        assert not skipped["encoded_successfully"] and "int64" in skipped["error"]
    assert encoder.get_encoding_statistics()["success_rate"] == 0.5
    assert len(hilbert.load_chunks(found["video_path"])) == 1


# -- what cannot be asked for --------------------------------------------------------------


def test_codecs_that_lose_values_are_refused(tmp_path: pathlib.Path) -> None:
    asked = config(tmp_path, chunk_video_codec="mp4v")
    with pytest.raises(ValueError, match="'mp4v' is no codec that keeps every pixel"):
        MemoryEfficientParameterStreamer(asked)
    streamer = MemoryEfficientParameterStreamer(config(tmp_path))
    streamer.config.chunk_video_codec = "mp4v"
    with pytest.raises(ValueError, match="'mp4v'"):
        streamer.stream_model_parameters(model())
    # Whoever does not encode may say what they like, as before.
    StreamingConfig(chunk_video_codec="mp4v")


def test_without_pyav_the_extra_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install tensorstream\[video\]"):
        MemoryEfficientParameterStreamer(config(tmp_path))
    with pytest.raises(ImportError, match=r"pip install tensorstream\[video\]"):
        stream_model_with_layer_filtering(model(), ["mlp"])
    got = list(stream_model_efficiently(model()))
    assert got and got[0][1].video_path is None


# -- damage --------------------------------------------------------------------------------


@pytest.fixture
def video(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    list(MemoryEfficientParameterStreamer(config(tmp_path)).stream_model_parameters(model()))
    yield videos(tmp_path / "videos")[0]


def test_a_flipped_bit_never_gives_other_values(video: pathlib.Path) -> None:
    good = video.read_bytes()
    want = hilbert.load_chunks(video)
    found = 0
    for place in range(0, len(good), len(good) // 60):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        video.write_bytes(bad)
        try:
            frames = hilbert.load_chunks(video)
        except (ts.FormatError, OSError, ValueError):
            found += 1
            continue
        for mine, theirs in zip(frames, want, strict=True):
            assert np.array_equal(mine.image.decode(), theirs.image.decode())
            assert (mine.name, mine.offset) == (theirs.name, theirs.offset)
    assert found > 20


def test_a_scale_that_was_changed_is_found(video: pathlib.Path) -> None:
    scale = hilbert.load_chunks(video)[0].image.scale.hex().encode()
    good = video.read_bytes()
    assert good.count(scale) == 1
    other = scale[:5] + (b"7" if scale[5:6] != b"7" else b"6") + scale[6:]
    video.write_bytes(good.replace(scale, other))
    with pytest.raises(ts.CorruptionError, match=r"'model\.embed_tokens\.weight' at 0"):
        hilbert.load_chunks(video)


def test_half_a_video_is_refused(video: pathlib.Path) -> None:
    good = video.read_bytes()
    video.write_bytes(good[: len(good) // 2])
    with pytest.raises((ts.FormatError, OSError)):
        hilbert.load_chunks(video)
