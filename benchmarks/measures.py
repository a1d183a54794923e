"""What scripts of measures have in common: judging, a run of them, publishing it."""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import native
import report
from contenders import COPY, Bench
from race import Entry, MiB, Missing, Row, find, load, stolen

from tensorstream import format_size, parse_size

HERE = pathlib.Path(__file__).parent
SLACK = 4 * MiB  # what may be used beside the budget


@dataclass(slots=True)
class Measured:
    """What a measure found: rows, what was wanted of them, what else there is to say.

    Attributes:
        raw: the ceiling that the others are compared with.
        absent: a sentence about each contender that could not take part.
    """

    title: str
    rows: list[Row]
    absent: list[str] = field(default_factory=list)
    raw: Row | None = None
    targets: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def at_least(self, what: str, measured: float | None, wanted: float, unit: str) -> None:
        """`measured` is None where the contender took no part: nothing is said then."""
        if measured is not None:
            self._judge(what, measured, f">= {wanted:g} {unit}", measured >= wanted)

    def at_most(self, what: str, measured: float | None, wanted: float, unit: str) -> None:
        if measured is not None:
            self._judge(what, measured, f"<= {wanted:g} {unit}", measured <= wanted)

    def _judge(self, what: str, measured: float, wanted: str, met: bool) -> None:
        self.targets.append(
            {"what": what, "wanted": wanted.strip(), "measured": measured, "met": met}
        )

    def row(self, entry: Entry) -> Row | None:
        return find(self.rows, entry.label)

    def median(self, entry: Entry) -> float | None:
        row = self.row(entry)
        return row.median if row else None

    def share(self, entry: Entry, other: Row | None) -> float | None:
        """Of one row in another, taken round by round."""
        row = self.row(entry)
        return row.over(other) if row and other else None

    def within_budget(self, entry: Entry) -> None:
        """Extra peak memory against the budget."""
        row = self.row(entry)
        if row is not None and entry.budget is not None:
            most = (entry.budget + SLACK) / MiB
            self.at_most(f"extra peak: {entry.label}", row.extra_peak / MiB, most, "MiB")


def evictor(*paths: pathlib.Path) -> Callable[[], None]:
    """What takes files out of the page cache, and makes sure.

    Raises:
        Missing: when called, on a file system that keeps it.
    """
    ceilings = native.Ceilings()

    def evict() -> None:
        for path in paths:
            native.drop_cache(path)
            left = ceilings.cached(path)
            if left:
                raise Missing(f"{format_size(left)} of {path.name} stay in the page cache")

    return evict


# -- a run of them -----------------------------------------------------------------------

Measure = Callable[[Bench], Measured]


@dataclass(frozen=True, slots=True)
class Script:
    """A file of measures.

    Attributes:
        about: its docstring.
        measures: by the names that --only takes.
        name: of its JSON, without suffix.
        begin, end: what its tables stand between in README.md.
    """

    about: str | None
    measures: dict[str, Measure]
    name: str
    begin: str = report.BEGIN
    end: str = report.END


def take(measure: Measure, bench: Bench) -> dict[str, Any]:
    """Take one measure; what came of it, as JSON has it."""
    taken_before, ticks_before = stolen()
    load_before = load()
    found = measure(bench)
    taken, ticks = stolen()
    return {
        "title": found.title,
        "load": round(max(load_before, load()), 2),
        "stolen": round((taken - taken_before) / max(1, ticks - ticks_before), 4),
        "raw": found.raw.entry.label if found.raw else None,
        "rows": report.as_json(found.rows, find(found.rows, COPY), found.raw),
        "targets": found.targets,
        "absent": found.absent,
        "notes": found.notes,
    }


def run(script: Script, bench: Bench, names: list[str]) -> dict[str, Any]:
    """Take the named measures, telling of each as it is done."""
    bench.prepare()
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "file_bytes": bench.nbytes,
        "rounds": bench.rounds,
        "measures": {},
    }
    report.say(report.machine_line(result["machine"]) + "\n")
    for name in names:
        result["measures"][name] = take(script.measures[name], bench)
        report.say(report.text(result["measures"][name]) + "\n")
    return result


def _alike(last: dict[str, Any], now: dict[str, Any]) -> bool:
    """Of the same machine and file; a package that only one of them names is no difference."""
    before, after = ({**run["machine"]} for run in (last, now))
    old, new = before.pop("versions"), after.pop("versions")
    same = all(new.get(name, version) == version for name, version in old.items())
    return same and before == after and all(last[k] == now[k] for k in ("file_bytes", "rounds"))


def publish(script: Script, result: dict[str, Any]) -> None:
    """Keep a run: its JSON and README's tables.

    A run of some measures takes their place in the last one, if that was of the same
    machine and file: each measure stands with the load it was taken under.

    Raises:
        SystemExit: it was of another; the measures that are not in this run would be lost.
    """
    kept = HERE / f"{script.name}.json"
    if len(result["measures"]) < len(script.measures) and kept.exists():
        last = json.loads(kept.read_text())
        if not _alike(last, result):
            raise SystemExit(f"{kept} is of another machine or file: publish all measures")
        result["measures"] = {**last["measures"], **result["measures"]}
        result["machine"]["versions"] |= last["machine"]["versions"]
    kept.write_text(json.dumps(result, indent=1) + "\n")
    report.fill(HERE / "README.md", result, script.begin, script.end)


def arguments(script: Script) -> argparse.Namespace:
    known = list(script.measures)
    parser = argparse.ArgumentParser(description=(script.about or "").splitlines()[0])
    parser.add_argument("--size", help="of the file: 2GiB, with --quick 64MiB")
    parser.add_argument("--rounds", type=int, help="that count: 7, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="small and rough")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(known)}")
    parser.add_argument("--json", type=pathlib.Path, help="where the result goes")
    parser.add_argument("--no-peers", action="store_true", help="ours and the ceilings only")
    publishing = f"also keep it as {script.name}.json and in README.md"
    parser.add_argument("--publish", action="store_true", help=publishing)
    chosen = parser.parse_args()
    chosen.names = chosen.only.split(",") if chosen.only else known
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"no measure {', '.join(unknown)}; there are {', '.join(known)}")
    return chosen


def run_script(script: Script) -> None:
    """What the command line asks for."""
    chosen = arguments(script)
    size = chosen.size or ("64MiB" if chosen.quick else "2GiB")
    bench = Bench(
        folder=native.BUILD,
        size=parse_size(size, "size"),
        rounds=chosen.rounds or (3 if chosen.quick else 7),
        with_peers=not chosen.no_peers,
        quick=chosen.quick,
    )
    result = run(script, bench, chosen.names)
    report.keep(script.name, result, chosen.json)
    if chosen.publish:
        publish(script, result)
