"""How much memory this process has, uses and may use: now, and over a while.

``memory()`` is one sample; ``MemoryMonitor`` samples on a thread of the C core
that never needs Python, so a busy interpreter does not blind it.  All sizes
are bytes, except those of ``get_peak_memory()``.
"""

from __future__ import annotations

import logging
import numbers
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from . import _core
from .units import Size, format_size, parse_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Crossing", "MemoryMonitor", "MemorySample", "memory"]

logger = logging.getLogger("tensorstream")

#: What a history holds: signed, so that "unknown" can be -1.
SAMPLE_DTYPE = np.dtype([(name, np.int64) for name in _core.memory_fields])

_CROSSINGS_KEPT = 1024
_JOIN_SECONDS = 5.0


class MemorySample(NamedTuple):
    """This process's memory at one moment.  Sizes are bytes, None is unknown.

    Sources: ``/proc/self/statm``, ``status`` and ``smaps_rollup``,
    ``/proc/meminfo``, the memory control group (versions 1 and 2) and
    ``RLIMIT_AS``.
    """

    time_ns: int  #: when; comparable with ``time.monotonic_ns()``
    rss: int | None  #: resident
    rss_anon: int | None  #: of it, memory that is no file's
    rss_file: int | None  #: of it, mapped files
    rss_peak: int | None  #: the largest rss in the life of the process
    pss: int | None  #: like rss, with shared pages divided among their sharers
    swap: int | None  #: swapped out
    cgroup_limit: int | None  #: the tightest control group's; None: no limit
    cgroup_used: int | None  #: of that group, file cache included
    cgroup_room: int | None  #: what the groups leave, droppable cache counted as free
    address_limit: int | None  #: RLIMIT_AS; None: no limit
    address_used: int | None  #: virtual size
    available: int | None  #: what the machine could still give
    total: int | None  #: what the machine has
    headroom: int | None  #: what this process may still take before something stops it

    @property
    def limit(self) -> int | None:
        """The least of the machine's memory, the control group and RLIMIT_AS."""
        limits = (self.total, self.cgroup_limit, self.address_limit)
        return min((limit for limit in limits if limit is not None), default=None)

    def __repr__(self) -> str:
        known = (
            f"{name}={format_size(value)}"
            for name, value in zip(self._fields, self)
            if value is not None and name != "time_ns"
        )
        return f"MemorySample({', '.join(known)})"


class Crossing(NamedTuple):
    """A threshold that rss rose to, and the sample that showed it."""

    threshold: int
    sample: MemorySample


#: Called with the sample and the threshold in bytes.
OnThreshold = Callable[[MemorySample, int], object]


class _Watch(NamedTuple):
    size: int
    callback: OnThreshold | None


def memory(pss: bool = False) -> MemorySample:
    """Return this process's memory as it is now.

    Args:
        pss: also read the proportional share of shared pages.  The kernel
            walks all mappings for it: microseconds for small processes,
            milliseconds for large ones.

    Raises:
        OSError: there is no readable /proc.
    """
    return MemorySample._make(_core.memory_sample(pss=pss))


class MemoryMonitor:
    """Samples this process's memory while something runs.

    >>> with MemoryMonitor(interval=0.01) as monitor:
    ...     data = bytearray(50_000_000)
    >>> monitor.peak.rss >= 50_000_000
    True

    After ``stop()`` everything can still be read; ``start()`` begins anew.
    Any thread may call any method.  In a child process made by fork the
    monitor is stopped: ``current`` works, ``start()`` begins one of its own.

    Args:
        interval: seconds between samples, from 0.001 to 86400.
        pss: sample PSS as well (see `memory`).
        history: samples to keep, at most 2**20.  When they are full every
            second one is dropped and the spacing doubles, so that the whole
            run stays in view.
        thresholds: sizes to watch, each as for `add_threshold`; or a mapping
            from such sizes to callbacks.
        on_threshold: called for thresholds without a callback of their own.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        interval: float = 0.5,
        pss: bool = False,
        history: int = 4096,
        thresholds: Iterable[Size] | Mapping[Size, OnThreshold] | None = None,
        on_threshold: OnThreshold | None = None,
    ) -> None:
        if not 0.001 <= interval <= 86400:
            raise ValueError(f"interval must be from 0.001 to 86400 seconds, not {interval}")
        if not 0 <= history <= 2**20:
            raise ValueError(f"history must be from 0 to 2**20 samples, not {history}")
        self.interval = interval
        self.pss = pss
        self.history = history
        self.on_threshold = on_threshold
        self._lock = threading.Lock()  # guards what follows
        self._sampler: _core.Sampler | None = None
        self._process = 0  # that started the sampler
        self._finalizer: weakref.finalize[[], Self] | None = None
        self._listener: threading.Thread | None = None
        self._watches: list[_Watch] = []
        self._crossings: deque[Crossing] = deque(maxlen=_CROSSINGS_KEPT)
        _monitors.add(self)
        if isinstance(thresholds, Mapping):
            for size, callback in thresholds.items():
                self.add_threshold(size, callback)
        else:
            for size in thresholds or ():
                self.add_threshold(size)

    # ---- running ----------------------------------------------------------

    def start(self) -> Self:
        """Begin to sample, forgetting an earlier run; return self.

        Does nothing while it is running.

        Raises:
            OSError: there is no readable /proc, or no thread to be had.
            ValueError: more than 32 thresholds.
        """
        with self._lock:
            if self._runs():
                return self
            sampler = _core.Sampler(self.interval, self.pss, self.history)
            for watch in self._watches:
                sampler.threshold(watch.size)
            self._sampler, self._process = sampler, os.getpid()
            # A monitor that is dropped, or that the interpreter outlives,
            # stops too.
            self._finalizer = weakref.finalize(self, sampler.stop)
            self._crossings = deque(maxlen=_CROSSINGS_KEPT)
            self._listener = None
            if self._watches:
                self._listen(sampler)
        return self

    def stop(self) -> None:
        """Take a last sample, deliver what was crossed, and end the threads.

        Does nothing when it is not running.
        """
        with self._lock:
            if not self._runs():
                return
            finalizer, self._finalizer = self._finalizer, None
            listener, self._listener = self._listener, None
        if finalizer is not None:
            finalizer()
        if listener is None or listener is threading.current_thread():
            return
        listener.join(_JOIN_SECONDS)
        if listener.is_alive():
            logger.warning(
                "a memory threshold callback has not returned for %g s", _JOIN_SECONDS
            )

    @property
    def running(self) -> bool:
        """Whether it samples right now, in this process."""
        with self._lock:
            return self._runs()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _runs(self) -> bool:
        return self._finalizer is not None and self._process == os.getpid()

    # ---- thresholds ---------------------------------------------------------

    def add_threshold(self, size: Size, callback: OnThreshold | None = None) -> int:
        """Watch for rss to reach `size`; return it in bytes.

        Each rise to it counts once, and again only after rss has fallen below
        95 % of it.  An rss that is there already counts at the next sample.
        Crossings are listed in `crossings`; callbacks run on one daemon thread
        of this monitor, one after another.  What they raise is logged to the
        ``"tensorstream"`` logger and otherwise ignored.

        Args:
            size: bytes, a string such as ``"2GiB"``, or a float of at most 1:
                that fraction of the tightest limit that holds now
                (``memory().limit``).
            callback: ``callback(sample, threshold)``; `on_threshold` if None.

        Raises:
            ValueError: not a size, zero, or more than 32 thresholds.
        """
        watch = _Watch(_threshold_size(size), callback)
        with self._lock:
            if self._runs() and self._sampler is not None:
                # First, so that a crossing finds it; the index is its place.
                self._watches.append(watch)
                try:
                    self._sampler.threshold(watch.size)
                except BaseException:
                    self._watches.pop()
                    raise
                if self._listener is None:
                    self._listen(self._sampler)
            else:
                self._watches.append(watch)
        return watch.size

    @property
    def thresholds(self) -> list[int]:
        """The sizes watched, in bytes, in the order they were added."""
        return [watch.size for watch in self._watches]

    @property
    def crossings(self) -> list[Crossing]:
        """What was crossed in this run, oldest first; the latest 1024."""
        return list(self._crossings)

    def _listen(self, sampler: _core.Sampler) -> None:
        # The thread must not keep the monitor alive: see start().
        self._listener = threading.Thread(
            target=_deliver,
            args=(sampler, self._watches, self._crossings, weakref.ref(self)),
            name="tensorstream-thresholds",
            daemon=True,
        )
        self._listener.start()

    # ---- what was sampled -----------------------------------------------------

    @property
    def current(self) -> MemorySample:
        """The latest sample; one taken on the spot when it is not running."""
        return MemorySample._make(self._read()[0]) if self.running else memory(self.pss)

    @property
    def peak(self) -> MemorySample:
        """The sample of the largest rss, with the maxima of pss, swap and cgroup_used.

        Its rss is the true peak, even between two samples, if that is the
        highest in the life of the process; otherwise the largest one sampled.

        Raises:
            RuntimeError: the monitor was never started.
        """
        return MemorySample._make(self._read()[1])

    @property
    def samples(self) -> npt.NDArray[Any]:
        """The history, oldest first: a read-only structured array.

        One int64 field for each of `MemorySample` except ``headroom``; -1 is
        unknown.  Empty before the first start.
        """
        if self._sampler is None:
            return np.empty(0, SAMPLE_DTYPE)
        return np.frombuffer(self._sampler.history(), SAMPLE_DTYPE)

    def summary(self) -> dict[str, Any]:
        """Return the run in numbers: counts, seconds, bytes (None: unknown).

        Keys: ``samples, duration, interval, start_rss, final_rss, peak_rss,
        mean_rss`` (over time), ``growth`` (final less start), ``peak_pss,
        peak_swap, peak_cgroup_used, cgroup_limit, headroom, crossings``.

        Raises:
            RuntimeError: the monitor was never started.
        """
        last, top, taken = self._read()
        latest, peak = MemorySample._make(last), MemorySample._make(top)
        known = self._known("rss")
        start = int(known["rss"][0]) if len(known) else None
        final = latest.rss
        return {
            "samples": taken,
            "duration": float(np.ptp(known["time_ns"])) / 1e9 if len(known) else 0.0,
            "interval": self.interval,
            "start_rss": start,
            "final_rss": final,
            "peak_rss": peak.rss,
            "mean_rss": _mean_over_time(known),
            "growth": None if start is None or final is None else final - start,
            "peak_pss": peak.pss,
            "peak_swap": peak.swap,
            "peak_cgroup_used": peak.cgroup_used,
            "cgroup_limit": latest.cgroup_limit,
            "headroom": latest.headroom,
            "crossings": len(self._crossings),
        }

    def _read(self) -> tuple[tuple[Any, ...], tuple[Any, ...], int]:
        if self._sampler is None:
            raise RuntimeError("the memory monitor was never started")
        return self._sampler.read()

    def _known(self, field: str) -> npt.NDArray[Any]:
        samples = self.samples
        return samples[samples[field] >= 0]

    # ---- the names that other monitors use --------------------------------------

    def start_monitoring(self) -> None:
        """The same as `start`."""
        self.start()

    def stop_monitoring(self) -> None:
        """The same as `stop`."""
        self.stop()

    def get_peak_memory(self) -> float:
        """Return the peak rss in MB of 1024**2 bytes; 0.0 before the first start."""
        peak = None if self._sampler is None else self.peak.rss
        return (peak or 0) / 1024**2

    def plot_memory_usage(
        self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None
    ) -> Axes:
        """The same as `plot`."""
        return self.plot(path, ax)

    # ---- showing and keeping -------------------------------------------------------

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Axes | None = None) -> Axes:
        """Draw the run over time; return the axes.

        Args:
            path: also write the figure there; the suffix says how (png, svg, pdf).
            ax: axes to draw into.  By default a new figure: one of pyplot's, as
                notebooks and windows show them, unless `path` is given.

        Raises:
            ImportError: matplotlib is not installed.
            RuntimeError: the monitor was never started.
        """
        peak = self.peak
        if ax is None:
            ax = _new_axes(shown=path is None)
        for field in ("rss", "pss", "swap", "cgroup_used"):
            self._draw(ax, field)
        for size in self.thresholds:
            ax.axhline(size / 1024**2, color="tab:red", linestyle=":", linewidth=1)
        ax.set_title(f"Memory of this process, peak {_text(peak.rss)}")
        ax.set_xlabel("seconds")
        ax.set_ylabel("MiB")
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="best")
        if path is not None:
            figure: Any = ax.figure
            figure.figure.savefig(path)  # the whole one, if ax lies in a subfigure
        return ax

    def _draw(self, ax: Axes, field: str) -> None:
        known = self._known(field)
        if len(known) == 0 or (field == "swap" and not known[field].any()):
            return
        begin = self.samples["time_ns"][0]
        ax.plot(
            (known["time_ns"] - begin) / 1e9,
            known[field] / 1024**2,
            label=field.replace("_", " "),
            linestyle="--" if field == "cgroup_used" else "-",
        )

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the history: a row for each sample, an empty cell where unknown."""
        import csv

        samples = self.samples
        with open(path, "w", newline="", encoding="ascii") as file:
            writer = csv.writer(file)
            writer.writerow(SAMPLE_DTYPE.names or ())
            for row in samples.tolist():
                writer.writerow(["" if value < 0 else value for value in row])

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write an object of `summary`, `thresholds`, and the history by columns.

        Unknown values are null.

        Raises:
            RuntimeError: the monitor was never started.
        """
        import json

        samples = self.samples
        columns = {
            name: [None if value < 0 else value for value in samples[name].tolist()]
            for name in SAMPLE_DTYPE.names or ()
        }
        whole = {
            "summary": self.summary(),
            "thresholds": self.thresholds,
            "samples": columns,
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(whole, file, indent=1)
            file.write("\n")

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        if self._sampler is None:
            return f"MemoryMonitor(interval={self.interval:g}, not started)"
        _, peak, taken = self._read()
        top = _text(MemorySample._make(peak).rss)
        return f"MemoryMonitor({state}, {taken} samples, peak {top})"

    def _repr_html_(self) -> str:
        import html

        if self._sampler is None:
            return f"<pre>{html.escape(repr(self))}</pre>"
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key.replace('_', ' '))}</th>"
            f"<td>{html.escape(_cell(key, value))}</td></tr>"
            for key, value in self.summary().items()
        )
        return f"<div>{_sparkline(self._known('rss'))}<table>{rows}</table></div>"


# ---- the thread that calls callbacks ------------------------------------------------


def _deliver(
    sampler: _core.Sampler,
    watches: list[_Watch],
    crossings: deque[Crossing],
    monitor: weakref.ref[MemoryMonitor],
) -> None:
    while True:
        try:
            event = sampler.next_event(3_600_000)
        except EOFError:
            return
        if event is None:
            continue
        index, values = event
        watch = watches[index]
        crossing = Crossing(watch.size, MemorySample._make(values))
        crossings.append(crossing)
        callback = watch.callback or getattr(monitor(), "on_threshold", None)
        if callback is None:
            continue
        try:
            callback(crossing.sample, crossing.threshold)
        except Exception:
            logger.exception(
                "the callback of memory threshold %s failed", format_size(watch.size)
            )


# A lock that another thread held at a fork would stay locked in the child.
_monitors: weakref.WeakSet[MemoryMonitor] = weakref.WeakSet()


def _after_fork() -> None:
    for monitor in list(_monitors):
        monitor._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


# ---- small helpers --------------------------------------------------------------------


def _threshold_size(size: Size) -> int:
    if isinstance(size, numbers.Real) and not isinstance(size, numbers.Integral):
        fraction = float(size)
        if 0 < fraction <= 1:
            return _fraction_of_limit(fraction)
    parsed = parse_size(size, "threshold")
    if parsed == 0:
        raise ValueError("threshold must be at least one byte")
    return parsed


def _fraction_of_limit(fraction: float) -> int:
    limit = memory().limit
    if limit is None:
        raise ValueError(f"threshold {fraction} is a fraction, but no memory limit is known")
    return max(1, int(limit * fraction))


def _mean_over_time(samples: npt.NDArray[Any]) -> float | None:
    """The mean rss, each stretch of time weighing as much as it lasted."""
    if len(samples) == 0:
        return None
    rss, time = samples["rss"].astype(np.float64), samples["time_ns"]
    lasted = np.diff(time).astype(np.float64)
    if lasted.sum() == 0:
        return float(rss.mean())
    return float(((rss[1:] + rss[:-1]) / 2 * lasted).sum() / lasted.sum())


def _text(size: float | None) -> str:
    return "unknown" if size is None else format_size(size)


def _cell(key: str, value: float | None) -> str:
    if key in ("samples", "crossings"):
        return str(value)
    if key in ("duration", "interval"):
        return f"{value:.3f} s"
    if key == "cgroup_limit" and value is None:
        return "none"
    return _text(value)


def _new_axes(shown: bool) -> Axes:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plotting needs matplotlib: pip install 'tensorstream[plot]'"
        ) from error
    size = (8.0, 4.0)
    if not shown:  # pyplot keeps its figures until they are closed
        return Figure(figsize=size, layout="constrained").add_subplot()
    from matplotlib import pyplot

    return pyplot.figure(figsize=size, layout="constrained").add_subplot()


def _sparkline(samples: npt.NDArray[Any], width: int = 320, height: int = 60) -> str:
    """The rss as a drawing of numbers only, so there is nothing to escape."""
    if len(samples) < 2:
        return ""
    time = samples["time_ns"] - samples["time_ns"][0]
    x = time / max(1, int(time[-1])) * width
    y = height - samples["rss"] / max(1, int(samples["rss"].max())) * (height - 2)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
    return (
        f"<svg width='{width}' height='{height}' viewBox='0 0 {width} {height}'>"
        f"<polyline points='{points}' fill='none' stroke='#1f77b4'/></svg>"
    )
