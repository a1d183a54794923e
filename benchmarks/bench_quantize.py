"""How fast float32 is quantised on one core, beside those who make the same bytes.

    python benchmarks/bench_quantize.py                 two sizes, all schemes: a minute
    python benchmarks/bench_quantize.py --quick         smaller, three rounds
    python benchmarks/bench_quantize.py --only q8_0,nf4

Figures are GB/s of float32 that goes in; everybody writes into memory used before.  One
process, every contender once a round, medians over rounds, ratios within a round; seconds
are those the thread ran, so that others on the machine take no share of them.  Peers:
ggml itself (ggml_quantize_chunk, from a package that ships its library), gguf,
bitsandbytes, ml_dtypes; those that are not installed are left out and named.  ggml's bytes
are compared with ours.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import report
from race import PAUSE, Entry, Row, find, load, stolen

from tensorstream import _core

HERE = pathlib.Path(__file__).parent
COPY = "memcpy"
COLUMNS = 4096
GROUPS: dict[str, int | str] = {"int8": "row", "int4": 128}
# What is wanted of one core, GB/s of float32 from memory.
WANTED = {"q8_0": 16, "q4_0": 16, "nf4": 16, "e4m3": 16, "mxfp4": 8, "q4_k": 0.5}
# About what each is good for; only decides how much a run is given.
SLOW = {"iq4_nl": 0.05, "iq4_xs": 0.05, "tq1_0": 0.3, "tq2_0": 0.3}

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


# -- contenders --------------------------------------------------------------------------


def copying(x: np.ndarray) -> Contender:
    out = np.empty_like(x)
    source, target, size = x.ctypes.data, out.ctypes.data, x.nbytes
    out[...] = 0
    return Contender(
        COPY, "ceiling", size, lambda: ctypes.memmove(target, source, size) and out
    )


def ours(scheme: str, x: np.ndarray) -> tuple[Contender, np.ndarray]:
    how = (scheme, "F32", COLUMNS, GROUPS.get(scheme, 0), False)
    codes, scales = _core.quantized_sizes(*how, len(x))
    data, apart = np.zeros(codes, np.uint8), np.zeros(scales, np.float32)
    none, flat = np.empty(0, np.int8), x.view(np.uint8).reshape(-1)

    def run() -> None:
        _core.quantize(*how, 0, len(x), flat, data, apart, none)

    return Contender(f"tensorstream, {scheme}", "ours", x.nbytes, run), data


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

    def contender(self, scheme: str, x: np.ndarray, want: np.ndarray) -> Contender:
        kind = self.types[scheme.upper()].value
        out = np.zeros_like(want)

        def run() -> None:
            self.library.ggml_quantize_chunk(
                kind, x.ctypes.data, out.ctypes.data, 0, len(x), COLUMNS, None
            )

        run()
        if not np.array_equal(out, want):
            raise AssertionError(f"ggml and tensorstream differ on {scheme}")
        return Contender(f"ggml, {scheme}", "peer", x.nbytes, run)


def gguf_contender(scheme: str, x: np.ndarray) -> Contender:
    import gguf

    kind = gguf.GGMLQuantizationType[scheme.upper()]
    return Contender(f"gguf, {scheme}", "peer", x.nbytes, lambda: gguf.quants.quantize(x, kind))


def bitsandbytes_contender(x: np.ndarray) -> Contender:
    import bitsandbytes.functional as functional
    import torch

    torch.set_num_threads(1)
    tensor = torch.from_numpy(x)

    def run() -> object:
        return functional.quantize_4bit(tensor, blocksize=64, quant_type="nf4")

    return Contender("bitsandbytes, nf4", "peer", x.nbytes, run)


def ml_dtypes_contender(scheme: str, x: np.ndarray) -> Contender:
    import ml_dtypes

    dtype = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}[scheme]
    return Contender(f"ml_dtypes, {scheme}", "peer", x.nbytes, lambda: x.astype(dtype))


def peers(scheme: str, x: np.ndarray, ggml: Ggml | None) -> Iterator[Callable[[], Contender]]:
    """Makers of the peers of a scheme, on an input that is not too much for them."""
    part = x[: max(1, int(len(x) * min(1, 4e6 / x.nbytes)))]
    if scheme == "nf4":
        yield lambda: bitsandbytes_contender(part)
    elif scheme in ("e4m3", "e5m2"):
        yield lambda: ml_dtypes_contender(scheme, part)
    elif scheme not in GROUPS:
        if ggml is not None:
            yield lambda: ggml.contender(scheme, part, made(scheme, part))
        if scheme in ("q4_0", "q8_0", "mxfp4"):
            yield lambda: gguf_contender(scheme, part)


def made(scheme: str, x: np.ndarray) -> np.ndarray:
    contender, data = ours(scheme, x)
    contender.run()
    return data


# -- measures ----------------------------------------------------------------------------


def measure(
    title: str, nbytes: int, schemes: list[str], rounds: int, with_peers: bool, wanted: bool
) -> dict[str, Any]:
    rng = np.random.default_rng(11)
    rows = max(1, nbytes // 4 // COLUMNS)
    x = (rng.standard_normal((rows, COLUMNS), np.float32) * np.float32(0.02)).copy()
    absent: list[str] = []
    ggml: Ggml | None = None
    if with_peers:
        try:
            ggml = Ggml()
        except ImportError as missing:
            absent.append(f"ggml: {missing}")
    contenders = [copying(x)]
    for scheme in schemes:
        slow = SLOW.get(scheme, 1)
        contenders.append(ours(scheme, x[: max(1, int(rows * slow))])[0])
        for make in peers(scheme, x, ggml) if with_peers else ():
            try:
                contenders.append(make())
            except (ImportError, NotImplementedError, AttributeError) as missing:
                absent.append(f"{scheme}: {missing}")
    taken_before, ticks_before = stolen()
    load_before = load()
    for one in contenders:
        one.warm(0.02)
    for _ in range(rounds):
        for one in contenders:
            one.measure()
    taken, ticks = stolen()
    table = [one.row for one in contenders]
    copy = find(table, COPY)
    assert copy is not None
    return {
        "title": title,
        "load": round(max(load_before, load()), 2),
        "stolen": round((taken - taken_before) / max(1, ticks - ticks_before), 4),
        "raw": None,
        "rows": report.as_json(table, copy, None),
        "targets": list(targets(table)) if wanted else [],
        "absent": absent,
        "notes": list(comparisons(table, schemes)),
    }


def targets(rows: list[Row]) -> Iterator[dict[str, Any]]:
    for scheme, wanted in WANTED.items():
        row = find(rows, f"tensorstream, {scheme}")
        if row is not None:
            yield {
                "what": f"{scheme} from float32, one core",
                "wanted": f">= {wanted:g} GB/s",
                "measured": row.median,
                "met": row.median >= wanted,
            }


def comparisons(rows: list[Row], schemes: list[str]) -> Iterator[str]:
    for scheme in schemes:
        mine = find(rows, f"tensorstream, {scheme}")
        for peer in ("ggml", "gguf", "bitsandbytes", "ml_dtypes"):
            theirs = find(rows, f"{peer}, {scheme}")
            if mine and theirs:
                yield f"{scheme}: {mine.over(theirs):.1f} times {peer}"


def main() -> None:
    names = _core.scheme_names()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, help="that count: 9, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="small and rough")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(names)}")
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes")
    parser.add_argument("--no-peers", action="store_true", help="ours and memcpy only")
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
    for name, title, size, wanted in (
        ("cache", "In the second-level cache: 256 KiB of float32", 256 << 10, False),
        ("memory", f"From memory: {large >> 20} MiB of float32", large, True),
    ):
        found = measure(title, size, schemes, rounds, not chosen.no_peers, wanted)
        result["measures"][name] = found
        report.say(report.text(found) + "\n")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    kept = chosen.json or HERE / "results" / f"quantize-{stamp}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")
    report.say(f"written to {kept}")


if __name__ == "__main__":
    main()
