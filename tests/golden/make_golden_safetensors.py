"""Make the golden files of safetensors, shards and npy: python make_golden_safetensors.py

read/ holds small files that must open; EXPECTED_safetensors.json beside them
says for each tensor its dtype, shape and the CRC-32 of its elements in C order,
little-endian.  reject/ holds files that must not open; EXPECTED.json there
gives a part of the sentence that says why.
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

from handmade import npy, patched  # noqa: E402

Expected = dict[str, dict[str, Any]]

SIX = np.arange(6, dtype="<f4").reshape(2, 3)


def row(dtype: str, shape: list[int], raw: bytes) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "crc32": zlib.crc32(raw)}


def around(header: str | bytes, data: bytes = b"") -> bytes:
    """A safetensors file with this header, byte for byte."""
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(entries: dict[str, Any], data: bytes = b"") -> bytes:
    return around(json.dumps(entries, separators=(",", ":")), data)


def index(weight_map: dict[str, Any], **others: Any) -> bytes:
    return json.dumps(others | {"weight_map": weight_map}, indent=2).encode()


# ---- files that open -------------------------------------------------------

# Bytes of eight elements.
DTYPES = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def safetensors_files() -> dict[str, tuple[bytes, Expected]]:
    raw = SIX.tobytes()
    six = {"six": row("F32", [2, 3], raw)}
    every: dict[str, Any] = {}
    rows: Expected = {}
    data = b""
    for i, (dtype, size) in enumerate(DTYPES.items()):
        bits = bytes((i * 7 + j) % 2 for j in range(size))
        every[dtype] = entry(dtype, [2, 4], len(data), len(data) + size)
        rows[dtype] = row(dtype, [2, 4], bits)
        data += bits
    odd = {
        "byte": entry("U8", [], 0, 1),
        "none": entry("F64", [0, 3], 1, 1),
        "nothing": entry("F32", [3, 0], 1, 1),
        "six": entry("F32", [2, 3], 1, 25),
    }
    odd_rows = six | {
        "byte": row("U8", [], b"\x07"),
        "none": row("F64", [0, 3], b""),
        "nothing": row("F32", [3, 0], b""),
    }
    plain = {"six": entry("F32", [2, 3], 0, 24)}
    text = json.dumps(plain)
    swapped = {"b": entry("U8", [1], 1, 2), "a": entry("U8", [1], 0, 1)}
    extra = {"six": {"note": [{"dtype": None}, 1.5]} | plain["six"]}
    names = {"ein K\u00e4se": entry("U8", [1], 0, 1), "\U0001f600\n": entry("U8", [1], 1, 2)}
    return {
        "empty.safetensors": (around("{}      "), {}),
        "metadata.safetensors": (
            safetensors({"__metadata__": {"format": "pt", "": "é\n"}} | plain, raw),
            six,
        ),
        "every-dtype.safetensors": (safetensors(every, data), rows),
        "odd-offsets.safetensors": (safetensors(odd, b"\x07" + raw), odd_rows),
        "padded.safetensors": (around(" \t\r\n" + text + "\n \t ", raw), six),
        "swapped.safetensors": (
            safetensors(swapped, b"\1\2"),
            {"a": row("U8", [1], b"\1"), "b": row("U8", [1], b"\2")},
        ),
        "extra-fields.safetensors": (safetensors(extra, raw), six),
        "escaped-names.safetensors": (
            safetensors(names, b"\1\2"),
            {"ein Käse": row("U8", [1], b"\1"), "\U0001f600\n": row("U8", [1], b"\2")},
        ),
    }


def shard_files() -> dict[str, tuple[bytes, Expected]]:
    raw = SIX.tobytes()
    meta = {"__metadata__": {"format": "pt"}}
    first = {"one": row("F32", [2, 3], raw)}
    second = {"two": row("F32", [6], raw), "more": row("U8", [1], b"\x09")}
    weights = {"two": "two-00002-of-00002.safetensors", "one": "two-00001-of-00002.safetensors"}
    return {
        "two-00001-of-00002.safetensors": (
            safetensors(meta | {"one": entry("F32", [2, 3], 0, 24)}, raw),
            first,
        ),
        "two-00002-of-00002.safetensors": (
            safetensors(
                meta | {"two": entry("F32", [6], 0, 24), "more": entry("U8", [1], 24, 25)},
                raw + b"\x09",
            ),
            second,
        ),
        "two.safetensors.index.json": (
            index(weights, metadata={"total_size": 49, "more": {"x": [1]}}),
            first | second,
        ),
    }


def npy_files() -> dict[str, tuple[bytes, Expected]]:
    cube = np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4))
    big = np.array([1.5, -2.5 + 2j], dtype=">c16")
    named = npy(np.array([1, 2], dtype="<u2"))
    renamed = named.replace(b"'<u2'", b"'bfloat16'").replace(b"      \n", b"\n", 1)
    python2 = named.replace(b"(2,), }", b"(2L,),}")
    version3 = named[:6] + b"\3\0" + named[8:10] + b"\0\0" + named[10:]
    return {
        "six.npy": (npy(SIX), {"six": row("F32", [2, 3], SIX.tobytes())}),
        "fortran.npy": (npy(cube), {"fortran": row("I16", [2, 3, 4], cube.tobytes(order="C"))}),
        "big.npy": (npy(big), {"big": row("C128", [2], big.astype("<c16").tobytes())}),
        "scalar.npy": (npy(np.array(True)), {"scalar": row("BOOL", [], b"\1")}),
        "none.npy": (npy(np.zeros((0, 2))), {"none": row("F64", [0, 2], b"")}),
        "bfloat16.npy": (
            patched(renamed, 8, struct.pack("<H", len(renamed) - 14)),
            {"bfloat16": row("BF16", [2], b"\1\0\2\0")},
        ),
        "python2.npy": (python2, {"python2": row("U16", [2], b"\1\0\2\0")}),
        "version-3.npy": (version3, {"version-3": row("U16", [2], b"\1\0\2\0")}),
    }


# ---- files that must not open ----------------------------------------------


def bad_safetensors() -> dict[str, tuple[bytes, str]]:
    raw = SIX.tobytes()
    good = safetensors({"a": entry("F32", [2, 3], 0, 24)}, raw)
    one = '{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'

    def bad(words: str, entries: dict[str, Any], data: bytes = b"") -> tuple[bytes, str]:
        return safetensors(entries, data), words

    def lone(words: str, *of: Any, data: bytes = raw) -> tuple[bytes, str]:
        return bad(words, {"a": entry(*of)}, data)

    ten = {f"w{i}": entry("F32", [2, 3], 0, 24) for i in range(10)}
    twice = '{"a":' + one % (0, 1) + ',"a":' + one % (1, 2) + "}"
    fields = '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}'
    files = {
        "header-length": (
            patched(good, 0, b"\xff" * 8),
            "18446744073709551615 bytes is longer",
        ),
        "header-100mb": (
            patched(good, 0, struct.pack("<Q", 10**8 + 1)),
            "longer than 100000000",
        ),
        "header-past-end": (patched(good, 0, struct.pack("<Q", 10**6)), "ends past the file's"),
        "header-cut": (good[:40], "ends past the file's 40"),
        "header-empty": (around(""), "JSON ends where an object"),
        "not-utf8": (around(b'{"\xff":1}'), "not UTF-8: byte 0xff"),
        "not-json": (around("{tensors}"), "'t' where a key"),
        "not-an-object": (around("[{}]"), "'[' where an object"),
        "half-json": (around('{"a":'), "JSON ends where"),
        "after-json": (around("{}{}"), "'{' where the end of the text"),
        "nul-padding": (around("{}\0\0"), "byte 0x00 where the end"),
        "lone-surrogate": (around('{"\\ud800":1}'), "half a surrogate pair"),
        "nul-in-name": bad("holds a NUL", {"a\0b": entry("U8", [1], 0, 1)}, b"1"),
        "long-name": bad("longer than 4096", {"n" * 4097: entry("U8", [1], 0, 1)}, b"1"),
        "deep": (around('{"a":{"b":' + "[" * 99), "nested deeper than 64"),
        "entry-null": bad("'n' where an object", {"a": None}),
        "no-dtype": bad("it has no dtype", {"a": {"shape": [], "data_offsets": [0, 0]}}),
        "no-shape": bad("it has no shape", {"a": {"dtype": "U8", "data_offsets": [0, 0]}}),
        "no-offsets": bad("it has no data_offsets", {"a": {"dtype": "U8", "shape": []}}),
        "field-twice": (around(fields, b"1"), "its dtype is given twice"),
        "name-twice": (around(twice, b"12"), "duplicate"),
        "unknown-dtype": lone("unknown dtype 'F7'", "F7", [1], 0, 1),
        "ggml-dtype": lone("unknown dtype 'Q4_0'", "Q4_0", [32], 0, 18),
        "negative-dim": lone("-1 is not a whole number", "U8", [-1], 0, 1),
        "fraction-dim": lone("24.0 is not a whole number", "U8", [24.0], 0, 24),
        "dims-33": lone("more than 32 dimensions", "U8", [1] * 33, 0, 1),
        "wrapping-shape": lone("does not fit 64 bits", "F32", [2, 2**64 - 2], 0, 24),
        "wrapping-bytes": lone("do not fit 64 bits", "F32", [2**62 + 6], 0, 24),
        "hidden-overflow": lone(
            "does not fit 64 bits", "F32", [0, 2**40, 2**40], 0, 0, data=b""
        ),
        "reversed": lone("[24, 0] end before they begin", "F32", [2, 3], 24, 0),
        "one-offset": bad("not two numbers", {"a": {"data_offsets": [0]}}),
        "too-large": lone("needs 20 bytes but 24 are given", "F32", [5], 0, 24),
        "too-small": lone("needs 28 bytes but 24 are given", "F32", [7], 0, 24),
        "no-bytes": lone("needs 4 bytes but data_offsets", "F32", [1], 0, 0),
        "half-a-byte": lone("blocks of 2", "F4", [3], 0, 2),
        "data-missing": (good[:-1], "[0, 24] end past the 23 bytes"),
        "data-trailing": (good + b"\0", "1 bytes follow the last tensor"),
        "hole-at-start": lone("a hole of 1 bytes", "U8", [23], 1, 24),
        "hole": bad(
            "a hole of 2 bytes",
            {"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 3, 4)},
            b"1234",
        ),
        "overlap": bad(
            "an overlap of 1 bytes",
            {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)},
            b"123",
        ),
        "ten-on-one": bad("the end of 'w0': an overlap of 24", ten, raw),
        "metadata-number": bad("'k' is not a string", {"__metadata__": {"k": 1}}),
        "metadata-nested": bad("'k' is not a string", {"__metadata__": {"k": {}}}),
        "metadata-twice": (around('{"__metadata__":{},"__metadata__":{}}'), "given twice"),
        "metadata-key-twice": (
            around('{"__metadata__":{"k":"","k":""}}'),
            "'k' is given twice",
        ),
    }
    return {f"{name}.safetensors": what for name, what in files.items()}


def bad_shards() -> dict[str, tuple[bytes, str]]:
    files = {
        "no-map": (b'{"metadata":{}}', "without a weight_map"),
        "map-array": (b'{"weight_map":[]}', "'[' where an object"),
        "map-number": (index({"a": 1}), "gives no file name"),
        "map-twice": (b'{"weight_map":{},"weight_map":{}}', "weight_map twice"),
        "tensor-twice": (b'{"weight_map":{"a":"x","a":"y"}}', "names it twice"),
        "missing": (index({"a": "nowhere.bin"}), "shard 'nowhere.bin'"),
        "escape": (index({"a": "../read/empty.safetensors"}), "no plain file name"),
        "absolute": (index({"a": "/etc/passwd"}), "no plain file name"),
        "itself": (index({"a": "itself.index.json"}), "not a format"),
        "not-in-shard": (index({"z": "not-in-shard.safetensors"}), "which does not hold it"),
    }
    return {f"{name}.index.json": what for name, what in files.items()}


def bad_npy() -> dict[str, tuple[bytes, str]]:
    good = npy(SIX)

    def described(descr: str) -> bytes:
        head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + b"\0" * 4

    files = {
        "version-4": (patched(good, 6, b"\4"), "version 4.0"),
        "literal-65535": (patched(good, 8, b"\xff\xff"), "longer than 10000"),
        "literal-cut": (good[:60], "ends past the file's 60"),
        "not-a-dict": (patched(good, 10, b"["), "where a dict"),
        "unknown-field": (good.replace(b"'shape'", b"'shale'"), "unknown field 'shale'"),
        "field-twice": (good.replace(b"'shape': (2, 3)", b"'descr': '<f4' "), "'descr' twice"),
        "shape-number": (good.replace(b"(2, 3)", b"(6)   "), "a comma in the shape"),
        "shape-negative": (good.replace(b"(2, 3)", b"(2,-3)"), "a size of the shape"),
        "order-number": (good.replace(b"False", b"0    "), "True or False"),
        "objects": (described("'|O'"), "pickle, which is never run"),
        "records": (described("[('a', '<f4')]"), "structured dtype"),
        "void": (described("'<V2'"), "bfloat16 becomes V2"),
        "text": (described("'<U1'"), "holds text"),
        "dates": (described("'<M8[s]'"), "dates or times"),
        "long-double": (described("'<f16'"), "wider than 64 bits"),
        "nonsense": (described("'<z4'"), "unknown dtype '<z4'"),
        "data-missing": (good[:-1], "24 bytes of data but 23 follow"),
        "data-trailing": (good + b"\0", "1 bytes follow the data"),
    }
    return {f"{name}.npy": what for name, what in files.items()}


def strangers() -> dict[str, tuple[bytes, str]]:
    return {
        "nothing.bin": (b"", "an empty file"),
        "short.bin": (b"abc", "3 bytes that begin with 0x61"),
        "text.bin": (b"hello, world\n", "13 bytes that begin with 0x68"),
    }


def write(folder: Path, table: str, files: dict[str, tuple[bytes, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for name, (raw, _) in files.items():
        (folder / name).write_bytes(raw)
    expected = {name: what for name, (_, what) in sorted(files.items())}
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (folder / table).write_text(text + "\n")


def main() -> None:
    good = safetensors({"a": entry("U8", [1], 0, 1)}, b"1")
    read = safetensors_files() | shard_files() | npy_files()
    write(HERE / "read", "EXPECTED_safetensors.json", read)
    reject = bad_safetensors() | bad_shards() | bad_npy() | strangers()
    write(HERE / "reject", "EXPECTED.json", reject)
    (HERE / "reject" / "not-in-shard.safetensors").write_bytes(good)


if __name__ == "__main__":
    main()
