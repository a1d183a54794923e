"""Sizes: what people write, what it means, and what we say when it is wrong."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstream.units import MAX_SIZE, format_size, parse_size, parse_threads


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (4096, 4096),
        (np.int32(7), 7),
        (np.uint64(2**40), 2**40),
        (1e9, 10**9),
        (np.float32(1024.0), 1024),
        (Fraction(6, 2), 3),
        ("0", 0),
        ("4096", 4096),
        ("+5", 5),
        ("1e9", 10**9),
        ("12 bytes", 12),
        ("1 byte", 1),
        ("64MiB", 64 * 2**20),
        ("64 mib", 64 * 2**20),
        ("  64\tMiB ", 64 * 2**20),
        ("64M", 64 * 2**20),
        ("64MB", 64 * 10**6),
        ("512kb", 512_000),
        ("512KiB", 512 * 1024),
        ("1.5 GB", 1_500_000_000),
        ("1.5GiB", 3 * 2**29),
        (".5k", 512),
        ("2.KiB", 2048),
        ("1e3 kB", 10**6),
        ("3TiB", 3 * 2**40),
        ("1PB", 10**15),
        ("1EiB", 2**60),
        ("0.1 MB", 100_000),  # exact: never by way of binary fractions
        ("0.3 GiB", 322122547),  # .2 of a byte is dropped
        (MAX_SIZE, MAX_SIZE),
        (str(MAX_SIZE), MAX_SIZE),
    ],
)
def test_sizes_that_people_write(value: object, size: int) -> None:
    parsed = parse_size(value)  # type: ignore[arg-type]
    assert parsed == size
    assert type(parsed) is int


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1, "must not be negative: -1"),
        ("-1 MiB", "must not be negative: '-1 MiB'"),
        (-0.5, "not a whole number"),
        (1.5, "1.5 is not a whole number of bytes"),
        ("1.5", "'1.5' is not a whole number of bytes"),
        ("1.5 B", "not a whole number"),
        (float("nan"), "must be finite, not nan"),
        (float("inf"), "must be finite, not inf"),
        ("nan", "'nan' is not a size"),
        ("", "'' is not a size"),
        ("MiB", "'MiB' is not a size"),
        ("12 parsecs", "unknown unit 'parsecs'"),
        ("1 MiBs", "unknown unit 'MiBs'"),
        ("1 2", "is not a size"),
        ("1,000", "is not a size"),
        ("0x10", "unknown unit 'x10'|is not a size"),
        ("\u0661", "is not a size"),  # a digit, but not one of ours
        ("1e9999", "is not a size"),
        ("1e999", "more than 2\\*\\*63 - 1 bytes"),
        ("9" * 1000, "is not a size"),
        pytest.param(10**5000, "a number of 16610 bits is more than", id="vast"),
        pytest.param(-(10**5000), "negative: a number of 16610 bits", id="deep"),
        (2**63, "more than 2\\*\\*63 - 1 bytes"),
        ("8 EiB", "more than 2\\*\\*63 - 1 bytes"),
    ],
)
def test_sizes_that_are_wrong(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_size(value, "budget")  # type: ignore[arg-type]
    assert str(caught.value).startswith("budget")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "value", [None, True, np.bool_(False), b"64MiB", [1], 1j, np.array([1, 2])]
)
def test_things_that_are_not_sizes(value: object) -> None:
    with pytest.raises(TypeError):
        parse_size(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (64 * 2**20, "64.0 MiB"),
        (2**20 - 1, "1.0 MiB"),  # never "1024.0 KiB"
        (-(3 * 2**30), "-3.0 GiB"),
        (2**63, "8.0 EiB"),
        (2**80, "1048576.0 EiB"),
        (np.int64(2**40), "1.0 TiB"),
        (10.4, "10 B"),
        (float("inf"), "inf B"),
    ],
)
def test_sizes_as_text(size: float, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, MAX_SIZE))
def test_a_printed_size_reads_back_within_its_last_digit(size: int) -> None:
    back = parse_size(format_size(size)) if size < 2**62 else size
    assert abs(back - size) <= 0.05 * max(1024, size) + 1


@given(st.integers(0, MAX_SIZE), st.sampled_from(["", " B", "b", " bytes"]))
def test_bytes_read_back_exactly(size: int, unit: str) -> None:
    assert parse_size(f"{size}{unit}") == size


@given(st.text(max_size=80))
def test_any_text_is_a_size_or_a_clear_error(text: str) -> None:
    try:
        assert 0 <= parse_size(text) <= MAX_SIZE
    except ValueError as error:
        assert "size" in str(error)


def test_threads() -> None:
    assert [parse_threads(one) for one in (None, 1, np.int8(3))] == [0, 1, 3]
    assert 64 <= parse_threads(10**30) < 1 << 31, "what the core takes"
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=rf"threads must be at least 1, not {wrong}"):
            parse_threads(wrong)
    for other in (True, "2", 1.5):
        with pytest.raises(TypeError, match=r"threads must be a whole number or None, not"):
            parse_threads(other)  # type: ignore[arg-type]
