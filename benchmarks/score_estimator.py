"""Score the estimator on published measurements of other people's runs.

usage: score_estimator.py --data FILE [--json OUT] [--page OUT] [--calibrate OUT] [--rows]
                          [--tier NAME]

FILE holds one JSON object a line (docs/estimates.md says which fields).  Scored are rows of
quality A and B, one a configuration.  A row that cannot be expressed is listed with its reason.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import estimator_adapters as adapters  # noqa: E402
from tensorstream.estimator import frameworks  # noqa: E402

GIB = 1 << 30
# Fewer rows than this give no interval of their own.
LEAST = 12
BEGIN, END = "<!-- begin: make score -->", "<!-- end: make score -->"
# Memory of the GPUs that a fit is judged on, GiB as the driver offers it.
GPUS = (16, 24, 32, 40, 48, 80, 96, 141, 192)
TIERS_IN_ORDER = (
    "Megatron states", "Megatron peak", "transformers inference", "KV bytes per token",
    "loss and MLP kernels", "LoRA-RL trainer", "LoRA-RL vLLM", "single-GPU fine-tuning",
    "QLoRA", "FSDP2/TP/PP/CP, DeepSpeed", "vLLM memory", "VLM", "other",
)  # fmt: skip


class Scored(NamedTuple):
    """One figure, measured and estimated."""

    id: str
    framework: str
    tier: str
    profile: str
    measured: int
    estimated: int
    low: int
    high: int

    @property
    def error(self) -> float:
        """Signed, as a fraction of what was measured."""
        return self.estimated / self.measured - 1

    @property
    def within(self) -> bool:
        return self.low <= self.measured <= self.high

    @property
    def false_fit(self) -> bool:
        """The smallest GPU that the upper end of the interval fits is too small."""
        room = next((g * GIB for g in GPUS if self.high <= g * GIB), None)
        return room is not None and self.measured > room


class Missing(NamedTuple):
    """A row that could not be expressed."""

    id: str
    tier: str
    reason: str


def read(path: pathlib.Path) -> list[adapters.Row]:
    """The rows of a file in one form; what is no JSON object is a row that says so."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return [parse(line, number) for number, line in enumerate(lines, 1) if line.strip()]


def parse(line: str, number: int) -> adapters.Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {"id": f"line {number}", "broken": "the line is no JSON object"}
    return {"id": f"line {number}"} | adapters.plain(found)


def scorable(row: adapters.Row) -> bool:
    """Quality A or B, one row a configuration, with a figure; and what cannot be read."""
    figure = row.get("measured_bytes")
    return "broken" in row or bool(
        row.get("quality") in ("A", "B")
        and row.get("representative", True)
        and isinstance(figure, int)
        and figure > 0
    )


def score_row(row: adapters.Row) -> tuple[list[Scored], list[Missing]]:
    """A row's figures, or why it has none.  Whatever it holds, nothing is raised."""
    tier = "other"
    try:
        if "broken" in row:
            raise adapters.NotCovered(row["broken"])
        module = adapters.adapter(row)
        if module is None:
            reason = f"no adapter for {row['framework']} ({row['kind']})"
            raise adapters.NotCovered(reason)
        tier = module.tier(row)
        return [
            Scored(
                row["id"],
                row["framework"],
                q.tier,
                q.estimate.profile.name,
                q.measured,
                q.estimated,
                *q.interval,
            )
            for q in module.queries(row)
        ], []
    except adapters.NotCovered as reason:
        return [], [Missing(row["id"], tier, str(reason))]
    except KeyError as key:
        return [], [Missing(row["id"], tier, f"the row lacks {key}")]
    except Exception as error:  # a row is a stranger's: it may be wrong in any way
        why = f"the row cannot be read: {type(error).__name__}: {error}"
        return [], [Missing(row["id"], tier, why)]


def score(rows: Iterable[adapters.Row]) -> tuple[list[Scored], list[Missing]]:
    scored: list[Scored] = []
    missing: list[Missing] = []
    for row in rows:
        good, bad = score_row(row)
        scored += good
        missing += bad
    return scored, missing


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1))]


def block(scored: Sequence[Scored], missing: int) -> dict[str, float]:
    """The figures of one line of the table, as fractions."""
    whole = len(scored) + missing
    if not scored:
        return {"n": 0, "coverage": 0.0 if whole else 1.0}
    errors = [abs(s.error) for s in scored]
    return {
        "n": len(scored),
        "mean_abs_error": statistics.fmean(errors),
        "p50": quantile(errors, 0.5),
        "p95": quantile(errors, 0.95),
        "worst": max(errors),
        "coverage": len(scored) / whole,
        "under_estimates": sum(s.error < 0 for s in scored) / len(scored),
        "false_fits": sum(s.false_fit for s in scored) / len(scored),
        "interval_coverage": sum(s.within for s in scored) / len(scored),
    }


def ends(ratios: Sequence[float]) -> tuple[int, int]:
    """Between which 90 % of measured over estimated lay, permille, outwards."""
    return int(1000 * quantile(ratios, 0.05)), -int(-1000 * quantile(ratios, 0.95) // 1)


def calibrate(scored: Sequence[Scored]) -> dict[str, dict[str, int]]:
    """Interval ends by profile; profiles of fewer than LEAST rows share "all"."""
    by_profile = collections.defaultdict(list)
    for s in scored:
        by_profile[s.profile].append(s.measured / s.estimated)
    few = [r for ratios in by_profile.values() if len(ratios) < LEAST for r in ratios]
    found = {name: r for name, r in by_profile.items() if len(r) >= LEAST}
    found["all"] = few if len(few) >= LEAST else [s.measured / s.estimated for s in scored]
    return {
        name: dict(zip(("low", "high", "rows"), (*ends(found[name]), len(found[name]))))
        for name in sorted(found)
    }


class LeftOut(NamedTuple):
    """One framework, judged by what the others would have taught.

    Attributes:
        bare: its mean absolute error as estimated.
        scaled: the same after multiplying by the others' median of measured over estimated.
        covered: share of it within the others' 90 % interval.
    """

    framework: str
    n: int
    bare: float
    scaled: float
    covered: float


def leave_one_out(scored: Sequence[Scored]) -> list[LeftOut]:
    """Each framework of at least LEAST rows against all the others."""
    found = []
    for name, n in collections.Counter(s.framework for s in scored).most_common():
        if n < LEAST:
            continue
        mine = [s for s in scored if s.framework == name]
        others = [s.measured / s.estimated for s in scored if s.framework != name]
        scale, (low, high) = quantile(others, 0.5), ends(others)
        found.append(
            LeftOut(
                name,
                n,
                statistics.fmean(abs(s.error) for s in mine),
                statistics.fmean(abs(scale * s.estimated / s.measured - 1) for s in mine),
                sum(low <= 1000 * s.measured / s.estimated <= high for s in mine) / n,
            )
        )
    return found


def left_out_lines(scored: Sequence[Scored]) -> list[str]:
    """Leave-one-framework-out, as Markdown."""
    out = [
        "| left out | points | mean | scaled by the others | in the others' 90 % interval |",
        "|---|---:|---:|---:|---:|",
    ]
    for f in leave_one_out(scored):
        figures = (f"{100 * x:.1f} %" for x in (f.bare, f.scaled, f.covered))
        out.append(f"| {f.framework} | {f.n} | " + " | ".join(figures) + " |")
    return out


def empirical(scored: Sequence[Scored]) -> list[str]:
    """The constants that are measured, not derived, by profile, with their sources."""
    out = []
    for name in sorted({s.profile for s in scored}):
        found = frameworks.profile(name)
        out += [
            f"- `{name}`: `{constant}` = {found.constants[constant]}: {found.sources[constant]}"
            for constant in found.empirical
            if not constant.endswith("_permille") or constant == "fragment_permille"
        ]
    return out


def report(scored: Sequence[Scored], missing: Sequence[Missing]) -> dict[str, Any]:
    """What --json writes."""
    tiers = {s.tier for s in scored} | {m.tier for m in missing}
    order = [t for t in TIERS_IN_ORDER if t in tiers] + sorted(tiers - {*TIERS_IN_ORDER})
    return {
        "all": block(scored, len(missing)),
        "tiers": {
            tier: block(
                [s for s in scored if s.tier == tier], sum(m.tier == tier for m in missing)
            )
            for tier in order
        },
        "not_covered": [m._asdict() for m in missing],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The table, as Markdown."""
    head = (
        "| tier | points | mean | p50 | p95 | worst | under-estimates | false fits |"
        " in 90 % interval | rows covered |"
    )
    out = [head, "|---|" + "---:|" * 9]
    for name, b in [*found["tiers"].items(), ("all", found["all"])]:
        if b["n"] == 0:
            out.append(f"| {name} | 0 |" + " |" * 7 + " 0 % |")
            continue
        cells = [f"{100 * b[k]:.1f} %" for k in ("mean_abs_error", "p50", "p95", "worst")]
        cells += [f"{100 * b[k]:.0f} %" for k in ("under_estimates",)]
        cells += [
            f"{100 * b[k]:.1f} %" for k in ("false_fits", "interval_coverage", "coverage")
        ]
        out.append(f"| {name} | {b['n']} | " + " | ".join(cells) + " |")
    return out


def reasons(missing: Sequence[Missing]) -> list[str]:
    """Why rows are not covered, most frequent first."""
    counted = collections.Counter((m.tier, m.reason) for m in missing)
    return [f"{count:4d}  {tier}: {why}" for (tier, why), count in counted.most_common()]


LEFT_OUT = """\
Each framework by what the others would have taught. Were its errors those of a common bias,
scaling by the others' median would mend them; the interval is the others' 5 and 95 %."""
EMPIRICAL = """\
Constants that were measured, not derived (beside the ends of intervals). None is a model's."""


def write_page(
    page: pathlib.Path,
    found: dict[str, Any],
    scored: Sequence[Scored],
    missing: Sequence[Missing],
) -> None:
    """Put the table and the list between the page's marks."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{page}: no place between {BEGIN} and {END}")
    why = ["```", *reasons(missing), "```"] if missing else ["Every row is covered."]
    parts = (
        lines(found),
        ["Not covered:"],
        why,
        [LEFT_OUT],
        left_out_lines(scored),
        [EMPIRICAL],
        empirical(scored),
    )
    inside = "\n\n".join("\n".join(part) for part in parts)
    page.write_text(f"{before}{BEGIN}\n\n{inside}\n\n{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    parser.add_argument("--page", type=pathlib.Path, help="put the table into this page")
    parser.add_argument(
        "--calibrate",
        type=pathlib.Path,
        help="write the ends of intervals here (intervals.json)",
    )
    parser.add_argument("--rows", action="store_true", help="print every row, worst first")
    parser.add_argument("--tier", help="only this tier")
    args = parser.parse_args(argv)
    scored, missing = score(filter(scorable, read(args.data)))
    if args.tier:
        scored = [s for s in scored if s.tier == args.tier]
        missing = [m for m in missing if m.tier == args.tier]
    found = report(scored, missing)
    print("\n".join(lines(found)))
    if missing:
        print("\nnot covered:", *reasons(missing), sep="\n")
    print("\nleave one framework out:", *left_out_lines(scored), sep="\n")
    if args.calibrate:
        args.calibrate.write_text(json.dumps(calibrate(scored), indent=1) + "\n", "utf-8")
    if args.rows:
        for s in sorted(scored, key=lambda s: -abs(s.error)):
            print(f"{s.error:+8.1%}  {s.measured / GIB:9.3f} {s.estimated / GIB:9.3f}  {s.id}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if args.page:
        write_page(args.page, found, scored, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
