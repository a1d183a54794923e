"""safetensors, shards and npy against what other readers and writers say."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
from conftest import oracle

import tensorstream as ts

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8"]


def some_arrays(seed: int) -> dict[str, np.ndarray]:
    """Arrays of every plain dtype, in shapes with scalars, ones and zeros."""
    rng = np.random.default_rng(seed)
    shapes = [(), (1,), (0,), (5,), (3, 4), (2, 0, 3), (1, 7, 1), (2, 3, 4, 5)]
    return {
        f"block.{i}.{dtype}": rng.integers(0, 100, shapes[i % len(shapes)]).astype(dtype)
        for i, dtype in enumerate(DTYPES * 3)
    }


def test_real_files_agree_with_safetensors(shared_data: pathlib.Path) -> None:
    safetensors = oracle("safetensors")
    paths = sorted((shared_data / "checkpoints").glob("*.safetensors"))
    assert paths
    for path in paths:
        with ts.open(path) as ckpt, safetensors.safe_open(path, framework="np") as theirs:
            assert sorted(ckpt.keys()) == sorted(theirs.keys())
            assert ckpt.metadata == (theirs.metadata() or {})
            for name in theirs.keys():  # noqa: SIM118, it is no dict
                np.testing.assert_array_equal(ckpt.read(name), theirs.get_tensor(name))


@pytest.mark.parametrize("seed", range(4))
def test_written_files_agree_with_safetensors(tmp_path: pathlib.Path, seed: int) -> None:
    numpy_writer = oracle("safetensors.numpy")
    arrays = some_arrays(seed)
    path = tmp_path / "m.safetensors"
    numpy_writer.save_file(arrays, path, metadata={"format": "np", "k": "é"})
    with ts.open(path) as ckpt:
        assert set(ckpt) == set(arrays)
        assert ckpt.metadata == {"format": "np", "k": "é"}
        for name, array in arrays.items():
            got = ckpt.read(name)
            assert got.dtype == array.dtype and got.shape == array.shape
            np.testing.assert_array_equal(got, array)


def test_shards_written_by_others(tmp_path: pathlib.Path) -> None:
    numpy_writer = oracle("safetensors.numpy")
    arrays = some_arrays(9)
    weight_map: dict[str, str] = {}
    for i in range(3):
        name = f"model-{i + 1:05}-of-00003.safetensors"
        part = dict(list(arrays.items())[i::3])
        numpy_writer.save_file(part, tmp_path / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    total = sum(array.nbytes for array in arrays.values())
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    (tmp_path / "model.safetensors.index.json").write_text(text)
    for source in (tmp_path, tmp_path / "model.safetensors.index.json"):
        with ts.open(source) as ckpt:
            assert set(ckpt) == set(arrays)
            assert ckpt.nbytes == ckpt.metadata["total_size"] == total
            for name, array in arrays.items():
                assert pathlib.Path(ckpt[name].file).name == weight_map[name]
                np.testing.assert_array_equal(ckpt.read(name), array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("end", ["<", ">"])
def test_arrays_saved_by_numpy(tmp_path: pathlib.Path, order: str, end: str) -> None:
    for name, plain in some_arrays(3).items():
        array = np.array(plain, dtype=plain.dtype.newbyteorder(end), order=order)  # type: ignore[call-overload]
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        with ts.open(path) as ckpt:
            assert list(ckpt) == [name]
            got = ckpt.read(name)
            assert got.dtype == plain.dtype and got.shape == plain.shape
            np.testing.assert_array_equal(got, plain)


def test_a_small_file_that_claims_much_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "liar.safetensors"
    path.write_bytes((99_999_999).to_bytes(8, "little") + b"{}")
    with pytest.raises(ts.FormatError, match="ends past the file's 10"):
        ts.open(path)
