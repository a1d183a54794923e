"""How fast float32 becomes codes and codes float32 on one core, beside those who do the same.

    python benchmarks/bench_quantize.py                 every scheme: two minutes
    python benchmarks/bench_quantize.py --quick         smaller, three rounds
    python benchmarks/bench_quantize.py --only q8_0,nf4
    python benchmarks/bench_quantize.py --publish       also quantize.json and README.md

Figures are GB/s of the float32; everybody who can writes into memory used before.  One
process, every contender once a round, medians over rounds, ratios within a round; seconds
are those the thread ran, so that others on the machine take no share of them.  Peers:
ggml itself (ggml_quantize_chunk, from a package that ships its library), gguf,
bitsandbytes, torchao, ml_dtypes and, for what was lost, NumPy; those that are not installed
are left out and named.  ggml's bytes are compared with ours.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import functools
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import report
from race import PAUSE, Entry, Row, find, load, stolen

from tensorstream import _core

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<!-- quantize: begin -->", "<!-- quantize: end -->"
COPY = "memcpy"
COLUMNS = 4096
# What shares a scale, and whether there is a zero; a scheme that is not here has no choice.
GROUPS: dict[str, list[tuple[int | str, bool]]] = {
    "int8": [("row", False), ("row", True), (128, False), ("tensor", False)],
    "int4": [("row", False), (128, False), (128, True), ("tensor", False)],
    "e4m3": [(0, False), ("row", False)],
    "e5m2": [(0, False), ("row", False)],
}
BACK = ("q8_0", "q4_0", "q4_k", "iq4_nl", "mxfp4", "nf4", "int8", "int4", "e4m3", "e5m2")
LOST = ("q8_0", "q4_k", "nf4", "int8", "e4m3")
# What is wanted of one core, GB/s of float32 from memory, and of memcpy in the same run.
WANTED = {"q8_0": 16, "q4_0": 16, "nf4": 16, "e4m3": 16, "mxfp4": 8, "q4_k": 0.5}
WANTED_OF_COPY = {"q8_0": 0.8, "q4_0": 0.8, "nf4": 0.8, "e4m3": 0.8}
# About what each is good for; only decides how much a run is given.
SLOW = {"tq1_0": 0.3, "tq2_0": 0.3}

Run = Callable[[], object]


class Contender:
    """One line of the table: what a run does and how many bytes of float32 it takes."""

    def __init__(self, label: str, role: Any, nbytes: int, run: Run) -> None:
        self.row = Row(Entry(label, "", "", {}, role, nbytes))
        self.nbytes = nbytes
        self.run = run
        self.times = 1

    def warm(self, seconds: float) -> None:
        """Run once, and find how often makes a measure that long."""
        began = time.thread_time()
        self.run()
        took = max(time.thread_time() - began, 1e-6)
        self.times = max(1, min(1000, round(seconds / took)))

    def measure(self) -> None:
        time.sleep(PAUSE)
        began = time.thread_time()
        for _ in range(self.times):
            self.run()
        took = time.thread_time() - began
        self.row.figures.append(self.times * self.nbytes / 1e9 / took)


Makers = Iterator[Callable[[], Contender]]


def copying(x: np.ndarray) -> Contender:
    out = np.empty_like(x)
    source, target, size = x.ctypes.data, out.ctypes.data, x.nbytes
    out[...] = 0
    return Contender(
        COPY, "ceiling", size, lambda: ctypes.memmove(target, source, size) and out
    )


# -- ours --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """A scheme with what shares a scale."""

    scheme: str
    group: int | str = 0
    has_zero: bool = False

    @property
    def label(self) -> str:
        shared = f", a scale for {self.group}" if self.group else ""
        return self.scheme + shared + (" and zero" if self.has_zero else "")


def variants(scheme: str) -> list[Variant]:
    return [Variant(scheme, *one) for one in GROUPS.get(scheme, [(0, False)])]


class Quantized:
    """An array beside the codes and scales that it has, or is going to have."""

    def __init__(self, of: Variant, x: np.ndarray) -> None:
        how = (of.scheme, "F32", COLUMNS, of.group, of.has_zero)
        codes, scales = _core.quantized_sizes(*how, len(x))
        self.of, self.x, self.how = of, x, (*how, 0, len(x))
        self.codes, self.scales = np.zeros(codes, np.uint8), np.zeros(scales, np.float32)
        self.zeros = np.zeros(scales if of.has_zero else 0, np.int8)
        if of.group == "tensor":  # its range takes a pass of its own, that of statistics
            scale, _ = _core.quantize_scale(*how, float(x.min()), float(x.max()))
            self.scales[0] = scale

    def call(self, what: Callable[..., object], floats: np.ndarray) -> Contender:
        flat, parts = floats.view(np.uint8).reshape(-1), (self.codes, self.scales, self.zeros)

        def run() -> object:
            return what(*self.how, flat, *parts)

        return Contender(f"tensorstream, {self.of.label}", "ours", floats.nbytes, run)


def made(of: Variant, x: np.ndarray) -> Quantized:
    packed = Quantized(of, x)
    packed.call(_core.quantize, x).run()
    return packed


# -- peers -------------------------------------------------------------------------------


def little(x: np.ndarray) -> np.ndarray:
    """No more than a slow one can be asked for."""
    return x[: max(1, int(len(x) * min(1, 4e6 / x.nbytes)))]


class Ggml:
    """ggml_quantize_chunk of the library that a package ships."""

    def __init__(self) -> None:
        from gguf import GGMLQuantizationType

        self.types = GGMLQuantizationType
        files = importlib.metadata.files("pywhispercpp") or []
        found = [str(f.locate()) for f in files if "ggml-base" in f.name]
        if not found:
            raise ModuleNotFoundError("pywhispercpp has no libggml-base in it")
        self.library = ctypes.CDLL(found[0])
        self.library.ggml_quantize_chunk.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip

    def contender(self, of: Variant, x: np.ndarray) -> Contender:
        kind, want = self.types[of.scheme.upper()].value, made(of, x).codes
        out = np.zeros_like(want)

        def run() -> None:
            self.library.ggml_quantize_chunk(
                kind, x.ctypes.data, out.ctypes.data, 0, len(x), COLUMNS, None
            )

        run()
        if not np.array_equal(out, want):
            raise AssertionError(f"ggml and tensorstream differ on {of.scheme}")
        return Contender(f"ggml, {of.label}", "peer", x.nbytes, run)


def gguf_encoder(of: Variant, x: np.ndarray) -> Contender:
    import gguf

    kind = gguf.GGMLQuantizationType[of.scheme.upper()]
    gguf.quants.quantize(x[:1], kind)
    return Contender(
        f"gguf, {of.label}", "peer", x.nbytes, lambda: gguf.quants.quantize(x, kind)
    )


def gguf_decoder(of: Variant, x: np.ndarray) -> Contender:
    import gguf

    kind = gguf.GGMLQuantizationType[of.scheme.upper()]
    codes = made(of, x).codes.reshape(len(x), -1)
    return Contender(
        f"gguf, {of.label}", "peer", x.nbytes, lambda: gguf.quants.dequantize(codes, kind)
    )


def one_thread() -> Any:
    import torch

    torch.set_num_threads(1)
    return torch


def bitsandbytes_encoder(of: Variant, x: np.ndarray) -> Contender:
    import bitsandbytes.functional as functional

    tensor = one_thread().from_numpy(x)

    def run() -> object:
        return functional.quantize_4bit(tensor, blocksize=64, quant_type="nf4")

    return Contender(f"bitsandbytes, {of.label}", "peer", x.nbytes, run)


def bitsandbytes_decoder(of: Variant, x: np.ndarray) -> Contender:
    import bitsandbytes.functional as functional

    tensor = one_thread().from_numpy(x)
    packed, state = functional.quantize_4bit(tensor, blocksize=64, quant_type="nf4")
    return Contender(
        f"bitsandbytes, {of.label}", "peer", x.nbytes,
        lambda: functional.dequantize_4bit(packed, state),
    )  # fmt: skip


def torchao_encoder(of: Variant, x: np.ndarray) -> Contender:
    """Its integers, symmetric or not; those of four bits come in a byte each."""
    from torchao.quantization import quant_primitives as primitives

    torch = one_thread()
    tensor, most = torch.from_numpy(x), 127 if of.scheme == "int8" else 7
    block = {"row": (1, COLUMNS), "tensor": x.shape}.get(str(of.group)) or (1, of.group)
    kinds = primitives.MappingType
    kind = kinds.ASYMMETRIC if of.has_zero else kinds.SYMMETRIC
    bounds = (torch.int8, -most - 1, most)

    def run() -> object:
        scale, zero = primitives.choose_qparams_affine(tensor, kind, block, *bounds)
        return primitives.quantize_affine(tensor, block, scale, zero, *bounds)

    return Contender(f"torchao, {of.label}", "peer", x.nbytes, run)


def ml_dtypes_cast(of: Variant, x: np.ndarray, back: bool) -> Contender:
    import ml_dtypes

    dtype = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}[of.scheme]
    source, to = (x.astype(dtype), np.float32) if back else (x, dtype)
    return Contender(f"ml_dtypes, {of.label}", "peer", x.nbytes, lambda: source.astype(to))


def numpy_loss(of: Variant, x: np.ndarray) -> Contender:
    """The same sums and the same maximum, of floats that were decoded before."""
    packed, y = made(of, x), np.zeros_like(x)
    packed.call(_core.dequantize, y).run()

    def run() -> object:
        a, b = x.ravel().astype(np.float64), y.ravel().astype(np.float64)
        lost = a - b
        return np.abs(lost).max(), lost @ lost, a @ b, a @ a, b @ b

    return Contender(f"NumPy, {of.label}", "peer", x.nbytes, run)


def encoders(of: Variant, x: np.ndarray, ggml: Ggml | None) -> Makers:
    """Makers of those who quantise."""
    if of.scheme == "nf4":
        yield lambda: bitsandbytes_encoder(of, x)
    elif of.scheme in ("int8", "int4"):
        yield lambda: torchao_encoder(of, x)
    elif of.scheme in ("e4m3", "e5m2"):
        if not of.group:
            yield lambda: ml_dtypes_cast(of, x, back=False)
    else:
        if ggml is not None:
            yield lambda: ggml.contender(of, x)
        if of.scheme in ("q4_0", "q8_0", "mxfp4"):
            yield lambda: gguf_encoder(of, x)


def decoders(of: Variant, x: np.ndarray) -> Makers:
    """Makers of those who make floats of codes."""
    if of.scheme == "nf4":
        yield lambda: bitsandbytes_decoder(of, x)
    elif of.scheme in ("e4m3", "e5m2"):
        if not of.group:
            yield lambda: ml_dtypes_cast(of, x, back=True)
    elif of.scheme not in GROUPS:
        yield lambda: gguf_decoder(of, x)


# -- measures ----------------------------------------------------------------------------


class Field:
    """The contenders of one measure."""

    def __init__(self, nbytes: int, with_peers: bool) -> None:
        rng = np.random.default_rng(11)
        rows = max(1, nbytes // 4 // COLUMNS)
        self.x = (rng.standard_normal((rows, COLUMNS), np.float32) * np.float32(0.02)).copy()
        self.with_peers = with_peers
        self.contenders = [copying(self.x)]
        self.absent: list[str] = []

    def part(self, scheme: str) -> np.ndarray:
        return self.x[: max(1, int(len(self.x) * SLOW.get(scheme, 1)))]

    def add(self, mine: Contender, of: Variant, makers: Makers) -> None:
        self.contenders.append(mine)
        for make in makers if self.with_peers else ():
            try:
                self.contenders.append(make())
            except (ImportError, NotImplementedError, AttributeError) as missing:
                self.absent.append(f"{of.label}: {missing}")


def encoding(field: Field, schemes: list[str]) -> None:
    """Floats to codes."""
    ggml: Ggml | None = None
    if field.with_peers:
        try:
            ggml = Ggml()
        except ImportError as missing:
            field.absent.append(f"ggml: {missing}")
    for of in (one for scheme in schemes for one in variants(scheme)):
        x = field.part(of.scheme)
        mine = Quantized(of, x).call(_core.quantize, x)
        field.add(mine, of, encoders(of, little(x), ggml))


def decoding(field: Field, schemes: list[str]) -> None:
    """Codes to floats."""
    for of in (one for scheme in schemes if scheme in BACK for one in variants(scheme)):
        x = field.part(of.scheme)
        mine = made(of, x).call(_core.dequantize, np.zeros_like(x))
        field.add(mine, of, decoders(of, little(x)))


def losing(field: Field, schemes: list[str]) -> None:
    """What was lost: floats beside their codes."""
    for of in (variants(scheme)[0] for scheme in schemes if scheme in LOST):
        x = field.part(of.scheme)
        mine = made(of, x).call(_core.deviation, x)
        field.add(mine, of, iter([functools.partial(numpy_loss, of, little(x))]))


def measure(title: str, field: Field, rounds: int, wanted: bool) -> dict[str, Any]:
    taken_before, ticks_before = stolen()
    load_before = load()
    for one in field.contenders:
        one.warm(0.02)
    for _ in range(rounds):
        for one in field.contenders:
            one.measure()
    taken, ticks = stolen()
    table = [one.row for one in field.contenders]
    return {
        "title": title,
        "load": round(max(load_before, load()), 2),
        "stolen": round((taken - taken_before) / max(1, ticks - ticks_before), 4),
        "raw": None,
        "rows": report.as_json(table, table[0], None),
        "targets": list(targets(table)) if wanted else [],
        "absent": field.absent,
        "notes": ["seconds of the processor, one thread", *comparisons(table)],
    }


def targets(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for unit, wanted in (("GB/s", WANTED), ("of memcpy", WANTED_OF_COPY)):
        for scheme, least in wanted.items():
            row = find(rows, f"tensorstream, {scheme}")
            if row is None:
                continue
            found = row.median if wanted is WANTED else row.over(rows[0])
            yield {
                "what": f"{scheme} from float32, one core, {unit}",
                "wanted": f">= {least:g}",
                "measured": found,
                "met": found >= least,
            }


def comparisons(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        peer, _, what = row.entry.label.partition(", ")
        mine = find(rows, f"tensorstream, {what}")
        if row.entry.role == "peer" and mine is not None:
            yield f"{what}: {mine.over(row):.1f} times {peer}"


MEASURES: dict[str, Callable[[Field, list[str]], None]] = {
    "cache": encoding,
    "memory": encoding,
    "back": decoding,
    "lost": losing,
}


def main() -> None:
    names = _core.scheme_names()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, help="that count: 9, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="small and rough")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(names)}")
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes")
    parser.add_argument("--no-peers", action="store_true", help="ours and memcpy only")
    parser.add_argument(
        "--publish", action="store_true", help="also keep it as quantize.json and in README.md"
    )
    chosen = parser.parse_args()
    schemes = chosen.only.split(",") if chosen.only else list(names)
    unknown = [name for name in schemes if name not in names]
    if unknown:
        parser.error(f"no scheme {', '.join(unknown)}; there are {', '.join(names)}")
    rounds = chosen.rounds or (3 if chosen.quick else 9)
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "simd": _core.simd,
        "rounds": rounds,
        "measures": {},
    }
    report.say(report.machine_line(result["machine"]) + f", {_core.simd}\n")
    large = 8 << 20 if chosen.quick else 64 << 20
    of_it = f"{large >> 20} MiB of float32"
    titles = {
        "cache": "Encoded in the second-level cache: 256 KiB of float32",
        "memory": f"Encoded from memory: {of_it}",
        "back": f"Decoded to memory: {of_it}",
        "lost": f"Compared with what was lost, from memory: {of_it}",
    }
    for name, gather in MEASURES.items():
        field = Field(256 << 10 if name == "cache" else large, not chosen.no_peers)
        gather(field, schemes)
        found = measure(titles[name], field, rounds, name == "memory")
        result["measures"][name] = found
        report.say(report.text(found) + "\n")
    report.keep("quantize", result, chosen.json)
    if chosen.publish:
        (HERE / "quantize.json").write_text(json.dumps(result, indent=1) + "\n")
        report.fill(HERE / "README.md", result, BEGIN, END)


if __name__ == "__main__":
    main()
