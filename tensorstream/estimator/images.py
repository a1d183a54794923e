"""From pictures to patches and tokens: how large, and how many, a model's processor makes them.

Each function follows one processor of transformers (models/*/image_processing_*.py and
processing_*.py), which the tests hold it against; a model type is one row of ``KINDS``.  Sizes
are (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]


class Seen(NamedTuple):
    """What one picture becomes.

    Attributes:
        sequences: how many the tower reads: tiles, frames.
        patches: of each of them, a class token among them.
        tokens: of the decoder, all sequences together, without words around them.
    """

    sequences: int
    patches: int
    tokens: int


class Asked(NamedTuple):
    """A picture, and what the processor is told about it; 0: as the processor has it."""

    height: int
    width: int
    frames: int = 0
    min_pixels: int = 0
    max_pixels: int = 0
    max_tiles: int = 0


def smart_resize(
    height: int, width: int, factor: int, least: int, most: int
) -> tuple[int, int]:
    """Sides that `factor` divides, between `least` and `most` pixels, of about the same shape.

    Source: Qwen2-VL 2409.12191 section 2.1; image_processing_qwen2_vl.py, smart_resize.

    Raises:
        ValueError: one side is more than 200 times the other.
    """
    if max(height, width) > 200 * min(height, width):
        raise ValueError(
            f"a picture of {width} x {height} is more than 200 times as long as wide"
        )
    high, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    if high * wide > most:
        shrink = math.sqrt(height * width / most)
        high, wide = (
            max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width)
        )
    elif high * wide < least:
        grow = math.sqrt(least / (height * width))
        high, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return high, wide


def tiles(height: int, width: int, side: int, least: int, most: int) -> tuple[int, int]:
    """Rows and columns of square tiles whose shape comes nearest the picture's.

    Of equally near ones the larger, while the picture has more than half its pixels.

    Source: InternVL 1.5 2404.16821 section 3.2; image_processing_got_ocr2.py,
    get_optimal_tiled_canvas.
    """
    grids = sorted(
        (
            (columns, rows)
            for columns in range(1, most + 1)
            for rows in range(1, most + 1)
            if least <= columns * rows <= most
        ),
        key=lambda grid: grid[0] * grid[1],
    )
    best, nearest = (1, 1), math.inf
    for columns, rows in grids:
        off = abs(width / height - columns / rows)
        larger = off == nearest and height * width > 0.5 * side * side * columns * rows
        if off < nearest or larger:
            best, nearest = (columns, rows), off
    return best[1], best[0]


def best_resolution(height: int, width: int, choices: list[list[int]]) -> tuple[int, int]:
    """Of the choices the one that shows most of the picture's pixels and wastes least.

    Source: LLaVA-NeXT; image_processing_utils.py, select_best_resolution.
    """

    def shown(choice: list[int]) -> tuple[int, int]:
        scale = min(choice[1] / width, choice[0] / height)
        pixels = min(int(width * scale) * int(height * scale), height * width)
        return pixels, pixels - choice[0] * choice[1]

    found = max(choices, key=shown)
    return found[0], found[1]


def _unpadded(height: int, width: int, high: int, wide: int) -> tuple[int, int]:
    """Rows and columns of a grid of patches that show the picture, not padding.

    Source: processing_llava_next.py, _get_unpadded_features.
    """
    if width / height > wide / high:
        return high - (high - int(round(height * (wide / width), 7))) // 2 * 2, wide
    return high, wide - (wide - int(round(width * (high / height), 7))) // 2 * 2


# ---- kinds of processors ---------------------------------------------------------------


def _side(vision: Config, key: str, fallback: int) -> int:
    found = vision.get(key, fallback)
    return int(found[0] if isinstance(found, (list, tuple)) else found)


def _vision(config: Config) -> Config:
    found = config.get("vision_config") or config.get("visual")
    return found if isinstance(found, Mapping) else {}


def _qwen(patch: int, least: int, most: int) -> Callable[[Config, Asked], Seen]:
    """Qwen2-VL and later: as many patches as the picture has, four a token, of two frames."""

    def see(config: Config, asked: Asked) -> Seen:
        side = _side(_vision(config), "patch_size", patch)
        merge = _vision(config).get("spatial_merge_size", 2)
        low, high = asked.min_pixels or least, asked.max_pixels or most
        height, width = smart_resize(asked.height, asked.width, side * merge, low, high)
        patches = (height // side) * (width // side)
        times = max(1, -(-asked.frames // 2))
        return Seen(times, patches, times * patches // merge**2)

    return see


def _qwen_vl(config: Config, asked: Asked) -> Seen:
    """Qwen-VL: 448 x 448 whatever comes, 256 queries (2308.12966 section 2.1)."""
    vision = _vision(config)
    side = vision.get("image_size", 448) // vision.get("patch_size", 14)
    times = max(1, asked.frames)
    return Seen(times, side * side, 256 * times)


def _fixed(usual: int, patch: int, classes: int) -> Callable[[Config, Asked], Seen]:
    """One size for all: every patch a token, or as many as are merged to one."""

    def see(config: Config, asked: Asked) -> Seen:
        vision = _vision(config)
        rows = _side(vision, "image_size", usual) // _side(vision, "patch_size", patch)
        tokens = config.get("mm_tokens_per_image") or rows * rows
        times = max(1, asked.frames)
        return Seen(times, rows * rows + classes, tokens * times)

    return see


def _llava(config: Config, asked: Asked) -> Seen:
    if _vision(config).get("model_type") == "pixtral":
        return _pixtral(config, asked)
    return _fixed(336, 14, 1)(config, asked)


# image_processing_llava_next.py and image_processing_llava_onevision.py: image_grid_pinpoints.
_NEXT = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
_ONEVISION = [[384 * i, 384 * j] for i in range(1, 7) for j in range(1, 7)]


def _llava_next(config: Config, asked: Asked) -> Seen:
    """The whole picture, and the same in up to four tiles; a vector ends a row of patches."""
    return _anyres(config, asked, 336, _NEXT, 1, 0)


def _onevision(config: Config, asked: Asked) -> Seen:
    """The same with up to 36 tiles, shrunk to what nine have ("anyres_max_9")."""
    return _anyres(config, asked, 384, _ONEVISION, 0, 9)


def _anyres(
    config: Config, asked: Asked, usual: int, choices: list[list[int]], classes: int, most: int
) -> Seen:
    side = _side(_vision(config), "image_size", usual)
    rows = side // _side(_vision(config), "patch_size", 14)
    choices = config.get("image_grid_pinpoints") or choices
    high, wide = best_resolution(asked.height, asked.width, choices)
    grid = (high // side, wide // side)
    height, width = _unpadded(asked.height, asked.width, rows * grid[0], rows * grid[1])
    ratio = math.sqrt(height * width / (most * rows**2)) if most else 0
    if ratio > 1.1:
        height, width = int(height // ratio), int(width // ratio)
    tokens = rows * rows + height * width + height
    return Seen(1 + grid[0] * grid[1], rows * rows + classes, tokens)


def _idefics3(config: Config, asked: Asked) -> Seen:
    """Idefics3, SmolVLM: four tiles along the longer side, and the whole picture."""
    vision, tile = _vision(config), _side(_vision(config), "image_size", 364)
    rows = tile // _side(vision, "patch_size", 14)
    tokens = (rows // int(config.get("scale_factor", 2))) ** 2
    longest = (asked.max_tiles or 4) * tile
    scale = longest / max(asked.height, asked.width)
    # The shorter side is cut to whole pixels, then made even (rescale_to_max_len).
    sides = [
        longest if side == max(asked.height, asked.width) else _even(int(side * scale))
        for side in (asked.height, asked.width)
    ]
    down, across = (-(-side // tile) for side in sides)
    count = down * across + 1 if down * across > 1 else 1
    return Seen(count, rows * rows, count * tokens)


def _even(side: int) -> int:
    return max(1, side + side % 2)


def _internvl(config: Config, asked: Asked) -> Seen:
    """One to twelve tiles of 448 pixels, beside several a thumbnail; four patches a token."""
    vision = _vision(config)
    side = _side(vision, "image_size", 448)
    rows = side // _side(vision, "patch_size", 14)
    merge = int(1 / config.get("downsample_ratio", 0.5))
    most = asked.max_tiles or config.get("max_dynamic_patch", 12)
    grid = (1, 1) if asked.frames else tiles(asked.height, asked.width, side, 1, most)
    count = grid[0] * grid[1] + int(grid != (1, 1))
    times = max(1, asked.frames) * count
    return Seen(times, rows * rows + 1, times * (rows // merge) ** 2)


def _pixtral(config: Config, asked: Asked) -> Seen:
    """Up to 1540 pixels a side (Pixtral-12B 1024); a token ends each row."""
    vision, side = _vision(config), _side(_vision(config), "patch_size", 16)
    merge = int(
        config.get("spatial_merge_size", 1 if config.get("model_type") == "llava" else 2)
    )
    longest = _side(vision, "image_size", 1024)
    shrink = max(1.0, asked.height / longest, asked.width / longest)
    high, wide = (int(each / shrink) for each in (asked.height, asked.width))
    rows, columns = ((each - 1) // (side * merge) + 1 for each in (high, wide))
    return Seen(1, rows * columns * merge**2, rows * (columns + 1))


KINDS: dict[str, Callable[[Config, Asked], Seen]] = {
    "gemma3": _fixed(896, 14, 0),
    "idefics3": _idefics3,
    "internvl": _internvl,
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_onevision": _onevision,
    "mistral3": _pixtral,
    "paligemma": _fixed(224, 14, 0),
    "qwen": _qwen_vl,
    # preprocessor_config.json of Qwen2-VL and 2.5-VL, and of Qwen3-VL.
    "qwen2_vl": _qwen(14, 56 * 56, 14 * 14 * 4 * 1280),
    "qwen2_5_vl": _qwen(14, 56 * 56, 14 * 14 * 4 * 1280),
    "qwen3_vl": _qwen(16, 65536, 16777216),
    "qwen3_vl_moe": _qwen(16, 65536, 16777216),
    "smolvlm": _idefics3,
}


def seen(config: Config, asked: Asked) -> Seen | None:
    """What a picture becomes for a model of this config; None where that is not known.

    Raises:
        ValueError: a side that is not positive; a shape that the processor refuses.
    """
    if asked.height < 1 or asked.width < 1:
        raise ValueError(f"vision: a picture of {asked.width} x {asked.height} pixels")
    kind = KINDS.get(str(config.get("model_type")))
    return kind(config, asked) if kind is not None and _vision(config) else None
