"""How fast the estimator is: estimates a second on one core, and a grid of a million points.

usage: bench_estimator.py [ROUNDS]

The figures are medians of ROUNDS (5) rounds, in this process, with the GIL released.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tensorstream.estimator import EstimatorConfig, fitting  # noqa: E402

MODEL = "meta-llama/Llama-3.1-70B"
GRID = {
    "tp": [1, 2, 4, 8],
    "dp": [1, 2, 4, 8, 16],
    "zero": [0, 1, 2, 3],
    "batch": list(range(1, 26)),
    "seq": [256 * n for n in range(1, 251)],
    "recompute": ["none", "full"],
}
PROFILES = (("trainer", "train"), ("transformers", "generate"))


def seconds(config: EstimatorConfig) -> float:
    """Of a grid of a million points."""
    start = time.perf_counter()
    fitting.grid(config, **GRID)
    return time.perf_counter() - start


def main(rounds: int = 5) -> None:
    points = 1
    for values in GRID.values():
        points *= len(values)
    for profile, mode in PROFILES:
        config = EstimatorConfig(MODEL, profile=profile, mode=mode)
        took = statistics.median(seconds(config) for _ in range(rounds))
        print(f"{profile}: {points:,} points in {took:.2f} s, {points / took:,.0f} a second")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
