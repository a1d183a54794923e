"""How far a stream is, told as a snapshot, a bar or calls to a function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensorstream.units import format_size

if TYPE_CHECKING:
    import tqdm as tqdm_module

ProgressOption = "bool | None | Callable[[Progress], object]"


@dataclass(frozen=True, slots=True)
class Progress:
    """A stream at one moment.  Sizes in bytes, times in seconds.

    Attributes:
        bytes, bytes_total: of the files, delivered so far and in all.
        tensors, tensors_total: wholly delivered, and in all.
        layers, layers_total: layers of which everything chosen was delivered, and in all.
        parameters, parameters_total: elements delivered, and in all.
        seconds: since the first chunk was asked for.
        rate: bytes a second, over the last seconds.
        eta: seconds left at that rate; None before there is a rate.
        memory, memory_peak: of the budget, in use now and at most.
        rss, rss_peak: resident memory of the process, now and at most.
        name: the tensor that the last chunk belongs to.
        chunks: delivered so far.
        chunk_size: bytes of a chunk, as chosen at this moment.
    """

    bytes: int
    bytes_total: int
    tensors: int
    tensors_total: int
    layers: int
    layers_total: int
    parameters: int
    parameters_total: int
    seconds: float
    rate: float
    eta: float | None
    memory: int
    memory_peak: int
    rss: int
    rss_peak: int
    name: str
    chunks: int
    chunk_size: int

    @property
    def fraction(self) -> float:
        """Share of the bytes that is done, from 0 to 1."""
        return self.bytes / self.bytes_total if self.bytes_total else 1.0

    def __str__(self) -> str:
        left = "?" if self.eta is None else f"{self.eta:.1f} s"
        total = format_size(self.bytes_total)
        return (
            f"{self.fraction:6.1%}  {format_size(self.bytes)} of {total}"
            f"  {self.tensors}/{self.tensors_total} tensors  {self.rate / 1e9:.2f} GB/s"
            f"  {left} left  {format_size(self.memory_peak)} peak"
        )


class Rate:
    """Bytes a second, smoothed over about two seconds of recent work.

    A plain average forgets too slowly and the last interval jumps about; this weighs an
    interval of dt seconds with 1 - exp(-dt / 2).
    """

    HORIZON = 2.0

    def __init__(self) -> None:
        self.value = 0.0
        self._bytes = 0
        self._time: float | None = None

    def update(self, done: int, seconds: float) -> float:
        if self._time is None or seconds <= self._time:
            first = seconds > 0 and self._time is None
            self.value = done / seconds if first else self.value
            self._time, self._bytes = seconds, done
            return self.value
        passed = seconds - self._time
        now = (done - self._bytes) / passed
        # The first interval is all there is to know.
        weight = 1.0 if self.value == 0 else 1.0 - 2.718281828 ** (-passed / self.HORIZON)
        self.value += weight * (now - self.value)
        self._time, self._bytes = seconds, done
        return self.value


class Reporter:
    """Shows progress while a stream runs; does nothing between reports.

    `option` is True (a tqdm bar on stderr), None (a bar if stderr is a terminal), False
    (silence) or a function that gets a Progress about ten times a second and once at the
    end.
    """

    INTERVAL = 0.1

    def __init__(self, option: Any, snapshot: Callable[[], Progress], unit: str = "B") -> None:
        self._snapshot = snapshot
        self._call: Callable[[Progress], object] | None = None
        self._bar: tqdm_module.tqdm[Any] | None = None
        self._next = 0.0
        if option is None:
            option = sys.stderr is not None and sys.stderr.isatty()
        if option is True:
            self._bar = _bar(snapshot())
        elif callable(option):
            self._call = option
        elif option is not False:
            raise TypeError(f"progress is True, False, None or a function, not {option!r}")
        self.active = self._bar is not None or self._call is not None

    def tick(self) -> None:
        """Report if the last report is old enough."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.INTERVAL
            self._report()

    def _report(self) -> None:
        progress = self._snapshot()
        if self._call is not None:
            self._call(progress)
        if self._bar is not None:
            self._bar.n = progress.bytes
            self._bar.set_postfix_str(_postfix(progress), refresh=False)
            self._bar.refresh()

    def close(self, *, finished: bool) -> None:
        """The last report, and the end of the bar."""
        if not self.active:
            return
        self.active = False
        if finished or self._bar is not None:
            self._report()
        if self._bar is not None:
            self._bar.close()


def _postfix(progress: Progress) -> str:
    layers = ""
    if progress.layers_total:
        layers = f"layer {progress.layers}/{progress.layers_total}, "
    return f"{layers}{format_size(progress.memory_peak)} peak"


def _bar(progress: Progress) -> tqdm_module.tqdm[Any]:
    try:
        import tqdm.auto as tqdm_module
    except ImportError:
        raise ImportError(
            "progress=True draws its bar with tqdm, which is not installed: "
            "pip install tensorstream[progress]"
        ) from None
    return tqdm_module.tqdm(
        total=progress.bytes_total,
        initial=progress.bytes,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        dynamic_ncols=True,
    )
