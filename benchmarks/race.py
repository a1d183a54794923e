"""Rounds: every contender once, then every contender again, so that all share the noise.

A figure of a shared machine means little alone.  Each round gives each contender its
turn, medians are over rounds, and ratios are taken within a round before their median is.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

HERE = pathlib.Path(__file__).parent
MiB = 1 << 20
PAUSE = 0.02  # seconds: threads of the one before may spin for a while

Role = Literal["ours", "peer", "ceiling"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender in one measure: what its worker is asked to do.

    Attributes:
        label: for people; unique in its measure.
        worker: which class of peers.py.
        call, arguments: its method.
        role: "ours", "peer", or "ceiling" for what the machine does without anybody.
        nbytes: handled by one call; None where the time itself is the figure.
        budget: the bytes it promised to stay within; None where it promised nothing.
        streams: is it made for streaming, rather than for holding the whole model?
        sees: contenders that return something under one name must return the same.
    """

    label: str
    worker: str
    call: str
    arguments: dict[str, Any]
    role: Role = "peer"
    nbytes: int | None = None
    budget: int | None = None
    streams: bool = False
    sees: str = "words"


@dataclass(slots=True)
class Row:
    """What came of an entry: one figure a round, GB/s or milliseconds."""

    entry: Entry
    figures: list[float] = field(default_factory=list)
    extra_peak: int = 0
    values: set[Any] = field(default_factory=set)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def unit(self) -> str:
        return "ms" if self.entry.nbytes is None else "GB/s"

    def over(self, other: Row) -> float:
        """The median, over rounds, of this figure by the other's."""
        pairs = zip(self.figures, other.figures, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


class Missing(Exception):
    """A contender that cannot take part; the sentence says why."""


class Workers:
    """Processes of peers.py, each started when it is first needed."""

    def __init__(self, log: pathlib.Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = open(log, "ab")  # noqa: SIM115  closed by __exit__
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._said: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            if kind is not None:
                process.kill()
            process.communicate()  # its input ends: so does it
        self._log.close()

    def start(self, names: Sequence[str]) -> None:
        """Start them side by side: they import for seconds."""
        for name in names:
            if name not in self._processes:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, str(HERE / "peers.py"), name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    text=True,
                )
        for name in names:
            if name not in self._said:
                self._said[name] = self._answer(name)

    def _answer(self, name: str) -> dict[str, Any]:
        output = self._processes[name].stdout
        assert output is not None
        line = output.readline()
        if not line:
            status = self._processes[name].wait()
            return {"failed": f"its process ended with status {status}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def version(self, name: str) -> str:
        """Of the library that a worker drives.

        Raises:
            Missing: it could not be imported.
        """
        self.start([name])
        said = self._said[name]
        if "failed" in said:
            raise Missing(f"{name}: {said['failed']}")
        version: str = said["version"]
        return version

    def ask(self, name: str, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Have a worker do something; see peers.perform for what it answers.

        Raises:
            Missing: the worker is not there, or could not do it.
        """
        self.version(name)
        process = self._processes[name]
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            process.stdin.flush()
            said = self._answer(name)
        except BrokenPipeError:
            said = {"failed": "its process is gone"}
        if "failed" in said:
            raise Missing(f"{name}.{call}: {said['failed']}")
        return said


def race(
    entries: Sequence[Entry],
    rounds: int,
    workers: Workers,
    *,
    before: Callable[[], None] | None = None,
) -> tuple[list[Row], list[str]]:
    """Every entry in every round, after one round that is not counted.

    The uncounted round does count for memory: the first run of a process is the one that
    takes memory it did not have.  `before` is called ahead of each run, to clear a cache.

    Returns:
        the rows of those that took part, and a sentence about each that did not.
    """
    workers.start(sorted({entry.worker for entry in entries}))
    rows = {entry.label: Row(entry) for entry in entries}
    absent: list[str] = []
    for number in range(rounds + 1):
        for label, row in list(rows.items()):
            if before is not None:
                before()
            time.sleep(PAUSE)
            try:
                said = workers.ask(row.entry.worker, row.entry.call, row.entry.arguments)
            except Missing as missing:
                absent.append(f"{label}: {missing}")
                del rows[label]
                continue
            row.extra_peak = max(row.extra_peak, said["extra"])
            if said["value"] is not None:
                row.values.add(said["value"])
            if number > 0:
                row.figures.append(_figure(row.entry, said["seconds"]))
    return list(rows.values()), absent


def _figure(entry: Entry, seconds: float) -> float:
    if entry.nbytes is None:
        return seconds * 1e3
    return entry.nbytes / 1e9 / seconds


def disagreements(rows: Sequence[Row]) -> Iterator[str]:
    """Contenders whose view of the data is not that of most who looked for the same."""
    for sees in sorted({row.entry.sees for row in rows}):
        looking = [row for row in rows if row.entry.sees == sees]
        seen: list[Any] = [value for row in looking for value in row.values]
        usual = max(set(seen), key=seen.count, default=None)
        for row in looking:
            if row.values - {usual}:
                yield f"{row.entry.label} saw {row.values} where most saw {usual}"


def find(rows: Sequence[Row], label: str) -> Row | None:
    """The row of that label, if it took part."""
    return next((row for row in rows if row.entry.label == label), None)


def best(rows: Sequence[Row], **wanted: Any) -> Row | None:
    """The fastest of the rows whose entries have these attributes."""
    fitting = [
        row
        for row in rows
        if all(getattr(row.entry, name) == value for name, value in wanted.items())
    ]
    if not fitting:
        return None
    return max(fitting, key=lambda row: -row.median if row.unit == "ms" else row.median)


def stolen() -> tuple[int, int]:
    """(ticks that the host gave to others, ticks in all) since the machine started."""
    with open("/proc/stat") as file:
        ticks = [int(one) for one in file.readline().split()[1:9]]
    return ticks[7], sum(ticks)


def load() -> float:
    """How many processes wanted to run, over the last minute."""
    return os.getloadavg()[0]
