"""An estimate as a picture: SVG, in text that follows the page's own colour.

One bar an instant, stacked by component, on an axis of GiB with the device's memory as a line.
Fills are of middling lightness, so that they stand out from white and from near-black paper.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence

GIB = 1 << 30

# What a component looks like, in families: what is trained in blues, what training adds in
# warm tones, activations in greens, what a head and images need in purples, the rest in greys.
FILLS = {
    "weights": "#3f73b8",
    "adapters": "#2f8fc4",
    "master_weights": "#6a74c9",
    "gradients": "#c86a2b",
    "optimizer_state": "#b3822a",
    "attention": "#2f8f6b",
    "mlp": "#5d9440",
    "residual": "#3a9494",
    "logits": "#9a62bd",
    "kv_cache": "#c2548f",
    "vision": "#8a6fb0",
    "sketches": "#a8775a",
    "communication": "#b0605f",
    "workspace": "#7d8793",
    "other": "#8c8379",
    "fragmentation": "#76808a",
    "cuda_context": "#6b7280",
}
_UNKNOWN = "#808080"
_LIMIT = "#d64545"

WIDTH = 880.0
_LEFT, _RIGHT = 188.0, 62.0  # labels of rows, and what a row sums to
_TOP, _TALL, _LOW, _GAP = 26.0, 52.0, 13.0, 7.0
_LEGEND, _COLUMNS = 20.0, 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One bar.

    Attributes:
        label: what stands to its left.
        parts: bytes by component.
        peak: this is the row that counts.
    """

    label: str
    parts: Mapping[str, int]
    peak: bool = False

    @property
    def size(self) -> int:
        return sum(self.parts.values())


@dataclasses.dataclass(frozen=True)
class Room:
    """Memory that there is: bytes, and whose."""

    name: str
    size: int


def gib(size: float) -> str:
    """Bytes in GiB, three digits or so, without the unit: ``79.1``, ``0.51``, ``≈0``."""
    amount = size / GIB
    if 0 < amount < 0.01:
        return "≈0"
    if abs(amount) < 9.995:
        return f"{amount:.2f}"
    return f"{amount:,.1f}" if abs(amount) < 999.95 else f"{amount:,.0f}"


def spoken(name: str) -> str:
    """A component's name as people write it: ``KV cache``."""
    words = {"kv_cache": "KV cache", "mlp": "MLP", "cuda_context": "CUDA context"}
    return words.get(name, name.replace("_", " "))


def fill(name: str) -> str:
    """The colour of a component, as ``#rrggbb``."""
    return FILLS.get(name, _UNKNOWN)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.1), 0 to 1."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Of two colours, 1 to 21 (WCAG 2.1)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink(paper: str) -> str:
    """White or near-black: whichever is easier to read on this colour."""
    return max(("#ffffff", "#0c0f14"), key=lambda colour: contrast(colour, paper))


def ticks(end: float, most: int = 8) -> list[float]:
    """Round numbers from 0 to `end`, at most `most` steps of 1, 2 or 5 times a power of ten."""
    if not end > 0:
        return [0.0]
    rough = end / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough * (1 - 1e-9))
    return [i * step for i in range(int(end / step * (1 + 1e-9)) + 1)]


def breakdown(
    rows: Sequence[Row],
    interval: tuple[int, int] | None = None,
    room: Room | None = None,
    title: str = "Memory by component",
) -> str:
    """The picture of some rows on one axis, with a legend of the peak row's components.

    Args:
        rows: in their order; the one marked as peak stands first and large.
        interval: bytes; drawn under the peak row.
        room: a line across; what lies beyond it is tinted.
        title: read aloud by screen readers, followed by every number.

    Returns:
        One ``<svg>`` element whose text and lines take the colour of the text around it.
    """
    peak = next((row for row in rows if row.peak), rows[0])
    return _Drawing(peak, rows if len(rows) > 1 else (), interval, room).svg(title)


class _Drawing:
    """Where things lie.  All lengths are units of the viewBox."""

    def __init__(
        self,
        peak: Row,
        rows: Sequence[Row],
        interval: tuple[int, int] | None,
        room: Room | None,
    ) -> None:
        self.peak, self.rows, self.interval, self.room = peak, rows, interval, room
        reach = max([peak.size, *(row.size for row in rows), *(interval or ())], default=1)
        # A line far to the right would leave no room for the bars.
        self.inside = room is not None and room.size <= 6 * reach
        shown = max(reach, room.size) if room and self.inside else reach
        self.end = max(1, shown) * 1.02
        used = dict.fromkeys(n for row in (peak, *rows) for n in row.parts)
        order = list(FILLS)
        self.names = sorted(used, key=lambda n: order.index(n) if n in FILLS else len(order))
        self.bars = _TOP + _TALL + (30.0 if interval else 14.0)
        self.axis = self.bars + len(rows) * (_LOW + _GAP) + 2
        lines = -(-len(self.names) // _COLUMNS)
        self.height = self.axis + 40 + lines * _LEGEND

    def x(self, size: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * max(0.0, size) / self.end

    def svg(self, title: str) -> str:
        body = [
            *self._beyond(),
            *self._grid(),
            *self._bar(self.peak, _TOP, _TALL),
            *self._interval(),
            *(self._line(i, row) for i, row in enumerate(self.rows)),
            *self._room(),
            *self._legend(),
        ]
        said = html.escape(self._aloud(title), quote=True)
        return (
            f'<svg class="ts-breakdown" viewBox="0 0 {WIDTH:g} {self.height:g}" role="img" '
            f'aria-label="{said}" xmlns="http://www.w3.org/2000/svg" width="100%" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
            + "".join(body)
            + "</svg>"
        )

    def _aloud(self, title: str) -> str:
        parts = ", ".join(f"{spoken(n)} {gib(s)} GiB" for n, s in self.peak.parts.items())
        said = [f"{title}: {gib(self.peak.size)} GiB at the peak, {self.peak.label}: {parts}"]
        if self.interval:
            said.append("90 % interval {} to {} GiB".format(*map(gib, self.interval)))
        if self.room:
            said.append(f"{self.room.name} has {gib(self.room.size)} GiB")
        return ". ".join(said) + "."

    def _grid(self) -> list[str]:
        found = []
        last = ticks(self.end / GIB)[-1]
        for tick in ticks(self.end / GIB):
            x = self.x(tick * GIB)
            found.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4:g}" y2="{self.axis:g}" '
                'stroke="currentColor" stroke-opacity=".14"/>'
            )
            unit = " GiB" if tick == last else ""
            found.append(_text(x, self.axis + 15, f"{tick:,g}{unit}", "middle", dim=True))
        return found

    def _bar(self, row: Row, top: float, tall: float) -> list[str]:
        """Segments side by side; a tall one says inside what it is."""
        found, at = [], 0
        for name, size in row.parts.items():
            left, right = self.x(at), self.x(at + max(0, size))
            at += max(0, size)
            if right - left < 0.05:
                continue
            width = max(0.6, right - left - 1)
            words = html.escape(f"{spoken(name)}: {gib(size)} GiB")
            found.append(
                f'<rect x="{left:.2f}" y="{top:g}" width="{width:.2f}" height="{tall:g}" '
                f'rx="1.5" fill="{fill(name)}"><title>{words}</title></rect>'
            )
            if tall == _TALL and width > 7.2 * max(len(spoken(name)), 4) + 6:
                middle, colour = (left + right) / 2, ink(fill(name))
                found += [
                    _text(middle, top + 23, spoken(name), "middle", colour, bold=True),
                    _text(middle, top + 39, gib(size), "middle", colour),
                ]
        if tall == _TALL:
            found.append(_text(_LEFT - 10, top + 22, "at the peak", "end", bold=True))
            found.append(_text(_LEFT - 10, top + 38, row.label, "end", dim=True))
            found.append(_text(WIDTH - 2, top + 23, gib(row.size), "end", bold=True))
            found.append(_text(WIDTH - 2, top + 38, "GiB", "end", dim=True))
        return found

    def _line(self, place: int, row: Row) -> str:
        top = self.bars + place * (_LOW + _GAP)
        is_peak = row.peak
        middle = top + _LOW - 2.5
        return "".join(
            [
                *self._bar(row, top, _LOW),
                _text(_LEFT - 10, middle, row.label, "end", bold=is_peak, dim=not is_peak),
                _text(WIDTH - 2, middle, gib(row.size), "end", bold=is_peak, dim=not is_peak),
            ]
        )

    def _interval(self) -> list[str]:
        if not self.interval:
            return []
        low, high = (self.x(end) for end in self.interval)
        y = _TOP + _TALL + 8
        path = f"M{low:.1f} {y - 4:g}v8M{low:.1f} {y:g}H{high:.1f}M{high:.1f} {y - 4:g}v8"
        words = "90 % interval {} to {} GiB".format(*map(gib, self.interval))
        return [
            f'<path d="{path}" stroke="currentColor" stroke-width="1.6" fill="none"/>',
            _text(low - 6, y + 4, words, "end", dim=True),
        ]

    def _beyond(self) -> list[str]:
        """A tint over what the memory does not hold."""
        if not self.room or not self.inside:
            return []
        x, end = self.x(self.room.size), self.x(self.end)
        return [
            f'<rect x="{x:.1f}" y="{_TOP - 4:g}" width="{end - x:.1f}" '
            f'height="{self.axis - _TOP + 4:g}" fill="{_LIMIT}" fill-opacity=".12"/>'
        ]

    def _room(self) -> list[str]:
        if not self.room:
            return []
        words = f"{self.room.name}, {gib(self.room.size)} GiB"
        if not self.inside:
            return [_text(WIDTH - _RIGHT, 14, f"{words}: far beyond →", "end", bold=True)]
        x = self.x(self.room.size)
        return [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8:g}" y2="{self.axis:g}" '
            f'stroke="{_LIMIT}" stroke-width="2"/>',
            _text(x, 14, words, "end" if x > WIDTH / 2 else "start", bold=True),
        ]

    def _legend(self) -> list[str]:
        found = []
        wide = WIDTH / _COLUMNS
        for i, name in enumerate(self.names):
            x, y = (i % _COLUMNS) * wide, self.axis + 40 + (i // _COLUMNS) * _LEGEND
            found.append(
                f'<rect x="{x:g}" y="{y - 10:g}" width="12" height="12" rx="2.5" '
                f'fill="{fill(name)}"/>'
            )
            amount = f"{gib(self.peak.parts[name])} GiB" if name in self.peak.parts else "–"
            label = f'{html.escape(spoken(name))} <tspan opacity=".68">{amount}</tspan>'
            found.append(f'<text x="{x + 18:g}" y="{y:g}">{label}</text>')
        return found


def _text(
    x: float,
    y: float,
    words: str,
    anchor: str,
    colour: str | None = None,
    *,
    bold: bool = False,
    dim: bool = False,
) -> str:
    looks = f' fill="{colour}"' if colour else ""
    looks += ' font-weight="600"' if bold else ""
    looks += ' opacity=".68"' if dim else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{looks}>'
        f"{html.escape(words)}</text>"
    )
