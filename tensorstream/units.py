"""Sizes as people write them: ``"64MiB"``, ``"1.5 GB"``, ``4096``; numbers of threads.

Everything in tensorstream that takes a size in bytes reads it with
:func:`parse_size` and prints it with :func:`format_size`; every ``threads=``
is read with :func:`parse_threads`.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
from fractions import Fraction
from typing import SupportsFloat, SupportsIndex

__all__ = ["MAX_SIZE", "Size", "format_size", "parse_size", "parse_threads"]

#: What the functions of this package accept wherever they ask for a size.
Size = str | SupportsIndex | SupportsFloat

#: The largest size that a file offset (``off_t``) can hold, in bytes.
MAX_SIZE = 2**63 - 1

_LETTERS = "kmgtpe"

# "MiB" and "M" count in 1024s, "MB" in 1000s, as in GNU coreutils.
_UNITS = {"": 1, "b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate(_LETTERS, start=1):
    _UNITS[_letter] = _UNITS[_letter + "ib"] = 1024**_power
    _UNITS[_letter + "b"] = 1000**_power

_SHAPE = re.compile(
    r"\s*(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?)"
    r"\s*(?P<unit>[a-z]*)\s*",
    re.ASCII | re.IGNORECASE,
)
_LONGEST = 64  # characters; no honest size needs more
_MOST_THREADS = 1 << 16  # the core starts far fewer


def parse_size(value: Size, name: str = "size") -> int:
    """Return the number of bytes that `value` stands for.

    Args:
        value: an integer (NumPy's too); a float that is a whole number; or a
            string: a number, then optionally a unit.  ``KiB MiB GiB TiB PiB
            EiB`` and the bare letters ``K M G T P E`` count in 1024s, ``KB MB
            GB TB PB EB`` in 1000s, ``B`` or nothing in bytes.  Upper and
            lower case mean the same; a space before the unit is fine.
        name: what the size is for; error messages begin with it.

    Returns:
        Bytes, ``0 <= bytes <= 2**63 - 1``.  A fraction of a byte that a
        fractional number of larger units leaves (``"0.3 GiB"``) is dropped.

    Raises:
        TypeError: `value` is none of these types (``bool`` is not a size).
        ValueError: negative, not finite, not whole, too large, or a string
            that does not read as above.

    >>> parse_size("64MiB"), parse_size("1.5 GB"), parse_size("512kb")
    (67108864, 1500000000, 512000)
    """
    if isinstance(value, str):
        size = _parse_text(value, name)
    elif type(value).__name__ in ("bool", "bool_"):
        raise TypeError(f"{name} must be a size, not the truth value {value}")
    elif isinstance(value, SupportsIndex):
        size = operator.index(value)
    elif isinstance(value, numbers.Real):
        size = _whole(float(value), name)
    else:
        kind = type(value).__name__
        raise TypeError(
            f"{name} must be a number of bytes or a string such as '64MiB', not {kind}"
        )
    return _in_range(size, value, name)


def format_size(size: SupportsIndex | SupportsFloat) -> str:
    """Return `size` bytes as a short text with a binary unit.

    One digit follows the point, except that less than 1 KiB is told exactly.
    Negative sizes, as differences have, keep their sign.

    >>> format_size(512), format_size(64 * 1024**2), format_size(-1536)
    ('512 B', '64.0 MiB', '-1.5 KiB')
    """
    amount = float(size)
    if not math.isfinite(amount):
        return f"{amount} B"
    if abs(amount) < 1024:
        return f"{amount:.0f} B"
    for letter in _LETTERS.upper():
        amount /= 1024
        # 1023.95 would print as 1024.0: that is 1.0 of the next unit.
        if abs(amount) < 1023.95 or letter == "E":
            break
    return f"{amount:.1f} {letter}iB"


def parse_threads(threads: SupportsIndex | None) -> int:
    """Return how many threads the core is asked for: 0 of None, its own choice.

    Raises:
        TypeError: no whole number.
        ValueError: less than 1.
    """
    if threads is None:
        return 0
    if type(threads).__name__ in ("bool", "bool_") or not isinstance(threads, SupportsIndex):
        raise TypeError(f"threads must be a whole number or None, not {_shown(threads)}")
    count = operator.index(threads)
    if count < 1:
        raise ValueError(f"threads must be at least 1, not {_shown(count)}")
    return min(count, _MOST_THREADS)


def _parse_text(text: str, name: str) -> int:
    match = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(
            f"{name}: {_shown(text)} is not a size; write a number of bytes "
            f"or, for example, '64MiB'"
        )
    scale = _UNITS.get(match["unit"].lower())
    if scale is None:
        raise ValueError(
            f"{name}: unknown unit {match['unit']!r} in {_shown(text)}; "
            f"there are B, KiB, MiB, GiB, TiB (1024s) and KB, MB, GB, TB "
            f"(1000s)"
        )
    exact = Fraction(match["number"]) * scale
    if scale == 1 and exact.denominator != 1:
        raise ValueError(f"{name}: {_shown(text)} is not a whole number of bytes")
    return math.floor(exact)


def _whole(number: float, name: str) -> int:
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {number}")
    if not number.is_integer():
        raise ValueError(f"{name}: {number} is not a whole number of bytes")
    return int(number)


def _in_range(size: int, value: object, name: str) -> int:
    if size < 0:
        raise ValueError(f"{name} must not be negative: {_shown(value)}")
    if size > MAX_SIZE:
        raise ValueError(f"{name}: {_shown(value)} is more than 2**63 - 1 bytes")
    return size


def _shown(value: object) -> str:
    """The value as an error may quote it: a hostile one is cut short."""
    if isinstance(value, int) and abs(value) >= 10**_LONGEST:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
