"""What the page answers: pieces of HTML and the configuration as JSON, made without Gradio.

Every number is one that ``ts.estimate`` or ``ts.fit`` returned.
"""

from __future__ import annotations

import html
import json
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorstream.estimator import core, estimate, fitting, gpus, loader
from tensorstream.estimator.config import EstimatorConfig
from tensorstream.estimator.drawing import GIB, fill, gib, spoken
from tensorstream.estimator.fitting import Fit
from tensorstream.estimator.result import Estimate
from tensorstream.ui import form
from tensorstream.units import format_size

# What each counter is, in torch's words.
COUNTERS = {
    "allocated": "live tensors: torch.cuda.max_memory_allocated",
    "reserved": "with the allocator's cache: max_memory_reserved",
    "device": "with CUDA context and libraries: nvidia-smi",
}


def takes(answers: Mapping[str, Any]) -> tuple[str, str]:
    """What a run takes, as HTML, and its configuration as JSON, for what the form was told.

    A sentence and nothing where something is wrong.
    """
    try:
        fields = form.config(answers)
        config = loader.from_dict(fields)
        shown = estimate_html(estimate(config), config.gpu)
    except Exception as error:
        return problem(error), ""
    return shown, json.dumps(fields, indent=2, ensure_ascii=False)


def fits(answers: Mapping[str, Any]) -> str:
    """What fits, as HTML, or a sentence where something is wrong."""
    try:
        return fit_html(loader.from_dict(form.config(answers)))
    except Exception as error:
        return problem(error)


def problem(error: Exception) -> str:
    """A sentence for what is wrong.  What nobody foresaw is also printed for the console."""
    words = str(error) or type(error).__name__
    if not isinstance(error, (ValueError, TypeError, NotImplementedError)):
        traceback.print_exception(error)
        words = f"{type(error).__name__}: {words}"
    return f'<div class="ts-problem" role="alert">{_words(words)}</div>'


def estimate_html(found: Estimate, gpu: str | None = None) -> str:
    """One estimate: verdict, counters, drawing, parts, and how it was come by."""
    room = gpus.gpu(gpu) if gpu else None
    return _section(
        _head(found, room),
        _counters(found, room),
        f'<figure class="ts-figure">{found.draw(room.name if room else None)}</figure>',
        _parts(found),
        _details("Live tensors at the peak, with formula and source", _live(found)),
        _advice(found),
        _stages(found),
        _list_of("Not modelled", found.not_modelled),
    )


def fit_html(config: EstimatorConfig) -> str:
    """What fits in the memory of the config's GPU."""
    if config.gpu is None:
        raise ValueError("gpu is empty: choose one to see what fits in it")
    gpu = gpus.gpu(config.gpu)
    found = fitting.fit(config)
    largest = fitting.largest_model(config, gpu.name)
    trains = found.estimate.run["mode"] == "train"
    return _section(
        _fit_head(found, gpu),
        _facts(
            ("Largest batch", _count(found.batch, fitting.MOST_BATCH), "sequences per GPU"),
            ("Longest sequence", _count(found.seq, fitting.MOST_SEQ), "tokens"),
            ("Fewest GPUs", str(found.gpus.gpus) if found.gpus else "none", _how(found)),
            ("Largest known model", largest or "none", "with these settings, on one rank"),
        ),
        _knobs(found) if found.knobs else "",
        _pareto(found, trains),
    )


# -- the estimate ----------------------------------------------------------------------------


def _head(found: Estimate, room: gpus.Gpu | None) -> str:
    size = f"{found.model.parameters / 1e9:,.2f} B parameters"
    profile = found.profile
    return (
        f"<header><h2>{_words(found.model.name)}</h2>"
        f'<p class="ts-dim">{size} · {_words(profile.name)}: {_words(profile.doc)}</p></header>'
        + _verdict(found, room)
    )


def _verdict(found: Estimate, room: gpus.Gpu | None) -> str:
    """Fits, may not, does not: where the interval lies about the GPU's memory."""
    low, high = found.interval()
    peak = f"{gib(found.bytes())} GiB at the peak"
    if room is None:
        smallest = gpus.smallest(high)
        has = f"smallest with room: {smallest.name}" if smallest else "no known GPU has room"
        return f'<p class="ts-verdict"><b>{peak}</b> · {has}</p>'
    memory = f"{_words(room.name)}, {gib(room.memory)} GiB"
    kind, words = "no", "Does not fit"
    if high <= room.memory:
        kind, words = "yes", "Fits"
    elif low <= room.memory:
        kind, words = "maybe", "May not fit"
    return (
        f'<p class="ts-verdict ts-{kind}"><b>{words}</b> {memory}: {peak}, '
        f"between {gib(low)} and {gib(high)} GiB in 9 of 10 measured runs</p>"
    )


def _counters(found: Estimate, room: gpus.Gpu | None) -> str:
    cards = []
    for name in core.COUNTERS:
        size, (low, high) = found.bytes(name), found.interval(name)
        share = ""
        if room is not None:
            permille = min(1000, round(1000 * size / room.memory))
            over = " ts-over" if size > room.memory else ""
            share = (
                f'<div class="ts-meter{over}"><i style="width:{permille / 10:g}%"></i></div>'
                f"<small>{100 * size / room.memory:.0f} % of {gib(room.memory)} GiB</small>"
            )
        cards.append(
            f'<div class="ts-card" data-counter="{name}" data-bytes="{size}">'
            f"<h3>{name.capitalize()}</h3><b>{gib(size)} <span>GiB</span></b>"
            f"<small>90 %: {gib(low)} to {gib(high)} GiB</small>{share}"
            f'<p class="ts-dim">{_words(COUNTERS[name])}</p></div>'
        )
    return f'<div class="ts-cards">{"".join(cards)}</div>'


def _parts(found: Estimate) -> str:
    total = max(1, found.bytes())
    rows = [
        (
            f'<i class="ts-swatch" style="background:{fill(name)}"></i>{_words(spoken(name))}',
            f"{size / GIB:,.3f}",
            f"{100 * size / total:.1f} %",
        )
        for name, size in sorted(found.components().items(), key=lambda part: -part[1])
    ]
    foot = ("at the peak", f"{found.bytes() / GIB:,.3f}", "100.0 %")
    return _heading("Parts") + _table(("Component", "GiB", "Share"), rows, foot)


def _live(found: Estimate) -> str:
    ledger = found.worst
    rows = [
        (
            _words(spoken(line.component)),
            format_size(line.bytes),
            _words(line.formula.text),
            f'<span class="ts-dim">{_words(line.formula.source)}</span>',
        )
        for line in ledger.live(ledger.peak_instant)
    ]
    return _table(("Component", "Bytes", "Formula", "Source"), rows, words=(2, 3))


def _advice(found: Estimate) -> str:
    return _list_of("Advice, most bytes first", found.advice())


def _stages(found: Estimate) -> str:
    if len(found.ledgers) == 1:
        return ""
    rows = [
        (str(stage), *(f"{ledger.counters[name] / GIB:,.2f}" for name in core.COUNTERS))
        for stage, ledger in enumerate(found.ledgers)
    ]
    heads = ("Stage", *(f"{name.capitalize()} (GiB)" for name in core.COUNTERS))
    return _details("Pipeline stages", _table(heads, rows))


# -- what fits -------------------------------------------------------------------------------


def _fit_head(found: Fit, gpu: gpus.Gpu) -> str:
    words = "As asked it fits" if found.fits else "As asked it does not fit"
    kind = "yes" if found.fits else "no"
    return (
        f"<header><h2>{_words(found.estimate.model.name)}</h2></header>"
        f'<p class="ts-verdict ts-{kind}"><b>{words}</b> {_words(gpu.name)}, '
        f"{gib(found.memory)} GiB. Below, the upper end of the 90 % interval has room.</p>"
    )


def _how(found: Fit) -> str:
    return _words(plan_words(found.gpus.fields)) if found.gpus else "in the grid below"


def plan_words(fields: Mapping[str, Any]) -> str:
    """A plan as people write it: ``TP 2, ZeRO 3, batch 4, recompute``."""
    said = []
    for name, value in fields.items():
        if name == "recompute":
            said += ["recompute"] if value != "none" else []
        elif name == "batch" or value not in (0, 1):
            said.append(f"{_PLAN[name]} {value}")
    return ", ".join(said)


_PLAN = {"tp": "TP", "pp": "PP", "dp": "DP", "zero": "ZeRO", "batch": "Batch"}


def _count(value: int, most: int) -> str:
    if value == 0:
        return "none"
    return f"≥ {most:,}" if value >= most else f"{value:,}"


def _facts(*facts: tuple[str, str, str]) -> str:
    cards = "".join(
        f'<div class="ts-card"><h3>{name}</h3><b>{_words(value)}</b>'
        f"<small>{about}</small></div>"
        for name, value, about in facts
    )
    return f'<div class="ts-cards ts-four">{cards}</div>'


def _knobs(found: Fit) -> str:
    rows = [
        (_words(knob.name), f"{knob.saved / GIB:,.2f}", "yes" if knob.fits else "no")
        for knob in found.knobs
    ]
    heads = ("Single change, the cheapest that fits first", "Saves (GiB)", "Fits then")
    return _heading("One change") + _table(heads, rows)


def _pareto(found: Fit, trains: bool) -> str:
    title = _heading("Plans that no other beats in GPUs, tokens and recomputation")
    if not found.pareto:
        return title + '<p class="ts-dim">No plan of the grid has room.</p>'
    chosen = ["tp", "pp", "dp", "zero", "batch"] if trains else ["tp", "pp", "batch"]
    rows = [
        [
            str(plan.gpus),
            f"{plan.tokens:,}",
            f"{plan.peak / GIB:,.1f}",
            *(str(plan.fields[name]) for name in chosen),
            *(["yes" if plan.recomputed else "no"] if trains else []),
        ]
        for plan in found.pareto
    ]
    heads = ["GPUs", "Tokens per step", "Peak (GiB)"]
    heads += [_PLAN[name] for name in chosen] + (["Recompute"] if trains else [])
    return title + _table(heads, rows)


# -- pieces ----------------------------------------------------------------------------------


def _words(text: str) -> str:
    return html.escape(text, quote=True)


def _section(*pieces: str) -> str:
    return f'<section class="ts-page">{"".join(pieces)}</section>'


def _heading(text: str) -> str:
    return f"<h3>{_words(text)}</h3>"


def _details(title: str, body: str) -> str:
    return f"<details><summary>{_words(title)}</summary>{body}</details>"


def _list_of(title: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{_words(one)}</li>" for one in sentences)
    return f"{_heading(title)}<ul>{items}</ul>" if items else ""


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    foot: Sequence[str] = (),
    words: Sequence[int] = (),
) -> str:
    """Cells are HTML; the first column and `words` stand to the left, numbers to the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}>{cell}</{tag}>"
            if place == 0 or place in words
            else f'<{tag} class="ts-number">{cell}</{tag}>'
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    end = f"<tfoot><tr>{line(foot, 'td')}</tr></tfoot>" if foot else ""
    head = line([_words(one) for one in heads], "th")
    return (
        f'<div class="ts-scroll"><table class="ts-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody>{end}</table></div>"
    )
