"""Quantisation, byte for byte against ggml, gguf, bitsandbytes, ml_dtypes and formulas.

ggml itself is the oracle where a package ships it (pywhispercpp bundles libggml-base); its
bytes for one input are also kept here as digests, so that they hold without it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from conftest import oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorstream as ts
from tensorstream.quantizing import SCHEMES

BLOCKS = {  # elements, bytes, ggml's number of the type
    "q4_0": (32, 18, 2),
    "q4_1": (32, 20, 3),
    "q5_0": (32, 22, 6),
    "q5_1": (32, 24, 7),
    "q8_0": (32, 34, 8),
    "q2_k": (256, 84, 10),
    "q3_k": (256, 110, 11),
    "q4_k": (256, 144, 12),
    "q5_k": (256, 176, 13),
    "q6_k": (256, 210, 14),
    "iq4_nl": (32, 18, 20),
    "iq4_xs": (256, 136, 23),
    "tq1_0": (256, 54, 34),
    "tq2_0": (256, 66, 35),
    "mxfp4": (32, 17, 39),
    "nvfp4": (64, 36, 40),
}
FLOATS = [np.float32, np.float16, ml_dtypes.bfloat16, np.float64]


@functools.cache
def values() -> np.ndarray:
    """Float32 that no library version can change: weights, outliers, ties, zeros, one sign."""
    steps = np.arange(64 * 1024, dtype=np.uint64)
    bits = (steps * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(24)
    bits ^= bits >> np.uint64(17)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    parts = [(bits >> np.uint64(k)) & np.uint64(0xFFF) for k in (0, 12, 24, 36)]
    x = (sum(part.astype(np.float32) for part in parts) - 8190) / np.float32(2**17)
    x = x.reshape(64, 1024)
    x[8:16] *= np.where(parts[0].reshape(64, 1024)[8:16] < 20, np.float32(30), np.float32(1))
    x[16:24] = np.round(x[16:24] * 64) / np.float32(4)
    x[24:32] *= parts[1].reshape(64, 1024)[24:32] < 400
    x[32:40] = np.abs(x[32:40]) + np.float32(0.01)
    x[40:44] = -np.abs(x[40:44])
    x[44:48] = np.ldexp(x[44:48], -3 * (np.arange(1024, dtype=np.int32) // 32))
    x[48:56] = x[48:56].astype(ml_dtypes.bfloat16)
    x[56] = 0
    x = np.ascontiguousarray(x, np.float32)
    x.flags.writeable = False
    return x


# What ggml 0.13.1's ggml_quantize_chunk makes of values(): sha256, cut.
GGML = {
    "q4_0": "194592aaac3eae6b",
    "q4_1": "f3816d006119ec6f",
    "q5_0": "c1851cced4cb621b",
    "q5_1": "fc5a870259a7f6c1",
    "q8_0": "ef6614724b6ae31f",
    "q2_k": "800eb816e0c4e7c0",
    "q3_k": "59fe9857ed691f3c",
    "q4_k": "ad08dad1a232b0e6",
    "q5_k": "d17df78d015f2701",
    "q6_k": "a8b0f98fcc2bcece",
    "iq4_nl": "d518f96b2f6b2a8d",
    "iq4_xs": "7042f34928b1243c",
    "tq1_0": "433853f79b41e5d0",
    "tq2_0": "e955229bac94da64",
    "mxfp4": "a8dd9438f4d28670",
    "nvfp4": "99211c2544da3777",
}


class Ggml:
    """The real thing, on one core."""

    def __init__(self) -> None:
        oracle("pywhispercpp")
        files = importlib.metadata.files("pywhispercpp") or []
        found = [pathlib.Path(str(f.locate())) for f in files if "ggml-base" in f.name]
        if not found:
            pytest.skip("this pywhispercpp has no libggml-base in it")
        self.library = ctypes.CDLL(str(found[0]))
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.library.ggml_quantize_chunk.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip

    def quantize(self, x: np.ndarray, scheme: str) -> np.ndarray:
        block, size, number = BLOCKS[scheme]
        out = np.zeros((len(x), x.shape[1] // block * size), np.uint8)
        self.library.ggml_quantize_chunk(
            number, x.ctypes.data, out.ctypes.data, 0, len(x), x.shape[1], None
        )
        return out


@pytest.fixture(scope="module")
def ggml() -> Ggml:
    return Ggml()


def assert_same_blocks(scheme: str, x: np.ndarray, got: np.ndarray, want: np.ndarray) -> None:
    block, size, _ = BLOCKS[scheme]
    assert got.shape == want.shape
    differ = (got != want).reshape(-1, size).any(axis=1)
    where = np.flatnonzero(differ)
    assert where.size == 0, (
        f"{where.size} of {differ.size} blocks of {scheme} differ; the first is {where[0]}, "
        f"made of {x.reshape(-1, block)[where[0]]}"
    )


# -- ggml --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", BLOCKS)
def test_bytes_are_those_ggml_once_made(scheme: str) -> None:
    made = ts.quantize(values(), scheme)
    assert hashlib.sha256(made.data.tobytes()).hexdigest()[:16] == GGML[scheme]


@functools.cache
def kinds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    count = 256 * 200
    bits = rng.integers(0, 2**32, count, dtype=np.uint32)
    bits[(bits & 0x7FFFFFFF) >= 0x7F800000] = 0x3F800000
    near = 1 - rng.integers(0, 60, count) * 2.0**-24
    below = np.ldexp(near, np.repeat(rng.integers(-120, 129, count // 32), 32))
    flat = np.repeat(rng.standard_normal(count // 16), 16)
    scales = rng.standard_normal(count) * np.exp2(np.arange(count) // 256 - 100.0)
    return {
        "weights": rng.standard_normal(count) * 0.02,
        "tails": rng.standard_t(3, count),
        "ties": rng.integers(-8, 8, count) / 4,
        "positive": np.abs(rng.standard_normal(count)),
        "negative": -np.abs(rng.standard_normal(count)),
        "flat": flat,
        "all scales": scales,
        "any bits": bits.view(np.float32),
        "just below powers of two": np.minimum(below, 3.4028235e38),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("scheme", BLOCKS)
def test_blocks_are_bit_identical_to_ggml(scheme: str, kind: str, ggml: Ggml) -> None:
    x = kinds()[kind].astype(np.float32).reshape(-1, 256).copy()
    if scheme == "mxfp4":  # below 2**-125 ggml's cast is undefined
        block = x.reshape(-1, 32)
        block[np.abs(block).max(axis=1) < 2**-125] = 1
    assert_same_blocks(scheme, x, ts.quantize(x, scheme).data, ggml.quantize(x, scheme))


@given(
    st.sampled_from(list(BLOCKS)),
    hnp.arrays(
        np.float32,
        256,
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False) | st.just(0.5),
    ),
)
@settings(max_examples=300)
def test_any_finite_block_is_what_ggml_makes(ggml: Ggml, scheme: str, x: np.ndarray) -> None:
    if scheme == "mxfp4" and (np.abs(x.reshape(-1, 32)).max(axis=1) < 2**-125).any():
        x = x + np.float32(1)
    x = x.reshape(1, 256)
    assert_same_blocks(scheme, x, ts.quantize(x, scheme).data, ggml.quantize(x, scheme))


@pytest.mark.parametrize("scheme", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0"])
def test_blocks_are_those_of_the_gguf_package(scheme: str) -> None:
    gguf = oracle("gguf")
    # Of blocks of zeros gguf and ggml take differently signed ones.
    x = np.concatenate([values()[:24], values()[32:56]])
    want = gguf.quants.quantize(x, gguf.GGMLQuantizationType[scheme.upper()])
    assert_same_blocks(scheme, x, ts.quantize(x, scheme).data, want)


def test_mxfp4_of_what_is_tiny_has_the_smallest_exponent() -> None:
    x = np.full((1, 32), 2**-127, np.float32)
    made = ts.quantize(x, "mxfp4")
    assert made.data[0, 0] == 0 and np.array_equal(made.dequantize(), x)


@pytest.mark.parametrize("scheme", BLOCKS)
def test_gguf_reads_the_blocks_back(scheme: str) -> None:
    gguf = oracle("gguf")
    kind = getattr(gguf.GGMLQuantizationType, scheme.upper(), None)
    if kind not in gguf.quants._type_traits:
        pytest.skip("this gguf does not decode it")
    made = ts.quantize(values(), scheme)
    assert np.array_equal(made.dequantize(), gguf.quants.dequantize(made.data, kind))


# -- bitsandbytes ------------------------------------------------------------------------

quiet = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bnb() -> Any:
    oracle("torch")
    oracle("bitsandbytes")
    import bitsandbytes.functional

    return bitsandbytes.functional


@quiet
@pytest.mark.parametrize("shape", [(64, 1024), (7, 64), (3, 50), (1, 1), (5, 13)])
def test_nf4_is_that_of_bitsandbytes(shape: tuple[int, int], bnb: Any) -> None:
    import torch

    x = values()[:64].ravel()[: shape[0] * shape[1]].reshape(shape)
    packed, state = bnb.quantize_4bit(
        torch.from_numpy(x.copy()), blocksize=64, quant_type="nf4"
    )
    made = ts.quantize(x, "nf4")
    assert made.scales is not None
    assert np.array_equal(made.data, packed.numpy().ravel())
    assert np.array_equal(made.scales, state.absmax.numpy())
    back = bnb.dequantize_4bit(packed, state)
    assert np.array_equal(made.dequantize(), back.numpy())


@quiet
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nf4_of_halves_is_that_of_bitsandbytes(dtype: str, bnb: Any) -> None:
    import torch

    x = torch.from_numpy(values().copy()).to(getattr(torch, dtype))
    packed, state = bnb.quantize_4bit(x, blocksize=64, quant_type="nf4")
    made = ts.quantize(x, "nf4")
    assert made.scales is not None
    assert np.array_equal(made.data, packed.numpy().ravel())
    assert np.array_equal(made.scales, state.absmax.float().numpy())


@quiet
def test_double_quantisation_follows_the_rule_of_bitsandbytes(bnb: Any) -> None:
    import torch

    x = values()
    plain, made = ts.quantize(x, "nf4"), ts.quantize(x, "nf4", double=True)
    assert plain.scales is not None and made.scales is not None
    assert made.nested_scales is not None
    _, state = bnb.quantize_4bit(
        torch.from_numpy(x.copy()), blocksize=64, quant_type="nf4", compress_statistics=True
    )
    assert made.nested_mean == pytest.approx(float(state.offset), rel=1e-6)
    # The rule, by bitsandbytes' own table; its CPU library takes a coarser one.
    code = bnb.create_dynamic_map()
    less = torch.from_numpy(plain.scales) - made.nested_mean
    most = less.reshape(-1, 256).abs().amax(dim=1)
    middles = (code[:-1] + code[1:]) / 2
    scaled = (less.reshape(-1, 256) * (1 / most[:, None])).clamp(-1, 1)
    assert np.array_equal(made.nested_scales, most.numpy())
    want = torch.bucketize(scaled, middles).to(torch.uint8).reshape(-1)
    assert np.array_equal(made.scales, want.numpy())
    theirs = bnb.quantize_blockwise(less, blocksize=256)[0].numpy()
    assert (theirs != made.scales).mean() < 0.01
    assert np.abs(theirs.astype(int) - made.scales).max() <= 1
    scales = code[want.long()].reshape(-1, 256) * most[:, None] + made.nested_mean
    nibbles = np.stack([made.data >> 4, made.data & 15], axis=1).reshape(-1, 64)
    values_of = state.code.numpy()[nibbles] * scales.reshape(-1, 1).numpy()
    assert np.array_equal(made.dequantize().ravel(), values_of.ravel())
    assert made.nbytes < 0.93 * plain.nbytes


def test_double_quantisation_of_a_short_tensor() -> None:
    x = values()[:3, :1000]
    made = ts.quantize(x, "nf4", double=True)
    assert made.scales is not None and made.nested_scales is not None
    assert (made.scales.size, made.nested_scales.size) == (47, 1)
    assert made.error(x).cosine > 0.99


# -- 8-bit floats ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("scheme", "name"), [("e4m3", "float8_e4m3fn"), ("e5m2", "float8_e5m2")]
)
def test_small_floats_are_those_of_ml_dtypes(scheme: str, name: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**32, (99, 101), dtype=np.uint32).view(np.float32)
    x[:50] = rng.standard_normal((50, 101)) * 100
    x = x.astype(dtype)
    made = ts.quantize(x, scheme)
    want = x.astype(np.float32).astype(getattr(ml_dtypes, name))
    is_nan = np.isnan(want.astype(np.float32))
    assert np.array_equal(made.data[~is_nan], want.view(np.uint8)[~is_nan])
    assert np.isnan(made.dequantize()[is_nan]).all()
    assert ts.quantize(x, name).scheme == scheme


@pytest.mark.parametrize("group", ["tensor", "row", 128])
@pytest.mark.parametrize(
    ("scheme", "name"), [("e4m3", "float8_e4m3fn"), ("e5m2", "float8_e5m2")]
)
def test_small_floats_fill_their_range(scheme: str, name: str, group: int | str) -> None:
    x = values()[:40]
    made = ts.quantize(x, scheme, group=group)
    assert made.scales is not None
    dtype = np.dtype(getattr(ml_dtypes, name))
    groups = grouped(x, group)
    largest = np.float64(ml_dtypes.finfo(dtype).max)
    scales = (np.abs(groups).max(axis=1).astype(np.float64) / largest).astype(np.float32)
    assert np.array_equal(made.scales, scales)
    want = (groups / scales[:, None]).astype(dtype)
    assert np.array_equal(made.data.ravel(), want.view(np.uint8).ravel())
    back = want.astype(np.float32) * scales[:, None]
    assert np.array_equal(made.dequantize().ravel(), back.ravel())


# -- integers ----------------------------------------------------------------------------


def grouped(x: np.ndarray, group: int | str) -> np.ndarray:
    """One group a row."""
    if group == "tensor":
        return x.reshape(1, -1)
    return x if group == "row" else x.reshape(-1, group)


def by_formula(
    x: np.ndarray, bits: int, group: int | str, symmetric: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, scales and zeros, as ONNX defines QuantizeLinear: round(x / scale) + zero."""
    groups = grouped(x, group).astype(np.float32)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    least = np.minimum(groups.min(axis=1), 0).astype(np.float64)
    most = np.maximum(groups.max(axis=1), 0).astype(np.float64)
    if symmetric:
        low += 1
        scales = (np.maximum(-least, most) / high).astype(np.float32)
        scales[scales == 0] = 1
        zeros = np.zeros(len(scales), np.int8)
    else:
        scales = ((most - least) / (high - low)).astype(np.float32)
        scales[scales == 0] = 1
        zeros = np.clip(np.round(low - least / scales.astype(np.float64)), low, high)
    codes = np.round(groups / scales[:, None]) + zeros[:, None]
    return np.clip(codes, low, high).astype(np.int8), scales, zeros.astype(np.int8)


def unpacked(made: ts.QuantizedTensor) -> np.ndarray:
    if made.scheme == "int8":
        return made.data.view(np.int8)
    nibbles = np.stack([made.data & 15, made.data >> 4], axis=2)
    nibbles = nibbles.reshape(len(made.data), -1)[:, : made.shape[-1]].astype(np.int8)
    return (nibbles ^ 8) - 8


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", ["tensor", "row", 32, 25])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_integers_are_what_the_formula_says(
    scheme: str, group: int | str, symmetric: bool
) -> None:
    x = values()[:48, : 75 if group == 25 else 1024]
    x = np.ascontiguousarray(x)
    made = ts.quantize(x, scheme, group=group, symmetric=symmetric)
    codes, scales, zeros = by_formula(x, int(scheme[3:]), group, symmetric)
    assert made.scales is not None
    assert np.array_equal(made.scales, scales)
    assert (made.zeros is None) == symmetric
    if made.zeros is not None:
        assert np.array_equal(made.zeros, zeros)
    assert np.array_equal(unpacked(made).ravel(), codes.ravel())
    back = (codes.astype(np.float32) - zeros[:, None].astype(np.float32)) * scales[:, None]
    assert np.array_equal(made.dequantize().ravel(), back.ravel())


@quiet  # torch calls its own function deprecated
def test_a_given_torch_scale_gives_torchs_codes() -> None:
    torch = oracle("torch")
    x = values()[:8].copy()
    made = ts.quantize(x, "int8", group="tensor", symmetric=False)
    assert made.scales is not None and made.zeros is not None
    theirs = torch.quantize_per_tensor(
        torch.from_numpy(x), float(made.scales[0]), int(made.zeros[0]), torch.qint8
    )
    # torch multiplies by the reciprocal: codes at a tie may differ by one.
    differ = np.abs(theirs.int_repr().numpy().astype(int) - unpacked(made))
    assert differ.max() <= 1 and (differ > 0).mean() < 1e-3


# -- what comes in, what goes out --------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_takes_every_layout(scheme: str) -> None:
    cube = np.ascontiguousarray(values()[:12].reshape(3, 4, 1024))
    want = ts.quantize(cube, scheme)
    assert want.shape == cube.shape and want.dtype == cube.dtype
    wide = np.zeros((3, 4, 2048), np.float32)
    wide[:, :, ::2] = cube
    backwards = np.ascontiguousarray(cube[::-1, :, ::-1])[::-1, :, ::-1]
    raw = np.zeros(cube.nbytes + 1, np.uint8)
    askew = raw[1:].view(np.float32).reshape(cube.shape)
    askew[...] = cube
    swapped = cube.astype(">f4")
    for other in (np.asfortranarray(cube), wide[:, :, ::2], backwards, askew, swapped):
        made = ts.quantize(other, scheme)
        assert np.array_equal(made.data, want.data)
        for mine, theirs in ((made.scales, want.scales), (made.zeros, want.zeros)):
            assert (mine is None) == (theirs is None)
            assert mine is None or np.array_equal(mine, theirs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_other_floats_are_widened_first(scheme: str, dtype: Any) -> None:
    x = values()[:6].astype(dtype)
    made, want = ts.quantize(x, scheme), ts.quantize(x.astype(np.float32), scheme)
    assert made.dtype == x.dtype
    assert np.array_equal(made.data, want.data)
    assert np.array_equal(ts.dequantize(made), ts.dequantize(want))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_come_back_in_any_float(scheme: str) -> None:
    made = ts.quantize(values()[:7], scheme)
    back = made.dequantize()
    for dtype in FLOATS:
        got = ts.dequantize(made, dtype=dtype)
        assert got.dtype == dtype and got.shape == (7, 1024)
        assert np.array_equal(got, back.astype(dtype))
    out = np.empty((7, 1024), np.float32)
    assert made.dequantize(out=out) is out and np.array_equal(out, back)
    with pytest.raises(ValueError, match="not a C-contiguous float16"):
        made.dequantize("float16", out=out)
    with pytest.raises(ValueError, match="int32 is not float16"):
        made.dequantize("int32")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(0, 256), (3, 0), (2, 0, 256)])
def test_nothing_becomes_nothing(scheme: str, shape: tuple[int, ...]) -> None:
    made = ts.quantize(np.zeros(shape, np.float32), scheme)
    assert made.data.size == 0 and made.dequantize().shape == shape
    lost = made.error(np.zeros(shape, np.float32))
    assert (lost.max_abs, lost.rmse, lost.cosine) == (0, 0, 1)


def test_a_scalar_is_a_row_of_one() -> None:
    made = ts.quantize(np.float32(3), "int8")
    assert made.shape == () and made.dequantize() == 3


def test_bytes_are_counted() -> None:
    x = values()
    made = ts.quantize(x, "int4", group=32, symmetric=False)
    assert made.nbytes == x.size // 2 + x.size // 32 * 5
    assert made.bits == 5.25 and "5.25 bits an element" in repr(made)
    assert ts.quantize(x, "q4_k").bits == 4.5
    assert ts.quantize(x, "nf4").bits == 4.5


def test_torch_tensors_are_taken() -> None:
    torch = oracle("torch")
    x = values()[:4].copy()
    half = torch.from_numpy(x).to(torch.bfloat16)
    made = ts.quantize(half.t().contiguous().t(), "q8_0")
    want = ts.quantize(x.astype(ml_dtypes.bfloat16), "q8_0")
    assert made.dtype == want.dtype and np.array_equal(made.data, want.data)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_error_is_measured(scheme: str) -> None:
    x = values()[:30]
    made = ts.quantize(x, scheme)
    lost, back = made.error(x), made.dequantize().astype(np.float64)
    off = x.astype(np.float64) - back
    assert lost.max_abs == pytest.approx(np.abs(off).max(), rel=1e-6)
    assert lost.rmse == pytest.approx(np.sqrt((off**2).mean()), rel=1e-12)
    wide = x.astype(np.float64)
    cosine = (wide * back).sum() / np.linalg.norm(wide) / np.linalg.norm(back)
    assert lost.cosine == pytest.approx(cosine, rel=1e-12)
    assert lost.snr_db == pytest.approx(10 * np.log10((wide**2).sum() / (off**2).sum()))


def test_no_error_is_no_error() -> None:
    x = np.array([[1, 2, -127, 0]], np.float32)
    lost = ts.quantize(x, "int8").error(x)
    assert lost == ts.QuantizationError(0, 0, 1, np.inf)


# -- refusals ----------------------------------------------------------------------------


def test_refusals_name_numbers_and_places() -> None:
    x = values()[:4, :100].copy()
    with pytest.raises(ValueError, match="100 elements are no whole number of blocks of 256"):
        ts.quantize(x, "q4_k")
    with pytest.raises(ValueError, match="100 elements are no whole number of groups of 64"):
        ts.quantize(x, "int8", group=64)
    with pytest.raises(ValueError, match="q8_0 has scales of its own"):
        ts.quantize(values(), "q8_0", group=32)
    with pytest.raises(ValueError, match="nf4 has no zero point"):
        ts.quantize(x, "nf4", symmetric=False)
    with pytest.raises(ValueError, match="int8 has no double quantisation"):
        ts.quantize(x, "int8", double=True)
    with pytest.raises(ValueError, match="'row', 'tensor' or a number, not 'column'"):
        ts.quantize(x, "int8", group="column")
    with pytest.raises(ts.UnsupportedError, match="no quantisation scheme 'q9_0'"):
        ts.quantize(x, "q9_0")
    with pytest.raises(TypeError, match="int32 is quantised by nothing here"):
        ts.quantize(x.astype(np.int32), "int8")
    with pytest.raises(ValueError, match=r"shape \(4, 99\), not \(4, 100\)"):
        ts.quantize(x, "int8").error(x[:, :99])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in ("e4m3", "e5m2")])
def test_what_is_not_finite_is_refused_by_place(scheme: str, order: Any) -> None:
    x = values()[:20].copy(order=order)
    x[17, 700] = np.nan
    with pytest.raises(ValueError, match="row 17, column 700 is NaN"):
        ts.quantize(x, scheme)
    x[17, 700] = np.inf
    with pytest.raises(ValueError, match="row 17, column 700 is infinite"):
        ts.quantize(x, scheme)


@pytest.mark.parametrize("group", ["tensor", "row", 64])
@pytest.mark.parametrize("scheme", ["int8", "e4m3"])
def test_a_scale_of_what_is_not_finite_is_refused(scheme: str, group: int | str) -> None:
    x = values()[:20].copy()
    x[19, 1023] = -np.inf
    with pytest.raises(ValueError, match="row 19, column 1023 is infinite"):
        ts.quantize(x, scheme, group=group)


# -- the benchmark -----------------------------------------------------------------------


def test_the_benchmark_runs(tmp_path: pathlib.Path) -> None:
    script = pathlib.Path(__file__).parent.parent / "benchmarks" / "bench_quantize.py"
    kept = tmp_path / "result.json"
    command = [sys.executable, str(script), "--quick", "--rounds", "1", "--no-peers"]
    run = subprocess.run(
        [*command, "--only", "q8_0,nf4,int4", "--json", str(kept)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    measures = json.loads(kept.read_text())["measures"]
    assert list(measures) == ["cache", "memory", "back", "lost"]
    for name, measure in measures.items():
        labels = {row["label"] for row in measure["rows"]}
        assert labels >= {"memcpy", "tensorstream, q8_0", "tensorstream, nf4"}
        assert len(labels) == (3 if name == "lost" else 7)
        assert all(row["of_memcpy"] > 0 for row in measure["rows"])
    assert len(measures["memory"]["targets"]) == 4
