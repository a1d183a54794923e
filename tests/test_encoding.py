"""Encoding on the way: pulled from a stream, pushed into a RealTimeEncoder."""

from __future__ import annotations

import threading
import time

import ml_dtypes
import numpy as np
import pytest

import tensorstream as ts
from tensorstream.encoding import joined

RNG = np.random.default_rng(7)


def arrays() -> dict[str, np.ndarray]:
    return {
        "model.layers.0.self_attn.q_proj.weight": RNG.standard_normal((300, 512), np.float32),
        "model.layers.0.mlp.up_proj.weight": RNG.standard_normal((77, 1024), np.float32).astype(
            ml_dtypes.bfloat16
        ),
        "model.layers.1.mlp.up_proj.weight": RNG.standard_normal((64, 256), np.float32).astype(
            np.float16
        ),
        "ids": np.arange(100),
    }


def pieces_of(encoded, name):
    return [one for one in encoded if one.name == name]


@pytest.mark.parametrize(
    "scheme", ["q8_0", "q4_0", "q4_k", "mxfp4", "nf4", "int8", "int4", "e4m3"]
)
@pytest.mark.parametrize("chunk", [None, "4KiB", "37000"])
def test_a_stream_encodes_as_quantize_does(scheme, chunk):
    source = arrays()
    with ts.open(source) as ckpt, ckpt.stream(budget="4MiB", chunk=chunk) as stream:
        encoded = [
            one._replace(data=one.data.copy(), scales=one.scales)
            for one in stream.encode(scheme)
        ]
    for name, array in source.items():
        found = pieces_of(encoded, name)
        if name == "ids":
            assert found[0].scheme is None
            assert b"".join(one.data.tobytes() for one in found) == array.tobytes()
            continue
        whole, want = joined(found, array.dtype), ts.quantize(array, scheme)
        assert np.array_equal(whole.data.ravel(), want.data.ravel())
        if want.scales is not None:
            assert np.array_equal(whole.scales, want.scales)
        assert np.array_equal(ts.dequantize(whole), ts.dequantize(want))


def test_zeros_and_groups_come_along():
    source = {"w": RNG.standard_normal((40, 256), np.float32)}
    with ts.open(source) as ckpt, ckpt.stream(budget="1MiB", chunk="8KiB") as stream:
        found = list(stream.encode("int4", group=64, symmetric=False))
        assert len(found) > 3
        whole = joined(found)
    want = ts.quantize(source["w"], "int4", group=64, symmetric=False)
    assert np.array_equal(whole.zeros, want.zeros)
    assert np.array_equal(whole.scales, want.scales)
    assert np.array_equal(ts.dequantize(whole), ts.dequantize(want))


def test_the_budget_holds_and_figures_are_true():
    source = {f"w{i}": RNG.standard_normal((512, 1024), np.float32) for i in range(6)}
    seen = []
    with ts.open(source) as ckpt:
        stream = ckpt.stream(budget="1MiB")
        figures = stream.encode("q8_0", lambda piece: seen.append((piece.name, piece.start)))
        assert stream.progress.memory_peak <= 1 << 20
    assert seen == sorted(seen) and len({name for name, _ in seen}) == 6
    assert figures.chunks == len(seen)
    assert figures.bytes_in == sum(one.nbytes for one in source.values())
    assert figures.bytes_out == figures.bytes_in // 4 // 32 * 34
    assert figures.ratio == pytest.approx(34 / 128) and figures.rate > 0
    assert figures.success_rate == 1.0


def test_quantised_blocks_are_encoded_anew():
    packed = ts.quantize(RNG.standard_normal((16, 256), np.float32), "q8_0")
    dense = ts.dequantize(packed)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/m.gguf"
        with ts.create(path) as out, out.tensor("w", "Q8_0", (16, 256)) as tensor:
            tensor.write(packed.data)
        with ts.open(path) as ckpt, ckpt.stream() as stream:
            found = list(stream.encode("q4_0"))
            assert np.array_equal(
                joined(found).data.ravel(), ts.quantize(dense, "q4_0").data.ravel()
            )


def test_what_cannot_be_encoded_is_named():
    bad = np.ones((4, 64), np.float32)
    bad[2, 5] = np.nan
    with ts.open({"a.weight": bad}) as ckpt:
        with pytest.raises(ValueError, match="element 133 is NaN") as caught:
            list(ckpt.stream().encode("q8_0"))
        assert "a.weight" in str(caught.value)
        with pytest.raises(ValueError, match="one scale for a whole tensor"):
            ckpt.stream().encode("int8", group="tensor")
        with pytest.raises(ValueError, match="a group is 'row', 'tensor' or a number"):
            ckpt.stream().encode("int8", group="column")
        with pytest.raises(ts.UnsupportedError, match="q9"):
            ckpt.stream().encode("q9")
        with pytest.raises(ValueError, match="dtype="):
            ckpt.stream(dtype="float16").encode("q8_0")
        with ckpt.stream() as stream:
            next(stream)
            with pytest.raises(ValueError, match="before the first chunk"):
                stream.encode("q8_0")
    odd = ts.open({"odd": np.ones((3, 33), np.float32)})
    with pytest.raises(ValueError, match="33"):
        odd.stream().encode("q8_0")


# -- pushed ----------------------------------------------------------------------------------


def test_the_queue_blocks_and_keeps_the_order():
    stored, waiting = [], threading.Event()

    def slow(encoded, number):
        waiting.wait(10)
        stored.append(number)

    encoder = ts.RealTimeEncoder(lambda chunk: chunk, slow, queue_size=2)
    giver = threading.Thread(
        target=lambda: [encoder.encode_chunk(np.zeros(8), i) for i in range(30)]
    )
    giver.start()
    time.sleep(0.1)
    assert giver.is_alive() and not stored  # it waits; nothing was dropped
    waiting.set()
    giver.join()
    encoder.stop_real_time_encoding()
    assert stored == list(range(30))
    assert encoder.statistics.chunks == 30 and encoder.statistics.bytes_in == 30 * 64


def test_a_failure_is_raised_once_with_the_name_and_retry_ends():
    class Meta:
        layer_name = "layers.3.weight"

    tries, stored = [], []

    def sink(encoded, meta):
        tries.append(meta)
        if len(tries) < 3 and meta is bad:
            raise OSError("the sink is full")
        stored.append(meta)

    bad = Meta()
    encoder = ts.RealTimeEncoder("q8_0", sink)
    encoder.encode_chunk(np.ones(32, np.float32), bad)
    with pytest.raises(OSError, match="full") as caught:
        encoder.stop_real_time_encoding()
    assert "layers.3.weight" in caught.value.__notes__[0]
    encoder.encode_chunk(np.ones(32, np.float32), "other")  # it was raised once
    encoder.stop_real_time_encoding()
    assert encoder.statistics.failures == 1 and encoder.statistics.success_rate == 0.5
    first = encoder.retry_failed()
    assert first == {"retried_chunks": 1, "successful_retries": 1, "remaining_failures": 0}
    assert stored == ["other", bad]
    assert encoder.retry_failed()["retried_chunks"] == 0
    assert encoder.statistics.chunks == 2 and encoder.statistics.failures == 0


def test_a_pause_is_no_time_of_encoding():
    stored = []
    encoder = ts.RealTimeEncoder("q8_0", lambda encoded, meta: stored.append(meta))
    for i in range(2):
        encoder.encode_chunk(np.ones(3200, np.float32), i)
        encoder.stop_real_time_encoding()
        time.sleep(0.5)
    with encoder:
        time.sleep(0.5)
        encoder.encode_chunk(np.ones(3200, np.float32), 2)
    figures = encoder.statistics
    assert figures.chunks == 3 and 0 < figures.seconds < 0.5
    assert figures.rate == 3 * 12800 / figures.seconds


def test_a_chunk_that_was_not_taken_can_be_given_again():
    stored = []

    def sink(encoded, meta):
        if meta == "bad":
            raise OSError("the sink is full")
        stored.append(meta)

    encoder = ts.RealTimeEncoder("q8_0", sink)
    encoder.encode_chunk(np.ones(32, np.float32), "bad")
    while not encoder.failures:
        time.sleep(0.01)
    with pytest.raises(OSError, match="full"):
        encoder.encode_chunk(np.ones(32, np.float32), "next")
    encoder.encode_chunk(np.ones(32, np.float32), "next")
    encoder.stop_real_time_encoding()
    assert stored == ["next"]


def test_retrying_what_never_works_ends():
    def sink(encoded, meta):
        raise OSError("never")

    encoder = ts.RealTimeEncoder("q4_0", sink, keep_going=True)
    for _ in range(3):
        encoder.encode_chunk(np.ones(32, np.float32))
    encoder.stop_real_time_encoding()
    for _ in range(2):
        assert encoder.retry_failed() == {
            "retried_chunks": 3,
            "successful_retries": 0,
            "remaining_failures": 3,
        }
    assert [str(error) for _, error in encoder.failures] == ["never"] * 3


def test_a_real_time_encoder_takes_a_whole_stream():
    source = arrays()
    stored = []
    encoder = ts.RealTimeEncoder(
        lambda chunk: np.asarray(chunk, np.float64), lambda made, meta: stored.append(made)
    )
    with ts.open(source) as ckpt, ckpt.stream(chunk="64KiB") as stream:
        figures = encoder.run(stream)
    assert sum(one.size for one in stored) == sum(one.size for one in source.values())
    assert figures.chunks == len(stored) > 4


def test_the_originals_names_work():
    class Quantizer:
        def quantize_chunk(self, chunk, metadata):
            return ts.quantize(chunk, "int8")

    class Storage:
        def __init__(self):
            self.found = []

        def store_chunk(self, encoded, metadata):
            self.found.append((encoded.scheme, metadata))

    storage = Storage()
    encoder = ts.RealTimeEncoder(Quantizer(), storage)
    encoder.start_real_time_encoding()
    encoder.encode_chunk(np.ones(8, np.float32), "meta")
    encoder.stop_real_time_encoding()
    assert storage.found == [("int8", "meta")]
    with pytest.raises(TypeError, match="encoder"):
        ts.RealTimeEncoder(3, storage)
    with pytest.raises(TypeError, match="sink"):
        ts.RealTimeEncoder("q8_0", 3)
    with pytest.raises(ValueError, match="queue_size"):
        ts.RealTimeEncoder("q8_0", storage, queue_size=0)
