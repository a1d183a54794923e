"""Make corpus/frame: golden and handmade frames, bare chunks behind a dtype and a count."""

import struct

from seeds import HERE, write_seeds

F32, U8 = 20, 2  # tags of docs/format.md


def front(tag: int, shape: tuple[int, ...], chunk: int, size: int, table: int) -> bytes:
    elements = 1
    for extent in shape:
        elements *= extent
    head = struct.pack(
        "<4sHBBBBHIQQQQQQ",
        b"\x93TSF", 1, tag, len(shape), 0, 1, 0, chunk, elements, size, table, 0, 0, 0,
    )  # fmt: skip
    return (head + struct.pack(f"<{len(shape)}Q", *shape)).ljust(128, b"\0")


def chunk_of(elements: int, payload: bytes, value: int | None = None) -> bytes:
    size = len(payload)
    coder = (1, value, 64, 0) if value is not None else (0, 0, 64, size)
    head = struct.pack("<IB3xBBBBI", elements, 1, 0, 0x20, 1, 1, size)
    body = b"" if value is not None else payload
    made = (head + struct.pack("<BBxxII", *coder)).ljust(64, b"\0") + body
    return made.ljust(-(-len(made) // 64) * 64, b"\0")


def frame(tag: int, shape: tuple[int, ...], chunk: int, chunks: list[bytes]) -> bytes:
    table = b""
    at = 128 + -(-len(chunks) * 32 // 64) * 64
    for one in chunks:
        table += struct.pack("<QQQII", at, 0, 0, len(one), 0)
        at += len(one)
    table = table.ljust(-(-len(table) // 64) * 64, b"\0")
    return front(tag, shape, chunk, at, 128) + table + b"".join(chunks)


RAW = chunk_of(32, bytes(range(32)))
SEEDS = {
    "raw": frame(U8, (2, 32), 32, [RAW, RAW]),
    "const": frame(U8, (32,), 32, [chunk_of(32, bytes(32), value=7)]),
    "scalar": frame(F32, (), 4, [chunk_of(1, b"\0\0\x80\x3f")]),
    "empty": frame(F32, (0, 3), 4, []),
    "chunk": bytes([1]) + struct.pack("<H", 32) + RAW,
    "pack": bytes([1, 1]) + bytes(range(100)) * 3,
}

GOLDEN = {path.name: path.read_bytes() for path in (HERE.parent / "golden_frames").iterdir()}

if __name__ == "__main__":
    write_seeds("frame", SEEDS | GOLDEN)
