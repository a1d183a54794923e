"""What was measured: for the terminal, as JSON, and as the tables of README.md."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import sys
from collections.abc import Sequence
from typing import Any

from race import Row

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PACKAGES = (
    "tensorstream", "numpy", "ml_dtypes", "safetensors", "torch", "runai-model-streamer",
    "fastsafetensors", "gguf", "pywhispercpp", "xxhash", "zipnn", "openzl", "blosc2",
    "zstandard", "bitsandbytes", "torchao",
)  # fmt: skip


# -- the machine -------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _line("/proc/cpuinfo", r"model name\s*: (.*)") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "kernel": platform.release(),
        "huge_pages": _line("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]"),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _line(path: str, pattern: str) -> str | None:
    try:
        found = re.search(pattern, pathlib.Path(path).read_text())
    except OSError:
        return None
    return found.group(1).strip() if found else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_line(told: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {one}" for name, one in told["versions"].items())
    return (
        f"{told['cores']} cores of {told['cpu']}, {told['memory_gib']} GiB, "
        f"Linux {told['kernel']}, huge pages: {told['huge_pages']}, "
        f"Python {told['python']}, {versions}"
    )


# -- rows --------------------------------------------------------------------------------


def as_json(rows: Sequence[Row], copy: Row | None, raw: Row | None) -> list[dict[str, Any]]:
    """Rows with their ratios to memcpy and to the raw reads of the same rounds."""
    return [
        {
            "label": row.entry.label,
            "role": row.entry.role,
            "unit": row.unit,
            "median": round(row.median, 3),
            "least": round(min(row.figures), 3),
            "most": round(max(row.figures), 3),
            "rounds": [round(one, 3) for one in row.figures],
            "of_memcpy": round(row.over(copy), 3) if copy else None,
            "of_raw": round(row.over(raw), 3) if raw else None,
            "extra_peak": row.extra_peak,
            "budget": row.entry.budget,
        }
        for row in rows
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    def ratio(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    return [
        f"**{row['label']}**" if row["role"] == "ours" else row["label"],
        f"{row['median']:.1f}",
        f"{row['least']:.1f}-{row['most']:.1f}",
        ratio(row["of_memcpy"]),
        ratio(row["of_raw"]),
        "" if row["role"] == "ceiling" else f"{row['extra_peak'] / 2**20:.1f}",
    ]


def text(measure: dict[str, Any]) -> str:
    """One measure for the terminal."""
    lines = [f"{measure['title']}   (load {measure['load']:.1f})"]
    for row in measure["rows"]:
        label, median, span, copy, raw, extra = _cells(row)
        lines.append(
            f"  {label.strip('*'):46} {median:>8} {row['unit']:4} {span:>14}"
            f"{copy:>7}{raw:>7} {extra and extra + ' MiB':>13}"
        )
    lines += [f"  {_judged(one)}" for one in measure["targets"]]
    lines += [f"  absent: {one}" for one in measure["absent"]]
    lines += [f"  note: {one}" for one in measure["notes"]]
    return "\n".join(lines)


def _judged(target: dict[str, Any]) -> str:
    met = "reached" if target["met"] else "NOT reached"
    return f"{target['what']}: {_number(target)}, wanted {target['wanted']}: {met}"


def _number(target: dict[str, Any]) -> str:
    return f"{target['measured']:.3g}"


# -- README.md ---------------------------------------------------------------------------


def keep(name: str, result: dict[str, Any], where: pathlib.Path | None) -> None:
    """Write a run as JSON: there, or under results/ with the time in its name."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    kept = where or pathlib.Path(__file__).parent / "results" / f"{name}-{stamp}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")
    say(f"written to {kept}")


def fill(
    readme: pathlib.Path, result: dict[str, Any], begin: str = BEGIN, end: str = END
) -> None:
    """Put the tables of a run between the two markers of a file."""
    before, _, rest = readme.read_text().partition(begin)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{begin}\n\n{markdown(result)}\n{end}{after}")


def markdown(result: dict[str, Any]) -> str:
    parts = [f"Measured {result['date']} on {machine_line(result['machine'])}.\n"]
    parts += [_targets_table(result)]
    parts += [_measure_table(one) for one in result["measures"].values()]
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _targets_table(result: dict[str, Any]) -> str:
    rows = [
        [one["what"], one["wanted"], _number(one), "yes" if one["met"] else "**no**"]
        for measure in result["measures"].values()
        for one in measure["targets"]
    ]
    return _table(["what", "wanted", "measured", "reached"], rows)


def _measure_table(measure: dict[str, Any]) -> str:
    unit = measure["rows"][0]["unit"] if measure["rows"] else ""
    head = ["", unit, "span", "of memcpy", "of raw", "extra peak MiB"]
    lines = [
        f"### {measure['title']}\n",
        _table(head, [_cells(one) for one in measure["rows"]]),
    ]
    remarks = [f"not there: {one}" for one in measure["absent"]] + measure["notes"]
    lines += [f"- {one}" for one in remarks]
    noise = (
        f"Load {measure['load']:.1f}, {measure['stolen']:.1%} of the time taken by the host."
    )
    return "\n".join([*lines, noise, ""])


def say(text: str) -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
