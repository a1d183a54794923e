"""Roles against real names: tests/data/names, made by make_names.py and by hand."""

from __future__ import annotations

import collections
import pathlib
import time

import pytest

from tensorstream import _core

FOLDER = pathlib.Path(__file__).parent / "data" / "names"
KINDS = {"embedding", "attention", "mlp", "normalization", "output", "other"}


def table(name: str) -> list[list[str]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    assert rows[0] == ["name", "kind", "marks", "stack", "layer", "expert", "architectures"]
    return rows[1:]


def number(text: str) -> int | None:
    return None if text == "-1" else int(text)


@pytest.mark.parametrize("file", ["names.tsv", "by_hand.tsv"])
def test_every_name_has_its_role(file: str) -> None:
    wrong = []
    for name, kind, marks, stack, layer, expert, _ in table(file):
        want = (kind, set(filter(None, marks.split(","))), stack, number(layer), number(expert))
        role = _core.role(name)
        got = (role["kind"], set(role["marks"]), role["stack"], role["layer"], role["expert"])
        if got != want:
            wrong.append(f"{name}: {got}, not {want}")
    assert not wrong, f"{len(wrong)} wrong, among them:\n" + "\n".join(wrong[:20])


def test_the_table_is_wide_enough() -> None:
    rows = table("names.tsv")
    architectures = {a for row in rows for a in row[6].split()}
    built = {a for a in architectures if not a.startswith("gguf-")}
    assert len(built) >= 150 and len(architectures - built) >= 50
    kinds = collections.Counter(row[1] for row in rows)
    assert set(kinds) == KINDS and min(kinds.values()) >= 100
    marks = {mark for row in rows + table("by_hand.tsv") for mark in row[2].split(",")}
    assert marks >= {"expert", "shared_expert", "lora", "router", "bias", "scale"}


def test_layers_order_as_numbers() -> None:
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(13)]
    assert sorted(names) != names
    assert sorted(names, key=lambda name: _core.role(name)["layer"]) == names


def test_names_outside_of_layers_have_no_layer() -> None:
    role = _core.role("model.embed_tokens.weight")
    assert role["layer"] is None and role["expert"] is None and role["stack"] == ""


def test_a_name_is_read_once_from_left_to_right() -> None:
    """A long name costs as much a byte as a short one: nothing is quadratic."""

    def seconds(name: str, times: int) -> float:
        begin = time.perf_counter()
        for _ in range(times):
            _core.role(name)
        return time.perf_counter() - begin

    word = "layers.3.attn_norm."
    short = min(seconds(word * 64, 100) for _ in range(5))
    long = min(seconds(word * 64 * 64, 100) for _ in range(5))
    assert long < short * 64 * 8
