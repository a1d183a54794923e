"""Conversions and statistics, value for value against NumPy, ml_dtypes and gguf.

Bit patterns are compared, so a wrong sign of zero or a rounding in the last place is found;
only NaNs count as equal whatever their payload.
"""

from __future__ import annotations

import importlib.metadata
import math

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstream import _core

# NumPy warns of signalling NaNs and of overflow in casts; both are meant to happen here.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

FLOATS = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
INTEGERS = {
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
}
PACKED = {"F4": "float4_e2m1fn", "F6_E2M3": "float6_e2m3fn", "F6_E3M2": "float6_e3m2fn"}
BLOCKS = {  # elements and bytes of a block, as ggml defines them
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
    "MXFP4": (32, 17),
    "NVFP4": (64, 36),
    "TQ1_0": (256, 54),
    "TQ2_0": (256, 66),
    "IQ1_S": (256, 50),
    "IQ1_M": (256, 56),
    "IQ2_XXS": (256, 66),
    "IQ2_XS": (256, 74),
    "IQ2_S": (256, 82),
    "IQ3_XXS": (256, 98),
    "IQ3_S": (256, 110),
}


def dtype_of(name: str) -> np.dtype:
    if name == "BOOL":
        return np.dtype(np.bool_)
    numpy_name = {**FLOATS, **INTEGERS, **PACKED}[name]
    if not hasattr(np, numpy_name) and not hasattr(ml_dtypes, numpy_name):
        pytest.skip(f"this ml_dtypes has no {numpy_name}")
    return np.dtype(getattr(np, numpy_name, None) or getattr(ml_dtypes, numpy_name))


def convert(data: np.ndarray, source: str, target: str, count: int) -> np.ndarray:
    return np.frombuffer(_core.convert(data.tobytes(), source, target, count), dtype_of(target))


def is_nan(values: np.ndarray) -> np.ndarray:
    """NaN, of types that np.isnan may not know."""
    return np.isnan(values.astype(np.float64))


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype and got.shape == want.shape
    bits = np.dtype(f"u{got.dtype.itemsize}")
    differ = got.view(bits) != want.view(bits)
    if got.dtype.kind not in "biu":
        differ &= ~(is_nan(got) & is_nan(want))
    where = np.flatnonzero(differ)
    assert where.size == 0, f"{where.size} differ; first at {where[:4]}: {got[where[:4]]!r}"


def random_floats(rng: np.random.Generator) -> np.ndarray:
    """F32 of every kind: all bit patterns, and values near the rounding ties of short types."""
    patterns = rng.integers(0, 2**32, 60_000, dtype=np.uint32).view(np.float32)
    steps = rng.integers(-8192, 8192, 60_000) / 512
    near = np.ldexp(steps, rng.integers(-30, 18, steps.size))
    far = np.ldexp(steps, rng.integers(-150, 118, steps.size))
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 2**-127, 2**-149, 3.4e38])
    values = np.concatenate([near, far, special]).astype(np.float32)
    return np.concatenate([patterns, values])


def samples(name: str) -> np.ndarray:
    """Every value of a short type, a broad choice of a long one."""
    rng = np.random.default_rng(7)
    dtype = dtype_of(name)
    if name == "BOOL":
        return rng.integers(0, 2, 1001).astype(np.bool_)
    if dtype.itemsize == 1:
        return np.tile(np.arange(256, dtype=np.uint8), 3)[:-1].view(dtype)
    if dtype.itemsize == 2:
        return np.arange(65536, dtype=np.uint16).view(dtype)
    if name == "F32":
        return random_floats(rng)
    if name == "F64":
        floats = random_floats(rng).astype(np.float64)
        patterns = rng.integers(0, 2**64, 60_000, dtype=np.uint64).view(np.float64)
        return np.concatenate([floats, floats * (1 + 2**-40), floats * 1e30, patterns])
    size = 8 * dtype.itemsize
    values = rng.integers(0, 2**64, 60_000, dtype=np.uint64)
    values >>= rng.integers(64 - size, 64, 60_000).astype(np.uint64)
    return np.concatenate([values.astype(dtype), -values.astype(dtype)])


def in_range(values: np.ndarray, target: np.dtype) -> np.ndarray:
    """Without what NumPy leaves undefined: floats that do not fit an integer."""
    if target.kind not in "iu" or values.dtype.kind in "biu":
        return values
    info = np.iinfo(target)
    wide = values.astype(np.float64)
    fits = (wide > float(info.min) - 1) & (wide < float(info.max) + (info.bits < 64))
    return values[np.isfinite(wide) & fits]


def as_numpy(values: np.ndarray, target: np.dtype) -> np.ndarray:
    try:
        return values.astype(target)
    except TypeError:  # ml_dtypes lacks a few direct pairs; they are exact by way of F32
        return values.astype(np.float32).astype(target)


@pytest.mark.parametrize("target", ["BOOL", *INTEGERS, *FLOATS])
@pytest.mark.parametrize("source", ["BOOL", *INTEGERS, *FLOATS])
def test_plain_types_become_what_astype_says(source: str, target: str) -> None:
    values = in_range(samples(source), dtype_of(target))
    got = convert(values, source, target, values.size)
    assert_same(got, as_numpy(values, dtype_of(target)))


@given(st.lists(st.floats(width=64), min_size=1, max_size=70), st.sampled_from(list(FLOATS)))
@settings(max_examples=200)
def test_any_doubles_become_what_astype_says(values: list[float], target: str) -> None:
    array = np.array(values, np.float64)
    assert_same(convert(array, "F64", target, array.size), as_numpy(array, dtype_of(target)))


@pytest.mark.parametrize("target", ["I32", "U32", "I64", "U64", "U8", "I16"])
def test_floats_out_of_range_become_what_x86_makes_of_them(target: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30])
    size = {"U8": 32, "I16": 32, "I32": 32}.get(target, 64)
    indefinite = np.array([-(2 ** (size - 1))], np.int64).astype(dtype_of(target))[0]
    want = np.full(5, indefinite)
    if target == "U64":  # the upper half is shifted down first: 2**63 ^ 2**63
        want[[1, 3]] = 0
    assert_same(convert(values, "F64", target, 5), want)


@pytest.mark.parametrize(("source", "target"), [("C64", "C128"), ("C128", "C64")])
def test_complex_numbers_stay_complex(source: str, target: str) -> None:
    names = {"C64": np.complex64, "C128": np.complex128}
    values = (np.arange(999) * (1.25 - 0.1j)).astype(names[source])
    got = np.frombuffer(_core.convert(values.tobytes(), source, target, 999), names[target])
    assert np.array_equal(got, values.astype(names[target]))


# ---- packed ----------------------------------------------------------------------------------


def packed_bytes(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and the same packed from the low bits on."""
    width = 4 if name == "F4" else 6
    codes = rng.integers(0, 2**width, 4096, dtype=np.uint8)
    bits = np.unpackbits(codes[:, None], axis=1, bitorder="little")[:, :width]
    return codes, np.packbits(bits.reshape(-1), bitorder="little")


@pytest.mark.parametrize("name", PACKED)
def test_packed_codes_come_apart(name: str) -> None:
    codes, packed = packed_bytes(name, np.random.default_rng(1))
    got = np.frombuffer(_core.unpack(packed.tobytes(), name, codes.size), np.uint8)
    assert np.array_equal(got, codes)


@pytest.mark.parametrize("target", ["F32", "F16", "BF16", "F64"])
@pytest.mark.parametrize("name", PACKED)
def test_packed_values_are_those_of_ml_dtypes(name: str, target: str) -> None:
    codes, packed = packed_bytes(name, np.random.default_rng(2))
    want = codes.view(dtype_of(name)).astype(np.float32).astype(dtype_of(target))
    assert_same(convert(packed, name, target, codes.size), want)


# ---- ggml blocks -----------------------------------------------------------------------------


def gguf_floats(name: str, blocks: np.ndarray) -> np.ndarray:
    gguf = oracle("gguf")
    kind = getattr(gguf.GGMLQuantizationType, name, None)
    traits = gguf.quants._type_traits
    if kind not in traits:
        pytest.skip(f"gguf {importlib.metadata.version('gguf')} does not decode {name}")
    return np.asarray(gguf.quants.dequantize(blocks, kind)).reshape(-1)


def random_blocks(name: str, size: int) -> np.ndarray:
    """Any bytes: scales are then also NaN, infinite, denormal, negative."""
    count = 262_144 // BLOCKS[name][0]
    return np.random.default_rng(size).integers(0, 256, (count, size), dtype=np.uint8)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_bit_identical_to_ggml(name: str) -> None:
    elements, size = BLOCKS[name]
    blocks = random_blocks(name, size)
    got = convert(blocks, name, "F32", len(blocks) * elements)
    assert_same(got, gguf_floats(name, blocks))


@pytest.mark.parametrize("name", ["Q4_0", "MXFP4", "IQ4_NL"])
def test_every_scale_and_every_code(name: str) -> None:
    """All 65536 (or 256) scales with all 16 codes."""
    elements, size = BLOCKS[name]
    width = size - 16
    scales = np.arange(256**width, dtype="<u2").view(np.uint8).reshape(-1, 2)[:, :width]
    codes = np.tile(np.arange(16, dtype=np.uint8) * 0x11, (len(scales), 1))
    blocks = np.concatenate([scales, codes], axis=1)
    got = convert(blocks, name, "F32", len(blocks) * elements)
    assert_same(got, gguf_floats(name, blocks))


@pytest.mark.parametrize("target", ["F16", "BF16", "F64"])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_to_other_floats_round_the_f32_once(name: str, target: str) -> None:
    elements, size = BLOCKS[name]
    blocks = random_blocks(name, size)[:999]
    got = convert(blocks, name, target, len(blocks) * elements)
    assert_same(got, as_numpy(gguf_floats(name, blocks), dtype_of(target)))


def test_what_nobody_decodes_is_refused_by_name() -> None:
    with pytest.raises(Exception, match="no conversion from Q8_K to F32"):
        _core.convert(bytes(292), "Q8_K", "F32", 256)
    with pytest.raises(Exception, match="no conversion from F32 to Q4_0"):
        _core.convert(bytes(128), "F32", "Q4_0", 32)


# ---- statistics ------------------------------------------------------------------------------


def assert_statistics(name: str, values: np.ndarray) -> None:
    got = _core.statistics(values.tobytes(), name, values.size)
    exact = values if values.dtype.kind in "biu" else values.astype(np.float64)
    finite = exact[np.isfinite(exact.astype(np.float64))]
    assert got["count"] == values.size
    assert got["nan_count"] == int(is_nan(values).sum())
    assert got["inf_count"] == values.size - finite.size - got["nan_count"]
    if finite.size == 0:
        assert math.isnan(got["mean"])
        return
    assert got["min"] == float(finite.min()) and got["max"] == float(finite.max())
    assert got["absmax"] == max(abs(float(finite.min())), abs(float(finite.max())))
    plain = finite.astype(np.float64)
    try:
        total = math.fsum(plain)
    except OverflowError:
        return
    bound = 1.2e-7 * math.fsum(np.abs(plain)) / finite.size
    assert got["mean"] == pytest.approx(total / finite.size, rel=1e-15, abs=bound)


@pytest.mark.parametrize("name", ["BOOL", *INTEGERS, *FLOATS])
def test_statistics_of_any_values(name: str) -> None:
    values = samples(name)
    if name == "F64":
        values = values[~(np.abs(values) > 1e300)]
    for size in (0, 1, 15, 1023, 1024, 1025, values.size):
        assert_statistics(name, values[:size])


@pytest.mark.parametrize("name", ["F32", "BF16", "F16", "F64"])
def test_statistics_of_weights(name: str) -> None:
    """What a tensor looks like; the sum is then far better than its bound."""
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(300_001) * 0.02 + 0.001).astype(dtype_of(name))
    assert_statistics(name, values)
    got = _core.statistics(values.tobytes(), name, values.size)
    want = math.fsum(values.astype(np.float64)) / values.size
    assert got["mean"] == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("name", BLOCKS)
def test_statistics_of_blocks_are_those_of_their_values(name: str) -> None:
    elements, size = BLOCKS[name]
    blocks = random_blocks(name, size)[:333]
    count = len(blocks) * elements
    floats = convert(blocks, name, "F32", count)
    got = _core.statistics(blocks.tobytes(), name, count)
    want = _core.statistics(floats.tobytes(), "F32", count)
    assert got == pytest.approx(want, nan_ok=True, rel=0, abs=0)
