"""The Hilbert mapping: against the textbook's walk, its geometry, and a video and back."""

from __future__ import annotations

import pathlib
import sys

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstream as ts
from tensorstream import hilbert


def textbook(order: int, d: int) -> tuple[int, int]:
    """d2xy as Wikipedia's article on the curve has it."""
    x = y = 0
    side = 1
    while side < 1 << order:
        right = 1 & (d // 2)
        up = 1 & (d ^ right)
        if up == 0:
            if right == 1:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        x, y = x + side * right, y + side * up
        d //= 4
        side *= 2
    return x, y


@pytest.mark.parametrize("order", range(8))
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_the_curve_is_the_textbooks(order: int, dtype: str) -> None:
    count = 4**order
    values = (np.arange(count) * 7 + 3).astype(dtype)
    image = hilbert.spread(values)
    assert image.shape == (1 << order, 1 << order)
    step = max(1, count // 997)
    for d in {*range(0, count, step), count - 1}:
        x, y = textbook(order, d)
        assert image[y, x] == values[d]
    assert np.array_equal(hilbert.collect(image, np.empty_like(values)), values)


def test_neighbours_stay_neighbours() -> None:
    places = hilbert.spread(np.arange(4**7, dtype=np.uint32))
    y, x = np.unravel_index(np.argsort(places, axis=None), places.shape)
    assert (np.abs(np.diff(x)) + np.abs(np.diff(y)) == 1).all()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 127, 0)


@given(st.integers(0, 5000), st.sampled_from(["u1", "u2", "u4", "u8"]))
@settings(max_examples=100)
def test_any_count_goes_there_and_back(count: int, dtype: str) -> None:
    values = (np.arange(count) * 13 + 1).astype(dtype)
    image = hilbert.spread(values, fill=200)
    side = len(image)
    assert side * side >= count and (side == 1 or side * side // 4 < count)
    assert np.array_equal(hilbert.collect(image, np.empty_like(values)), values)
    rest = hilbert.collect(image, np.empty(image.size, dtype))[count:]
    assert (rest == 200).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (5, 7), (3, 0), (64, 64), (3, 100, 11)])
def test_decoding_gives_what_was_encoded(shape: tuple[int, ...], dtype: type) -> None:
    x = (np.random.default_rng(1).standard_normal(shape) * 0.3).astype(dtype)
    x = np.asarray(x)
    image = hilbert.encode(x)
    codes = ts.quantize(x, "int8", group="tensor", symmetric=False)
    back = image.decode()
    assert back.shape == x.shape and image.dtype == x.dtype
    assert np.array_equal(back, codes.dequantize())
    assert np.array_equal(image.decode("float16"), codes.dequantize("float16"))
    assert image.error(x) == codes.error(x)
    assert image.padding == image.pixels.size - x.size
    if x.size:
        assert image.error(x).max_abs <= image.scale * 0.501
        again = hilbert.encode(back.astype(np.float32))
        assert np.abs(again.decode() - back).max() <= image.scale * 0.501


def test_padding_stands_for_zero() -> None:
    image = hilbert.encode(np.linspace(-1, 3, 1000, dtype=np.float32))
    everything = hilbert.collect(image.pixels, np.empty(1024, np.uint8))
    assert (everything[1000:] == image.zero).all() and image.padding == 24


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 17, 64, 1000, 4096])
def test_means_are_those_of_squares(count: int) -> None:
    x = np.random.default_rng(2).standard_normal(count).astype(np.float32)
    found = hilbert.means(x)
    assert [level.size for level in found] == [
        -(-count // 4**k) for k in range(1, len(found) + 1)
    ]
    for k, level in enumerate(found, 1):
        runs = [x[i : i + 4**k].astype(np.float64).mean() for i in range(0, count, 4**k)]
        assert np.allclose(level, runs, rtol=1e-6, atol=1e-9)
    if count == 4096:
        image, half = hilbert.spread(x), hilbert.spread(found[0])
        squares = image.reshape(32, 2, 32, 2).mean(axis=(1, 3))
        assert np.allclose(half, squares, atol=1e-6)
        assert found[-1].size == 1


def test_refusals_say_why() -> None:
    with pytest.raises(ValueError, match="row 0, column 2 is NaN"):
        hilbert.encode(np.array([1, 2, np.nan], np.float32))
    with pytest.raises(ValueError, match=r"shape \(4, 8\)"):
        hilbert.collect(np.zeros((4, 8), np.uint8), np.empty(3, np.uint8))
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        hilbert.collect(np.zeros((3, 3), np.uint8), np.empty(3, np.uint8))
    with pytest.raises(ValueError, match="17 elements do not fit a square of order 2"):
        hilbert.collect(np.zeros((4, 4), np.uint8), np.empty(17, np.uint8))
    with pytest.raises(ValueError, match="elements of 16 bytes; 1, 2, 4 or 8"):
        hilbert.spread(np.zeros(3, np.complex128))


# -- video -------------------------------------------------------------------------------


def images() -> list[tuple[str, hilbert.HilbertImage]]:
    rng = np.random.default_rng(3)
    shapes = {"model.embed": (50, 41), "model.norm": (7,), "größe": (64, 64), "one": ()}
    return [
        (name, hilbert.encode(np.asarray(rng.standard_normal(shape), np.float32)))
        for name, shape in shapes.items()
    ]


def test_a_video_gives_every_pixel_back(tmp_path: pathlib.Path) -> None:
    oracle("av")
    path = tmp_path / "model.mkv"
    written = images()
    hilbert.save_video(path, written)
    read = hilbert.load_video(path)
    assert [name for name, _ in read] == [name for name, _ in written]
    for (_, mine), (_, theirs) in zip(written, read):
        assert np.array_equal(mine.pixels, theirs.pixels)
        assert np.array_equal(mine.decode(), theirs.decode())
        assert (mine.shape, mine.dtype, mine.scale, mine.zero) == (
            theirs.shape, theirs.dtype, theirs.scale, theirs.zero,
        )  # fmt: skip


def test_other_videos_are_refused(tmp_path: pathlib.Path) -> None:
    av = oracle("av")
    path = tmp_path / "other.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=30)
        stream.width = stream.height = 16
        stream.pix_fmt = "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16), np.uint8), format="gray")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(ts.FormatError, match="no TENSORSTREAM tag"):
        hilbert.load_video(path)
    with pytest.raises(ValueError, match="at least one image"):
        hilbert.save_video(path, [])
    with pytest.raises(ValueError, match=r"does not end with \.mkv"):
        hilbert.save_video(tmp_path / "model.mp4", images())


def test_without_pyav_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install tensorstream\[video\]"):
        hilbert.save_video(tmp_path / "model.mkv", images())
