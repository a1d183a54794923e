"""ts.convert and `tensorstream convert`: every format in, three out, in constant memory."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from files import model, same, write_safetensors

import tensorstream as ts
from tensorstream import cli, registry

Saver = Callable[[pathlib.Path], pathlib.Path]


def small() -> dict[str, Any]:
    """What every format holds: F32, F16, I64, in odd sizes."""
    rng = np.random.default_rng(5)
    return {
        "model.embed.weight": rng.standard_normal((101, 64), dtype=np.float32),
        "model.layers.0.mlp.up.weight": rng.standard_normal((96, 64)).astype(np.float16),
        "model.layers.0.mlp.up.bias": rng.standard_normal(33, dtype=np.float32),
        "model.layers.0.ids": np.arange(7, dtype=np.int64),
        "model.layers.1.mlp.up.weight": rng.standard_normal((96, 64)).astype(np.float16),
        "odd.weight": rng.standard_normal((5, 33), dtype=np.float32),
    }


def as_torch(folder: pathlib.Path) -> pathlib.Path:
    torch = oracle("torch")
    tensors = {name: torch.from_numpy(array) for name, array in small().items()}
    torch.save(tensors, folder / "in.pt")
    return folder / "in.pt"


def as_npz(folder: pathlib.Path) -> pathlib.Path:
    np.savez(folder / "in.npz", **small())
    return folder / "in.npz"


def as_packed_npz(folder: pathlib.Path) -> pathlib.Path:
    np.savez_compressed(folder / "in.npz", **small())
    return folder / "in.npz"


def as_gguf(folder: pathlib.Path) -> pathlib.Path:
    gguf = oracle("gguf")
    writer = gguf.GGUFWriter(folder / "in.gguf", "llama")
    for name, array in small().items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "in.gguf"


def as_safetensors(folder: pathlib.Path) -> pathlib.Path:
    return write_safetensors(folder / "in.safetensors", small(), {"k": "v"})


def as_shards(folder: pathlib.Path) -> pathlib.Path:
    return ts.save(folder / "in.safetensors", small(), shard_size="15KB")


def as_frames(folder: pathlib.Path) -> pathlib.Path:
    return ts.save(folder / "in.safetensors", small(), compression="fast")


SOURCES = [
    as_torch, as_npz, as_packed_npz, as_gguf, as_safetensors, as_shards, as_frames,
]  # fmt: skip
TARGETS: list[tuple[str, dict[str, Any]]] = [
    ("out.safetensors", {}),
    ("out.safetensors", {"shard_size": "20KB"}),
    ("out.safetensors", {"compression": "fast"}),
    ("out.safetensors", {"compression": "portable", "shard_size": "20KB"}),
    ("out.gguf", {}),
    ("out.npz", {}),
]


@pytest.mark.parametrize("save", SOURCES, ids=lambda save: save.__name__)
def test_any_format_into_any_other(tmp_path: pathlib.Path, save: Saver) -> None:
    source = save(tmp_path)
    for name, options in TARGETS:
        done = ts.convert(source, tmp_path / name, **options)
        loaded = ts.load(done.path)
        assert list(loaded) == list(ts.open(source)) or "shard_size" in options
        assert set(loaded) == set(small())
        assert all(same(loaded[key], array) for key, array in small().items())
        assert done.tensors == 6 and done.bytes_in == sum(a.nbytes for a in small().values())
        assert done.parameters == sum(a.size for a in small().values())
        files = [path for path in tmp_path.iterdir() if path.name.startswith("out")]
        assert done.bytes_out == sum(path.stat().st_size for path in files)
        for path in files:
            path.unlink()


def test_oracles_read_what_was_converted(tmp_path: pathlib.Path) -> None:
    gguf, safetensors = oracle("gguf"), oracle("safetensors")
    source = as_torch(tmp_path)
    reader = gguf.GGUFReader(ts.convert(source, tmp_path / "x.gguf").path)
    for tensor in reader.tensors:
        assert tensor.data.tobytes() == small()[tensor.name].tobytes()
    assert [tensor.name for tensor in reader.tensors] == list(small())
    with np.load(ts.convert(source, tmp_path / "x.npz").path) as arrays:
        assert all(same(arrays[name], array) for name, array in small().items())
    path = ts.convert(source, tmp_path / "x.safetensors").path
    with safetensors.safe_open(path, framework="np") as file:
        assert all(same(file.get_tensor(name), array) for name, array in small().items())


# -- dtypes ------------------------------------------------------------------------------------


def every_dtype() -> dict[str, Any]:
    names = [
        "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16",
        "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu",
        "float8_e4m3fnuz", "float8_e5m2fnuz",
    ]  # fmt: skip
    made = {}
    for name in names:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        raw = np.arange(256 * dtype.itemsize, dtype=np.int64).astype(np.uint8)
        made[name] = (raw & 1).view(dtype) if name == "bool" else raw.view(dtype)
    return made


@pytest.mark.parametrize("format", ["gguf", "npz"])
def test_what_a_format_has_not_becomes_the_next_wider(
    tmp_path: pathlib.Path, format: str
) -> None:
    tensors = every_dtype()
    tensors["packed"] = ("F4", [2, 32], bytes(range(32)))
    source = write_safetensors(tmp_path / "in.safetensors", tensors)
    done = ts.convert(source, tmp_path / f"out.{format}")
    loaded = ts.load(done.path)
    originals = ts.load(source)
    assert set(loaded) == set(tensors)
    for name, before in originals.items():
        after = loaded[name]
        assert np.array_equal(
            np.asarray(after, np.float64), before.astype(np.float64), equal_nan=True
        ), name
        if before.dtype.itemsize < after.dtype.itemsize and before.dtype.kind in "iu":
            assert after.dtype.itemsize == 2 * before.dtype.itemsize


def test_floats_become_another_float(tmp_path: pathlib.Path) -> None:
    tensors = model()
    source = write_safetensors(tmp_path / "in.safetensors", tensors)
    for dtype in ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"):
        loaded = ts.load(ts.convert(source, tmp_path / "out.safetensors", dtype=dtype).path)
        for name, array in tensors.items():
            want = np.dtype(getattr(ml_dtypes, dtype, dtype))
            if array.dtype == np.int64:
                want = array.dtype
            with np.errstate(over="ignore"):
                through = array if want == array.dtype else array.astype(np.float32)
                assert same(loaded[name], through.astype(want)), (name, dtype)


# -- quantised ---------------------------------------------------------------------------------


def test_matrices_become_blocks(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    source = as_safetensors(tmp_path)
    done = ts.convert(source, tmp_path / "q.gguf", quantize="q8_0", dtype="float16")
    reader = gguf.GGUFReader(done.path)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds == {
        "model.embed.weight": "Q8_0", "model.layers.0.mlp.up.weight": "Q8_0",
        "model.layers.0.mlp.up.bias": "F16", "model.layers.0.ids": "I64",
        "model.layers.1.mlp.up.weight": "Q8_0", "odd.weight": "F16",
    }  # fmt: skip
    assert done.dtypes == {"Q8_0": 3, "F16": 2, "I64": 1}
    for tensor in reader.tensors:
        if tensor.tensor_type.name == "Q8_0":
            floats = small()[tensor.name].astype(np.float32)
            want = gguf.quants.quantize(floats, gguf.GGMLQuantizationType.Q8_0)
            assert tensor.data.tobytes() == want.tobytes()
    assert reader.get_field("general.file_type").contents() == 7
    assert reader.get_field("general.quantization_version").contents() == 2


def test_the_first_pattern_counts(tmp_path: pathlib.Path) -> None:
    source = as_safetensors(tmp_path)
    rules = {"*embed*": None, "*.0.*": "q4_0", "*": "q8_0"}
    done = ts.convert(source, tmp_path / "q.gguf", quantize=rules)
    assert [one.dtype for one in ts.open(done.path).values()] == [
        "F32", "Q4_0", "F32", "I64", "Q8_0", "F32",
    ]  # fmt: skip


def test_blocks_without_loss_and_back(tmp_path: pathlib.Path) -> None:
    """GGUF blocks live in compressed safetensors and come back; elsewhere they are floats."""
    source = ts.convert(as_safetensors(tmp_path), tmp_path / "q.gguf", quantize="q8_0").path
    packed = ts.convert(source, tmp_path / "q.safetensors", compression="fast").path
    again = ts.convert(packed, tmp_path / "again.gguf").path
    with ts.open(source) as first, ts.open(packed) as second, ts.open(again) as third:
        for name, info in first.items():
            assert info.dtype == second[name].dtype == third[name].dtype
            raw = first.read(name, dtype="raw").tobytes()
            assert raw == second.read(name, dtype="raw").tobytes()
            assert raw == third.read(name, dtype="raw").tobytes()
    plain = ts.convert(source, tmp_path / "plain.safetensors")
    assert plain.dtypes == {"F32": 5, "I64": 1}
    assert all(
        same(array, other)
        for array, other in zip(ts.load(source).values(), ts.load(plain.path).values())
    )


def test_8_bit_floats_for_matrices(tmp_path: pathlib.Path) -> None:
    done = ts.convert(as_safetensors(tmp_path), tmp_path / "f8.safetensors", quantize="e4m3")
    loaded = ts.load(done.path)
    want = small()["model.embed.weight"].astype(ml_dtypes.float8_e4m3fn)
    assert same(loaded["model.embed.weight"], want)
    assert loaded["model.layers.0.mlp.up.bias"].dtype == np.float32


# -- metadata and ties -------------------------------------------------------------------------


def test_gguf_keeps_its_metadata_in_its_types(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    writer = gguf.GGUFWriter(tmp_path / "in.gguf", "llama")
    writer.add_uint8("u8", 200)
    writer.add_int16("i16", -3)
    writer.add_float64("f64", 0.1)
    writer.add_bool("flag", True)
    writer.add_array("words", ["a", "b", ""])
    writer.add_array("numbers", [1, -2, 3])
    writer.add_tensor("t", np.arange(5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    before = gguf.GGUFReader(tmp_path / "in.gguf")
    done = ts.convert(tmp_path / "in.gguf", tmp_path / "out.gguf", metadata={"more": "text"})
    after = gguf.GGUFReader(done.path)
    keys = [key for key in before.fields if not key.startswith("GGUF.")]
    assert [key for key in after.fields if not key.startswith("GGUF.")] == [*keys, "more"]
    for key in keys:
        assert after.fields[key].types == before.fields[key].types
        assert after.fields[key].contents() == before.fields[key].contents()
    texts = ts.open(ts.convert(done.path, tmp_path / "out.safetensors").path).metadata
    assert texts["general.architecture"] == "llama" and texts["numbers"] == "[1, -2, 3]"
    assert texts["flag"] == "true" and json.loads(texts["words"]) == ["a", "b", ""]


def test_a_gguf_of_something_else_says_what_it_is(tmp_path: pathlib.Path) -> None:
    source = as_safetensors(tmp_path)
    found = ts.open(ts.convert(source, tmp_path / "x.gguf").path).metadata
    assert found == {
        "general.architecture": "unknown", "general.name": "in", "k": "v",
        "general.file_type": 1,
    }  # fmt: skip
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    found = ts.open(ts.convert(source, tmp_path / "x.gguf").path).metadata
    assert found["general.architecture"] == "qwen3"
    given = {"general.architecture": "mine", "k": "w"}
    found = ts.open(ts.convert(source, tmp_path / "x.gguf", metadata=given).path).metadata
    assert found["general.architecture"] == "mine" and found["k"] == "w"


def test_tied_tensors_are_written_once(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    shared = torch.randn(64, 32)
    tensors = {"embed": shared, "between": torch.ones(3), "head": shared, "view": shared[:2]}
    torch.save(tensors, tmp_path / "in.pt")
    for name, options, names in [
        ("a.safetensors", {}, ["embed", "between", "view"]),
        ("b.safetensors", {"compression": "fast"}, ["embed", "between", "head", "view"]),
        ("c.gguf", {}, ["embed", "between", "view"]),
        ("d.npz", {}, ["embed", "between", "head", "view"]),
    ]:
        done = ts.convert(tmp_path / "in.pt", tmp_path / name, **options)
        with ts.open(done.path) as ckpt:
            assert list(ckpt) == names
            if name == "b.safetensors":
                assert ckpt["head"].alias_of == "embed"
        loaded = ts.load(done.path)
        assert same(loaded["head"], shared.numpy()) and same(loaded["embed"], shared.numpy())
        assert done.tensors == (4 if name == "d.npz" else 3)
    alone = ts.convert(tmp_path / "in.pt", tmp_path / "e.safetensors", exclude="embed")
    assert "head" in ts.open(alone.path), "its first is not there"


def test_a_selection(tmp_path: pathlib.Path) -> None:
    done = ts.convert(
        as_safetensors(tmp_path), tmp_path / "x.npz", include="*.mlp.*", exclude="*.bias",
        layers=0,
    )  # fmt: skip
    assert list(ts.open(done.path)) == ["model.layers.0.mlp.up.weight"]
    with ts.open(tmp_path / "in.safetensors") as ckpt:
        done = ts.convert(ckpt, tmp_path / "y.npz", names=["odd.weight", "model.layers.0.ids"])
        assert list(ts.open(done.path)) == ["odd.weight", "model.layers.0.ids"]
        assert len(ckpt) == 6, "still open"


def test_over_itself(tmp_path: pathlib.Path) -> None:
    source = as_safetensors(tmp_path)
    ts.convert(source, source, compression="fast")
    assert ts.open(source).metadata["tensorstream.frames"] == "1"
    ts.convert(source, source)
    with ts.open(source) as ckpt:
        assert "tensorstream.frames" not in ckpt.metadata and ckpt.metadata["k"] == "v"
    assert all(same(array, ts.load(source)[name]) for name, array in small().items())
    assert os.listdir(tmp_path) == ["in.safetensors"]


def test_progress_reaches_the_end(tmp_path: pathlib.Path) -> None:
    seen: list[ts.Progress] = []
    ts.convert(as_shards(tmp_path), tmp_path / "x.gguf", quantize="q8_0", progress=seen.append)
    assert seen[-1].fraction == 1.0 and seen[-1].tensors == seen[-1].tensors_total == 6
    assert seen[-1].parameters == sum(array.size for array in small().values())


# -- what does not go --------------------------------------------------------------------------


def test_what_is_refused(tmp_path: pathlib.Path) -> None:
    source = as_safetensors(tmp_path)
    complex_ = write_safetensors(tmp_path / "c.safetensors", {"c": np.ones(3, np.complex64)})
    for error, words, arguments in [
        (ValueError, "hold no q8_0 blocks without", ("x.safetensors", {"quantize": "q8_0"})),
        (ValueError, "npz files hold no q4_k blocks", ("x.npz", {"quantize": "q4_k"})),
        (ValueError, "gguf files hold no e4m3 blocks", ("x.gguf", {"quantize": "e4m3"})),
        (ValueError, "keeps its scales apart", ("x.gguf", {"quantize": "int8"})),
        (ts.UnsupportedError, "q9", ("x.gguf", {"quantize": "q9"})),
        (ValueError, "floats can become", ("x.gguf", {"dtype": "int8"})),
        (ValueError, "blocks are made with quantize=", ("x.gguf", {"dtype": "Q8_0"})),
        (ValueError, "budget must be at least", ("x.gguf", {"budget": "1MiB"})),
        (ts.UnsupportedError, "hold no compressed", ("x.gguf", {"compression": "fast"})),
        (ValueError, "suffix '.bin'", ("x.bin", {})),
        (KeyError, "no tensor 'none'", ("x.gguf", {"names": ["none"]})),
    ]:  # fmt: skip
        target, options = arguments
        with pytest.raises(error, match=words):
            ts.convert(source, tmp_path / target, **options)
    with pytest.raises(
        ts.UnsupportedError, match="'c' is C64, which a gguf file does not hold"
    ):
        ts.convert(complex_, tmp_path / "x.gguf")
    assert sorted(os.listdir(tmp_path)) == ["c.safetensors", "in.safetensors"]


def test_a_damaged_source_leaves_the_old_target(tmp_path: pathlib.Path) -> None:
    source = ts.save(tmp_path / "in.safetensors", small(), compression="fast")
    raw = bytearray(source.read_bytes())
    raw[-100] ^= 1
    source.write_bytes(raw)
    target = tmp_path / "out.gguf"
    target.write_bytes(b"old")
    with pytest.raises(ts.CorruptionError, match=r"odd\.weight"):
        ts.convert(source, target)
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in.safetensors", "out.gguf"]


# -- memory ------------------------------------------------------------------------------------

CHILD = """
import json, sys, tensorstream as ts
before = ts.memory().rss_peak
done = ts.convert(sys.argv[1], sys.argv[2], budget="32MiB", **json.loads(sys.argv[3]))
print(json.dumps({"extra": ts.memory().rss_peak - before, "bytes_in": done.bytes_in}))
"""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.gguf", {"quantize": "q8_0"}),
        ("out.safetensors", {"compression": "fast"}),
        ("out.npz", {"dtype": "float32"}),
    ],
)
def test_memory_is_constant(tmp_path: pathlib.Path, name: str, options: Any) -> None:
    """256 MiB, one tensor of 200, through 32: the process grows by that and 4 at most."""
    sizes = {"large": 100 << 20, "a.weight": 14 << 20, "b.weight": 14 << 20}
    header, at = {}, 0
    for key, count in sizes.items():
        offsets = [at, at + 2 * count]
        header[key] = {"dtype": "BF16", "shape": [count // 1024, 1024], "data_offsets": offsets}
        at += 2 * count
    text = json.dumps(header).encode()
    with (tmp_path / "in.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "in.safetensors", tmp_path / name,
         json.dumps(options)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bytes_in"] == 256 << 20 and told["extra"] <= 36 << 20


# -- the command line and the registry ---------------------------------------------------------


def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = as_safetensors(tmp_path)
    noted = tmp_path / "state" / "registry.json"
    words = ["convert", str(source), str(tmp_path / "x.gguf"), "--registry", str(noted)]
    assert cli.main([*words, "--quantize", "*embed*=none", "--quantize", "q8_0",
                     "--metadata", "general.architecture=llama", "--json"]) == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert told["dtypes"] == {"F32": 3, "Q8_0": 2, "I64": 1} and told["tensors"] == 6
    assert ts.open(tmp_path / "x.gguf").metadata["general.architecture"] == "llama"
    words[2] = str(tmp_path / "y.safetensors")
    assert cli.main([*words, "--compression", "small", "--dtype", "bf16"]) == 0
    out = capsys.readouterr().out
    assert "y.safetensors" in out and "5 BF16, 1 I64" in out
    assert cli.main(["registry", "--path", str(noted), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    first, second = told["entries"]
    assert first["encoder"] == "quantize=*embed*:none *:q8_0"
    assert second["encoder"] == "dtype=bf16, compression=small"
    assert told["totals"]["encoded"] == 2
    assert told["totals"]["bytes_in"] == 2 * sum(array.nbytes for array in small().values())
    assert cli.main(["registry", "--path", str(noted)]) == 0
    out = capsys.readouterr().out
    assert "2 checkpoints encoded" in out and "x.gguf" in out and "small" in out
    words[1] = str(tmp_path / "y.safetensors")
    words[2] = str(tmp_path / "z.safetensors")
    assert cli.main([*words, "--compression", "fast", "--base", words[1]]) == 0
    assert f"{words[1]}: 3 tensors differ" in capsys.readouterr().out
    assert cli.main([*words, "--base", words[1]]) == 2
    assert "base= is for compressed files" in capsys.readouterr().err
    assert cli.main(["convert", str(source), str(tmp_path / "x.doc")]) == 2
    assert "suffix '.doc'" in capsys.readouterr().err


def test_the_registry_of_the_user(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert registry.default_path() == tmp_path / "state" / "tensorstream" / "registry.json"
    source = as_safetensors(tmp_path)
    assert cli.main(["convert", str(source), str(tmp_path / "a.gguf"), "--no-registry"]) == 0
    ts.convert(source, tmp_path / "a.gguf")
    assert registry.read() == []
    first = ts.convert(source, tmp_path / "a.gguf", record=True)
    ts.convert(source, tmp_path / "b.safetensors", record=True)
    ts.convert(source, tmp_path / "c.safetensors", dtype="bfloat16", record=True)
    one, two, three = registry.read()
    assert (one.source, one.target) == (str(source), str(tmp_path / "a.gguf"))
    assert one.encoder == two.encoder == "copy" and one.digest == first.digest
    assert one.digest == two.digest != three.digest, "the same tensors"
    assert one.bytes_in == first.bytes_in and one.source_size == source.stat().st_size
    assert two.ratio == two.bytes_out / two.bytes_in and two.rate > 0
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert registry.default_path().is_relative_to(tmp_path / "home" / ".local" / "state")


def test_a_registry_that_is_none_is_left_alone(tmp_path: pathlib.Path) -> None:
    source, noted = as_safetensors(tmp_path), tmp_path / "registry.json"
    for text in ("", "[]", '{"version": 2, "entries": []}', '{"version": 1, "entries": [{}]}'):
        noted.write_text(text)
        with pytest.raises(ts.FormatError, match="is no registry of ours"):
            ts.convert(source, tmp_path / "a.gguf", record=noted)
        assert noted.read_text() == text


def test_records_of_many_at_once(tmp_path: pathlib.Path) -> None:
    entry = registry.Entry("s", "t", "gguf", "copy", 1, 2, 3, 4, 5, 6, "d", 0.5, 6.0)
    noted = tmp_path / "registry.json"
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            for _ in range(5):
                registry.record(entry, noted)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert len(registry.read(noted)) == 40


def test_over_a_base(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    weights = {f"w.{i}": rng.standard_normal((300, 256), np.float32) for i in range(3)}
    base = ts.save(tmp_path / "base.npz", weights)
    tuned = {name: value.copy() for name, value in weights.items()}
    tuned["w.0"][::30] *= 1.5
    source = ts.save(tmp_path / "tuned.gguf", {**tuned, "new": np.ones(9, np.float32)})
    done = ts.convert(
        source, tmp_path / "over.safetensors", compression="fast", base=base,
        record=tmp_path / "registry.json",
    )  # fmt: skip
    assert done.differences == 3 and done.ratio < 0.1
    loaded = ts.load(done.path, base=base)
    assert all(np.array_equal(loaded[name], tuned[name]) for name in tuned)
    assert f"base={base}" in (tmp_path / "registry.json").read_text()
    # In another dtype nothing is in common, and nothing of the base is asked for.
    done = ts.convert(
        source, tmp_path / "half.safetensors", compression="fast", base=base, dtype="float16"
    )
    assert done.differences == 0
    assert np.array_equal(ts.load(done.path)["w.1"], weights["w.1"].astype(np.float16))
    # And back from over the base into a file of its own.
    with ts.open(tmp_path / "over.safetensors", base=base) as ckpt:
        back = ts.convert(ckpt, tmp_path / "alone.safetensors")
    assert "tensorstream.base" not in ts.open(back.path).metadata
    assert np.array_equal(ts.load(back.path)["w.0"], tuned["w.0"])


def test_what_cannot_be_converted_says_why(tmp_path: pathlib.Path) -> None:
    source = as_safetensors(tmp_path)
    (tmp_path / "page.html").write_text("<html>not found</html>")
    calls: list[tuple[type[Exception], str, Any, str, Any]] = [
        (ts.FormatError, "page.html: .*format", tmp_path / "page.html", "x.gguf", {}),
        (FileNotFoundError, "nowhere.gguf", tmp_path / "nowhere.gguf", "x.gguf", {}),
        (FileNotFoundError, "x.gguf: cannot open the folder", source, "no/x.gguf", {}),
        (ValueError, r"none of the 6 tensors of .* was chosen", source, "x.gguf",
         {"include": ["lm_head*", "zzz"]}),
        (ValueError, "suffix '': the formats written", source, "x", {}),
        (ts.UnsupportedError, "no quantisation scheme 'q9'", source, "x.gguf",
         {"quantize": "q9"}),
        (TypeError, "a scheme or a mapping of patterns", source, "x.gguf",
         {"quantize": ["q8_0"]}),
        (TypeError, "a scheme is a name such as 'q8_0', not 8", source, "x.gguf",
         {"quantize": {"*": 8}}),
    ]  # fmt: skip
    for kind, message, place, target, options in calls:
        with pytest.raises(kind, match=message):
            ts.convert(place, tmp_path / target, **options)
    assert sorted(os.listdir(tmp_path)) == sorted(["page.html", source.name])
