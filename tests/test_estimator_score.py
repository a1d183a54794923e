"""The table of docs/estimates.md, on the published measurements where they are at hand."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import score_estimator as scorer  # noqa: E402

COMMITTED = json.loads((ROOT / "benchmarks" / "estimates.json").read_text("utf-8"))
# What a tier may move before it is worse: less than the last digit of the table.
SLACK = 0.0005


@pytest.fixture(scope="module")
def found(shared_data: pathlib.Path) -> dict[str, object]:
    path = shared_data / "estimator" / "measured_memory.jsonl"
    if not path.exists():
        pytest.skip("the list of measurements is not here")
    return scorer.report(*scorer.score(filter(scorer.scorable, scorer.read(path))))


def test_no_tier_gets_worse(found: dict[str, dict[str, dict[str, float]]]) -> None:
    for tier, was in COMMITTED["tiers"].items():
        now = found["tiers"][tier]
        assert now["coverage"] >= was["coverage"] - SLACK, tier
        for figure in ("mean_abs_error", "p95", "false_fits"):
            if figure in was:
                assert now[figure] <= was[figure] + SLACK, (tier, figure)


def test_the_page_shows_the_committed_figures() -> None:
    page = (ROOT / "docs" / "estimates.md").read_text("utf-8")
    for line in scorer.lines(COMMITTED):
        assert line in page


def test_the_readme_states_the_committed_figures() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    found = COMMITTED["all"]
    mean, most = (f"{100 * found[name]:.1f} %" for name in ("mean_abs_error", "p95"))
    assert f"over {found['n']:,} of them the mean error is {mean}" in text
    assert f"95 % are within {most}" in text


def test_a_row_that_cannot_be_expressed_is_listed() -> None:
    row = {"id": "x", "framework": "abacus", "kind": "training", "measured_bytes": 1}
    row |= {
        "source": "a wall",
        "model": "beads",
        "config": {},
        "metric": "rows",
        "modality": "llm",
    }
    scored, missing = scorer.score([row])
    assert not scored
    assert missing == [scorer.Missing("x", "other", "no adapter for abacus (training)")]
    assert scorer.report(scored, missing)["all"]["coverage"] == 0.0


def test_figures_of_a_block() -> None:
    def one(measured: int, estimated: int) -> scorer.Scored:
        return scorer.Scored("x", "f", "t", "p", measured, estimated, estimated, estimated)

    gib = 1 << 30
    rows = [one(100 * gib, 100 * gib), one(50 * gib, 40 * gib), one(10 * gib, 11 * gib)]
    block = scorer.block(rows, missing=1)
    assert block["n"] == 3
    assert block["mean_abs_error"] == pytest.approx(0.1)
    assert block["p50"] == pytest.approx(0.1)
    assert block["worst"] == pytest.approx(0.2)
    assert block["coverage"] == 0.75
    assert block["under_estimates"] == pytest.approx(1 / 3)
    assert block["false_fits"] == pytest.approx(1 / 3)
