"""A decoder of frames in plain Python, written from docs/format.md and nothing else.

Slow on purpose: each step is one of the page's sentences.  The tests hold the core's frames
against it.  XXH3 and zstd come from the packages xxhash and zstandard.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import xxhash
import zstandard

# Section 6, in the order of the tags, from 1 on.
NAMES = [
    "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F4", "F6_E2M3", "F6_E3M2",
    "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F16", "BF16", "F32", "F64",
    "C64", "C128", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K",
    "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "IQ1_M", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0",
]  # fmt: skip

FIELDS = {
    "Q4_0": [(0, 2), (2, 16)],
    "IQ4_NL": [(0, 2), (2, 16)],
    "Q4_1": [(0, 4), (4, 16)],
    "Q5_0": [(0, 2), (2, 4), (6, 16)],
    "Q5_1": [(0, 4), (4, 4), (8, 16)],
    "Q8_0": [(0, 2), (2, 32)],
    "Q8_1": [(0, 4), (4, 32)],
    "Q2_K": [(0, 16), (16, 64), (80, 4)],
    "Q3_K": [(0, 32), (32, 64), (96, 12), (108, 2)],
    "Q4_K": [(0, 4), (4, 12), (16, 128)],
    "Q5_K": [(0, 4), (4, 12), (16, 32), (48, 128)],
    "Q6_K": [(0, 128), (128, 64), (192, 16), (208, 2)],
    "Q8_K": [(0, 4), (4, 256), (260, 32)],
    "IQ2_XXS": [(0, 2), (2, 64)],
    "IQ2_XS": [(0, 2), (2, 64), (66, 8)],
    "IQ3_XXS": [(0, 2), (2, 64), (66, 32)],
    "IQ1_S": [(0, 2), (2, 32), (34, 16)],
    "IQ3_S": [(0, 2), (2, 64), (66, 8), (74, 32), (106, 4)],
    "IQ2_S": [(0, 2), (2, 64), (66, 8), (74, 8)],
    "IQ4_XS": [(0, 2), (2, 2), (4, 4), (8, 128)],
    "IQ1_M": [(0, 32), (32, 16), (48, 8)],
    "TQ1_0": [(0, 48), (48, 4), (52, 2)],
    "TQ2_0": [(0, 64), (64, 2)],
    "MXFP4": [(0, 1), (1, 16)],
    "NVFP4": [(0, 4), (4, 32)],
    "Q1_0": [(0, 2), (2, 16)],
    "Q2_0": [(0, 2), (2, 16)],
}
PLAIN, DELTA, SAME = 0, 1, 2


class Damaged(Exception):
    """The frame is not what the page says; the sentence says where."""


def xxh3(data: bytes) -> int:
    return int(xxhash.xxh3_64_intdigest(data))


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise Damaged(sentence)


def padded(size: int) -> int:
    return -(-size // 64) * 64


# ---- section 5 ---------------------------------------------------------------------------


def unpacked(data: bytes, count: int, bits: int) -> list[int]:
    """Section 4."""
    require(len(data) == -(-count * bits // 8), f"{len(data)} bytes of packed symbols")
    if bits == 8:
        return list(data)
    number = int.from_bytes(data, "little")
    return [number >> i * bits & (1 << bits) - 1 for i in range(count)]


def rans(data: bytes, count: int, width: int) -> list[int]:
    bits, tables, name_bits, zero, rare_count = struct.unpack_from("<BBBBI", data)
    sizes = struct.unpack_from("<4I", data, 8)
    require(bits in (7, 8) and 1 <= tables <= 4 and zero == 0, "head of a rANS stream")
    require(1 <= name_bits <= width and rare_count <= count, "rare symbols of a rANS stream")
    at = 24
    slots: list[list[tuple[int | None, int, int]]] = []  # owner's symbol, freq, slot - start
    for _ in range(tables):
        first, last, escape = data[at : at + 3]
        freqs = [
            (first + i, freq) for i, freq in enumerate(data[at + 3 : at + 4 + last - first])
        ]
        at += 4 + last - first
        owners: list[tuple[int | None, int]] = [*freqs, (None, escape)]
        slots.append([(symbol, freq, k) for symbol, freq in owners for k in range(freq)])
        require(len(slots[-1]) == 1 << bits, "slots do not add up")
        require(sum(freq > 0 for _, freq in freqs) <= 63, "too many owners")
    names: list[int] | None = None
    if name_bits < width:
        names = list(data[at : at + (1 << name_bits)])
        at += 1 << name_bits
    groups = -(-count // 128)
    spans = -(-groups // 16)
    numbers = [0] * spans
    if tables > 1:
        size = -(-spans * 2 // 8)
        numbers = unpacked(data[at : at + size], spans, 2)
        at += size
    require(max(numbers, default=0) < tables, "number of a table")
    states = list(struct.unpack_from("<128H", data, at))
    at += 256
    streams = []
    for size in sizes:
        require(at + size <= len(data), "a stream beyond its plane")
        streams.append(data[at : at + size])
        at += size
    rares = unpacked(data[at:], rare_count, name_bits)
    if names is not None:
        rares = [names[one] for one in rares]

    symbols: list[int] = []
    next_byte, next_rare = [0] * 4, 0
    for i in range(groups * 128):
        stream = 2 * (i % 128 // 64) + i % 2
        lane = 32 * stream + i % 64 // 2
        x = states[lane]
        symbol, freq, offset = slots[numbers[i // 2048]][x & (1 << bits) - 1]
        if symbol is None:
            symbol = rares[next_rare]
            next_rare += 1
        symbols.append(symbol)
        x = freq * (x >> bits) + offset
        if x < 256:
            x = 256 * x + streams[stream][next_byte[stream]]
            next_byte[stream] += 1
        states[lane] = x
    require(all(x == 256 for x in states), "states do not end at 256")
    require(next_byte == list(sizes) and next_rare == rare_count, "bytes are left")
    return symbols[:count]


# ---- section 3 ---------------------------------------------------------------------------


@dataclass
class Heads:
    """The heads of a chunk, one after the other."""

    chunk: bytes
    at: int

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.chunk, self.at)
        self.at += struct.calcsize(form)
        return values

    def plane_bytes(self) -> tuple[int, int, bytes]:
        coder, value, offset, size = self.take("<BBxxII")
        require(offset + size <= len(self.chunk), "a plane beyond its chunk")
        return coder, value, self.chunk[offset : offset + size]

    def plane(self, count: int, bits: int) -> list[int]:
        coder, value, data = self.plane_bytes()
        if coder == 0:
            return unpacked(data, count, bits)
        if coder == 1:
            return [value] * count
        if coder == 2:
            return rans(data, count, bits)
        require(coder in (3, 4), f"coder {coder}")
        size = -(-count * bits // 8)
        made = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
        return unpacked(made, count, bits)


def rotated_back(element: int, width: int) -> int:
    bits = 8 if width == 1 else 16
    below = 8 * width - bits
    top = element >> below
    top = top >> 1 | (top & 1) << (bits - 1)
    return top << below | element & (1 << below) - 1


def dense(heads: Heads, layout: int, count: int, width: int) -> bytes:
    if layout == 0x20:
        return bytes(heads.plane(count * width, 8))
    low = layout & 7
    require(layout & ~0x17 == 0, f"layout {layout}")
    top = heads.plane(count, 8 - low)
    if low:
        lower = heads.plane(count, low)
        top = [a << low | b for a, b in zip(top, lower, strict=True)]
    planes = [top] + [heads.plane(count, 8) for _ in range(width - 1)]
    made = bytearray()
    for i in range(count):
        element = int.from_bytes(bytes(plane[i] for plane in planes), "big")
        if layout & 0x10:
            element = rotated_back(element, width)
        made += element.to_bytes(width, "little")
    return bytes(made)


def sparse(heads: Heads, layout: int, count: int, width: int) -> bytes:
    bitmap = heads.plane(-(-count // 8), 8)
    there = [bitmap[i // 8] >> i % 8 & 1 for i in range(count)]
    some = dense(heads, layout, sum(there), width)
    made, at = bytearray(), 0
    for one in there:
        made += some[at : at + width] if one else bytes(width)
        at += width * one
    return bytes(made)


def palette(heads: Heads, count: int, width: int) -> bytes:
    coder, _, data = heads.plane_bytes()
    entries = len(data) // width
    require(coder == 0 and len(data) % width == 0 and 1 <= entries <= 256, "a palette")
    bits = 1 if entries <= 2 else 2 if entries <= 4 else 4 if entries <= 16 else 8
    colors = [data[i * width : (i + 1) * width] for i in range(entries)]
    numbers = heads.plane(count, bits)
    return b"".join(colors[k] if k < entries else bytes(width) for k in numbers)


def section(heads: Heads, size: int) -> bytes:
    form, layout, planes, width, count = heads.take("<BBBBI")
    require(width in (1, 2, 4, 8) and count * width == size, "size of a section")
    begin = heads.at
    if form == 0:
        made = dense(heads, layout, count, width)
    elif form == 1:
        made = sparse(heads, layout, count, width)
    else:
        require(form == 2, f"form {form}")
        made = palette(heads, count, width)
    require(heads.at - begin == 12 * planes, "number of planes")
    return made


def chunk_bytes(chunk: bytes, dtype: str, elements: int, size: int) -> bytes:
    heads = Heads(chunk, 0)
    told, sections = heads.take("<IBxxx")
    require(told == elements, "elements of a chunk")
    if sections == 1:
        return section(heads, size)
    fields = FIELDS[dtype]
    require(sections == len(fields), "sections of a chunk")
    block = sum(width for _, width in fields)
    made = bytearray(size)
    for offset, width in fields:
        part = section(heads, size // block * width)
        for i in range(size // block):
            place = i * block + offset
            made[place : place + width] = part[i * width : (i + 1) * width]
    return bytes(made)


# ---- sections 1 and 2 --------------------------------------------------------------------


@dataclass
class Frame:
    """What decode makes of a frame."""

    dtype: str
    shape: tuple[int, ...]
    kind: int
    base: str
    size: int
    data: bytes


def decode(frame: bytes, blocks: dict[str, tuple[int, int]], base: bytes = b"") -> Frame:
    """Decode a frame and check everything that can be checked.

    blocks gives elements and bytes of a block of each dtype (docs/formats.md).
    """
    (
        magic, version, tag, ndim, kind, _, name_size, per_chunk, elements, size, table_at,
        digest, base_digest, told_hash,
    ) = struct.unpack_from("<4sHBBBBHIQQQQQQ", frame)  # fmt: skip
    require(magic == b"\x93TSF" and version == 1, "magic and version")
    dtype = NAMES[tag - 1]
    block_elements, block_bytes = blocks[dtype]
    shape = struct.unpack_from(f"<{ndim}Q", frame, 64)
    require(math.prod(shape) == elements, "elements")
    name = frame[64 + 8 * ndim : 64 + 8 * ndim + name_size].decode("utf-8")
    front_size = padded(64 + 8 * ndim + name_size)
    count = 0 if kind == SAME else -(-elements // per_chunk)
    table_size = padded(32 * count)
    require(table_at in (front_size, size - table_size), "place of the table")
    table = frame[table_at : table_at + table_size]

    front = frame[:56] + bytes(8) + frame[64:front_size]
    made = xxh3(struct.pack("<QQ", xxh3(front), xxh3(table)))
    require(made == told_hash, "hash of the front")

    contents, data = b"", bytearray()
    at = front_size + (table_size if table_at == front_size else 0)
    for i in range(count):
        offset, stored_hash, content_hash, stored, own = struct.unpack_from(
            "<QQQII", table, 32 * i
        )
        require(offset == at and stored % 64 == 0, f"row {i} of the table")
        require(own == 0 or (own == 1 and kind == DELTA), f"flag of chunk {i}")
        at += stored
        chunk = frame[offset : offset + stored]
        require(xxh3(chunk) == stored_hash, f"stored bytes of chunk {i}")
        some = min(per_chunk, elements - i * per_chunk)
        unpacked_size = some // block_elements * block_bytes
        part = chunk_bytes(chunk, dtype, some, unpacked_size)
        if kind == DELTA and not own:
            below = base[len(data) : len(data) + len(part)]
            part = bytes(a ^ b for a, b in zip(part, below, strict=True))
        require(xxh3(part) == content_hash, f"unpacked bytes of chunk {i}")
        contents += struct.pack("<Q", content_hash)
        data += part
    require(at == (size if table_at == front_size else table_at), "end of the chunks")
    require(digest == (base_digest if kind == SAME else xxh3(contents)), "digest")
    return Frame(dtype, shape, kind, name, size, base if kind == SAME else bytes(data))
