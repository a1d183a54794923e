"""From one format into another, in constant memory: read, convert, quantise, pack, write."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tensorstream import _core, registry
from tensorstream.arrays import FLOAT_TARGETS, PACKED, Array, bytes_of, dtype_code
from tensorstream.checkpoint import Checkpoint, TensorInfo
from tensorstream.progress import Progress, Rate, Reporter
from tensorstream.quantizing import scheme_name
from tensorstream.saving import LEAST_BUDGET, LEAST_PACKING, Row, Writer, format_of
from tensorstream.selection import Layers, Patterns, Selection
from tensorstream.streaming import Options, Stream, Wanted, options
from tensorstream.units import Size, parse_size

Quantize = str | Mapping[str, str | None] | None

# What a format that has no such dtype takes instead, with the same values.
_WIDER = {
    "BOOL": "I8", "U8": "I16", "U16": "I32", "U32": "I64", "BF16": "F32", "F4": "F16",
    "F6_E2M3": "F16", "F6_E3M2": "F16", "F8_E4M3": "F16", "F8_E5M2": "F16", "F8_E8M0": "F32",
    "F8_E4M3FNUZ": "F16", "F8_E5M2FNUZ": "F16",
}  # fmt: skip
_GGUF = {"F16", "BF16", "F32", "F64", "I8", "I16", "I32", "I64"}
_NPZ = {
    "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64",
    "C128",
}  # fmt: skip
_F8_TARGETS = ("F8_E4M3", "F8_E5M2")
_F8_SCHEMES = {"e4m3": "F8_E4M3", "e5m2": "F8_E5M2"}

# Keys that are of a file, not of the model in it.
_OF_THE_FILE = (
    "split.no", "split.count", "split.tensors.count", "tensorstream.padding",
    "tensorstream.frames", "tensorstream.bytes", "tensorstream.base",
)  # fmt: skip
# general.file_type of a model that is mostly of a dtype: llama.cpp's llama_ftype.
_FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
    "Q3_K": 12, "Q4_K": 15, "Q5_K": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32,
    "TQ1_0": 36, "TQ2_0": 37, "MXFP4": 38,
}  # fmt: skip
_QUANTIZATION_VERSION = 2  # ggml's GGML_QNT_VERSION

_BUDGET = "256MiB"
_LARGEST_CHUNK = 8 << 20
_ENOUGH = 2 << 20


class Conversion(NamedTuple):
    """What `convert` did.  Sizes in bytes.

    Attributes:
        path: to open: the file, or the index of shards.
        format: of it.
        tensors, parameters: how many, tied ones once.
        bytes_in: of the tensors in the source.
        bytes_out: of the files that were written.
        seconds: that it took.
        dtypes: how many tensors of each dtype the target has.
        digest: of all that was written; see `registry.Entry`.
        differences: how many tensors are differences to the base.
    """

    path: pathlib.Path
    format: str
    tensors: int
    parameters: int
    bytes_in: int
    bytes_out: int
    seconds: float
    dtypes: dict[str, int]
    digest: str
    differences: int = 0

    @property
    def rate(self) -> float:
        """bytes_in a second."""
        return self.bytes_in / self.seconds if self.seconds > 0 else 0.0

    @property
    def ratio(self) -> float:
        """bytes_out over bytes_in."""
        return self.bytes_out / self.bytes_in if self.bytes_in else 1.0


class _Way(NamedTuple):
    """How the elements of a tensor come out of a stream."""

    form: str  # "own", "raw", "floats", "scheme"
    target: str | None = None  # of "floats"
    scheme: str | None = None


class Step(NamedTuple):
    """One tensor on its way."""

    row: int
    info: TensorInfo
    dtype: str  # in the target
    way: _Way
    then: tuple[str, str] | None  # and converted once more: from, to
    tied_to: str | None


# -- what becomes of a tensor ------------------------------------------------------------------


class _Router:
    """Chooses a target dtype for each tensor, and the way there."""

    def __init__(self, format: str, compressed: bool, dtype: Any, quantize: Quantize) -> None:
        self._format = format
        self._compressed = compressed
        self._target = None if dtype is None else _float_code(dtype)
        self._rules = _rules(quantize)
        for _, scheme in self._rules:
            if scheme is not None and not self._holds(_scheme_dtype(scheme)):
                hint = " without compression" if format == "safetensors" else ""
                raise ValueError(f"{format} files hold no {scheme} blocks{hint}")

    def _holds(self, code: str) -> bool:
        is_block = code.startswith(("Q", "IQ", "TQ")) or code in ("MXFP4", "NVFP4")
        if self._format == "safetensors":
            return self._compressed or not (is_block or code == "C128")
        return code in _NPZ if self._format == "npz" else is_block or code in _GGUF

    def step(self, row: int, info: TensorInfo, tied_to: str | None) -> Step:
        scheme = self._scheme(info)
        if scheme is not None:
            way = _Way("scheme", scheme=scheme)
            return Step(row, info, _scheme_dtype(scheme), way, None, tied_to)
        dtype = self._dtype(info)
        way, then = _way_to(info, dtype)
        return Step(row, info, dtype, way, then, tied_to)

    def _scheme(self, info: TensorInfo) -> str | None:
        """Matrices of floats whose rows are whole blocks are quantised."""
        if len(info.shape) < 2 or info.dtype not in FLOAT_TARGETS or not info.num_elements:
            return None
        for pattern, scheme in self._rules:
            if fnmatch.fnmatchcase(info.name, pattern):
                return scheme if scheme is not None and _suits(info, scheme) else None
        return None

    def _dtype(self, info: TensorInfo) -> str:
        code = info.dtype
        is_float = info.is_quantized or code.startswith(("F", "BF"))
        if self._target is not None and is_float:
            code = self._target
        if self._holds(code):
            return code
        wider = "F32" if info.is_quantized and code == info.dtype else _WIDER.get(code)
        if wider is None or not self._holds(wider):
            raise _core.UnsupportedError(
                f"tensor {info.name!r} is {info.dtype}, which a {self._format} file does not "
                "hold, nor anything with the same values; exclude it"
            )
        return wider


def _float_code(dtype: Any) -> str:
    code = dtype_code(dtype)
    if code not in (*FLOAT_TARGETS, *_F8_TARGETS):
        raise ValueError(
            f"floats can become {', '.join((*FLOAT_TARGETS, *_F8_TARGETS))}, not {dtype!r}; "
            "blocks are made with quantize="
        )
    return code


def _rules(quantize: Quantize) -> list[tuple[str, str | None]]:
    if quantize is None:
        return []
    if isinstance(quantize, str):
        quantize = {"*": quantize}
    if not isinstance(quantize, Mapping):
        kind = type(quantize).__name__
        raise TypeError(f"quantize is a scheme or a mapping of patterns to some, not a {kind}")
    rules = []
    for pattern, scheme in quantize.items():
        name = None if scheme is None else scheme_name(scheme)
        if name in ("int8", "int4", "nf4"):
            raise ValueError(
                f"{name} keeps its scales apart, and a tensor of a checkpoint has no place for "
                "them; ggml's blocks, e4m3 and e5m2 can be written"
            )
        if name is not None:  # is it one at all?
            _core.quantized_sizes(name, "F32", 0, 0, False, 0)
        rules.append((pattern, name))
    return rules


def _scheme_dtype(scheme: str) -> str:
    return _F8_SCHEMES.get(scheme, scheme.upper())


def _suits(info: TensorInfo, scheme: str) -> bool:
    try:
        _core.quantized_sizes(scheme, info.dtype, info.shape[-1], 0, False, 1)
    except ValueError:
        return False  # its rows are no whole number of blocks
    return True


def _way_to(info: TensorInfo, dtype: str) -> tuple[_Way, tuple[str, str] | None]:
    if dtype == info.dtype:
        return _Way("raw" if info.is_quantized or dtype in PACKED else "own"), None
    if dtype in FLOAT_TARGETS:
        return _Way("floats", dtype), None
    if dtype in _F8_TARGETS:
        return _Way("floats", "F32"), ("F32", dtype)
    return _Way("own"), (info.dtype, dtype)


# -- steps -------------------------------------------------------------------------------------


def steps_of(ckpt: Checkpoint, rows: list[int], router: _Router, keep_ties: bool) -> list[Step]:
    """The tensors in order.  One that is tied to an earlier one is that, where it becomes the
    same."""
    steps: dict[str, Step] = {}
    for row in rows:
        info = ckpt.tensor(row)
        step = router.step(row, info, None)
        first = steps.get(info.alias_of) if keep_ties and info.alias_of is not None else None
        if first is not None and first.dtype == step.dtype:
            step = step._replace(tied_to=info.alias_of)
        steps[info.name] = step
    return list(steps.values())


def _rows_of(steps: list[Step], compressed: bool) -> Iterator[Row]:
    for step in steps:
        if step.tied_to is None or compressed:
            nbytes = step.info.nbytes if step.tied_to is None else 0
            yield Row(step.info.name, step.dtype, step.info.shape, nbytes)


class _Pump:
    """Brings the elements of steps from streams to a writer."""

    def __init__(
        self, ckpt: Checkpoint, out: Writer, steps: list[Step], chosen: Options, progress: Any
    ) -> None:
        self._ckpt, self._out, self._steps, self._chosen = ckpt, out, steps, chosen
        self._begun = time.perf_counter()
        self._rate = Rate()
        self._bytes = self._tensors = self._elements = self._chunks = 0
        self._bytes_total = sum(step.info.nbytes for step in steps if step.tied_to is None)
        self._elements_total = sum(
            step.info.num_elements for step in steps if step.tied_to is None
        )
        self._name = ""
        self._stream: Stream | None = None
        self.reporter = Reporter(progress, self.snapshot)

    def snapshot(self) -> Progress:
        seconds = time.perf_counter() - self._begun
        rate = self._rate.update(self._bytes, seconds)
        rss, rss_peak = _core.resident()
        now = self._stream.progress if self._stream is not None else None
        return Progress(
            bytes=self._bytes, bytes_total=self._bytes_total,
            tensors=self._tensors, tensors_total=len(self._steps),
            layers=0, layers_total=0,
            parameters=self._elements, parameters_total=self._elements_total,
            seconds=seconds, rate=rate,
            eta=(self._bytes_total - self._bytes) / rate if rate > 0 else None,
            memory=now.memory if now else 0, memory_peak=now.memory_peak if now else 0,
            rss=rss, rss_peak=rss_peak, name=self._name, chunks=self._chunks,
            chunk_size=now.chunk_size if now else 0,
        )  # fmt: skip

    def run(self) -> None:
        """All steps, in order; neighbours that come the same way share a stream."""
        finished = False
        try:
            for way, group in itertools.groupby(self._steps, key=lambda step: step.way):
                self._run_group(way, list(group))
            finished = True
        finally:
            self.reporter.close(finished=finished)

    def _run_group(self, way: _Way, steps: list[Step]) -> None:
        own = [step for step in steps if step.tied_to is None and step.info.num_elements]
        wanted = [Wanted(step.row, 0, step.info.num_elements) for step in own]
        # A stream of a few norms needs no more memory than they have.
        enough = _ENOUGH + 16 * sum(step.info.nbytes for step in own)
        if any(step.info.storage == "framed" for step in own):
            enough = self._chosen.budget
        chosen = self._chosen._replace(
            form=way.form,
            dtype=way.target,
            encoding=None if way.scheme is None else (way.scheme, 0, False),
            budget=min(self._chosen.budget, enough),
        )
        with Stream(self._ckpt, wanted, chosen, order="given") as stream:
            self._stream = stream
            for step in steps:
                self._name = step.info.name
                if step.tied_to is not None:
                    self._out.tie(step.info.name, step.tied_to)
                else:
                    self._write(step, stream)
                self._tensors += 1

    def _write(self, step: Step, stream: Stream) -> None:
        done, count = 0, step.info.num_elements
        with self._out.tensor(step.info.name, step.dtype, step.info.shape) as tensor:
            while done < count:
                chunk = next(stream)
                tensor.write(converted(bytes_of(chunk.array), step, chunk.stop - done))
                self._count(step, chunk.stop - done)
                done = chunk.stop

    def _count(self, step: Step, elements: int) -> None:
        self._chunks += 1
        self._elements += elements
        self._bytes += step.info.nbytes * elements // step.info.num_elements
        self.reporter.tick()


def converted(data: Array, step: Step, elements: int) -> Any:
    if step.then is None:
        return data
    return memoryview(_core.convert(data, *step.then, elements))


# -- metadata ----------------------------------------------------------------------------------


def metadata_into(ckpt: Checkpoint, out: Writer, steps: list[Step]) -> None:
    """What the source says besides tensors goes over, as far as the target can say it."""
    if out.format == "gguf":
        if ckpt.format == "gguf":
            out.keep_metadata_of(ckpt.catalog, _OF_THE_FILE)
        else:
            _describe(ckpt, out)
        _tell_types(ckpt, out, steps)
        return
    for key, value in ckpt.metadata.items():
        if key not in _OF_THE_FILE:
            out.metadata.setdefault(key, value)
    if ckpt.metadata.get("format") is not None:
        out.metadata["format"] = ckpt.metadata["format"]


def _describe(ckpt: Checkpoint, out: Writer) -> None:
    """What readers of GGUF ask for first, and the source's strings."""
    config = _config_beside(ckpt)
    name = (
        pathlib.Path(ckpt.files[0]).stem if ckpt.files and ckpt.format != "memory" else "model"
    )
    out.metadata.setdefault("general.architecture", config.get("model_type", "unknown"))
    out.metadata.setdefault("general.name", config.get("_name_or_path") or name)
    for key, value in ckpt.metadata.items():
        if key in _OF_THE_FILE or key == "format":
            continue
        plain = isinstance(value, (str, bool, int, float))
        text = value if plain else json.dumps(value, default=str)
        out.metadata.setdefault(key, text)


def _config_beside(ckpt: Checkpoint) -> dict[str, Any]:
    """The config.json of a model in a folder; empty where there is none."""
    if not ckpt.files or ckpt.format == "memory":
        return {}
    try:
        path = pathlib.Path(ckpt.files[0]).with_name("config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = ("model_type", "_name_or_path")
    return {key: config[key] for key in known if isinstance(config.get(key), str)}


def _tell_types(ckpt: Checkpoint, out: Writer, steps: list[Step]) -> None:
    """general.file_type: of which dtype most of the model is."""
    if ckpt.format == "gguf" and all(step.dtype == step.info.dtype for step in steps):
        return
    sizes: dict[str, int] = {}
    for step in steps:
        sizes[step.dtype] = sizes.get(step.dtype, 0) + step.info.num_elements
    most = max(sizes, key=lambda code: sizes[code], default="F32")
    if most in _FILE_TYPES:
        out.metadata["general.file_type"] = _FILE_TYPES[most]
    if any(code not in _GGUF for code in sizes):
        out.metadata["general.quantization_version"] = _QUANTIZATION_VERSION


# -- the whole ---------------------------------------------------------------------------------


def make_steps(
    ckpt: Checkpoint,
    target: str | os.PathLike[str],
    format: str | None,
    compression: str | None,
) -> list[Step]:
    """All tensors on their way into a format, in their own dtypes as far as it has them."""
    kind = format_of(target, format) if not os.path.isdir(target) else format
    router = _Router(kind or "safetensors", compression is not None, None, None)
    return steps_of(ckpt, list(range(len(ckpt))), router, keep_ties=kind != "npz")


def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    format: str | None = None,
    dtype: Any = None,
    quantize: Quantize = None,
    compression: str | None = None,
    shard_size: Size | None = None,
    kinds: Patterns = None,
    layers: Layers = None,
    include: Patterns = None,
    exclude: Patterns = None,
    regex: Any = None,
    where: Any = None,
    names: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    budget: Size | None = None,
    threads: int | None = None,
    base: Any = None,
    engine: str | None = None,
    progress: Any = False,
    record: bool | str | os.PathLike[str] = False,
) -> Conversion:
    """Write a checkpoint in another format, in constant memory.

    Tensors go over in the order of the source, with their names, and metadata as far as the
    target can say it (GGUF to GGUF in its own types).  A tensor tied to another is written
    once where the target can say so (see `Writer.tie`).  What a format has no dtype for
    becomes the narrowest one with the same values: blocks become float32 outside GGUF and
    compressed safetensors, bfloat16 float32 in npz, 8-bit floats float16 in GGUF and npz.

    Args:
        source: whatever `open` takes, or an open `Checkpoint`.
        target: a path ending in .safetensors, .gguf or .npz, or a folder; see `create`.
        format: where the suffix does not tell.
        dtype: of all floating-point tensors, blocks among them: "float32", "float16",
            "bfloat16", "float64", "float8_e4m3fn" or "float8_e5m2"; None leaves them.
        quantize: a scheme of `quantize` that makes one dtype: "q8_0", "q4_k" ... "e4m3",
            for matrices of floats whose rows are whole blocks; or {pattern: scheme or None},
            of which the first that matches the name counts.  Others follow `dtype`.
        compression, shard_size: see `create`.
        kinds, layers, include, exclude, regex, where, names: see `Selection`.
        metadata: more of it, or other values.
        budget: bytes for everything on the way, at least 8 MiB; None is 256MiB.
        threads, engine: that read, as in `Checkpoint.stream`; `threads` also compress.
        base: a checkpoint that the target holds differences to; see `create`.
        progress: as in `Checkpoint.stream`.
        record: True adds it to the registry in the user's state folder, a path to that one.

    Returns:
        What was done.

    Raises:
        ValueError: a format, dtype or scheme that does not go there; no tensor was chosen.
        UnsupportedError: a tensor of which the target can hold no equal.
        FormatError, OSError: as reading and writing raise them.  What was at the target is
            untouched then.

    >>> ts.convert("model.safetensors", "model.gguf", quantize="q8_0").ratio
    """
    ckpt = source if isinstance(source, Checkpoint) else Checkpoint(source)
    try:
        size = parse_size(_BUDGET if budget is None else budget, "budget")
        if size < 2 * LEAST_PACKING:
            raise ValueError(f"budget must be at least {2 * LEAST_PACKING} bytes, not {size}")
        share = size // 2 if compression is not None else max(size // 8, LEAST_BUDGET)
        chosen = options(
            budget=size - share, threads=threads, engine=engine,
            chunk=min(_LARGEST_CHUNK, (size - share) // 8),
        )  # fmt: skip
        kind = format_of(target, format) if not os.path.isdir(target) else format
        router = _Router(kind or "safetensors", compression is not None, dtype, quantize)
        rows = Selection(kinds, layers, include, exclude, regex, where, names).rows(
            ckpt, ckpt.catalog
        )
        if not rows and len(ckpt) > 0:
            raise ValueError(f"none of the {len(ckpt)} tensors of {ckpt.label} was chosen")
        steps = steps_of(ckpt, rows, router, keep_ties=kind != "npz")
        out = Writer(
            target, format=format, metadata=metadata, compression=compression,
            shard_size=shard_size, budget=share, threads=threads, base=base, digests=True,
        )  # fmt: skip
        begun = time.perf_counter()
        with out:
            metadata_into(ckpt, out, steps)
            out.expect(_rows_of(steps, compression is not None))
            _Pump(ckpt, out, steps, chosen, progress).run()
        done = _conversion(out, steps, time.perf_counter() - begun)
        if record is not False:
            asked = {"dtype": dtype, "quantize": quantize, "compression": compression}
            _record(ckpt, done, {**asked, "base": _name_of(base)}, record)
        return done
    finally:
        if ckpt is not source:
            ckpt.close()


def _conversion(out: Writer, steps: list[Step], seconds: float) -> Conversion:
    dtypes: dict[str, int] = {}
    for step in steps:
        dtypes[step.dtype] = dtypes.get(step.dtype, 0) + 1
    own = [step.info for step in steps if step.tied_to is None]
    return Conversion(
        path=out.path,
        format=out.format,
        tensors=len(own),
        parameters=sum(info.num_elements for info in own),
        bytes_in=sum(info.nbytes for info in own),
        bytes_out=sum(os.path.getsize(path) for path in out.files),
        seconds=seconds,
        dtypes=dtypes,
        digest=registry.digest_of(out.digests()),
        differences=out.differences(),
    )


def _name_of(base: Any) -> str | None:
    if base is None:
        return None
    label = base.label if isinstance(base, Checkpoint) else base
    return str(label) if isinstance(label, (str, os.PathLike)) else "arrays in memory"


def _record(
    ckpt: Checkpoint, done: Conversion, asked: dict[str, Any],
    record: bool | str | os.PathLike[str],
) -> None:  # fmt: skip
    quantize = asked["quantize"]
    if isinstance(quantize, Mapping):
        rules = (f"{name}:{scheme or 'none'}" for name, scheme in quantize.items())
        asked["quantize"] = " ".join(rules)
    files = ckpt.catalog.files()
    entry = registry.Entry(
        source=", ".join(sorted({os.path.abspath(one["path"]) for one in files}))
        if ckpt.format != "memory"
        else "arrays in memory",
        target=os.path.abspath(done.path),
        format=done.format,
        encoder=", ".join(f"{key}={value}" for key, value in asked.items() if value) or "copy",
        tensors=done.tensors,
        parameters=done.parameters,
        bytes_in=done.bytes_in,
        bytes_out=done.bytes_out,
        source_size=sum(one["size"] for one in files),
        source_mtime_ns=max((one["mtime_ns"] for one in files), default=0),
        digest=done.digest,
        seconds=done.seconds,
        rate=done.rate,
    )
    registry.record(entry, None if isinstance(record, bool) else record)
