"""Measures and draws the pictures of the README.

    python docs/images/make_pictures.py                      draw from measured.json
    python docs/images/make_pictures.py --measure FILE       measure with FILE first

FILE is a checkpoint of about 2 GiB, such as benchmarks/make_checkpoint.py makes.  Every
measurement runs in a process of its own, on a warm page cache, and looks at every value
with NumPy.  Of the two that are compared, the fastest of seven rounds is drawn.  safetensors
is needed for the comparison.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "measured.json"
BUDGETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # MiB
ROUNDS = 7
MIB = 1 << 20

# -- measuring -------------------------------------------------------------------------


def look(array: Any) -> None:
    """Touch every value, as cheaply as NumPy can."""
    array.reshape(-1).view("u1").max(initial=0)


def streamed(path: str, budget: int) -> None:
    import tensorstream as ts

    with ts.open(path) as checkpoint, checkpoint.stream(budget=budget * MIB) as stream:
        for chunk in stream:
            look(chunk.array)


def loaded(path: str) -> None:
    import ml_dtypes  # noqa: F401 - teaches NumPy bfloat16
    from safetensors.numpy import load_file

    for array in load_file(path).values():
        look(array)


def child(how: str, path: str, budget: int) -> dict[str, Any]:
    """One measurement: seconds, and memory over time above what was there before."""
    import tensorstream as ts

    if how == "loaded":
        import safetensors.numpy  # noqa: F401 - an import is no load
    before = ts.memory().rss
    started = time.monotonic_ns()
    with ts.MemoryMonitor(interval=0.005) as monitor:
        if how == "loaded":
            loaded(path)
        else:
            streamed(path, budget)
        seconds = (time.monotonic_ns() - started) / 1e9
    history = monitor.samples
    history = history[:: max(1, len(history) // 240)]  # as much as a picture shows
    return {
        "seconds": seconds,
        "extra": monitor.peak.rss - before,
        "time": [round((int(one) - started) / 1e9, 4) for one in history["time_ns"]],
        "rss": [int(one) - before for one in history["rss"]],
    }


def measured(how: str, path: str, budget: int = 64) -> dict[str, Any]:
    words = ["--child", how, "--file", path, "--budget", str(budget)]
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def fastest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return min(runs, key=lambda run: float(run["seconds"]))


def measure(path: str) -> dict[str, Any]:
    size = pathlib.Path(path).stat().st_size
    measured("streamed", path)  # warms the cache
    runs: dict[int, list[dict[str, Any]]] = {budget: [] for budget in BUDGETS}
    whole = []
    for _ in range(ROUNDS):
        whole.append(measured("loaded", path))
        for budget in BUDGETS:
            runs[budget].append(measured("streamed", path, budget))
    return {
        "machine": f"{cpu()}, Linux {platform.release().split('-')[0]}",
        "date": time.strftime("%Y-%m-%d"),
        "bytes": size,
        "loaded": fastest(whole),
        "streamed": fastest(runs[64]),
        "budgets": [
            {
                "budget": budget * MIB,
                "extra": max(run["extra"] for run in found),
                "rate": size / statistics.median(run["seconds"] for run in found),
            }
            for budget, found in runs.items()
        ],
    }


def cpu() -> str:
    import tensorstream._core as core

    names = [
        line.partition(":")[2].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {core.cpu_count} cores"


# -- drawing ---------------------------------------------------------------------------

INK, PALE, OURS, THEIRS = "#24292f", "#d0d7de", "#0969da", "#bc4c00"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 320, 64, 20, 46, 46


class Chart:
    """A drawing with two scales and lines of numbers; text is escaped by its author."""

    def __init__(self, title: str, x_most: float, y_most: float) -> None:
        self.x_most, self.y_most = x_most, y_most
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">{title}</text>',
        ]

    def x(self, value: float) -> float:
        return LEFT + value / self.x_most * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.y_most * (HEIGHT - TOP - BOTTOM)

    def text(
        self, x: float, y: float, words: str, ink: str = INK, anchor: str = "start"
    ) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" fill="{ink}" text-anchor="{anchor}" '
            f'paint-order="stroke" stroke="#ffffff" stroke-width="4">{words}</text>'
        )

    def rule(self, value: float, words: str) -> None:
        """A horizontal line of the grid."""
        y = self.y(value)
        self.parts.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{PALE}" fill="none"/>'
        )
        self.text(LEFT - 8, y + 4, words, anchor="end")

    def tick(self, value: float, words: str) -> None:
        self.text(self.x(value), HEIGHT - BOTTOM + 18, words, anchor="middle")

    def line(self, points: list[tuple[float, float]], ink: str, dash: str = "") -> None:
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2.2" '
            f'stroke-dasharray="{dash}"/>'
        )

    def dot(self, x: float, y: float, ink: str) -> None:
        self.parts.append(
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.5" fill="{ink}"/>'
        )

    def save(self, name: str, footnote: str) -> None:
        self.text(LEFT, HEIGHT - 8, footnote, "#57606a")
        (HERE / name).write_text("\n".join([*self.parts, "</svg>", ""]), encoding="utf-8")


def footnote(data: dict[str, Any]) -> str:
    return f"measured {data['date']}: {data['machine']}; warm page cache"


def draw_memory(data: dict[str, Any]) -> None:
    """Resident memory over time: loaded whole, and streamed through 64 MiB."""
    gib = 1 << 30
    whole, ours = data["loaded"], data["streamed"]
    seconds = max(whole["seconds"], ours["seconds"])
    most = max(whole["extra"], ours["extra"])
    chart = Chart(
        f"Memory while every value of a {data['bytes'] / gib:.1f} GiB checkpoint is looked at",
        seconds * 1.04,
        most * 1.12,
    )
    for step in range(int(most / gib) + 1):
        chart.rule(step * gib, f"{step} GiB")
    step = 1.0 if seconds > 3 else 0.5 if seconds > 1.2 else 0.2
    for i in range(int(seconds / step) + 1):
        chart.tick(i * step, f"{i * step:g} s")
    for run, ink in ((whole, THEIRS), (ours, OURS)):
        points = [(t, max(0, r)) for t, r in zip(run["time"], run["rss"]) if t <= seconds]
        chart.line(points, ink)
    t, high = whole["seconds"], whole["extra"]
    chart.text(
        chart.x(t * 0.5), chart.y(high) - 8,
        f"safetensors.numpy.load_file: {high / gib:.1f} GiB", THEIRS, "middle",
    )  # fmt: skip
    chart.text(
        chart.x(ours["seconds"]) + 10, chart.y(ours["extra"]) - 8,
        f"tensorstream, budget 64 MiB: {ours['extra'] / MIB:.0f} MiB, done after "
        f"{ours['seconds']:.2f} s", OURS,
    )  # fmt: skip
    chart.dot(ours["time"][-1], max(0, ours["rss"][-1]), OURS)
    chart.save("memory.svg", footnote(data))


def draw_budgets(data: dict[str, Any]) -> None:
    """What the process really grew by, and how fast it was, over the budget."""
    found = data["budgets"]
    most = max(one["rate"] for one in found) / 1e9
    chart = Chart("Rate over the budget, and what the process grew by", len(found), most * 1.25)
    for value in range(0, int(most * 1.25) + 1, 2):
        chart.rule(value, f"{value}")
    chart.text(LEFT - 8, TOP - 6, "GB/s", anchor="end")
    chart.line([(i + 0.5, one["rate"] / 1e9) for i, one in enumerate(found)], OURS)
    for i, one in enumerate(found):
        chart.tick(i + 0.5, f"{one['budget'] // MIB} MiB")
        chart.dot(i + 0.5, one["rate"] / 1e9, OURS)
        chart.text(
            chart.x(i + 0.5), chart.y(one["rate"] / 1e9) - 10,
            f"+{one['extra'] / MIB:.1f} MiB", OURS, "middle",
        )  # fmt: skip
    chart.save("budgets.svg", footnote(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", metavar="FILE", help="a checkpoint to measure with")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=int, default=64, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args.file, args.budget)))
        return
    if args.measure:
        DATA.write_text(json.dumps(measure(args.measure)) + "\n", encoding="utf-8")
    data = json.loads(DATA.read_text(encoding="utf-8"))
    draw_memory(data)
    draw_budgets(data)


if __name__ == "__main__":
    main()
