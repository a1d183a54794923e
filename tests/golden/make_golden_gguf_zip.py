"""Make the golden files of GGUF, npz and torch: python make_golden_gguf_zip.py

read/ holds small files that must open; EXPECTED_gguf_zip.json beside them says
for each tensor its dtype, shape and the CRC-32 of its elements in C order,
little-endian.  reject/ holds files that must not open; the json there gives a
part of the sentence that says why.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from handmade import (  # noqa: E402
    ARRAY,
    BOOL,
    F32,
    F64,
    I8,
    I64,
    STRING,
    U16,
    U32,
    U64,
    Call,
    GgufTensor,
    Global,
    Storage,
    Value,
    archive,
    gguf,
    npy,
    patched,
    pickle,
    tensor,
    tensor_v3,
    torch_stream,
    torch_zip,
)  # fmt: skip

Expected = dict[str, dict[str, Any]]


def row(dtype: str, shape: list[int], raw: bytes) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "crc32": zlib.crc32(raw)}


# ---- files that open -------------------------------------------------------

RANDOM = np.random.default_rng(20261121)
SIX = np.arange(6, dtype="<f4").reshape(2, 3)


def gguf_files() -> dict[str, tuple[bytes, Expected]]:
    blocks = RANDOM.bytes(3 * 2 * 18)
    halves = RANDOM.bytes(10)
    keys = {
        "general.architecture": Value(STRING, "llama"),
        "general.name": Value(STRING, "ein Käse"),
        "llama.block_count": Value(U32, 1),
        "llama.rope.freq_base": Value(F32, 10000.0),
        "flag": Value(BOOL, True),
        "least": Value(I64, -(2**63)),
        "most": Value(U64, 2**64 - 1),
        "precise": Value(F64, 0.1),
        "tokenizer.ggml.tokens": Value(ARRAY, ["a", "", "é"], STRING),
        "tokenizer.ggml.token_type": Value(ARRAY, [1, -3], I8),
    }
    tensors = [
        GgufTensor("token_embd.weight", [3, 2], 0, SIX.tobytes()),
        GgufTensor("blk.0.attn_q.weight", [64, 3], 2, blocks),
        GgufTensor("blk.0.attn_norm.weight", [5], 30, halves),
        GgufTensor("empty", [0, 4], 1, b""),
        GgufTensor("scalar", [], 24, b"\x05"),
    ]
    rows = {
        "token_embd.weight": row("F32", [2, 3], SIX.tobytes()),
        "blk.0.attn_q.weight": row("Q4_0", [3, 64], blocks),
        "blk.0.attn_norm.weight": row("BF16", [5], halves),
        "empty": row("F16", [4, 0], b""),
        "scalar": row("I8", [], b"\x05"),
    }
    aligned = {"general.alignment": Value(U32, 64)}
    files = {
        "kinds.gguf": (gguf(keys, tensors), rows),
        "version-2.gguf": (gguf(keys, tensors, version=2), rows),
        "alignment-64.gguf": (gguf(aligned, tensors, alignment=64), rows),
        "no-tensors.gguf": (gguf(keys), {}),
        "last-not-padded.gguf": (gguf(keys, tensors)[:-31], rows),
    }
    for no in range(2):
        split = {"split.no": Value(U16, no), "split.count": Value(U16, 2)}
        half = tensors[:2] if no == 0 else tensors[2:]
        files[f"split-{no + 1:05}-of-00002.gguf"] = (gguf(split, half), rows)
    return files


def npz_files() -> dict[str, tuple[bytes, Expected]]:
    cube = np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4))
    big = np.array([1.5, -2.5], dtype=">f8")
    members = {
        "a.npy": npy(SIX),
        "layer/cube.npy": npy(cube),
        "big.npy": npy(big),
        "zeros.npy": npy(np.zeros(5000, dtype="<f4")),
        "scalar.npy": npy(np.array(True)),
    }
    rows = {
        "a": row("F32", [2, 3], SIX.tobytes()),
        "layer/cube": row("I16", [2, 3, 4], cube.tobytes(order="C")),
        "big": row("F64", [2], big.astype("<f8").tobytes()),
        "zeros": row("F32", [5000], bytes(20000)),
        "scalar": row("BOOL", [], b"\x01"),
    }
    small = {name: raw for name, raw in members.items() if name != "zeros.npy"}
    small_rows = {name: each for name, each in rows.items() if name != "zeros"}
    return {
        "stored.npz": (archive(small), small_rows),
        "deflated.npz": (archive(members, deflate=True), rows),
        "nothing.npz": (archive({}), {}),
    }


WHOLE = Storage("FloatStorage", "0", 6)


def torch_tree() -> tuple[dict[str, Any], Expected]:
    whole = tensor(WHOLE, 0, [2, 3], [3, 1])
    tree = {
        "epoch": 3,
        "best": 0.5,
        "model": {
            "weight": whole,
            "tied": whole,
            "turned": tensor(WHOLE, 0, [3, 2], [1, 3]),
            "column": tensor(WHOLE, 1, [2], [3]),
            "scalar": tensor(WHOLE, 5, [], []),
            "empty": tensor(WHOLE, 6, [0, 3], [3, 1]),
        },
        "list": [tensor(WHOLE, 3, [3], [1]), None],
        "betas": (0.9, 0.999),
    }
    rows = {
        "model.weight": row("F32", [2, 3], SIX.tobytes()),
        "model.tied": row("F32", [2, 3], SIX.tobytes()),
        "model.turned": row("F32", [3, 2], SIX.T.tobytes(order="C")),
        "model.column": row("F32", [2], SIX[:, 1].tobytes()),
        "model.scalar": row("F32", [], SIX[1, 2].tobytes()),
        "model.empty": row("F32", [0, 3], b""),
        "list.0": row("F32", [3], SIX[1].tobytes()),
    }
    return tree, rows


def torch_files() -> dict[str, tuple[bytes, Expected]]:
    tree, rows = torch_tree()
    small = Storage("UntypedStorage", "0", 4, "torch.storage")
    bits = {
        "fp8": tensor_v3(small, [4], [1], "float8_e4m3fn"),
        "u16": tensor_v3(small, [2], [1], "uint16"),
        "fp4": tensor_v3(small, [2, 2], [2, 1], "float4_e2m1fn_x2"),
    }
    raw = b"\x00\x38\xb8\x7e"
    bit_rows = {
        "fp8": row("F8_E4M3", [4], raw),
        "u16": row("U16", [2], raw),
        "fp4": row("F4", [2, 4], raw),
    }
    parameter = Call(
        Global("torch._utils", "_rebuild_parameter"),
        (tensor(WHOLE, 0, [6], [1]), True, {}),
    )
    alone = {"parameter": row("F32", [6], SIX.tobytes())}
    stream = torch_stream(tree, {"0": (6, SIX.tobytes())})
    return {
        "nested.pt": (torch_zip(pickle(tree), {"0": SIX.tobytes()}), rows),
        "stream.pt": (stream, rows),
        "bits.pt": (torch_zip(pickle(bits), {"0": raw}), bit_rows),
        "parameter.pt": (
            torch_zip(pickle(parameter), {"0": SIX.tobytes()}),
            alone,
        ),
    }


# ---- files that must not open ----------------------------------------------


def bad_gguf() -> dict[str, tuple[bytes, str]]:
    good = gguf({"key": Value(U32, 1)}, [GgufTensor("t", [8], 0, bytes(32))])
    name = good.index(b"t", 24 + 8 + 3 + 8)  # past the key and its value
    twice = gguf({"a": Value(U32, 1), "b": Value(U32, 2)})

    def one(ne: list[int], type_: int = 0, offset: int | None = None) -> bytes:
        return gguf({}, [GgufTensor("t", ne, type_, bytes(64), offset)])

    nested = b"key" + struct.pack("<IIQ", ARRAY, ARRAY, 1)
    return {
        "version-1.gguf": (patched(good, 4, b"\1"), "version 1"),
        "big-endian.gguf": (patched(good, 4, b"\0\0\0\3"), "big-endian"),
        "tensor-count.gguf": (
            patched(good, 8, b"\xff" * 8),
            "promises 18446744073709551615 tensors",
        ),
        "key-count.gguf": (patched(good, 16, b"\xff" * 7), "keys, but"),
        "key-size.gguf": (patched(good, 24, b"\xff" * 8), "ends inside a key"),
        "duplicate-key.gguf": (twice.replace(b"b", b"a"), "given twice"),
        "key-not-utf8.gguf": (good.replace(b"key", b"k\xff\xfe"), "not UTF-8"),
        "value-type.gguf": (patched(good, 35, b"\x0d"), "the type 13"),
        "array-of-arrays.gguf": (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 3) + nested + bytes(99),
            "array holds arrays",
        ),
        "array-count.gguf": (
            gguf({"k": Value(ARRAY, [], U64)})[:-8] + struct.pack("<Q", 2**61) + bytes(99),
            "promises 2305843009213693952 items",
        ),
        "alignment-13.gguf": (
            gguf({"general.alignment": Value(U32, 13)}),
            "13 is no power of two",
        ),
        "alignment-2-gib.gguf": (
            gguf({"general.alignment": Value(U32, 2**31)}),
            "2147483648 is no power of two",
        ),
        "alignment-type.gguf": (
            gguf({"general.alignment": Value(U64, 32)}),
            "not a u32",
        ),
        "name-size.gguf": (patched(good, name - 8, b"\xff" * 8), "tensor's name"),
        "five-dims.gguf": (one([1] * 5), "5 dimensions"),
        "negative-dim.gguf": (one([2**64 - 1]), "negative dimension"),
        "wrapping-product.gguf": (
            one([4194305, 4194305, 211106198978564]),
            "more than 2^63 elements",
        ),
        "wrapping-bytes.gguf": (one([2**61], 27), "ends past 2^63"),
        "removed-type.gguf": (one([32], 4), "ggml type 4 (Q4_2)"),
        "unknown-type.gguf": (one([32], 1000), "ggml type 1000"),
        "half-block.gguf": (one([48], 2), "no whole number of Q4_0 blocks"),
        "hole.gguf": (one([8], 0, 32), "offset 32, where"),
        "duplicate-name.gguf": (
            gguf({}, [GgufTensor("t", [8], 0, bytes(32))] * 2),
            "duplicate",
        ),
        "not-enough-data.gguf": (good[:-1], "do not lie inside"),
        "trailing.gguf": (good + b"\0", "1 bytes follow the last tensor"),
        "part-of-two.gguf": (
            gguf({"split.no": Value(U16, 0), "split.count": Value(U16, 2)}),
            "must be called *-00001-of-00002.gguf",
        ),
    }


def bad_zip() -> dict[str, tuple[bytes, str]]:
    good = archive({"a.npy": npy(SIX)})
    packed = archive({"a.npy": npy(np.zeros(100))}, deflate=True)
    entry = packed.index(b"PK\1\2")
    encrypted = patched(good, 6, b"\1")
    encrypted = patched(encrypted, good.index(b"PK\1\2") + 8, b"\1")
    two = archive({"a.npy": npy(SIX), "b.npy": npy(SIX)})
    second = two.index(b"PK\1\2", two.index(b"PK\1\2") + 4)
    longer = npy(SIX).replace(b"(2, 3)", b"(2, 9)")
    return {
        "cut.npz": (good[:-1], "no end record"),
        "trailing.npz": (good + b"\0", "no end record"),
        "encrypted.npz": (encrypted, "encrypted"),
        "bomb.npz": (
            patched(packed, entry + 24, struct.pack("<I", 2**31)),
            "cannot become 2147483648",
        ),
        "overlapping.npz": (
            patched(two, second + 42, bytes(4)),
            "overlaps what comes next",
        ),
        "two-names.npz": (patched(good, 30, b"b"), "another name"),
        "twice.npz": (two.replace(b"b.npy", b"a.npy"), "'a.npy' twice"),
        "escape.npz": (archive({"../a.npy": npy(SIX)}), "leads out of its"),
        "shape-lies.npz": (archive({"a.npy": longer}), "promises 72 bytes"),
        "stranger.zip": (archive({"readme.txt": b"hi"}), "'readme.txt'"),
    }


def bad_torch() -> dict[str, tuple[bytes, str]]:
    raw = SIX.tobytes()
    weight = tensor(WHOLE, 0, [2, 3], [3, 1])

    def bad(value: Any, words: str) -> tuple[bytes, str]:
        return torch_zip(pickle(value), {"0": raw}), words

    def view(first: int, shape: list[int], strides: list[int]) -> Any:
        return {"w": tensor(WHOLE, first, shape, strides)}

    sparse = Call(Global("torch._utils", "_rebuild_sparse_tensor"), ())
    loop = b"\x80\x02]q\x00h\x00a."
    laughs = b"\x80\x02]K\x01aNa"
    for i in range(40):
        laughs += b"q%c0](h%ch%ce" % (i, i, i)
    collide = {"a.b": weight, "a": {"b": weight}}
    script = archive({"m/data.pkl": pickle({}), "m/constants.pkl": b""})
    big = archive({"m/data.pkl": pickle({}), "m/byteorder": b"big"})
    packed = archive({"m/data.pkl": pickle({"w": 1})}, deflate=True)
    stream = torch_stream({"w": weight}, {"0": (6, raw)})
    deep: Any = weight
    for _ in range(65):
        deep = [deep]
    return {
        "system.pt": bad(
            {"w": Call(Global("posix", "system"), ("true",))},
            "posix.system, which would run code",
        ),
        "getattr.pt": bad(Global("builtins", "getattr"), "builtins.getattr"),
        "sparse.pt": bad({"w": sparse}, "_rebuild_sparse_tensor"),
        "beyond-storage.pt": bad(view(1, [6], [1]), "holds 6"),
        "stride-beyond.pt": bad(view(0, [2, 3], [4, 1]), "holds 6"),
        "stride-overflow.pt": bad(view(0, [4], [2**63 - 1]), "overflows"),
        "expanded.pt": bad(view(0, [2**40], [0]), "1 elements of storage as"),
        "storage-size.pt": bad(
            {"w": tensor(Storage("FloatStorage", "0", 7), 0, [7], [1])},
            "its member has 24",
        ),
        "storage-missing.pt": bad(
            {"w": tensor(Storage("FloatStorage", "1", 6), 0, [6], [1])},
            "not in the archive",
        ),
        "quantised.pt": bad(
            {"w": tensor(Storage("QInt8Storage", "0", 6), 0, [6], [1])},
            "no dtype here",
        ),
        "loop.pt": (torch_zip(loop, {}), "inside itself"),
        "laughs.pt": (torch_zip(laughs + b".", {}), "so many places"),
        "deep.pt": bad(deep, "deeper than 64"),
        "collision.pt": bad(collide, "'a.b' and 'a' > 'b' would both be"),
        "cut-pickle.pt": (
            torch_zip(pickle({"w": weight})[:-5], {"0": raw}),
            "before its STOP",
        ),
        "script.pt": (script, "TorchScript"),
        "big-endian.pt": (big, "big-endian machine"),
        "compressed.pt": (packed, "is compressed"),
        "bare.pt": (pickle({"w": 1}), "a bare pickle"),
        "stream-cut.pt": (stream[:-1], "cut short by the end of the file"),
        "stream-count.pt": (
            patched(stream, -32, b"\x07"),
            "preceded by the count 7",
        ),
        "stream-longer.pt": (stream + b"\0", "1 bytes follow"),
    }


def write(folder: Path, files: dict[str, tuple[bytes, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for name, (raw, _) in files.items():
        (folder / name).write_bytes(raw)
    expected = {name: what for name, (_, what) in sorted(files.items())}
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / "EXPECTED_gguf_zip.json").write_text(text + "\n")


def main() -> None:
    write(HERE / "read", gguf_files() | npz_files() | torch_files())
    write(HERE / "reject", bad_gguf() | bad_zip() | bad_torch())


if __name__ == "__main__":
    main()
