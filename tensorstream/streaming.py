"""Streams: chosen tensors come past in order, inside a hard memory budget."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorstream import _core
from tensorstream.arrays import float_target
from tensorstream.progress import Progress, Rate, Reporter
from tensorstream.units import Size, format_size, parse_size, parse_threads

if TYPE_CHECKING:
    from tensorstream.checkpoint import Checkpoint
    from tensorstream.encoding import EncodedChunk

STATE_VERSION = 1
DEFAULT_BUDGET = "64MiB"


class Wanted(NamedTuple):
    """Elements [start, stop) of one row of the catalog."""

    row: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class TensorStats:
    """Statistics of the values of one tensor; NaN where no finite value was seen.

    `count` numbers in all (two for each complex element), of them `nan_count` NaNs and
    `inf_count` infinities; `min`, `max`, `mean` and `absmax` are over the rest.
    """

    count: int
    min: float
    max: float
    mean: float
    absmax: float
    nan_count: int
    inf_count: int


class Options(NamedTuple):
    """How to stream, as the core wants it.  Made by `options()`."""

    form: str
    dtype: str | None
    budget: int
    threads: int
    engine: str
    chunk_size: int
    stats: bool
    checksum: str
    encoding: tuple[str, int | str, bool] | None = None

    def arguments(self) -> dict[str, Any]:
        return self._asdict()


def options(
    *,
    dtype: Any = None,
    budget: Size | None = None,
    threads: int | None = None,
    engine: str | None = None,
    chunk: Size | None = None,
    stats: bool = False,
    checksum: str | None = None,
) -> Options:
    """Check what a person says and put it in the core's words.  None is the default.

    Raises:
        ValueError: a size below its minimum, an unknown dtype, engine or checksum.
    """
    form, target = form_of(dtype)
    size = 0 if chunk is None or chunk == "auto" else parse_size(chunk, "chunk")
    return Options(
        form=form,
        dtype=target,
        budget=parse_size(DEFAULT_BUDGET if budget is None else budget, "budget"),
        threads=parse_threads(threads),
        engine="auto" if engine is None else engine,
        chunk_size=size,
        stats=stats,
        checksum=checksum or "none",
    )


def form_of(dtype: Any) -> tuple[str, str | None]:
    """(form, target) of a dtype option: None is the tensor's own, "raw" its bytes."""
    if dtype is None:
        return "own", None
    if isinstance(dtype, str) and dtype == "raw":
        return "raw", None
    return "floats", float_target(dtype)


class LayerCount:
    """How many layers are behind a given place in the list of what is wanted."""

    def __init__(self, catalog: _core.Catalog, wanted: list[Wanted]) -> None:
        last: dict[tuple[str, int], int] = {}
        for index, item in enumerate(wanted):
            _, _, layer, _, stack = catalog.role(item.row)
            if layer >= 0:
                last[stack, layer] = index
        self._ends = sorted(last.values())

    def __len__(self) -> int:
        return len(self._ends)

    def before(self, index: int) -> int:
        """Layers that end before item `index`."""
        return bisect.bisect_left(self._ends, index)


class Run:
    """A core stream with what Python adds: labels, layers, rates, reports."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        wanted: list[Wanted],
        chosen: Options,
        sink: str,
        progress: Any,
        destinations: list[Any] | None = None,
        behind: Progress | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.wanted = wanted
        self._catalog = checkpoint.catalog
        rows: list[Any] = list(map(tuple, wanted))
        if destinations is not None:
            rows = [(*row, into) for row, into in zip(rows, destinations, strict=True)]
        self.core = _core.stream(
            self._catalog, rows, sink=sink, trust=checkpoint.trusts, **chosen.arguments()
        )
        self._rate = Rate()
        self._layers: LayerCount | None = None
        self._last: Progress | None = None
        self._behind = behind
        self.reporter = Reporter(progress, self.snapshot)

    def snapshot(self) -> Progress:
        """Progress now; after the end, as it was at the end."""
        if self._last is not None:
            return self._last
        now = self.core.progress()
        item, _ = self.core.position()
        if self._layers is None:
            self._layers = LayerCount(self._catalog, self.wanted)
        rate = self._rate.update(now["bytes"], now["seconds"])
        left = now["bytes_total"] - now["bytes"]
        rss, rss_peak = _core.resident()
        done = Progress(
            bytes=now["bytes"],
            bytes_total=now["bytes_total"],
            tensors=now["tensors"],
            tensors_total=now["tensors_total"],
            layers=self._layers.before(item),
            layers_total=len(self._layers),
            parameters=now["elements"],
            parameters_total=now["elements_total"],
            seconds=now["seconds"],
            rate=rate,
            eta=left / rate if rate > 0 else None,
            memory=now["memory_used"],
            memory_peak=now["memory_peak"],
            rss=rss,
            rss_peak=rss_peak,
            name=self._name_at(item),
            chunks=now["chunks"],
            chunk_size=now["chunk_size"],
        )
        return done if self._behind is None else _after(self._behind, done)

    def _name_at(self, item: int) -> str:
        if not self.wanted:
            return ""
        return self._catalog.name(self.wanted[min(item, len(self.wanted) - 1)].row)

    def outcomes(self) -> Iterator[tuple[str, Any, int]]:
        """(name, statistics, checksum) of each wanted item."""
        for index, item in enumerate(self.wanted):
            stats, checksum, _ = self.core.outcome(index)
            yield self._catalog.name(item.row), stats, checksum

    def wait(self) -> None:
        """Run to the end of a stream that delivers nothing."""
        finished = False
        try:
            self.core.wait(self.reporter.tick if self.reporter.active else None)
            finished = True
        finally:
            self.reporter.close(finished=finished)

    def close(self) -> None:
        if self._last is None:
            self._last = self.snapshot()
        self.core.close()


def _after(behind: Progress, now: Progress) -> Progress:
    """Progress of a resumed stream, counted from where the first one began."""
    return Progress(
        bytes=behind.bytes + now.bytes,
        bytes_total=behind.bytes + now.bytes_total,
        tensors=behind.tensors + now.tensors,
        tensors_total=behind.tensors + now.tensors_total,
        layers=behind.layers + now.layers,
        layers_total=max(behind.layers_total, behind.layers + now.layers_total),
        parameters=behind.parameters + now.parameters,
        parameters_total=behind.parameters + now.parameters_total,
        seconds=now.seconds,
        rate=now.rate,
        eta=now.eta,
        memory=now.memory,
        memory_peak=now.memory_peak,
        rss=now.rss,
        rss_peak=now.rss_peak,
        name=now.name,
        chunks=behind.chunks + now.chunks,
        chunk_size=now.chunk_size,
    )


class Stream:
    """Chunks of chosen tensors, in order, each element exactly once.

    Made by `Checkpoint.stream`.  Use it in a `with` block and iterate over it: each chunk
    has `.array`, `.name`, `.layer`, `.kind`, `.start`, `.stop`, `.is_last` and more.  An
    array stays valid for as long as it is kept; kept arrays count against the budget.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        wanted: list[Wanted],
        chosen: Options,
        *,
        order: str,
        progress: Any = False,
        resume: dict[str, Any] | None = None,
    ) -> None:
        self._order = order
        self._progress = progress
        self._all = wanted
        self._options = chosen
        self._skipped = 0
        behind = None
        rest = wanted
        if resume is not None:
            self._skipped, rest = _resumed(checkpoint, wanted, chosen, resume)
            behind = Progress(**resume["progress"])
        self._started_cached = checkpoint.catalog.cached()
        self._run = Run(checkpoint, rest, chosen, "arrays", progress, behind=behind)
        self._core = self._run.core
        self._reporter = self._run.reporter
        self._state: dict[str, Any] | None = None
        self._closed = False

    # -- iteration --

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> _core.Chunk:
        try:
            chunk = next(self._core)
        except StopIteration:
            self._reporter.close(finished=True)
            raise
        if self._reporter.active:
            self._reporter.tick()
        return chunk

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def encode(
        self,
        scheme: str,
        sink: Callable[[EncodedChunk], Any] | None = None,
        *,
        group: int | str | None = None,
        symmetric: bool = True,
    ) -> Any:
        """Quantise what comes, on the threads that read it; instead of iterating.

        Floating-point tensors are encoded, others come as they are.

        Args:
            scheme: as in `quantize`: "q8_0", "q4_k", "nf4", "int8", "e4m3" ...
            sink: a function that gets each `EncodedChunk`, in order.
            group: as in `quantize`, but for "tensor".
            symmetric: as in `quantize`.

        Returns:
            without a sink an `EncodingStream` to iterate over, else the
            `EncodingStatistics` of the whole.

        Raises:
            ValueError: rows that do not suit the scheme; a NaN or an infinity, with tensor
                and element; a stream that has begun, or converts (dtype=).
            UnsupportedError: a scheme that is not known, or cannot be made in parts.
        """
        from tensorstream.encoding import EncodingStream, encoding_of

        if self._closed or self._core.progress()["chunks"] > 0 or self._skipped:
            raise ValueError("encode() comes before the first chunk, on a new stream")
        if self._options.form != "own":
            raise ValueError("a stream that converts (dtype=) does not encode as well")
        encoding = encoding_of(scheme, group, symmetric=symmetric)
        chosen = self._options._replace(form="scheme", encoding=encoding)
        run = Run(self._run.checkpoint, self._all, chosen, "arrays", self._progress)
        self._run.close()
        self._run, self._options = run, chosen
        self._core = self._run.core
        self._reporter = self._run.reporter
        encoded = EncodingStream(self, encoding)
        return encoded if sink is None else encoded.drain(sink)

    def close(self) -> None:
        """Stop reading and give the memory back; kept arrays stay valid.

        `progress`, `state()` and `engine` go on telling how it ended.
        """
        if self._closed:
            return
        self._state = self.state()
        self._engine = self._describe_engine()
        self._statistics = self.statistics if self._options.stats else {}
        self._checksums = self.checksums if self._options.checksum != "none" else {}
        self._closed = True
        self._run.close()
        self._reporter.close(finished=False)

    def cancel(self) -> None:
        """Stop from another thread: the one that iterates gets CancelledError."""
        self._core.cancel()

    def __del__(self) -> None:
        reporter = getattr(self, "_reporter", None)
        if reporter is not None and not self._closed:
            self._core.close()

    # -- what there is to know --

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._run.snapshot()

    @property
    def engine(self) -> str:
        """Which way the bytes came, and why: "pread: 100 % of the file was cached"."""
        return self._engine if self._closed else self._describe_engine()

    def _describe_engine(self) -> str:
        engines = self._core.progress()["engines"]
        total = sum(size for size, _ in engines.values())
        if not total:
            return f"{self._options.engine}: nothing read yet"
        shares = ", ".join(
            f"{name} {size / total:.0%}" if len(engines) > 1 else name
            for name, (size, _) in sorted(engines.items(), key=lambda one: -one[1][0])
        )
        return f"{shares}: {self._why()}"

    def _why(self) -> str:
        if self._options.engine != "auto":
            return "as asked"
        files = self._run.checkpoint.catalog.files()
        if all(one["memory"] for one in files):
            return "the arrays are in memory"
        if self._started_cached is None:
            return "this system does not tell what is cached"
        size = sum(one["size"] for one in files)
        share = self._started_cached / size if size else 1.0
        if share > 0.99:
            return "the files were in the page cache"
        return f"{share:.0%} of the files were in the page cache, the rest as measured fastest"

    @property
    def statistics(self) -> dict[str, TensorStats]:
        """With stats=True: statistics of each tensor, as far as it was delivered."""
        if not self._options.stats:
            raise ValueError("open the stream with stats=True for statistics")
        if self._closed:
            return self._statistics
        return {name: TensorStats(**stats) for name, stats, _ in self._run.outcomes()}

    @property
    def checksums(self) -> dict[str, str]:
        """With checksum="crc32c" or "crc32": of each tensor's bytes in the file, in hex."""
        if self._options.checksum == "none":
            raise ValueError('open the stream with checksum="crc32c" for checksums')
        if self._closed:
            return self._checksums
        return {name: f"{value:08x}" for name, _, value in self._run.outcomes()}

    def state(self) -> dict[str, Any]:
        """Where to go on, for `checkpoint.stream(..., resume=state)`, here or in another
        process.  Holds only what JSON can.

        It names the first element that was not delivered, and says of which files, so
        that a changed file is refused.
        """
        if self._state is not None:
            return self._state
        item, element = self._core.position()
        checkpoint = self._run.checkpoint
        progress = self._run.snapshot()
        return {
            "version": STATE_VERSION,
            "files": file_marks(checkpoint),
            "selection": digest(checkpoint, self._all, self._options),
            "item": self._skipped + item,
            "element": element,
            "name": progress.name,
            "progress": {name: getattr(progress, name) for name in Progress.__slots__},
        }

    def __repr__(self) -> str:
        now = self._run.snapshot()
        return (
            f"<Stream of {now.tensors_total} tensors, {format_size(now.bytes_total)}, "
            f"{now.fraction:.0%} done, budget {format_size(self._options.budget)}>"
        )


class Plan(NamedTuple):
    """What a stream would do, before a byte of a tensor is read.  Sizes in bytes.

    Attributes:
        peak_bytes: the most memory it will hold at once, never above the budget.
        budget: as asked for.
        chunks: at the size it starts with; later ones may be larger or smaller.
        chunk_size: that size.
        total_bytes: to be read from the files.
        delivered_bytes: of all arrays together.
        parameters: elements.
        tensors, layers: how many are chosen.
        threads: that will read.
        order: "layer", "file" or "given".
        names: of the tensors, in that order.
    """

    peak_bytes: int
    budget: int
    chunks: int
    chunk_size: int
    total_bytes: int
    delivered_bytes: int
    parameters: int
    tensors: int
    layers: int
    threads: int
    order: str
    names: list[str]

    def __str__(self) -> str:
        return (
            f"{self.tensors} tensors in {self.layers} layers, {self.parameters:,} parameters\n"
            f"read      {format_size(self.total_bytes)} in {self.order} order, "
            f"{self.chunks} chunks of up to {format_size(self.chunk_size)}, "
            f"{self.threads} threads\n"
            f"deliver   {format_size(self.delivered_bytes)}\n"
            f"peak      {format_size(self.peak_bytes)} of a budget of "
            f"{format_size(self.budget)}"
        )


def make_plan(
    checkpoint: Checkpoint, wanted: list[Wanted], chosen: Options, order: str
) -> Plan:
    catalog = checkpoint.catalog
    rows: list[Any] = list(map(tuple, wanted))
    told = _core.forecast(
        catalog, rows, sink="arrays", trust=checkpoint.trusts, **chosen.arguments()
    )
    return Plan(
        peak_bytes=told["peak_bytes"],
        budget=chosen.budget,
        chunks=told["chunks"],
        chunk_size=told["chunk_size"],
        total_bytes=told["file_bytes"],
        delivered_bytes=told["delivered_bytes"],
        parameters=told["elements"],
        tensors=len(wanted),
        layers=len(LayerCount(catalog, wanted)),
        threads=told["threads"],
        order=order,
        names=[catalog.name(item.row) for item in wanted],
    )


def file_marks(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """What tells a file from a changed one: its path, size and time of change."""
    return [
        {"path": one["path"], "size": one["size"], "mtime_ns": one["mtime_ns"]}
        for one in checkpoint.catalog.files()
        if not one["memory"]
    ]


def digest(checkpoint: Checkpoint, wanted: list[Wanted], chosen: Options) -> str:
    """Of what was chosen and how it is delivered: 32 hex digits."""
    sha = hashlib.sha256(f"{chosen.form} {chosen.dtype}".encode())
    catalog = checkpoint.catalog
    for row, start, stop in wanted:
        sha.update(f"\0{catalog.name(row)}\0{start}\0{stop}".encode())
    return sha.hexdigest()[:32]


def _resumed(
    checkpoint: Checkpoint, wanted: list[Wanted], chosen: Options, state: dict[str, Any]
) -> tuple[int, list[Wanted]]:
    """(items that are done, what is left), after checking that the state belongs here."""
    if state.get("version") != STATE_VERSION:
        raise ValueError(f"a stream state of version {state.get('version')!r} is not known")
    for then, now in zip(state["files"], file_marks(checkpoint), strict=False):
        if (then["size"], then["mtime_ns"]) != (now["size"], now["mtime_ns"]):
            raise _core.ChangedError(
                f"{now['path']} changed since the stream was stopped: "
                f"{then['size']} bytes then, {now['size']} now"
            )
    if len(state["files"]) != len(file_marks(checkpoint)):
        raise _core.ChangedError("the checkpoint has another number of files than then")
    if state["selection"] != digest(checkpoint, wanted, chosen):
        raise ValueError(
            "the state belongs to another choice of tensors, order or dtype than this stream's"
        )
    done, element = state["item"], state["element"]
    if not 0 <= done <= len(wanted):
        raise ValueError(f"the state points at tensor {done} of {len(wanted)}")
    rest = wanted[done:]
    if rest:
        if not rest[0].start <= element <= rest[0].stop:
            raise ValueError(f"the state points at element {element} of {rest[0].stop}")
        rest[0] = rest[0]._replace(start=element)
    return done, rest
