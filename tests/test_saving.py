"""ts.save, ts.create, ts.load: what is written, and what is left when it fails."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from files import model, same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorstream as ts

FORMATS = ("safetensors", "gguf", "npz")
MODES = ("fast", "portable", "small", "raw")
# What NumPy itself has, which every format holds.
PLAIN = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": np.arange(7, dtype=np.int64),
    "c.half": np.linspace(-1, 1, 33, dtype=np.float16),
    "d": np.array([[1.5, -2.5]]),
    "leer": np.zeros((0, 5), np.float32),
}


def left_over(folder: pathlib.Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".tmp"))


# -- oracles ---------------------------------------------------------------------------------


def test_safetensors_opens_it(tmp_path: pathlib.Path) -> None:
    safetensors = oracle("safetensors")
    tensors = model()
    path = ts.save(tmp_path / "m.safetensors", tensors, {"made by": 'us: "\\\n\x01é"'})
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"made by": 'us: "\\\n\x01é"', "format": "pt"}
        assert set(file.keys()) == set(tensors)
        for name in tensors:
            if tensors[name].dtype.name != "bfloat16":
                assert same(file.get_tensor(name), tensors[name])
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert (8 + length) % 4096 == 0, "the first tensor begins on a page"
    header = json.loads(raw[8 : 8 + length])
    assert [name for name in header if name != "__metadata__"] == list(tensors)
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            assert raw[8 + length + begin : 8 + length + end] == tensors[name].tobytes()


def test_torch_loads_it(tmp_path: pathlib.Path) -> None:
    oracle("safetensors")
    torch = oracle("torch")
    from safetensors.torch import load_file

    tensors = {
        "bf": torch.randn(3, 5, dtype=torch.bfloat16),
        "f8": torch.randn(17).to(torch.float8_e4m3fn),
        "turned": torch.randn(6, 4).T,
        "flag": torch.tensor([True, False]),
    }
    loaded = load_file(ts.save(tmp_path / "t.safetensors", tensors))
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(
            loaded[name].view(torch.uint8), tensor.contiguous().view(torch.uint8)
        )


def test_a_module_is_saved_by_its_state(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    path = ts.save(tmp_path / "module.safetensors", module)
    arrays = ts.load(path)
    for name, tensor in module.state_dict().items():
        assert same(arrays[name], tensor.numpy())


def test_gguf_opens_it(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    metadata = {
        "general.architecture": "llama", "llama.block_count": 32, "negative": -5,
        "large": 1 << 40, "scale": 1.5, "flag": True, "words": ["a", "", "äö"],
        "numbers": [1, 2, 3], "floats": [0.5, 1.5], "own": np.uint8(7),
        "array": np.arange(3, dtype=np.int8), "none": [],
    }  # fmt: skip
    tensors = {**PLAIN, "scalar": np.float32(3.5), "bf": np.ones(4, ml_dtypes.bfloat16)}
    del tensors["leer"]
    path = ts.save(tmp_path / "m.gguf", tensors, metadata)
    reader = gguf.GGUFReader(path)
    for key, value in metadata.items():
        found = reader.get_field(key).contents()
        assert found == (value.tolist() if isinstance(value, np.ndarray) else value)
    kinds = {key: reader.get_field(key).types[-1].name for key in metadata if key != "none"}
    assert kinds["llama.block_count"] == "UINT32" and kinds["negative"] == "INT32"
    assert kinds["large"] == "UINT64" and kinds["own"] == "UINT8" and kinds["array"] == "INT8"
    assert "tensorstream.padding" not in reader.fields, "the header was known"
    for tensor in reader.tensors:
        assert tensor.data.tobytes() == np.asarray(tensors[tensor.name]).tobytes()
        want = np.asarray(tensors[tensor.name]).shape or (1,)
        assert tuple(int(n) for n in reversed(tensor.shape)) == want
    assert {tensor.name for tensor in reader.tensors} == set(tensors)


def test_numpy_loads_it(tmp_path: pathlib.Path) -> None:
    path = ts.save(tmp_path / "m.npz", PLAIN)
    with np.load(path) as loaded:
        assert loaded.files == list(PLAIN)
        for name, array in PLAIN.items():
            assert same(loaded[name], array)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with ts.open(path) as ckpt:
        assert ckpt.verify().checked == len(PLAIN)
        for info in ckpt.values():
            assert info.offset % 64 == 0, "arrays can be mapped"
    again = ts.save(tmp_path / "again.npz", PLAIN)
    assert again.read_bytes() == path.read_bytes(), "equal arrays make equal files"


# -- round trips -------------------------------------------------------------------------------

DTYPES = [
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "bfloat16", "float8_e4m3fn", "float8_e5m2",
    "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz", ">f4", ">i2",
]  # fmt: skip
HELD = {
    "gguf": {"int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16"},
    "npz": {name for name in DTYPES if "float8" not in name and name != "bfloat16"},
    "safetensors": set(DTYPES),
}


@st.composite
def strided_arrays(draw: Any) -> Any:
    """Bytes of any dtype and shape, 0-d and empty ones too, cut and turned."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    size = int(np.prod(shape)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype == np.bool_:
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype).reshape(shape)
    if draw(st.booleans()):
        array = array.T
    if array.ndim and draw(st.booleans()):
        array = array[:: draw(st.sampled_from([1, 2, -1]))]
    return array


@settings(max_examples=150)
@given(
    arrays=st.lists(strided_arrays(), max_size=5),
    format=st.sampled_from(FORMATS),
    compression=st.sampled_from([None, *MODES]),
)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
    arrays: list[Any],
    format: str,
    compression: str | None,
) -> None:
    compression = compression if format == "safetensors" else None
    folder = tmp_path_factory.mktemp("trip")
    tensors = {f"t.{i}": array for i, array in enumerate(arrays)}
    held = {
        name: array for name, array in tensors.items()
        if str(array.dtype.newbyteorder("<") if array.dtype.str[0] == ">" else array.dtype)
        in HELD[format]
    }  # fmt: skip
    path = ts.save(folder / f"x.{format}", held, tied="copy", compression=compression)
    loaded = ts.load(path)
    assert set(loaded) == set(held)
    for name, array in held.items():
        want = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        if format == "gguf" and not array.shape:
            want = want.reshape(1)
        assert same(loaded[name], want)
        assert loaded[name].flags.writeable


def test_dtypes_that_a_format_does_not_hold(tmp_path: pathlib.Path) -> None:
    for format, dtype, words in [
        ("gguf", "bool", "BOOL, which GGUF has no type for"),
        ("npz", "bfloat16", "BF16, which NumPy has no dtype for"),
        ("safetensors", "complex128", "C128, which safetensors has no code for"),
    ]:
        with pytest.raises(ts.UnsupportedError, match=f"'bad': is {words}"):
            ts.save(tmp_path / f"x.{format}", {"good": np.ones(3), "bad": np.ones(3, dtype)})
    with pytest.raises(ts.UnsupportedError, match="has 5 dimensions"):
        ts.save(tmp_path / "x.gguf", {"deep": np.ones((1, 1, 1, 1, 1))})
    with pytest.raises(ValueError, match="cannot be a file's in an archive"):
        ts.save(tmp_path / "x.npz", {"../up": np.ones(1)})
    with pytest.raises(ValueError, match="keeps for metadata"):
        ts.save(tmp_path / "x.safetensors", {"__metadata__": np.ones(1)})
    assert os.listdir(tmp_path) == []


def test_blocks_go_into_gguf_as_they_are(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    blocks = np.arange(4 * 2 * 34, dtype=np.uint8)
    with ts.create(tmp_path / "q.gguf") as out:
        with out.tensor("q", "Q8_0", (4, 64)) as tensor:
            tensor.write(blocks[:100])
            tensor.write(bytes(blocks[100:]))
        with pytest.raises(ValueError, match="whole number of Q4_K blocks of 256"):
            out.tensor("odd", "Q4_K", (4, 100))
    (tensor,) = gguf.GGUFReader(tmp_path / "q.gguf").tensors
    assert tensor.tensor_type.name == "Q8_0" and tensor.data.tobytes() == blocks.tobytes()


# -- as they come -----------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_rows_as_they_come(tmp_path: pathlib.Path, format: str) -> None:
    """More names than the header had room for, numbers of rows not known beforehand."""
    path = tmp_path / f"rows.{format}"
    with ts.create(path) as out:
        for i in range(600):
            with out.tensor(f"layers.{i}.{'n' * 60}", "float32", (None, 7)) as tensor:
                for _ in range(i % 4):
                    tensor.write(np.full((2, 7), i, np.float32))
                if i % 3 == 0:
                    tensor.write(np.full(7, i, np.float32))
        out.write("last", np.arange(5000, dtype=np.int16))
        out.metadata["late"] = "known at the end"
    loaded = ts.load(path)
    assert len(loaded) == 601
    for i in range(600):
        rows = loaded[f"layers.{i}.{'n' * 60}"]
        assert rows.shape == (i % 4 * 2 + (i % 3 == 0), 7) and (rows == i).all()
    assert same(loaded["last"], np.arange(5000, dtype=np.int16))
    if format == "gguf":
        oracle("gguf").GGUFReader(path)
    if format != "npz":
        assert ts.open(path).metadata["late"] == "known at the end"


def test_an_iterable_of_arrays(tmp_path: pathlib.Path) -> None:
    made = ((f"t{i}", np.full(i, i, np.int32)) for i in range(5))
    loaded = ts.load(ts.save(tmp_path / "x.safetensors", made))
    assert [array.tolist() for array in loaded.values()] == [[i] * i for i in range(5)]


def test_nested_mappings_become_dotted_names(tmp_path: pathlib.Path) -> None:
    path = ts.save(tmp_path / "x.safetensors", {"a": {"b": np.ones(2)}, "c": np.zeros(1)})
    assert list(ts.load(path)) == ["a.b", "c"]


def test_wide_elements_first_where_others_would_be_torn(tmp_path: pathlib.Path) -> None:
    tensors = {"odd": np.ones(3, np.uint8), "wide": np.arange(2.0), "half": np.ones(5, "f2")}
    with ts.open(ts.save(tmp_path / "x.safetensors", tensors)) as ckpt:
        assert list(ckpt) == ["wide", "half", "odd"]
        assert all(one.offset % one.numpy_dtype.itemsize == 0 for one in ckpt.values())


def test_tied_arrays_are_written_once(tmp_path: pathlib.Path) -> None:
    shared = np.arange(1000, dtype=np.float32).reshape(10, 100)
    tensors = {"embed": shared, "head": shared[:], "other": shared[:5]}
    for format in ("safetensors", "gguf"):
        path = ts.save(tmp_path / f"tied.{format}", tensors)
        with ts.open(path) as ckpt:
            assert list(ckpt) == ["embed", "other"]
        loaded = ts.load(path)
        assert loaded["head"] is loaded["embed"] and same(loaded["head"], shared)
    assert ts.open(tmp_path / "tied.safetensors").metadata["head"] == "embed"
    path = ts.save(tmp_path / "copy.safetensors", tensors, tied="copy")
    assert list(ts.open(path)) == list(tensors)
    assert list(np.load(ts.save(tmp_path / "n.npz", tensors))) == list(tensors)


def test_wrong_calls(tmp_path: pathlib.Path) -> None:
    def tried(*words: Any, error: Any = ValueError, match: str) -> None:
        name, dtype, shape, rows = words
        with (
            pytest.raises(error, match=match),
            ts.create(tmp_path / "x.safetensors") as out,
            out.tensor(name, dtype, shape) as tensor,
        ):
            tensor.write(rows)

    tried("t", "f32", (2, 3), np.ones((1, 3), "f4"), match="got 12 of the 24 bytes")
    tried("t", "f32", (2, 3), np.ones((3, 3), "f4"), match="gets 36 bytes after 0 of the 24")
    tried("t", "f32", (2, 3), np.ones((2, 4), "f4"), match=r"rows of shape \(3,\)")
    tried("t", "f32", (None, 3), bytes(20), match="no whole number of rows of 12")
    tried("t", "f32", (2,), np.ones(2), error=TypeError, match="is F32, the rows are F64")
    tried("t", "complex9", (2,), np.ones(2), match="unknown dtype 'complex9'")
    tried("a" * 5000, "f32", (1,), np.ones(1, "f4"), match="longer than 4096")
    with pytest.raises(TypeError, match="'t' is a str, not an array"):
        ts.save(tmp_path / "x.safetensors", {"t": "text"})
    with pytest.raises(ValueError, match=r"suffix '[.]bin': the formats written are"):
        ts.save(tmp_path / "x.bin", {})
    with pytest.raises(ValueError, match="shard_size is for safetensors and GGUF"):
        ts.save(tmp_path / "x.npz", {}, shard_size="1MB")
    with pytest.raises(ValueError, match="budget must be at least"):
        ts.create(tmp_path / "x.safetensors", budget=1000)
    with pytest.raises(ValueError, match="tied is 'once' or 'copy'"):
        ts.save(tmp_path / "x.safetensors", {}, tied="twice")
    with ts.create(tmp_path / "y.safetensors") as out:
        out.write("t", np.ones(1))
        with pytest.raises(ValueError, match="already in the checkpoint"):
            out.write("t", np.ones(1))
    with pytest.raises(ts.Error, match="the writer is closed"):
        out.write("u", np.ones(1))
    with ts.create(tmp_path / "y.safetensors") as out, out.tensor("a", "f4", (1,)) as tensor:
        with pytest.raises(ValueError, match="'b' begins while 'a'"):
            out.write("b", np.ones(1))
        tensor.write(np.ones(1, "f4"))
    assert os.listdir(tmp_path) == ["y.safetensors"]


def test_none_is_the_default(tmp_path: pathlib.Path) -> None:
    array = {"a": np.arange(9.0)}
    path = ts.save(
        str(tmp_path / "m.safetensors"), array, None, format=None, compression=None,
        shard_size=None, budget=None, threads=None, base=None,
    )  # fmt: skip
    assert same(ts.load(str(path), budget=None, threads=None, dtype=None)["a"], array["a"])
    done = ts.convert(
        str(path), str(tmp_path / "m.gguf"), format=None, dtype=None, quantize=None,
        compression=None, budget=None, threads=None, engine=None, base=None,
    )  # fmt: skip
    assert done.tensors == 1
    for budget in (8 << 20, "8MiB", np.int64(8 << 20), 8.0 * 2**20):
        ts.save(path, array, budget=budget, compression="fast")
        ts.convert(path, tmp_path / "m.npz", budget=budget)
        assert same(ts.load(path, budget=budget)["a"], array["a"])


def test_wrong_words(tmp_path: pathlib.Path) -> None:
    array = np.ones((4, 4), np.float32)
    place = tmp_path / "m.safetensors"
    saves: list[tuple[type[Exception], str, Any, Any]] = [
        (TypeError, "arrays, a module or pairs .* not a ndarray", array, {}),
        (TypeError, "pairs .*; one of what came is a ndarray", [array], {}),
        (TypeError, "not a NoneType", None, {}),
        (TypeError, "metadata is a mapping, not a str", {"a": array}, {"metadata": "x"}),
        (TypeError, "compression is 'fast', .* not True", {"a": array}, {"compression": True}),
        (ValueError, "format 3: the formats written are", {"a": array}, {"format": 3}),
        (TypeError, "threads must be a whole number", {"a": array}, {"threads": 1.5}),
        (TypeError, "budget must be a number of bytes", {"a": array}, {"budget": [1]}),
    ]
    for kind, message, tensors, options in saves:
        with pytest.raises(kind, match=message):
            ts.save(place, tensors, **options)
    with pytest.raises(ValueError, match=r"suffix '': .*; a suffix or format= tells which"):
        ts.save(tmp_path / "m", {"a": array})
    assert not os.listdir(tmp_path)


def test_metadata_of_other_types(tmp_path: pathlib.Path) -> None:
    path = ts.save(tmp_path / "x.safetensors", {}, {"n": 3, "list": [1, "a"], "a": np.eye(2)})
    found = ts.open(path).metadata
    assert found == {
        "n": "3",
        "list": '[1, "a"]',
        "a": "[[1.0, 0.0], [0.0, 1.0]]",
        "format": "pt",
    }
    for value in (object(), {"a": 1}, np.array(["x"]), np.eye(2)):
        with pytest.raises(TypeError, match="metadata 'bad'"):
            ts.save(tmp_path / "x.gguf", {}, {"bad": value})


# -- compressed --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_compressed_file_is_a_safetensors_file(tmp_path: pathlib.Path, mode: str) -> None:
    safetensors = oracle("safetensors")
    tensors = model() | {"scalar": np.float64(2.5), "none": np.zeros((0, 3), np.int8)}
    path = ts.save(tmp_path / "m.safetensors", tensors, {"k": "v"}, compression=mode)
    nbytes = sum(one.nbytes for one in tensors.values())
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {
            "k": "v", "format": "pt", "tensorstream.frames": "1",
            "tensorstream.bytes": str(nbytes),
        }  # fmt: skip
        assert set(file.keys()) == set(tensors)
        assert all(file.get_slice(name).get_dtype() == "U8" for name in tensors)
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    del header["__metadata__"]
    assert list(header) == list(tensors), "in the given order"
    for entry in header.values():
        begin, end = entry["data_offsets"]
        assert end - begin < 65536 or (start + begin) % 4096 == 0
    loaded = ts.load(path)
    assert all(same(loaded[name], tensors[name]) for name in tensors)
    with ts.open(path) as ckpt:
        assert ckpt.verify().ok and ckpt.nbytes == nbytes
        rows = ckpt.read("lm_head.weight", rows=slice(500, 507))
        assert same(rows, tensors["lm_head.weight"][500:507])


def test_equal_tensors_are_stored_once(tmp_path: pathlib.Path) -> None:
    weights = np.random.default_rng(2).standard_normal((300, 1000), dtype=np.float32)
    tensors = {"a": weights, "b": weights.copy(), "c": weights[:], "d": weights[::-1]}
    path = ts.save(tmp_path / "m.safetensors", tensors, compression="fast")
    assert path.stat().st_size < 2.2 * weights.nbytes
    with ts.open(path) as ckpt:
        assert [one.alias_of for one in ckpt.values()] == [None, "a", None, "a"]
        assert list(ckpt) == ["a", "b", "d", "c"]
    loaded = ts.load(path)
    assert all(same(loaded[name], tensors[name]) for name in tensors)


def test_rows_as_they_come_are_compressed(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(3)
    parts = [rng.standard_normal((n, 333), dtype=np.float32) for n in (1, 900, 3, 0, 500)]
    for threads in (None, 1, 3):
        path = tmp_path / "m.safetensors"
        with ts.create(path, compression="fast", threads=threads, budget="4MiB") as out:
            with out.tensor("rows", "float32", (None, 333)) as tensor:
                for part in parts:
                    tensor.write(part)
            out.write("turned", parts[1].T)
        loaded = ts.load(path)
        assert same(loaded["rows"], np.concatenate(parts))
        assert same(loaded["turned"], np.ascontiguousarray(parts[1].T))


def test_blocks_are_compressed_as_they_are(tmp_path: pathlib.Path) -> None:
    blocks = np.random.default_rng(4).integers(0, 99, 40 * 144, dtype=np.uint8)
    path = tmp_path / "q.safetensors"
    with (
        ts.create(path, compression="fast") as out,
        out.tensor("q", "Q4_K", (4, 2560)) as tensor,
    ):
        tensor.write(blocks)
    with ts.open(tmp_path / "q.safetensors") as ckpt:
        assert ckpt["q"].dtype == "Q4_K" and ckpt["q"].shape == (4, 2560)
        assert ckpt.read("q", dtype="raw").tobytes() == blocks.tobytes()


def test_shards_may_be_compressed(tmp_path: pathlib.Path) -> None:
    shared = np.arange(30000, dtype=np.float32)
    tensors = {**model(), "first": shared, "again": shared}
    path = ts.save(tmp_path / "m.safetensors", tensors, compression="fast", shard_size="150KB")
    loaded = ts.load(path)
    assert set(loaded) == set(tensors)
    assert all(same(loaded[name], tensors[name]) for name in tensors)
    for name in os.listdir(tmp_path):
        if name.endswith(".safetensors"):
            assert len(ts.load(tmp_path / name)) > 0, "each opens by itself"


def test_what_cannot_be_compressed(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ts.UnsupportedError, match="gguf files hold no compressed tensors"):
        ts.save(tmp_path / "m.gguf", {}, compression="fast")
    with pytest.raises(ValueError, match="compression is 'fast', 'portable'"):
        ts.save(tmp_path / "m.safetensors", {}, compression="best")
    with pytest.raises(ValueError, match="budget must be at least 4194304 bytes"):
        ts.create(tmp_path / "m.safetensors", compression="fast", budget="2MiB")
    with pytest.raises(ValueError, match="threads must be at least 1"):
        ts.create(tmp_path / "m.safetensors", compression="fast", threads=0)
    with pytest.raises(ValueError, match="kept for compressed"):
        ts.save(tmp_path / "m.safetensors", {}, {"tensorstream.frames": "1"})
    assert os.listdir(tmp_path) == []


def test_shards_go_by_bytes(tmp_path: pathlib.Path) -> None:
    tensors = {f"t{i}": np.zeros(1000) for i in range(6)}
    path = ts.save(tmp_path / "m.safetensors", tensors, shard_size="17KB")
    shards = json.loads(path.read_bytes())["weight_map"]
    assert sorted(shards.values()) == [
        f"m-0000{i}-of-00003.safetensors" for i in (1, 1, 2, 2, 3, 3)
    ]
    with (
        pytest.raises(TypeError, match="is F64, the rows are U8"),
        ts.create(tmp_path / "x.safetensors") as out,
        out.tensor("t", "float64", (2, 3)) as tensor,
    ):
        tensor.write(np.zeros((2, 24), np.uint8))


# -- over a base -----------------------------------------------------------------------------


def _model(rows: int = 512) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    weights = {
        f"layers.{i}.a.name.that.makes.the.front.longer.than.a.line.weight": (
            rng.standard_normal((rows, 512), np.float32) * 0.02
        ).astype(ml_dtypes.bfloat16)
        for i in range(4)
    }
    return {**weights, "norm": rng.standard_normal(3000, np.float32), "tiny": np.arange(9)}


def _tuned(base: dict[str, Any]) -> dict[str, Any]:
    """Some bits of the first two, half of the third, all of the fourth are others."""
    rng = np.random.default_rng(4)
    tuned = {name: value.copy() for name, value in base.items()}
    weights = list(tuned.values())[:4]
    for one in weights[:3]:
        one.view(np.uint16)[rng.random(one.shape) < 0.02] ^= 1
    half = len(weights[2]) // 2
    weights[2][half:] = rng.standard_normal(weights[2][half:].shape).astype(weights[2].dtype)
    weights[3][:] = rng.standard_normal(weights[3].shape).astype(weights[3].dtype)
    return {**tuned, "new": np.full((3, 1000), 7.5)}


def _assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert same(found[name], array), name


@pytest.mark.parametrize("kind", ["plain", "compressed", "sharded", "memory", "open"])
def test_only_what_differs_from_a_base(tmp_path: pathlib.Path, kind: str) -> None:
    arrays = _model()
    tuned = _tuned(arrays)
    base: Any = arrays
    if kind != "memory":
        base = ts.save(
            tmp_path / "base.safetensors", arrays,
            compression="fast" if kind == "compressed" else None,
            shard_size="600KB" if kind == "sharded" else None,
        )  # fmt: skip
    if kind == "open":
        base = ts.open(base)
    alone = ts.save(tmp_path / "alone.safetensors", tuned, compression="fast")
    path = ts.save(tmp_path / "over.safetensors", tuned, compression="fast", base=base)
    third = alone.stat().st_size / 4
    assert path.stat().st_size < 1.7 * third, "two of four tensors nearly vanish, half of one"
    _assert_equal(ts.load(path, base=base), tuned)
    with ts.open(path, base=base) as ckpt:
        assert ckpt.verify().ok
        names = list(tuned)
        assert same(ckpt.read(names[2], slice(250, 260)), tuned[names[2]][250:260]), (
            "own and not"
        )
        called = {"memory": "arrays in memory", "sharded": "base.safetensors.index.json"}
        wanted = called.get(kind, "base.safetensors")
        assert ckpt.metadata["tensorstream.base"] == wanted


def test_a_frozen_tensor_takes_a_line_a_chunk(tmp_path: pathlib.Path) -> None:
    base = {"w": np.random.default_rng(0).standard_normal((1024, 1024), np.float32)}
    path = ts.save(tmp_path / "same.safetensors", base, compression="fast", base=base)
    assert path.stat().st_size < 4096 + 8 * (64 + 32) + 256
    _assert_equal(ts.load(path, base=base), base)


def test_a_base_of_no_use_changes_nothing(tmp_path: pathlib.Path) -> None:
    """To the byte the file that is written without it, which opens without it."""
    tensors = _model()
    rng = np.random.default_rng(9)
    others = {
        name: rng.integers(0, 256, value.nbytes, np.uint8).view(value.dtype)
        for name, value in tensors.items()
    }
    others = {name: value.reshape(tensors[name].shape) for name, value in others.items()}
    others["norm"] = others["norm"][:2999]  # another shape
    alone = ts.save(tmp_path / "alone.safetensors", tensors, compression="small")
    path = ts.save(tmp_path / "over.safetensors", tensors, compression="small", base=others)
    assert path.read_bytes() == alone.read_bytes()
    _assert_equal(ts.load(path), tensors)


def test_differences_by_rows_shards_and_ties(tmp_path: pathlib.Path) -> None:
    base = _model()
    tuned = _tuned(base)
    names = list(tuned)
    tuned["tied"] = tuned[names[0]]
    path = ts.save(
        tmp_path / "s.safetensors", tuned, compression="fast", base=base, shard_size="400KB"
    )
    assert path.name.endswith(".index.json")
    _assert_equal(ts.load(path, base=base), tuned)
    with ts.create(tmp_path / "r.safetensors", compression="fast", base=base) as out:
        with out.tensor(names[0], "bfloat16", tuned[names[0]].shape) as tensor:
            for row in tuned[names[0]]:
                tensor.write(row)
        with out.tensor(names[1], "bfloat16", (None, 512)) as tensor:  # no shape to compare
            tensor.write(tuned[names[1]])
        out.tie("tied", names[0])
    assert out.path.stat().st_size < tuned[names[1]].nbytes
    loaded = ts.load(out.path, base=base)
    for name in (names[0], names[1], "tied"):
        assert same(loaded[name], tuned[name])


def test_a_base_that_is_not_there_or_not_it(tmp_path: pathlib.Path) -> None:
    base = _model()
    name = next(iter(base))
    path = ts.save(tmp_path / "t.safetensors", _tuned(base), compression="fast", base=base)
    inner = rf"{path}: tensor '{name}': .*"
    with pytest.raises(ValueError, match=inner + rf"from '{name}' of arrays in memory: open"):
        ts.load(path)
    wrong = {key: value.copy() for key, value in base.items()}
    wrong[name].view(np.uint16)[300, 7] ^= 1
    plain = ts.save(tmp_path / "wrong.safetensors", wrong)
    with pytest.raises(ts.CorruptionError, match=inner + rf"not the one.*'{name}' of {plain}"):
        ts.load(path, base=plain)
    packed = ts.save(tmp_path / "packed.safetensors", wrong, compression="fast")
    with pytest.raises(ts.FormatError, match=inner + rf"it refers to a '{name}' of other"):
        ts.load(path, base=packed)
    with pytest.raises(ValueError, match=r"what differs from arrays in memory, in 'layers\.0"):
        ts.save(tmp_path / "x.safetensors", base, compression="fast", base=path)
    with pytest.raises(ValueError, match=r"say compression='fast' as well"):
        ts.save(tmp_path / "x.safetensors", base, base=base)
    with pytest.raises(FileNotFoundError):
        ts.save(tmp_path / "x.safetensors", base, compression="fast", base=tmp_path / "none")
    with pytest.raises(ts.BudgetError, match=r"the base has chunks of 262144 bytes"):
        ts.save(
            tmp_path / "x.safetensors", base, compression="fast", base=packed, budget="4MiB"
        )
    assert not (tmp_path / "x.safetensors").exists() and not left_over(tmp_path)


@pytest.mark.parametrize("shard_size", [None, "600KB"])
def test_a_checkpoint_spares_its_base(tmp_path: pathlib.Path, shard_size: Any) -> None:
    base = _model()
    path = ts.save(tmp_path / "m.safetensors", base, shard_size=shard_size)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"would take the place of its own base"):
        ts.save(
            tmp_path / "link" / "m.safetensors", _tuned(base), compression="fast", base=path
        )
    (tmp_path / "link").unlink()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_a_base_that_is_cut_short_meanwhile(tmp_path: pathlib.Path) -> None:
    base = _model()
    path = ts.save(tmp_path / "base.safetensors", base)
    name = list(base)[3]
    with (
        pytest.raises(ts.ChangedError, match=rf"{path}: tensor '{name}': "),
        ts.create(tmp_path / "t.safetensors", compression="fast", base=path) as out,
    ):
        os.truncate(path, 100_000)
        out.write(name, base[name])
    assert os.listdir(tmp_path) == ["base.safetensors"]


def test_a_base_stays_within_the_budget(tmp_path: pathlib.Path) -> None:
    """96 MiB over as much, compressed, and the process grows by 24 and 4 at most."""
    script = pathlib.Path(__file__).parent / "isolated" / "over.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, '{"budget": "24MiB"}'],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bytes"] == 96 << 20 and told["ratio"] < 0.1
    assert told["extra"] <= 28 << 20


def test_killed_over_a_base(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(1)
    base = ts.save(
        tmp_path / "base.safetensors",
        {f"t.{i}": rng.integers(0, 1 << 20, (40, 50), np.int32) for i in range(5)},
    )
    (tmp_path / "new").mkdir()
    script = pathlib.Path(__file__).parent / "isolated" / "killed.py"
    options = json.dumps({"base": str(base), "compression": "fast"})
    done = subprocess.run(
        [sys.executable, script, tmp_path / "new", "80", options],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["old"] >= 8 and told["new"] >= 8, f"{told}: the moments were not all kinds"


# -- shards ------------------------------------------------------------------------------------


def test_shards_and_their_index(tmp_path: pathlib.Path) -> None:
    safetensors = oracle("safetensors")
    tensors = model()
    path = ts.save(tmp_path / "m.safetensors", tensors, {"k": "v"}, shard_size="200KB")
    assert path == tmp_path / "m.safetensors.index.json"
    index = json.loads(path.read_bytes())
    assert index["metadata"]["total_size"] == sum(one.nbytes for one in tensors.values())
    assert set(index["weight_map"]) == set(tensors)
    shards = sorted(set(index["weight_map"].values()))
    count = len(shards)
    assert shards == [f"m-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    assert sorted(os.listdir(tmp_path)) == sorted([*shards, path.name])
    for shard in shards:
        with safetensors.safe_open(tmp_path / shard, framework="np") as file:
            assert file.metadata() == {"k": "v", "format": "pt"}
            names = list(file.keys())
            size = sum(tensors[name].nbytes for name in names)
            assert size <= 200_000 or len(names) == 1
    loaded = ts.load(path)
    assert all(same(loaded[name], tensors[name]) for name in tensors)
    assert list(ts.load(tmp_path / "m.safetensors")) == list(loaded), "the path as it was given"


def test_one_checkpoint_after_another(tmp_path: pathlib.Path) -> None:
    """The index that is in place never names files of the next checkpoint; what a
    checkpoint replaces goes away, and nothing else."""
    path = tmp_path / "m.safetensors"
    (tmp_path / "m-notes.txt").write_text("mine")
    for round, size in enumerate(["100KB", "100KB", None, "150KB", "1GB"]):
        tensors = model(seed=round)
        opened = ts.save(path, tensors, shard_size=size)
        loaded = ts.load(opened)
        assert all(same(loaded[name], tensors[name]) for name in tensors)
        named = {opened.name, "m-notes.txt"}
        if opened != path:
            named |= set(json.loads(opened.read_bytes())["weight_map"].values())
        assert set(os.listdir(tmp_path)) == named
        assert (opened == path) == (size in (None, "1GB"))


def test_a_folder_has_the_layout_of_the_hub(tmp_path: pathlib.Path) -> None:
    assert ts.save(tmp_path, model()) == tmp_path / "model.safetensors"
    index = ts.save(tmp_path, model(), shard_size="300KB")
    assert index == tmp_path / "model.safetensors.index.json"
    assert not (tmp_path / "model.safetensors").exists()
    assert set(ts.load(tmp_path)) == set(model())


def test_a_gguf_in_parts(tmp_path: pathlib.Path) -> None:
    gguf = oracle("gguf")
    tensors = {f"blk.{i}.weight": np.full((40, 256), i, np.float32) for i in range(7)}
    tensors["tied"] = tensors["blk.1.weight"]
    (tmp_path / "m.gguf").write_bytes(b"old")
    path = ts.save(
        tmp_path / "m.gguf", tensors, {"general.architecture": "llama", "a.b": [1, 2]},
        shard_size="90KB",
    )  # fmt: skip
    names = [f"m-{i:05d}-of-00004.gguf" for i in range(1, 5)]
    assert sorted(os.listdir(tmp_path)) == names and path.name == names[0]
    found = {}
    for number, name in enumerate(names):
        reader = gguf.GGUFReader(tmp_path / name)
        told = {key: field.contents() for key, field in reader.fields.items()}
        kinds = {key: field.types[0] for key, field in reader.fields.items()}
        assert (told["split.no"], told["split.count"]) == (number, 4)
        assert told["split.tensors.count"] == 7
        assert kinds["split.no"] == kinds["split.count"] == gguf.GGUFValueType.UINT16
        assert kinds["split.tensors.count"] == gguf.GGUFValueType.INT32
        assert ("general.architecture" in told) == (number == 0), "as gguf-split has it"
        for tensor in reader.tensors:
            found[tensor.name] = np.array(tensor.data)
    assert all(same(found[name], tensors[name]) for name in list(tensors)[:7])
    for place in (path, tmp_path / "m.gguf", tmp_path / names[2], tmp_path):
        loaded = ts.load(place)
        assert all(same(loaded[name], array) for name, array in tensors.items()), place


def test_a_gguf_in_parts_as_they_come(tmp_path: pathlib.Path) -> None:
    """Nobody knows how many parts there will be, nor a name before it comes."""
    rows = np.arange(64 * 100, dtype=np.float32).reshape(100, 64)
    with ts.create(tmp_path / "m.gguf", shard_size="60KB") as out:
        for i in range(5):
            with out.tensor(f"t.{i}." + "long" * 100, "float32", (None, 64)) as tensor:
                tensor.write(rows + i)
        out.metadata["told"] = "at the end"
    assert len(out.files) == 2 and out.path == out.files[0]
    loaded = ts.load(out.path)
    assert all(same(array, rows + i) for i, array in enumerate(loaded.values()))
    assert ts.open(out.path).metadata["told"] == "at the end"
    whole = ts.save(tmp_path / "one.gguf", {"a": rows}, shard_size="60KB")
    assert whole == tmp_path / "one.gguf" and "split.count" not in ts.open(whole).metadata


def test_parts_that_are_there_are_left_alone(tmp_path: pathlib.Path) -> None:
    tensors = {f"t.{i}": np.full((40, 256), i, np.float32) for i in range(3)}
    path = ts.save(tmp_path / "m.gguf", tensors, shard_size="50KB")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError, match=r"parts of m.gguf are there: m-00001-of-00003"):
        ts.save(tmp_path / "m.gguf", tensors, shard_size="50KB")
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with ts.create(tmp_path / "n.gguf", shard_size="50KB") as out:
            for name, array in tensors.items():
                out.write(name, array)
            _ = 1 / 0
    assert sorted(os.listdir(tmp_path)) == before
    again = ts.convert(path, tmp_path / "q.gguf", quantize="q8_0", shard_size="12KB")
    assert len(list(tmp_path.glob("q-*-of-00003.gguf"))) == 3 and again.dtypes == {"Q8_0": 3}
    back = ts.convert(again.path, tmp_path / "b.gguf")
    assert "split.count" not in ts.open(back.path).metadata


# -- failing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_size", [None, "100KB"])
def test_an_exception_leaves_the_old_file(tmp_path: pathlib.Path, shard_size: Any) -> None:
    path = tmp_path / "m.safetensors"
    opened = ts.save(path, model(seed=1), shard_size=shard_size)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(RuntimeError, match="enough"), ts.create(path, shard_size="50KB") as out:
        for name, array in model(seed=2).items():
            out.write(name, array)
        assert left_over(tmp_path)
        raise RuntimeError("enough")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    assert ts.open(opened)


def test_a_writer_that_is_forgotten_leaves_nothing(tmp_path: pathlib.Path) -> None:
    out = ts.create(tmp_path / "m.safetensors")
    out.write("t", np.ones(100000))
    assert left_over(tmp_path)
    del out
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("compression", [None, "fast", "small"])
def test_ctrl_c_while_saving(tmp_path: pathlib.Path, compression: str | None) -> None:
    script = pathlib.Path(__file__).parent / "isolated" / "writing_interrupted.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, json.dumps({"compression": compression})],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["names"] == ["m.safetensors"] and told["old"]
    assert told["took"] < 2, "0.2 s on a machine that does nothing else"


FULL = """
import os, resource, signal, sys, numpy as np, tensorstream as ts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))
path, shard_size = sys.argv[1], sys.argv[2] or None
try:
    ts.save(path, {f"t{i}": np.ones(50000 // 8) for i in range(10)}, shard_size=shard_size)
except OSError as error:
    print(type(error).__name__, error.errno, error)
"""


def test_a_file_that_may_not_grow(tmp_path: pathlib.Path) -> None:
    """A limit of the system stands in for a full disk: the error names path and numbers."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, path, ""], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.stdout.startswith("OSError 27 "), done.stdout + done.stderr
    assert str(path) in done.stdout and "bytes at byte 0 of the new file" in done.stdout
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.safetensors"]


def test_folders_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="open the folder it should be in"):
        ts.create(tmp_path / "none" / "m.safetensors")
    (tmp_path / "m.safetensors").mkdir()
    with pytest.raises(ValueError, match="suffix ''"):
        ts.create(tmp_path / "m.safetensors" / "x")
    with pytest.raises(IsADirectoryError):
        ts.save(tmp_path / "d.gguf", {}) and (tmp_path / "d.gguf").rename(tmp_path / "e")
        (tmp_path / "d.gguf").mkdir()
        ts._core.Writer(tmp_path / "d.gguf", "gguf")


# -- loading -----------------------------------------------------------------------------------


def test_load_chooses_and_converts(tmp_path: pathlib.Path) -> None:
    tensors = model()
    path = ts.save(tmp_path / "m.safetensors", tensors)
    layer = ts.load(path, layers=1, kinds="mlp", dtype="float32", threads=1)
    assert set(layer) == {f"model.layers.1.mlp.{one}_proj.weight" for one in ("up", "down")}
    for name, array in layer.items():
        assert same(array, tensors[name].astype(np.float32))
    with ts.open(path) as ckpt:
        some = ts.load(ckpt, names=["model.norm.weight", "position_ids"], dtype="float16")
        assert list(some) == ["model.norm.weight", "position_ids"]
        assert some["position_ids"].dtype == np.int64
        assert len(ckpt) == len(tensors), "still open"


def test_loaded_arrays_lie_as_far_off_a_page_as_in_the_file(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(5)
    shapes = {"odd": (3, 7), "small": (300, 300), "a": (2000, 1000), "b": (1100, 1000)}
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    for compression in (None, "fast"):
        path = ts.save(tmp_path / "m.safetensors", tensors, compression=compression)
        loaded = ts.load(path)
        with ts.open(path) as ckpt:
            for name, array in loaded.items():
                assert same(array, tensors[name]) and array.flags.writeable
                address = array.__array_interface__["data"][0]
                if array.nbytes >= 64 << 10 and compression is None:
                    assert address % 4096 == ckpt[name].offset % 4096, name
                if compression is not None:
                    assert address % 64 == 0
        assert all(same(one, tensors[name]) for name, one in ts.load(path, threads=1).items())


def test_loaded_arrays_can_be_kept_alone(tmp_path: pathlib.Path) -> None:
    large = np.arange(1 << 20, dtype=np.float64)
    tensors = {"large": large, **{f"s{i}": np.full(1000, i, np.int32) for i in range(50)}}
    loaded = ts.load(ts.save(tmp_path / "m.safetensors", tensors))
    # What is skipped up to a huge page is never touched.
    assert loaded["large"].base.nbytes <= large.nbytes + (2 << 20) + (4 << 10)
    for i in range(50):
        array = loaded[f"s{i}"]
        assert array.__array_interface__["data"][0] % 64 == 0
        array[:] = -1
    assert same(loaded["large"], large)


@pytest.mark.parametrize(
    ("compression", "budget"), [(None, "8MiB"), ("fast", "8MiB"), ("small", "64MiB")]
)
def test_more_rows_than_memory_has_room_for(
    tmp_path: pathlib.Path, compression: str | None, budget: str
) -> None:
    """512 MiB, and the process grows by the budget and 4 MiB at most."""
    script = pathlib.Path(__file__).parent / "isolated" / "writing.py"
    options = json.dumps({"compression": compression, "budget": budget})
    done = subprocess.run(
        [sys.executable, script, tmp_path / "large.safetensors", options],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bytes"] == 512 << 20 and told["extra"] <= ts.parse_size(budget) + (4 << 20)


_KILLED = """
import os, signal, sys, numpy as np, tensorstream as ts
out = ts.create(sys.argv[1], shard_size="2MB")
for i in range(3):
    out.write(str(i), np.ones(500_000, np.float32))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_goes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.safetensors"
    living = ts.create(path)
    living.write("of the living", np.ones(3))
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", _KILLED, path], env=env, check=False)
    assert done.returncode == -9
    assert len(left_over(tmp_path)) == 4, "three shards, two of them sealed, and the living"
    other = ts.save(tmp_path / "m.safetensor.gguf", {"a": np.ones(3, np.float32)})
    assert len(left_over(tmp_path)) == 4, "another path"
    assert ts.save(path, {"a": np.ones(3)}) == path
    assert len(left_over(tmp_path)) == 1
    living.close()
    assert list(ts.load(path)) == ["of the living"]
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, other.name])


def test_killed_at_any_moment(tmp_path: pathlib.Path) -> None:
    """500 children killed while they save: the old checkpoint or the new one, never half."""
    script = pathlib.Path(__file__).parent / "isolated" / "killed.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, "500"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(ts.__file__).parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["old"] + told["new"] == 500
    assert told["old"] >= 50 and told["new"] >= 50, f"{told}: the moments were not all kinds"
