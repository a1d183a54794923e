"""GGUF, npz and torch files against the libraries that own those formats."""

from __future__ import annotations

import argparse
import collections
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from conftest import oracle

import tensorstream as ts


def packed(array: np.ndarray[Any, Any], dtype: str) -> bytes:
    """The elements in C order as a file keeps them."""
    if dtype != "F4":
        return array.tobytes(order="C")
    codes = array.view(np.uint8).reshape(-1, 2)
    return (codes[:, 0] | codes[:, 1] << 4).tobytes()


# ---- torch -----------------------------------------------------------------


def flat(value: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """The tensors of a loaded checkpoint under the names we give them."""
    torch = oracle("torch")
    if torch.is_tensor(value):
        return {".".join(path): value}
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, (list, tuple)):
        pairs = list(enumerate(value))
    else:
        return {}
    found: dict[str, Any] = {}
    for key, item in pairs:
        found |= flat(item, (*path, str(key)))
    return found


def torch_bytes(tensor: Any) -> bytes:
    torch = oracle("torch")
    if tensor.dtype == torch.float4_e2m1fn_x2:
        tensor = tensor.view(torch.uint8)
    if tensor.numel() == 0:
        return b""
    raw: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw


def check_torch(path: pathlib.Path) -> None:
    torch = oracle("torch")
    loaded = torch.load(path, map_location="cpu", weights_only=False)
    wanted = {path.stem: loaded} if torch.is_tensor(loaded) else flat(loaded)
    with ts.open(path) as ckpt:
        assert ckpt.format == "torch"
        assert list(ckpt) == list(wanted)
        for name, tensor in wanted.items():
            info = ckpt[name]
            shape = tuple(tensor.shape)
            if info.dtype == "F4":
                shape = (*shape[:-1], 2 * shape[-1])
            assert info.shape == shape, name
            assert packed(ckpt.read(name), info.dtype) == torch_bytes(tensor), name
        assert ckpt.verify().ok


def torch_cases() -> dict[str, Any]:
    torch = oracle("torch")
    torch.manual_seed(0)
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    weight = torch.randn(5, 7)
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    marked = torch.nn.Parameter(torch.ones(2))
    marked.note = 3
    plain = torch.ones(2)
    plain.note = 3
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    return {
        "tied": {
            "a": weight,
            "b": weight,
            "c": weight.t(),
            "d": weight[1:3],
            "e": weight[:, 2],
        },
        "views": {
            "permuted": base.permute(2, 0, 1),
            "cut": base[1, :, 1:],
            "turned": base.transpose(0, 2)[1:],
            "expanded": torch.ones(1).expand(3, 4),
            "windows": base.unfold(2, 2, 1),
        },
        "small": {
            "scalar": torch.tensor(3.5),
            "none": torch.ones(0),
            "rows": torch.ones(0, 3),
            "columns": torch.ones(3, 0).t(),
            "one": torch.ones(1, 1, 1),
        },
        "alone": torch.randn(3, 3),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "list": [torch.ones(2), {"x": torch.zeros(1), "y": [torch.ones(1)]}, (torch.ones(3),)],
        "training": {
            "epoch": 3,
            "state_dict": net.state_dict(),
            "args": argparse.Namespace(lr=0.1, buffer=torch.ones(2)),
            "optimizer": optimizer.state_dict(),
            "lists": collections.defaultdict(list, {"a": [torch.ones(1)]}),
        },
        "parameters": dict(layer.named_parameters()),
        "attributes": {"p": marked, "t": plain, "b": torch.nn.Buffer(torch.ones(2))},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_checkpoints_match_torch(
    tmp_path: pathlib.Path, protocol: int, zipped: bool
) -> None:
    torch = oracle("torch")
    for name, value in torch_cases().items():
        path = tmp_path / f"{name}.pt"
        torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        check_torch(path)


def test_every_torch_dtype_comes_as_its_bits(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    names = [
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
        "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
        "float8_e8m0fnu", "float4_e2m1fn_x2",
    ]  # fmt: skip
    tensors = {}
    for name in names:
        dtype = getattr(torch, name)
        width = torch.empty(0, dtype=dtype).element_size()
        top = 2 if name == "bool" else 256
        raw = torch.randint(0, top, (12 * width,), dtype=torch.uint8)
        tensors[name] = raw.view(dtype).reshape(4, 3)
        if name != "float4_e2m1fn_x2":
            tensors[name + ".turned"] = tensors[name].t()
    torch.save(tensors, tmp_path / "dtypes.pt")
    check_torch(tmp_path / "dtypes.pt")


def test_tied_tensors_stay_tied(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    torch.save(torch_cases()["tied"], tmp_path / "tied.pt")
    with ts.open(tmp_path / "tied.pt") as ckpt:
        assert ckpt["b"].alias_of == "a"
        assert ckpt["c"].alias_of is None and ckpt["c"].strides == (1, 7)


def test_what_a_training_script_leaves_becomes_metadata(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    left = {
        "best": np.float64(2.5), "single": np.float32(-1.5), "step": np.int64(-7),
        "done": np.bool_(True), "epoch": 3, "huge": 2**70, "raw": b"a\xff\x00",
        "dtype": torch.float32, "device": torch.device("cuda", 1), "none": None,
        "betas": (0.9, 0.999), "names": ["a", "é"], "mixed": [1, None, "x"],
        "flags": [True, False],
        "options": argparse.Namespace(lr=0.1), "keys": {1: 2, None: 3},
        "array": np.arange(3), "w": torch.ones(1),
    }  # fmt: skip
    torch.save(left, tmp_path / "left.pt")
    with ts.open(tmp_path / "left.pt") as ckpt:
        got = ckpt.metadata
        assert list(ckpt) == ["w"]
    assert got["best"] == 2.5 and got["single"] == -1.5 and got["step"] == -7
    assert got["done"] is True and got["epoch"] == 3 and got["huge"] == hex(2**70)
    assert bytes(np.asarray(got["raw"], np.uint8)) == b"a\xff\x00"
    assert got["dtype"] == "torch.float32" and got["device"] == "cuda:1"
    assert got["none"] is None and list(got["betas"]) == [0.9, 0.999]
    assert list(got["names"]) == ["a", "é"] and list(got["flags"]) == [True, False]
    assert [got[f"mixed.{i}"] for i in range(3)] == [1, None, "x"]
    assert got["options.lr"] == 0.1 and got["keys.1"] == 2 and got["keys.None"] == 3
    assert got["array"] == "<numpy.ndarray>"


class Evil:
    """What a hostile checkpoint holds: unpickling it would make a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.path)!r}, 'w')",))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_code_in_a_checkpoint_never_runs(tmp_path: pathlib.Path, zipped: bool) -> None:
    torch = oracle("torch")
    proof = tmp_path / "ran"
    torch.save(
        {"w": torch.ones(1), "x": Evil(proof)},
        tmp_path / "evil.pt",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ts.FormatError, match="exec, which would run code"):
        ts.open(tmp_path / "evil.pt")
    assert not proof.exists()


def test_tensors_that_are_no_plain_view_are_named(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    cases = {
        "_rebuild_sparse_tensor": torch.eye(3).to_sparse(),
        "_rebuild_meta_tensor_no_storage": torch.empty(3, device="meta"),
        "lazy 'conj' view": torch.view_as_complex(torch.ones(2, 2)).conj(),
        "Linear, which would run code": torch.nn.Linear(2, 2),
    }
    for words, value in cases.items():
        torch.save({"p": value}, tmp_path / "no.pt")
        with pytest.raises(ts.FormatError, match=words):
            ts.open(tmp_path / "no.pt")


def test_torchscript_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    torch = oracle("torch")
    try:
        module = torch.jit.script(torch.nn.Linear(2, 2))
    except Exception as reason:  # a torch that has dropped it
        pytest.skip(f"torch.jit.script: {reason}")
    module.save(str(tmp_path / "script.pt"))
    with pytest.raises(ts.FormatError, match="TorchScript"):
        ts.open(tmp_path / "script.pt")


def test_real_torch_files_match_torch(shared_data: pathlib.Path) -> None:
    folder = shared_data / "checkpoints"
    paths = sorted([*folder.glob("*.pt"), *folder.glob("*.pth")])
    assert paths
    for path in paths:
        check_torch(path)


# ---- npz -------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_matches_numpy(tmp_path: pathlib.Path, save: Any) -> None:
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "x": rng.standard_normal((3, 4)),
        "fortran": np.asfortranarray(rng.integers(0, 9, (3, 4, 5)).astype("f4")),
        "big": np.arange(5, dtype=">f4"),
        "scalar": np.float64(3),
        "empty": np.zeros((0, 3)),
        "zeros": np.zeros(200_000, np.float32),
        "half": rng.standard_normal(7).astype(np.float16),
        "flags": np.array([True, False]),
        "pairs": np.array([1 + 2j]),
        "layers/0/w": np.ones(2),
    }
    save(tmp_path / "a.npz", **arrays)
    with ts.open(tmp_path / "a.npz") as ckpt:
        assert ckpt.format == "npz" and list(ckpt) == list(arrays)
        for name, array in arrays.items():
            got = ckpt.read(name)
            assert got.shape == array.shape and np.array_equal(got, array), name
        assert ckpt.verify().ok


def test_a_flipped_bit_in_an_npz_is_found(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(1000))
    with ts.open(tmp_path / "a.npz") as ckpt:
        offset = ckpt["x"].offset
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[offset + 77] ^= 4
    (tmp_path / "a.npz").write_bytes(raw)
    with ts.open(tmp_path / "a.npz") as ckpt:
        assert not ckpt.verify().ok


# ---- GGUF ------------------------------------------------------------------


def check_gguf(path: pathlib.Path, parts: list[pathlib.Path] | None = None) -> None:
    gguf = oracle("gguf")
    readers = [gguf.GGUFReader(part) for part in parts or [path]]
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    fields = [f for f in readers[0].fields.values() if not f.name.startswith("GGUF.")]
    with ts.open(path) as ckpt:
        assert ckpt.format == "gguf"
        assert list(ckpt) == [tensor.name for tensor in tensors]
        for tensor in tensors:
            info = ckpt[tensor.name]
            assert info.dtype == tensor.tensor_type.name
            assert info.shape == tuple(int(n) for n in reversed(tensor.shape))
            assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)
            if not info.is_quantized:
                assert ckpt.read(tensor.name).tobytes() == tensor.data.tobytes()
        metadata = ckpt.metadata
        assert list(metadata) == [field.name for field in fields]
        for field in fields:
            same_value(metadata[field.name], field.contents())


def same_value(got: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert len(got) == len(wanted) and list(got) == wanted
    else:
        assert got == wanted


def write_gguf(path: pathlib.Path, alignment: int | None = None, split: int = 0) -> None:
    gguf = oracle("gguf")
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_string("text", "Käse")
    writer.add_uint8("u8", 200)
    writer.add_int16("i16", -300)
    writer.add_uint64("u64", 2**63 + 1)
    writer.add_int64("i64", -(2**40))
    writer.add_float32("f32", 0.1)
    writer.add_float64("f64", 0.1)
    writer.add_bool("flag", True)
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("floats", [0.5, 1.5])
    writer.add_array("words", ["a", "bé", ""])
    rng = np.random.default_rng(0)
    for kind in ("f4", "f2", "f8", "i1", "i2", "i4", "i8"):
        writer.add_tensor(f"plain.{kind}", rng.integers(0, 100, (2, 3, 5)).astype(kind))
    for kind in gguf.GGMLQuantizationType:
        # gguf gives Q8_1 40 bytes a block where ggml has 36; no file holds it.
        if kind.name in ("F32", "F16", "F64", "I8", "I16", "I32", "I64", "Q8_1"):
            continue
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 255, (3, 2 * size), dtype=np.uint8)
        writer.add_tensor(f"blocks.{kind.name}", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("alignment", [None, 8, 256, 4096])
def test_gguf_matches_the_gguf_package(tmp_path: pathlib.Path, alignment: int | None) -> None:
    write_gguf(tmp_path / "a.gguf", alignment)
    check_gguf(tmp_path / "a.gguf")


def test_any_part_of_a_split_gguf_opens_all(tmp_path: pathlib.Path) -> None:
    write_gguf(tmp_path / "a.gguf", split=10)
    parts = sorted(tmp_path.glob("a-*.gguf"))
    assert len(parts) > 2
    for part in parts:
        check_gguf(part, parts)
    parts[1].unlink()
    with pytest.raises(FileNotFoundError, match=parts[1].name):
        ts.open(parts[0])


def test_a_renamed_part_says_how_it_must_be_called(tmp_path: pathlib.Path) -> None:
    write_gguf(tmp_path / "a.gguf", split=10)
    shutil.move(min(tmp_path.glob("a-*.gguf")), tmp_path / "b.gguf")
    with pytest.raises(ts.FormatError, match=r"must be called \*-00001-of-"):
        ts.open(tmp_path / "b.gguf")


def test_real_gguf_files_match_the_gguf_package(shared_data: pathlib.Path) -> None:
    paths = sorted((shared_data / "checkpoints").glob("*.gguf"))
    assert paths
    for path in paths:
        check_gguf(path)
