"""The contenders, each in a process of its own.

    python benchmarks/peers.py NAME

answers one order in JSON on each line of its input with one line of JSON: the seconds
that a method of the contender took, how far the process's memory rose above where it
stood, and what the method saw of the data, which is the same for all contenders that
read all of it.  The process is kept for many orders, so that imports are paid once and
no contender warms or fills another's memory.

Every method does what a careful user of that library would write for the task.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib.metadata
import json
import os
import pathlib
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MASK = (1 << 64) - 1


# -- what all consumers do with the bytes ------------------------------------------------


def total(arrays: Iterable[Array]) -> int:
    """The sum of all 64-bit words, modulo 2^64: whoever gets it right saw every byte."""
    return sum(int(np.add.reduce(_words(array))) for array in arrays) & MASK


def _words(array: Array) -> Array:
    flat = array.reshape(-1)
    whole = flat.nbytes // 8 * 8 // flat.itemsize
    if whole == flat.size:
        return flat.view(np.uint64)
    rest = flat[whole:].tobytes().ljust(8, b"\0")
    words = [flat[:whole].view(np.uint64), np.frombuffer(rest, np.uint64)]
    return np.concatenate(words)


def torch_total(tensors: Iterable[Any]) -> int:
    """The same by torch, on as many threads as torch likes."""
    import torch

    return sum(int(one.reshape(-1).view(torch.int64).sum()) for one in tensors) & MASK


def torch_words(tensor: Any) -> Array:
    """A torch tensor's memory for NumPy, which does not know bfloat16."""
    import torch

    array: Array = tensor.reshape(-1).view(torch.int16).numpy()
    return array


def header(path: str) -> tuple[dict[str, Any], int]:
    """Tensors of a safetensors file and where its data begins."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(size))
    entries.pop("__metadata__", None)
    return entries, 8 + size


def mapped_tensors(path: str) -> Iterator[Array]:
    """Each tensor of a safetensors file as uint16 in one mapping: NumPy alone."""
    entries, data = header(path)
    mapping = np.memmap(path, np.uint8, "r")
    for entry in entries.values():
        begin, end = entry["data_offsets"]
        yield mapping[data + begin : data + end].view(np.uint16)


def forget_memory() -> None:
    """Give back what the last call freed: what is loaded next lies in fresh pages."""
    ctypes.CDLL(None).malloc_trim(0)


def pieces(path: str, size: int, count: int, seed: int = 3) -> list[tuple[str, int, int]]:
    """(tensor, first row, one past the last) of pieces of `size` bytes of the largest tensor.

    Each begins on a multiple of its size: where chunks of a compressed tensor do.
    """
    entries, _ = header(path)
    sizes = {
        one: end - begin
        for one, entry in entries.items()
        for begin, end in [entry["data_offsets"]]
    }
    name = max(sizes, key=lambda one: sizes[one])
    rows = size * entries[name]["shape"][0] // sizes[name]
    places = np.random.default_rng(seed).integers(0, sizes[name] // size, count)
    return [(name, int(place) * rows, int(place + 1) * rows) for place in places]


# -- ours --------------------------------------------------------------------------------


class Tensorstream:
    distribution = "tensorstream"

    def __init__(self) -> None:
        import tensorstream

        self.ts = tensorstream
        self._arrays: dict[str, Array] = {}

    def checksums(self, path: str, algorithm: str, threads: int, budget: str) -> int:
        with self.ts.open(path) as ckpt:
            found = ckpt.checksums(algorithm, threads=threads, budget=budget)
        values = [int(value, 16) for value in found.values()]
        if algorithm == "sum64":
            return sum(values) & MASK
        return int(np.bitwise_xor.reduce(np.array(values, np.uint64)))

    def stats(self, path: str, threads: int, budget: str) -> None:
        with self.ts.open(path) as ckpt:
            ckpt.stats(threads=threads, budget=budget)

    def loop(self, path: str, budget: str) -> int:
        with self.ts.open(path) as ckpt, ckpt.stream(budget=budget) as stream:
            return total(chunk.array for chunk in stream)

    def widen(self, path: str, budget: str, chunk: str | None = None) -> int:
        """To float32; returns how many elements came."""
        count = 0
        with (
            self.ts.open(path) as ckpt,
            ckpt.stream(budget=budget, dtype="float32", chunk=chunk) as stream,
        ):
            for piece in stream:
                count += piece.array.size
        return count

    def sweep(self, path: str, budget: str, chunk: str | None) -> int:
        """Like `checksums`, with a chunk size of our choice."""
        from tensorstream.streaming import Run, Wanted, options

        with self.ts.open(path) as ckpt:
            wanted = [Wanted(row, 0, ckpt.tensor(row)[3]) for row in range(len(ckpt))]
            chosen = options(budget=budget, checksum="sum64", chunk=chunk)
            run = Run(ckpt, wanted, chosen, "look", False)
            try:
                run.wait()
                return sum(value for _, _, value in run.outcomes()) & MASK
            finally:
                run.close()

    def prepare_into(self, path: str, threads: int) -> None:
        """The caller's arrays: made once, and touched."""
        if self._arrays:
            return
        with self.ts.open(path) as ckpt:
            for name, info in ckpt.items():
                self._arrays[name] = np.empty(info.shape, info.numpy_dtype)
                self._arrays[name].view(np.uint8).fill(1)

    def into(self, path: str, threads: int) -> Callable[[], int]:
        with self.ts.open(path) as ckpt:
            ckpt.read_into(self._arrays, threads=threads)
        return lambda: total(self._arrays.values())

    def names(self, path: str) -> int:
        with self.ts.open(path) as ckpt:
            return len(ckpt)

    def prepare_load(self, path: str, verify: bool = True) -> None:
        forget_memory()

    def load(self, path: str, verify: bool = True) -> Callable[[], int]:
        with self.ts.open(path, verify=verify) as ckpt:
            kept = self.ts.load(ckpt)
        return lambda: total(kept.values())

    def prepare_see(self, path: str) -> None:
        forget_memory()

    def see(self, path: str) -> int:
        return total(self.ts.load(path).values())

    def prepare_pieces(self, path: str, raw: str, size: int, count: int) -> None:
        """The checkpoint is open, and each piece was read before."""
        if not hasattr(self, "_pieces"):
            self._ckpt, self._pieces = self.ts.open(path), pieces(raw, size, count)
            self.pieces(path, raw, size, count)

    def pieces(self, path: str, raw: str, size: int, count: int) -> Callable[[], int]:
        """So many reads, each into the same array."""
        name, first, stop = self._pieces[0]
        info = self._ckpt[name]
        out = np.empty((stop - first, *info.shape[1:]), info.numpy_dtype)
        for name, first, stop in self._pieces:
            self._ckpt.read(name, slice(first, stop), out)
        return lambda: total([out])

    def compress(self, path: str, source: str) -> None:
        """Write the compressed twin of a file."""
        self.ts.convert(source, path, compression="fast")


class Kernels:
    """Our conversions, called without the package."""

    distribution = "tensorstream"

    def __init__(self) -> None:
        import native

        self._library = native.kernels()

    def decode(self, kind: str, tile: str, count: int, times: int) -> Callable[[], int]:
        data, out = read_tile(tile), make_out(count)
        failed = self._library.convert_tile(
            kind.encode(),
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_void_p(out.ctypes.data),
            ctypes.c_size_t(count),
            ctypes.c_int(times),
        )
        if failed:
            raise LookupError(f"no conversion from {kind} to F32")
        return lambda: digest(out)


# -- tiles of quantised blocks -----------------------------------------------------------


def read_tile(path: str) -> Array:
    return np.fromfile(path, np.uint8)


def make_out(count: int) -> Array:
    out = np.empty(count, np.float32)
    out.fill(1)
    return out


def digest(out: Array) -> int:
    """Of decoded values: the same for contenders that agree to the bit."""
    return int.from_bytes(hashlib.blake2b(out.tobytes(), digest_size=7).digest())


class Ggml:
    """ggml's own decoders, from a package that ships its library."""

    distribution = "pywhispercpp"

    class Traits(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_char_p),
            ("block_count", ctypes.c_int64),
            ("interleave", ctypes.c_int64),
            ("block_size", ctypes.c_size_t),
            ("quantized", ctypes.c_bool),
            ("to_float", ctypes.c_void_p),
        ]

    def __init__(self) -> None:
        import native

        self._timer = native.kernels()
        self._ggml = ctypes.CDLL(str(self._library()))
        self._ggml.ggml_get_type_traits.restype = ctypes.POINTER(self.Traits)

    def _library(self) -> pathlib.Path:
        files = importlib.metadata.distribution(self.distribution).files or []
        for file in files:
            if "ggml-base" in file.name and ".libs" in str(file.parent):
                return pathlib.Path(str(file.locate()))
        raise ModuleNotFoundError(f"{self.distribution} has no libggml-base in it")

    def decode(self, kind: str, tile: str, count: int, times: int) -> Callable[[], int]:
        from gguf import GGMLQuantizationType

        traits = self._ggml.ggml_get_type_traits(int(GGMLQuantizationType[kind])).contents
        if traits.name.decode().lower() != kind.lower() or not traits.to_float:
            raise LookupError(f"this ggml calls type {kind} {traits.name!r}")
        data, out = read_tile(tile), make_out(count)
        self._timer.convert_tile_by(
            ctypes.c_void_p(traits.to_float),
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_void_p(out.ctypes.data),
            ctypes.c_size_t(count),
            ctypes.c_int(times),
        )
        return lambda: digest(out)


# -- peers that read files ---------------------------------------------------------------


class Safetensors:
    distribution = "safetensors"

    def __init__(self) -> None:
        import ml_dtypes  # noqa: F401  NumPy learns of bfloat16 from it
        import safetensors

        self.safe_open = safetensors.safe_open

    def _tensors(self, path: str, backend: str) -> Iterator[Array]:
        with self.safe_open(path, "np", backend=backend) as file:
            for name in file.offset_keys():
                yield file.get_tensor(name)

    def loop(self, path: str, backend: str) -> int:
        return total(self._tensors(path, backend))

    def widen(self, path: str, backend: str) -> int:
        return sum(one.astype(np.float32).size for one in self._tensors(path, backend))

    def into(self, path: str, backend: str) -> Callable[[], int]:
        kept = list(self._tensors(path, backend))
        return lambda: total(kept)

    def names(self, path: str) -> int:
        with self.safe_open(path, "np") as file:
            return len(file.keys())

    def prepare_load_file(self, path: str) -> None:
        forget_memory()

    def load_file(self, path: str) -> Callable[[], int]:
        from safetensors.numpy import load_file

        kept = load_file(path)
        return lambda: total(kept.values())

    def prepare_see(self, path: str) -> None:
        forget_memory()

    def see(self, path: str) -> int:
        from safetensors.numpy import load_file

        return total(load_file(path).values())

    def prepare_pieces(self, path: str, size: int, count: int) -> None:
        if not hasattr(self, "_pieces"):
            self._pieces = pieces(path, size, count)
            self._file = self.safe_open(path, "np")
            self._slice = self._file.get_slice(self._pieces[0][0])
            self.pieces(path, size, count)

    def pieces(self, path: str, size: int, count: int) -> Callable[[], int]:
        for _, first, stop in self._pieces:
            out = self._slice[first:stop]
        return lambda: total([out])


class Torch:
    """torch.load(mmap=True) of the same tensors in a .pt file."""

    distribution = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def _load(self, path: str) -> Any:
        return self.torch.load(path, mmap=True, weights_only=True)

    def consume(self, path: str) -> int:
        return torch_total(self._load(path).values())

    def loop(self, path: str) -> int:
        return total(torch_words(one) for one in self._load(path).values())

    def widen(self, path: str) -> int:
        return sum(one.float().numel() for one in self._load(path).values())

    def prepare_load_file(self, path: str, clone: bool) -> None:
        forget_memory()

    def load_file(self, path: str, clone: bool) -> Callable[[], int]:
        """Of safetensors, which maps the file; cloned, its tensors are in memory."""
        from safetensors.torch import load_file

        kept = load_file(path)
        if clone:
            for name in kept:
                kept[name] = kept[name].clone()
        return lambda: torch_total(kept.values())

    def prepare_see(self, path: str) -> None:
        forget_memory()

    def see(self, path: str) -> int:
        from safetensors.torch import load_file

        return total(torch_words(one) for one in load_file(path).values())

    def make(self, path: str, source: str) -> None:
        """Write the .pt twin of a safetensors file."""
        from safetensors import safe_open

        with safe_open(source, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
        self.torch.save(tensors, path)


class Runai:
    distribution = "runai-model-streamer"

    def __init__(self) -> None:
        import runai_model_streamer

        self.streamer = runai_model_streamer.SafetensorsStreamer

    def _tensors(self, path: str, threads: int, limit: str) -> Iterator[Any]:
        """limit: bytes of memory it may take; "-1" any, "0" as little as it can."""
        os.environ["RUNAI_STREAMER_CONCURRENCY"] = str(threads)
        os.environ["RUNAI_STREAMER_MEMORY_LIMIT"] = limit
        with self.streamer() as streamer:
            streamer.stream_file(path)
            for _, tensor in streamer.get_tensors():
                yield tensor

    def consume(self, path: str, threads: int, limit: str) -> int:
        return torch_total(self._tensors(path, threads, limit))

    def loop(self, path: str, threads: int, limit: str) -> int:
        return total(torch_words(one) for one in self._tensors(path, threads, limit))

    def into(self, path: str, threads: int) -> Callable[[], int]:
        kept = list(self._tensors(path, threads, "-1"))
        return lambda: torch_total(kept)


class Fastsafetensors:
    """Without GPUDirect, on the CPU; its own thread count."""

    distribution = "fastsafetensors"

    def __init__(self) -> None:
        import fastsafetensors

        self.open = fastsafetensors.fastsafe_open

    def _tensors(self, path: str) -> Iterator[Any]:
        with self.open(path, nogds=True, device="cpu") as file:
            for name in file.keys():  # noqa: SIM118  it is no mapping
                yield file.get_tensor(name)

    def consume(self, path: str) -> int:
        return torch_total(self._tensors(path))

    def loop(self, path: str) -> int:
        return total(torch_words(one) for one in self._tensors(path))


class Gguf:
    """The gguf package on the same tensors in a GGUF file."""

    distribution = "gguf"

    def __init__(self) -> None:
        import gguf

        self.gguf = gguf

    def loop(self, path: str) -> int:
        return total(one.data for one in self.gguf.GGUFReader(path).tensors)

    def decode(self, kind: str, tile: str, count: int, times: int) -> Callable[[], int]:
        data = read_tile(tile)
        which = self.gguf.GGMLQuantizationType[kind]
        for _ in range(times):
            out = self.gguf.quants.dequantize(data, which)
        return lambda: digest(np.ascontiguousarray(out, np.float32))

    def make(self, path: str, source: str) -> None:
        """Write the GGUF twin of a safetensors file."""
        entries, _ = header(source)
        writer = self.gguf.GGUFWriter(path, "llama")
        for (name, entry), array in zip(entries.items(), mapped_tensors(source), strict=True):
            writer.add_tensor(
                name,
                array.view(np.uint8).reshape(*entry["shape"][:-1], -1),
                raw_dtype=self.gguf.GGMLQuantizationType.BF16,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


class Numpy:
    """NumPy and the standard library, nothing else."""

    distribution = "numpy"

    def __init__(self) -> None:
        self._kept: Array | None = None

    def memmap(self, path: str, threads: int = 1) -> int:
        if threads == 1:
            return total(mapped_tensors(path))
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda one: total([one]), mapped_tensors(path))) & MASK

    def fromfile(self, path: str) -> Callable[[], int]:
        _, data = header(path)
        kept = np.fromfile(path, np.uint64, offset=data)
        return lambda: total([kept])

    def prepare_fromfile(self, path: str) -> None:
        forget_memory()

    def prepare_readinto(self, path: str) -> None:
        if self._kept is None:
            _, data = header(path)
            self._kept = np.empty(os.path.getsize(path) - data, np.uint8)
            self._kept.fill(1)

    def readinto(self, path: str) -> Callable[[], int]:
        kept = self._kept
        assert kept is not None
        _, data = header(path)
        view, have = memoryview(kept), 0
        with open(path, "rb", buffering=0) as file:
            file.seek(data)
            while have < len(view):
                have += file.readinto(view[have:])
        return lambda: total([kept])

    def crc32(self, path: str) -> int:
        found = 0
        for one in mapped_tensors(path):
            found ^= zlib.crc32(one)
        return found

    def widen(self, path: str) -> int:
        """By the shift that bfloat16 is, into an array that is used again."""
        count = 0
        room = np.empty(max(one.size for one in mapped_tensors(path)), np.uint32)
        for one in mapped_tensors(path):
            wide = room[: one.size]
            np.copyto(wide, one)
            np.left_shift(wide, 16, out=wide)
            count += wide.view(np.float32).size
        return count

    def names(self, path: str) -> int:
        entries, _ = header(path)
        return len(entries)


class Xxhash:
    distribution = "xxhash"

    def __init__(self) -> None:
        import xxhash

        self.hash = xxhash.xxh3_64_intdigest

    def xxh3(self, path: str) -> int:
        found = 0
        for one in mapped_tensors(path):
            found ^= self.hash(one)
        return found


class Raw:
    """The ceilings: see native.py."""

    distribution = "numpy"

    def __init__(self) -> None:
        import native

        self._native = native
        self._ceilings = native.Ceilings()

    def memcpy(self, size: int, threads: int) -> None:
        self._ceilings.copy(size, threads)

    def prepare_pieces(self, path: str, size: int, count: int) -> None:
        """Where they are in the file."""
        entries, data = header(path)
        places = pieces(path, size, count)
        begin, end = entries[places[0][0]]["data_offsets"]
        row = (end - begin) // entries[places[0][0]]["shape"][0]
        self._places = [data + begin + first * row for _, first, _ in places]

    def pieces(self, path: str, size: int, count: int) -> Callable[[], int]:
        out = np.empty(size // 2, np.uint16)
        view = [memoryview(out.view(np.uint8))]
        handle = os.open(path, os.O_RDONLY)
        try:
            for place in self._places:
                os.preadv(handle, view, place)
        finally:
            os.close(handle)
        return lambda: total([out])

    def ring(
        self, path: str, work: str, threads: int, chunk: int, direct: bool = False
    ) -> int | None:
        begin = 0 if direct else header(path)[1]
        seen = self._ceilings.read(
            path,
            threads=threads,
            chunk=chunk,
            work=getattr(self._native, work.upper()),
            direct=direct,
            begin=begin,
        )
        return seen if work == "sum" else None


# -- the worker --------------------------------------------------------------------------

PEERS: dict[str, Callable[[], Any]] = {
    one.__name__.lower(): one
    for one in (
        Tensorstream, Kernels, Safetensors, Torch, Runai, Fastsafetensors, Gguf, Ggml,
        Numpy, Xxhash, Raw,
    )
}  # fmt: skip


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes; mapped files are in them."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak() -> None:
    """Let VmHWM start again from what is resident now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def perform(peer: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order; what a method returns a function for is not timed."""
    call, arguments = getattr(peer, order["call"]), order["arguments"]
    prepare = getattr(peer, f"prepare_{order['call']}", None)
    if prepare is not None:
        prepare(**arguments)
    gc.collect()
    forget_peak()
    before = memory("VmRSS")
    began = time.perf_counter()
    value = call(**arguments)
    seconds = time.perf_counter() - began
    extra = memory("VmHWM") - before
    return {"seconds": seconds, "extra": extra, "value": value() if callable(value) else value}


def version(peer: Any) -> str:
    try:
        return importlib.metadata.version(peer.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def serve(name: str) -> None:
    """Answer orders until the input ends."""
    # Libraries print where they like; answers go where they cannot.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(said: dict[str, Any]) -> None:
        print(json.dumps(said), file=answers, flush=True)

    try:
        peer = PEERS[name]()
    except Exception as error:
        answer({"failed": f"{type(error).__name__}: {error}"})
        return
    answer({"version": version(peer)})
    for line in sys.stdin:
        try:
            answer(perform(peer, json.loads(line)))
        except Exception as error:
            traceback.print_exc()
            answer({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(sys.argv[1])
