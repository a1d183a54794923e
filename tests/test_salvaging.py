"""ts.salvage: what is sound comes out bit for bit, what is lost is told exactly."""

from __future__ import annotations

import json
import pathlib
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from files import model, same, write_safetensors

import tensorstream as ts
from tensorstream import cli, salvaging


def large() -> dict[str, Any]:
    """Three tensors, the second of four chunks."""
    rng = np.random.default_rng(8)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32).astype(ml_dtypes.bfloat16)

    return {"a": normal(100, 100), "b": normal(1024, 512), "c": np.arange(5000)}


def packed(folder: pathlib.Path, tensors: dict[str, Any]) -> pathlib.Path:
    return ts.save(folder / "in.safetensors", tensors, {"k": "v"}, compression="fast")


def place_of(path: pathlib.Path, name: str) -> tuple[int, int]:
    """First byte of a tensor in the file, and behind the last, as the header has it."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    begin, end = json.loads(raw[8:start])[name]["data_offsets"]
    return start + begin, start + end


def flip(path: pathlib.Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)


def test_a_sound_file_comes_out_whole(tmp_path: pathlib.Path) -> None:
    tensors = model()
    source = packed(tmp_path, tensors)
    done = ts.salvage(source, tmp_path / "out.safetensors")
    assert done.losses == [] and done.elements_lost == 0
    assert done.sound == done.tensors == len(tensors) and done.partial == 0
    loaded = ts.load(done.path)
    assert list(loaded) == list(tensors)
    assert all(same(loaded[name], array) for name, array in tensors.items())
    with ts.open(done.path) as ckpt:
        assert ckpt.metadata["k"] == "v" and "tensorstream.salvaged" not in ckpt.metadata
        assert ckpt.metadata["tensorstream.frames"] == "1", "compressed, as the source"


@pytest.mark.parametrize("fill", ["nan", "zero", "drop"])
def test_a_damaged_chunk_is_all_that_is_lost(tmp_path: pathlib.Path, fill: str) -> None:
    tensors = large()
    source = packed(tmp_path, tensors)
    begin, end = place_of(source, "b")
    flip(source, begin + (end - begin) * 5 // 8)  # in the third of four
    done = ts.salvage(source, tmp_path / "out.safetensors", fill=fill)
    (loss,) = done.losses
    assert (loss.name, loss.dtype, loss.shape, loss.chunk) == ("b", "BF16", (1024, 512), 2)
    assert (loss.first, loss.elements) == (2 * 131072, 131072)
    assert done.elements_lost == 131072 and done.sound == 2
    loaded = ts.load(done.path)
    assert same(loaded["a"], tensors["a"]) and same(loaded["c"], tensors["c"])
    note = json.loads(ts.open(done.path).metadata["tensorstream.salvaged"])
    assert note["elements_lost"] == 131072 and note["tensors"] == ["b"]
    if fill == "drop":
        assert done.dropped == note["dropped"] == ["b"] and "b" not in loaded
        return
    assert done.partial == 1 and done.dropped == []
    flat, want = loaded["b"].reshape(-1), tensors["b"].reshape(-1)
    assert same(flat[: 2 * 131072], want[: 2 * 131072])
    assert same(flat[3 * 131072 :], want[3 * 131072 :])
    lost = flat[2 * 131072 : 3 * 131072].astype(np.float32)
    assert np.isnan(lost).all() if fill == "nan" else (lost == 0).all()


def test_damage_is_named_with_file_and_tensor_by_every_door(tmp_path: pathlib.Path) -> None:
    path = packed(tmp_path, large())
    flip(path, place_of(path, "b")[1] - 100)
    where = rf"{path}: tensor 'b': chunk 3: "
    with ts.open(path) as ckpt:
        for door in (
            lambda: ts.load(path),
            lambda: ckpt.read("b", rows=1023),
            lambda: list(ckpt.stream()),
            lambda: ckpt.stats(),
        ):
            with pytest.raises(ts.CorruptionError, match=where):
                door()


def test_the_front_of_a_frame(tmp_path: pathlib.Path) -> None:
    """Without it neither dtype nor shape is known; the neighbours are."""
    tensors = large()
    source = packed(tmp_path, tensors)
    flip(source, place_of(source, "b")[0] + 9)
    done = ts.salvage(source, tmp_path / "out.safetensors")
    assert done.dropped == ["b"] and [loss.name for loss in done.losses] == ["b"]
    loaded = ts.load(done.path)
    assert set(loaded) == {"a", "c"}
    assert all(same(loaded[name], tensors[name]) for name in loaded)


def test_every_flipped_bit_is_lost_or_harmless(tmp_path: pathlib.Path) -> None:
    """Whatever byte is damaged: what comes out as sound is what went in."""
    tensors = {"x": np.arange(3000, dtype=np.float32), "y": np.arange(900, dtype=np.int16)}
    source = packed(tmp_path, tensors)
    raw = source.read_bytes()
    start = place_of(source, "x")[0]
    rng = np.random.default_rng(9)
    for at in rng.integers(start, len(raw), 60):
        source.write_bytes(raw)
        flip(source, int(at))
        done = ts.salvage(source, tmp_path / "out.safetensors", fill="drop", threads=1)
        loaded = ts.load(done.path)
        assert len(loaded) + len(done.dropped) == 2
        assert all(same(array, tensors[name]) for name, array in loaded.items())


def test_a_file_that_was_cut_short(tmp_path: pathlib.Path) -> None:
    tensors = {"first": np.arange(1000.0), "second": np.arange(2000.0), "third": np.ones(7)}
    source = write_safetensors(tmp_path / "in.safetensors", tensors, {"k": "v"})
    begin, _ = place_of(source, "second")
    raw = source.read_bytes()
    source.write_bytes(raw[: begin + 8 * 1500 + 3])
    with pytest.raises(ts.FormatError):
        ts.open(source)
    done = ts.salvage(source, tmp_path / "out.safetensors")
    told = [(loss.name, loss.first, loss.elements) for loss in done.losses]
    assert told == [("second", 1500, 500), ("third", 0, 7)]
    assert f"the file ends at byte {begin + 12003}" in done.losses[0].reason
    loaded = ts.load(done.path)
    assert same(loaded["first"], tensors["first"])
    assert same(loaded["second"][:1500], tensors["second"][:1500])
    assert np.isnan(loaded["second"][1500:]).all() and np.isnan(loaded["third"]).all()
    assert oracle("safetensors").safe_open(done.path, framework="np")
    source.write_bytes(raw + b"trailing")
    assert ts.salvage(source, tmp_path / "out.safetensors").losses == []
    assert not list(tmp_path.glob(".*"))


def test_a_compressed_file_that_was_cut_short(tmp_path: pathlib.Path) -> None:
    tensors = large()
    source = packed(tmp_path, tensors)
    begin, end = place_of(source, "b")
    raw = source.read_bytes()
    source.write_bytes(raw[: begin + (end - begin) * 5 // 8])
    done = ts.salvage(source, tmp_path / "out.safetensors")
    assert [(loss.name, loss.chunk) for loss in done.losses] == [
        ("b", 2),
        ("b", 3),
        ("c", None),
    ]
    assert done.dropped == ["c"] and done.elements_lost >= 2 * 131072
    loaded = ts.load(done.path)
    assert same(loaded["a"], tensors["a"])
    assert same(loaded["b"].reshape(-1)[: 2 * 131072], tensors["b"].reshape(-1)[: 2 * 131072])


def test_members_of_an_archive(tmp_path: pathlib.Path) -> None:
    tensors = {"a": np.arange(1000.0), "b": np.arange(500), "c": np.ones(3)}
    source = ts.save(tmp_path / "in.npz", tensors)
    flip(source, ts.open(source)["b"].offset + 100)
    done = ts.salvage(source, tmp_path / "out.npz")
    (loss,) = done.losses
    assert (loss.name, loss.first, loss.elements) == ("b", 0, 500) and "CRC-32" in loss.reason
    with np.load(done.path) as loaded:
        assert same(loaded["a"], tensors["a"]) and (loaded["b"] == 0).all()
    with zipfile.ZipFile(done.path) as archive:
        assert archive.testzip() is None


def test_where_the_disk_refuses(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    """Elements that cannot be read are stepped over."""
    tensors = {"a": np.arange(1 << 20, dtype=np.float64), "b": np.arange(9.0)}
    source = write_safetensors(tmp_path / "in.safetensors", tensors)

    class Refusing(salvaging.Stream):
        def __next__(self) -> Any:
            chunk = super().__next__()
            if chunk.name == "a" and chunk.start <= 300_000 < chunk.stop:
                raise OSError(5, "Input/output error")
            return chunk

    monkeypatch.setattr(salvaging, "Stream", Refusing)
    done = ts.salvage(source, tmp_path / "out.safetensors", budget="8MiB")
    lost = [loss for loss in done.losses if loss.name == "a"]
    assert lost and len(lost) == len(done.losses)
    assert all("Input/output error" in loss.reason for loss in lost)
    loaded = ts.load(done.path)
    assert same(loaded["b"], tensors["b"])
    gone = np.isnan(loaded["a"])
    assert gone[300_000] and gone.sum() == done.elements_lost < 1 << 20
    assert np.array_equal(loaded["a"][~gone], tensors["a"][~gone])


def test_a_full_disk_is_no_loss(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    """What cannot be written is an error, not something that could not be read."""

    def refuse(self: Any, rows: Any) -> None:
        raise OSError(28, "No space left on device")

    source = packed(tmp_path, large())
    monkeypatch.setattr(salvaging.TensorWriter, "write", refuse)
    with pytest.raises(OSError, match="No space left"):
        ts.salvage(source, tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_into_another_format(tmp_path: pathlib.Path) -> None:
    tensors = large()
    source = packed(tmp_path, tensors)
    flip(source, place_of(source, "b")[1] - 5000)
    done = ts.salvage(source, tmp_path / "out.gguf")
    assert done.elements_lost == 131072
    oracle("gguf").GGUFReader(done.path)
    assert same(ts.load(done.path)["c"], tensors["c"])


def test_what_is_refused(tmp_path: pathlib.Path) -> None:
    source = packed(tmp_path, large())
    with pytest.raises(ValueError, match="write to another one"):
        ts.salvage(source, source)
    with pytest.raises(ValueError, match="fill is one of nan, zero, drop"):
        ts.salvage(source, tmp_path / "x.safetensors", fill="ones")
    with pytest.raises(ValueError, match="budget must be at least"):
        ts.salvage(source, tmp_path / "x.safetensors", budget="1MiB")
    flip(source, 20)  # the header
    raw = source.read_bytes()
    source.write_bytes(raw[:30])
    with pytest.raises(ts.FormatError):
        ts.salvage(source, tmp_path / "x.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["in.safetensors"]


def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = packed(tmp_path, large())
    words = ["salvage", str(source), str(tmp_path / "out.safetensors")]
    assert cli.main(words) == 0
    assert "3 of 3 tensors sound" in capsys.readouterr().out
    flip(source, place_of(source, "b")[1] - 5000)
    report = tmp_path / "report.json"
    assert cli.main([*words, "--report", str(report)]) == 1
    out = capsys.readouterr().out
    assert "b: elements 393,216 to 524,288 of 524,288: " in out
    assert "2 of 3 tensors sound, 1 in part; 131,072 of 539,288 elements are lost" in out
    told = json.loads(report.read_text())
    assert told["losses"][0]["chunk"] == 3 and told["elements_lost"] == 131072
    assert cli.main([*words, "--fill", "drop", "--compression", "small", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["dropped"] == ["b"]
