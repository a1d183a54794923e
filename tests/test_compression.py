"""Frames: what goes in comes out, by our decoder and by one written from docs/format.md."""

from __future__ import annotations

import itertools
import math
import pathlib
import shutil
import struct
import subprocess
import threading
from typing import Any

import frames
import ml_dtypes
import numpy as np
import pytest
import reference_decoder
from conftest import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstream as ts
from tensorstream import _core

BLOCKS = {name: _core.dtype_block(name) for name in _core.dtypes}
MODES = ("fast", "portable", "small", "raw")
GOLDEN = pathlib.Path(__file__).parent / "golden_frames"
NAMES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "complex128", "bfloat16", "float8_e4m3fn",
    "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip
NUMPY = [np.dtype(getattr(ml_dtypes, name, name)) for name in NAMES]
PACKED = [name for name in _core.dtypes if BLOCKS[name][0] > 1]


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check(array: np.ndarray[Any, Any], mode: str, **options: Any) -> bytes:
    """Both decoders give back the array; the frame's bytes."""
    frame = ts.compress(array, mode, **options)
    back = ts.decompress(frame)
    assert same_bits(back, np.asarray(array, order="C"))
    read = reference_decoder.decode(bytes(frame), BLOCKS)
    assert read.data == array.tobytes()
    assert read.size == len(frame)
    return bytes(frame)


# ---- round trips -------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    content=st.sampled_from(frames.CONTENTS),
    dtype=st.sampled_from(NUMPY),
    shape=st.lists(st.integers(0, 40), max_size=3),
    mode=st.sampled_from(MODES),
    chunk=st.sampled_from([None, 64, 1000]),
    seed=st.integers(0, 1000),
)
def test_what_goes_in_comes_out(
    content: str,
    dtype: np.dtype[Any],
    shape: list[int],
    mode: str,
    chunk: int | None,
    seed: int,
) -> None:
    array = frames.content(content, math.prod(shape), dtype.itemsize, seed)
    check(array.view(dtype).reshape(shape), mode, chunk=chunk)


@pytest.mark.parametrize("dtype", NUMPY, ids=str)
def test_every_dtype_has_every_coder(dtype: np.dtype[Any]) -> None:
    for content, mode in itertools.product(frames.CONTENTS, MODES):
        check(frames.content(content, 5003, dtype.itemsize, 1).view(dtype), mode, chunk=4096)


@pytest.mark.parametrize("dtype", PACKED)
def test_packed_elements(dtype: str) -> None:
    count, size = BLOCKS[dtype]
    for content, mode in itertools.product(("weights", "few"), ("fast", "portable")):
        flat = frames.content(content, 3 * 33, size, 2)
        frame = ts.compress(flat.reshape(3, 33 * size), mode, dtype=dtype, chunk=32 * count)
        info = ts.frame_info(frame)
        assert (info.dtype, info.shape) == (dtype, (3, 33 * count))
        assert same_bits(ts.decompress(frame), flat.reshape(3, 33 * size))
        assert reference_decoder.decode(bytes(frame), BLOCKS).data == flat.tobytes()


def test_shapes_and_strides() -> None:
    base = np.arange(7 * 8 * 9, dtype=np.float32).reshape(7, 8, 9)
    for array in (
        base[::2, 1:, ::-3],
        base.T,
        np.broadcast_to(base[0, 0], (5, 9)),
        base.astype(">f4"),
        np.float64(3.5),
        np.zeros((0, 4), np.int16),
        np.zeros((3, 0), ml_dtypes.bfloat16),
    ):
        back = ts.decompress(ts.compress(array))
        assert back.shape == np.shape(array)
        assert (back == np.asarray(array)).all()
        assert back.dtype.isnative


def test_torch_tensors() -> None:
    torch = oracle("torch")
    weights = torch.randn(300, 50).to(torch.bfloat16)
    frame = ts.compress(weights[::3].t())
    back = torch.from_numpy(ts.decompress(frame).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(back, weights[::3].t())


def test_threads_make_the_same_frame() -> None:
    array = frames.content("weights", 300_000, 2, 3).view(ml_dtypes.bfloat16)
    one, three = (ts.compress(array, chunk=8192, threads=n) for n in (1, 3))
    assert bytes(one) == bytes(three)
    assert same_bits(ts.decompress(one, threads=3), array)


def test_others_run_while_it_works() -> None:
    array = frames.content("weights", 3_000_000, 4, 3).view(np.float32)
    went, done = 0, threading.Event()

    def work() -> None:
        for _ in range(3):
            ts.decompress(ts.compress(array, "small", threads=1), threads=1)
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not done.wait(0.001):
        went += 1
    worker.join()
    assert went > 5


def test_out_is_reused() -> None:
    array = frames.content("weights", 40_000, 4, 4).view(np.float32).reshape(200, 200)
    frame = ts.compress(array)
    out = np.empty_like(array)
    assert ts.decompress(frame, out) is out
    assert same_bits(out, array)
    for wrong in (out[::2], out.T, out.view(np.int32), out[:100]):
        with pytest.raises(ValueError, match=r"not a C-contiguous float32 of shape"):
            ts.decompress(frame, wrong)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only"):
        ts.decompress(frame, out)


# ---- how small ---------------------------------------------------------------------------


def entropy(symbols: np.ndarray[Any, Any]) -> float:
    share = np.bincount(symbols.ravel()) / symbols.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


@pytest.mark.parametrize("sigma", [0.001, 0.02, 1.0])
def test_weights_come_within_a_third_of_a_point(sigma: float) -> None:
    """Of the order-0 limit: the entropy of the exponents and the other bits as they are."""
    rows = np.random.default_rng(5).normal(0, sigma, (512, 2048)).astype(np.float32)
    for array, others in ((rows.astype(ml_dtypes.bfloat16), 8), (rows, 24)):
        bits = array.view(np.uint16).astype(np.uint32) if others == 8 else array.view(np.uint32)
        exponents = bits >> (7 if others == 8 else 23) & 255
        limit = (entropy(exponents) + others) / (8 + others)
        info = ts.frame_info(ts.compress(array))
        assert limit - 0.001 < info.ratio < limit + 0.003


def test_special_contents_get_small() -> None:
    def ratio(array: np.ndarray[Any, Any], mode: str = "fast", **options: Any) -> float:
        return ts.frame_info(ts.compress(array, mode, **options)).ratio

    rng = np.random.default_rng(6)
    weights = rng.normal(0, 0.02, 262144).astype(np.float32)
    bf16 = weights.astype(ml_dtypes.bfloat16)
    assert ratio(bf16.astype(np.float32)) < 0.34  # a bf16 checkpoint upcast
    assert ratio(np.where(rng.random(262144) < 0.1, weights, 0)) < 0.11  # pruned
    levels = np.clip(np.round(weights / 0.01), -8, 7).astype(np.float32) * 0.01
    assert ratio(levels) < 0.11  # dequantised int4
    assert ratio(np.full(262144, 1.5)) < 0.001
    tuned = (weights + rng.normal(0, 1e-5, 262144)).astype(ml_dtypes.bfloat16)
    assert ratio(tuned, base=bf16) < 0.4
    assert ratio(np.arange(262144), "portable") < 0.3
    assert ratio(weights, None) < 1.001


# ---- bases -------------------------------------------------------------------------------


def test_a_difference_needs_its_base() -> None:
    base = frames.content("weights", 9000, 2, 7).view(ml_dtypes.bfloat16)
    array = base.copy()
    array.view(np.uint16)[::50] ^= 3
    frame = ts.compress(array, base=base, base_name="model.wéight", chunk=1024)
    info = ts.frame_info(frame)
    assert (info.kind, info.base) == ("delta", "model.wéight")
    assert same_bits(ts.decompress(frame, base=base), array)
    read = reference_decoder.decode(bytes(frame), BLOCKS, base.tobytes())
    assert (read.data, read.base) == (array.tobytes(), "model.wéight")
    with pytest.raises(ValueError, match=r"chunk 0: the base tensor is needed"):
        ts.decompress(frame)
    with pytest.raises(ts.CorruptionError, match=r"chunk 0: the base tensor is not the one"):
        ts.decompress(frame, base=array)
    with pytest.raises(ValueError, match=r"the base has 100 bytes, the tensor 18000"):
        ts.decompress(frame, base=base[:50])
    with pytest.raises(ValueError, match=r"the base is F32 of shape"):
        ts.compress(array, base=np.zeros(9000, np.float32))


def test_chunks_that_differ_from_the_base_as_a_whole() -> None:
    """They are stored as they are, and need no base."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(8192, np.float32)
    array = base.copy()
    array[::100] += 1.0
    array[4096:] = rng.standard_normal(4096, np.float32)
    frame = ts.compress(array, base=base, chunk=2048)
    assert len(frame) < 0.7 * array.nbytes
    assert same_bits(ts.decompress(frame, base=base), array)
    read = reference_decoder.decode(bytes(frame), BLOCKS, base.tobytes())
    assert read.data == array.tobytes()
    alone = ts.compress(array[4096:], base=base[4096:], chunk=2048)
    assert same_bits(ts.decompress(alone), array[4096:])


# ---- what is refused ---------------------------------------------------------------------


def test_damage_is_named() -> None:
    array = frames.content("weights", 9000, 4, 8).view(np.float32)
    frame = bytearray(ts.compress(array, chunk=4096))
    frame[-100] ^= 1
    with pytest.raises(
        ts.CorruptionError, match=r"chunk 2: its [0-9]+ stored bytes are damaged"
    ):
        ts.decompress(frame)
    frame[-100] ^= 1
    frame[40] ^= 1
    with pytest.raises(ts.CorruptionError, match=r"the head or the chunk table"):
        ts.decompress(frame)
    assert same_bits(ts.decompress(frame, verify=False), array)
    with pytest.raises(ts.FormatError, match=r"a frame of [0-9]+ bytes with 3 chunks in"):
        ts.decompress(frame[:-64])
    with pytest.raises(ts.FormatError, match=r"are no frame"):
        ts.frame_info(b"no frame")
    frame[4] = 9
    with pytest.raises(ts.UnsupportedError, match=r"a frame of version 9"):
        ts.frame_info(frame)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"mode is 'fast', 'portable', 'small' or 'raw'"):
        ts.compress(np.zeros(3), "best")
    with pytest.raises(ValueError, match=r"a chunk has 1 to"):
        ts.compress(np.zeros(3), chunk=0)
    with pytest.raises(ValueError, match=r"take 32000000 bytes, more than 16777216"):
        ts.compress(np.zeros(3), chunk=4_000_000)
    with pytest.raises(ValueError, match=r"no whole number of Q8_0 blocks of 34 bytes"):
        ts.compress(np.zeros(33, np.uint8), dtype="Q8_0")
    with pytest.raises(ValueError, match=r"chunks of 100 elements are no whole number"):
        ts.compress(np.zeros(34, np.uint8), dtype="Q8_0", chunk=100)
    with pytest.raises(TypeError, match=r"is for uint8 arrays of packed elements"):
        ts.compress(np.zeros(34, np.float32), dtype="Q8_0")
    with pytest.raises(TypeError):
        ts.compress(np.array(["text"]))
    with pytest.raises(ValueError, match=r"at most 32 dimensions"):
        _core.compress(b"\0", "U8", (1,) * 33, "fast", 0, 1, None, "")


# ---- the page ----------------------------------------------------------------------------


def planes_of(frame: bytes) -> list[tuple[int, int, bytes]]:
    """(form's plane number, coder, bytes) of the first chunk, by the offsets of the page."""
    (table,) = struct.unpack_from("<Q", frame, 32)
    offset, _, _, stored, _ = struct.unpack_from("<QQQII", frame, table)
    chunk = frame[offset : offset + stored]
    found, at = [], 8
    for _ in range(chunk[4]):
        count = chunk[at + 2]
        at += 8
        for i in range(count):
            coder, _, place, size = struct.unpack_from("<BBxxII", chunk, at)
            found.append((i, coder, chunk[place : place + size]))
            at += 12
    return found


def test_zstd_reads_the_planes_of_a_portable_frame(tmp_path: pathlib.Path) -> None:
    array = np.random.default_rng(9).normal(0, 0.02, 50_000).astype(ml_dtypes.bfloat16)
    rotated = array.view(np.uint16) << 1 | array.view(np.uint16) >> 15
    planes = planes_of(check(array, "portable", chunk=65536))
    assert [coder for _, coder, _ in planes] == [3, 0]
    assert planes[1][2] == (rotated & 255).astype(np.uint8).tobytes()
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program here")
    run = subprocess.run(["zstd", "-dc"], input=planes[0][2], capture_output=True, check=True)
    assert run.stdout == (rotated >> 8).astype(np.uint8).tobytes()


def test_portable_frames_need_nothing_but_zstd() -> None:
    for content, dtype in itertools.product(frames.CONTENTS, NUMPY):
        array = frames.content(content, 5000, dtype.itemsize, 10).view(dtype)
        coders = {coder for _, coder, _ in planes_of(bytes(ts.compress(array, "portable")))}
        assert coders <= {0, 1, 3, 4}


def test_rows_of_different_scale_have_tables_of_their_own() -> None:
    array, _ = frames.GOLDEN["bf16-rows"]()
    frame = bytes(ts.compress(array))
    plane = planes_of(frame)[0]
    assert plane[1] == 2 and plane[2][1] == 3  # rANS, with three tables
    exponents = array.view(np.uint16) >> 7 & 255
    share = np.bincount(exponents) / exponents.size
    share = share[share > 0]
    entropy = 1 - share @ np.log2(share) / 8  # of the raw bytes, by one table for all
    assert len(frame) < entropy * array.nbytes / 2 * 0.97


def order0(array: np.ndarray[Any, Any]) -> float:
    """The share that the order-0 entropy of the top bytes leaves, all else in full."""
    words = array.view(f"u{min(array.itemsize, 2)}").reshape(array.size, -1)[:, -1]
    top = words if array.itemsize == 1 else words >> 7 & 255
    share = np.bincount(top) / top.size
    share = share[share > 0]
    return float(array.itemsize - 1 - share @ np.log2(share) / 8) / array.itemsize


@pytest.mark.parametrize(
    ("dtype", "points"),
    [("bfloat16", 0.3), ("float32", 0.3), ("float16", 0.5), ("float8_e4m3fn", 1.0)],
)
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_weights_come_close_to_their_order_0_entropy(
    dtype: str, points: float, spread: float
) -> None:
    """Whether rows differ in scale or not; half the exponent's byte is mantissa in the last."""
    rng = np.random.default_rng(3)
    scale = np.exp(rng.normal(0, spread, (512, 1)))
    weights = rng.standard_normal((512, 2048)) * scale
    weights *= 448 / abs(weights).max() if dtype == "float8_e4m3fn" else 0.02
    array = weights.astype(np.dtype(getattr(ml_dtypes, dtype, dtype))).reshape(-1)
    frame = ts.compress(array)
    assert len(frame) / array.nbytes < order0(array) + points / 100


@pytest.mark.parametrize("name", sorted(frames.GOLDEN))
def test_golden_frames(name: str) -> None:
    """Frames made once: both decoders read them, and the encoder still makes them."""
    frame = (GOLDEN / name).read_bytes()
    array, options = frames.GOLDEN[name]()
    assert reference_decoder.decode(frame, BLOCKS).data == array.tobytes()
    assert ts.decompress(frame).tobytes() == array.tobytes()
    if all(coder < 3 for _, coder, _ in planes_of(frame)):  # libzstd's bytes may change
        assert bytes(ts.compress(array, **options)) == frame
    for cut in (1, 64, len(frame) // 2):
        with pytest.raises(ts.FormatError):
            ts.decompress(frame[:-cut])


def test_wrong_words_are_told_by_name() -> None:
    array = np.ones((8, 8), np.float32)
    frame = ts.compress(array, threads=None, mode="raw")
    assert same_bits(ts.decompress(frame, threads=None), array)
    calls: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "threads must be at least 1, not 0", {"threads": 0}),
        (TypeError, "threads must be a whole number", {"threads": "2"}),
        (TypeError, "mode is 'fast', .* not 3", {"mode": 3}),
        (TypeError, "chunk is a number of elements, not '4'", {"chunk": "4"}),
        (ValueError, "the base needs a name, not None", {"base": array, "base_name": None}),
    ]
    for kind, message, options in calls:
        with pytest.raises(kind, match=message):
            ts.compress(array, **options)
    with pytest.raises(TypeError, match=r"out is a list, not an array"):
        ts.decompress(frame, out=[1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"threads must be at least 1"):
        ts.decompress(frame, threads=0)
