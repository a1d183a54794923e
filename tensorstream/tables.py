"""What the command line prints: aligned columns, one-line texts, JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np


def shown(text: str) -> str:
    """The text on one line, with control and other unprintable characters as escapes."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], left: int | Collection[int] = 1
) -> str:
    """Aligned columns: the first `left` of them, or those of these places, to the left, numbers
    to the right."""
    places = range(left) if isinstance(left, int) else left
    lines = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in places else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names to the left, what there is to say about them behind."""
    listed = list(pairs)
    width = max((len(name) for name, _ in listed), default=0)
    return "\n".join(f"{name.ljust(width)}  {text}".rstrip() for name, text in listed)


def print_json(value: Any) -> None:
    json.dump(plain(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def plain(value: Any) -> Any:
    """What JSON can say: arrays as lists, numbers that are none as null."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.6g}"


def rate_text(nbytes: int, seconds: float) -> str:
    return f"{nbytes / seconds / 1e9:.2f} GB/s" if seconds > 0 else "-"


def plural(count: int, noun: str) -> str:
    """ "1 tensor", "1,234 tensors"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
