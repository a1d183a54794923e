"""Frameworks as data: one JSON file each in ``profiles/``.

{"extends": "transformers",            another profile whose constants hold here too
 "doc": "one sentence",
 "constants": {"repeat_kv": 1},        fields of ts_profile (csrc/estimate/estimate.h)
 "sources": {"repeat_kv": "..."},      where each constant is from
 "empirical": ["fragment_permille"],   those that were measured, not derived
 "run": {"attention": "sdpa"},         what the framework does when nothing is said
 "not_modelled": ["..."]}
"""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib import resources
from typing import Any

from tensorstream.estimator import core, names

_CALIBRATED = dict.fromkeys(
    ("low_permille", "high_permille"),
    "measured over estimated: 5 and 95 % of the published runs (intervals.json)",
)
_KEYS = ("extends", "doc", "constants", "sources", "empirical", "run", "not_modelled")


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a framework keeps in memory, and how large.

    Attributes:
        constants: fields of the C core's profile.
        run: defaults of the run.
        empirical: names of the constants that are measured.
    """

    name: str
    doc: str
    constants: dict[str, Any]
    sources: dict[str, str]
    empirical: tuple[str, ...]
    run: dict[str, Any]
    not_modelled: tuple[str, ...]

    def replace(self, **constants: Any) -> Profile:
        """The same framework with other constants."""
        names.check("profile", constants, core.fields("profile"))
        return dataclasses.replace(self, constants={**self.constants, **constants})


def known() -> list[str]:
    """Names of the profiles that ship with the package."""
    folder = resources.files("tensorstream.estimator").joinpath("profiles")
    return sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name != "README")


@functools.cache
def intervals() -> dict[str, dict[str, int]]:
    """Ends of 90 % intervals by profile, permille of the estimate; ``"all"`` for the others.

    Made by ``benchmarks/score_estimator.py --calibrate`` from published measurements.
    """
    path = resources.files("tensorstream.estimator").joinpath("intervals.json")
    found: dict[str, dict[str, int]] = json.loads(path.read_text("utf-8"))
    return found


def _interval(name: str) -> dict[str, int]:
    found = intervals().get(name) or intervals()["all"]
    return {"low_permille": found["low"], "high_permille": found["high"]}


@functools.cache
def profile(name: str) -> Profile:
    """A profile by name.

    Raises:
        ValueError: unknown; the sentence names the near one.
    """
    names.choose("profile", name, known())
    path = resources.files("tensorstream.estimator").joinpath("profiles", f"{name}.json")
    data = json.loads(path.read_text("utf-8"))
    names.check(f"profile {name}", data, _KEYS)
    base = profile(data["extends"]) if "extends" in data else None
    constants = {**(base.constants if base else {}), **data.get("constants", {})}
    constants |= _interval(name)
    names.check(f"profile {name}", constants, core.fields("profile"))
    return Profile(
        name=name,
        doc=data["doc"],
        constants=constants,
        sources={**_CALIBRATED, **(base.sources if base else {}), **data.get("sources", {})},
        empirical=tuple(
            sorted(
                {*_CALIBRATED, *(base.empirical if base else ()), *data.get("empirical", ())}
            )
        ),
        run={**(base.run if base else {}), **data.get("run", {})},
        not_modelled=(*(base.not_modelled if base else ()), *data.get("not_modelled", ())),
    )
