"""The C extension.  Names here are private: the package's own names wrap them."""

from collections.abc import Callable
from typing import Any, TypedDict, final

# Anything with the buffer protocol; NumPy's stubs do not say that arrays have it.
_Bytes = Any

simd: str
cpu_count: int
dtypes: tuple[str, ...]

class Error(Exception):
    filename: str | None
    tensor: str | None
    offset: int | None

class FormatError(Error, ValueError): ...
class CorruptionError(FormatError): ...
class ChangedError(Error, OSError): ...
class BudgetError(Error, MemoryError): ...
class UnsupportedError(Error, NotImplementedError): ...
class CancelledError(Error): ...

@final
class Buffer:
    @property
    def origin(self) -> str: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class _File(TypedDict):
    path: str
    size: int
    device: int
    inode: int
    mtime_ns: int
    memory: bool

@final
class Catalog:
    @property
    def format(self) -> str: ...
    @property
    def memory(self) -> int: ...
    def __len__(self) -> int: ...
    def name(self, row: int, /) -> str: ...
    def names(self) -> list[str]: ...
    def find(self, name: str, /) -> int | None: ...
    def tensor(
        self, row: int, /
    ) -> tuple[
        str, str, tuple[int, ...], int, int, int, int, tuple[int, ...] | None, str, int, int
    ]: ...
    def role(self, row: int, /) -> tuple[str, tuple[str, ...], int, int, str]: ...
    def files(self) -> list[_File]: ...
    def metadata(self) -> dict[str, Any]: ...
    def totals(self) -> tuple[int, int]: ...
    def order(self, rows: _Bytes, how: str, /) -> None: ...
    def check(self) -> None: ...
    def drop_cache(self) -> None: ...
    def cached(self) -> int | None: ...
    def members(self) -> Catalog: ...
    def crc32(self, row: int, /) -> int | None: ...
    def frame(self, row: int, /) -> tuple[int, int, int, str | None, bool] | None: ...
    def damage(self, row: int, /) -> list[tuple[int | None, int, int, str]]: ...

@final
class Chunk:
    @property
    def name(self) -> str: ...
    @property
    def array(self) -> Any: ...
    @property
    def buffer(self) -> Buffer | None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def source_dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def tensor_shape(self) -> tuple[int, ...]: ...
    @property
    def layer(self) -> int | None: ...
    @property
    def expert(self) -> int | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def marks(self) -> tuple[str, ...]: ...
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def is_first(self) -> bool: ...
    @property
    def is_last(self) -> bool: ...
    @property
    def row(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def source_nbytes(self) -> int: ...
    @property
    def is_encoded(self) -> bool: ...

class _Progress(TypedDict):
    bytes: int
    bytes_total: int
    elements: int
    elements_total: int
    tensors: int
    tensors_total: int
    chunks: int
    chunk_size: int
    depth: int
    chunk_changes: int
    memory_used: int
    memory_peak: int
    budget: int
    starved: int
    seconds: float
    read_calls: int
    engines: dict[str, tuple[int, int]]

class _Forecast(TypedDict):
    file_bytes: int
    delivered_bytes: int
    elements: int
    chunks: int
    chunk_size: int
    peak_bytes: int
    threads: int

class _Statistics(TypedDict):
    count: int
    nan_count: int
    inf_count: int
    min: float
    max: float
    mean: float
    absmax: float

class _Role(TypedDict):
    kind: str
    marks: tuple[str, ...]
    phase: str
    layer: int | None
    expert: int | None
    stack: str

@final
class Stream:
    def __iter__(self) -> Stream: ...
    def __next__(self) -> Chunk: ...
    def wait(self, tick: Callable[[], object] | None = ..., /) -> None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...
    def progress(self) -> _Progress: ...
    def position(self) -> tuple[int, int]: ...
    def outcome(self, item: int, /) -> tuple[_Statistics, int, int]: ...

memory_fields: tuple[str, ...]

@final
class Picker:
    def read(
        self,
        row: int,
        start: int,
        stop: int,
        form: str,
        dtype: str | None,
        into: _Bytes,
        /,
    ) -> None: ...

def picker(catalog: Catalog, trust: bool, /) -> Picker: ...

@final
class Sampler:
    def __new__(cls, interval: float, pss: bool = False, history: int = 4096) -> Sampler: ...
    def stop(self) -> None: ...
    def threshold(self, size: int, /) -> int: ...
    def next_event(self, timeout_ms: int, /) -> tuple[int, tuple[int | None, ...]] | None: ...
    def read(self) -> tuple[tuple[int | None, ...], tuple[int | None, ...], int]: ...
    def history(self) -> bytes: ...

@final
class Writer:
    def __new__(
        cls,
        path: Any,
        format: str,
        *,
        digests: bool = False,
        compression: str | None = None,
        threads: int = 0,
        budget: int = 0,
    ) -> Writer: ...
    @property
    def size(self) -> int: ...
    def value(self, key: str, kind: str, width: int, content: Any, count: int, /) -> None: ...
    def copy_values(self, catalog: Catalog, besides: tuple[str, ...], /) -> None: ...
    def expect(self, name: str, dtype: str, shape: tuple[int | None, ...], /) -> None: ...
    def begin(self, name: str, dtype: str, shape: tuple[int | None, ...], /) -> None: ...
    def write(self, data: _Bytes, /) -> None: ...
    def repeat(self, name: str, of: str, /) -> None: ...
    def end(self) -> None: ...
    def finish(self) -> None: ...
    def publish(self, name: Any = None, /) -> None: ...
    def close(self) -> None: ...
    def rows(self) -> list[tuple[str, str, int, int, int, bool]]: ...

def write_file(path: Any, data: _Bytes, /) -> None: ...
def memory_sample(*, pss: bool = False) -> tuple[int | None, ...]: ...
def open_catalog(
    path: Any, /, *, base: Catalog | None = None, as_stored: bool = False, lenient: bool = False
) -> Catalog: ...
def memory_catalog(rows: list[tuple[Any, ...]], /) -> Catalog: ...
def set_array_maker(function: Callable[..., Any], /) -> None: ...
def stream(
    catalog: Catalog,
    wanted: list[Any],
    *,
    sink: str,
    form: str,
    dtype: str | None,
    budget: int,
    threads: int,
    engine: str,
    chunk_size: int,
    stats: bool,
    checksum: str,
    trust: bool,
    encoding: tuple[str, int, bool] | None,
) -> Stream: ...
def forecast(
    catalog: Catalog,
    wanted: list[Any],
    *,
    sink: str,
    form: str,
    dtype: str | None,
    budget: int,
    threads: int,
    engine: str,
    chunk_size: int,
    stats: bool,
    checksum: str,
    trust: bool,
    encoding: tuple[str, int, bool] | None,
) -> _Forecast: ...
def convert(data: _Bytes, source: str, target: str, count: int, /) -> Buffer: ...
def unpack(data: _Bytes, dtype: str, count: int, /) -> Buffer: ...
def statistics(data: _Bytes, dtype: str, count: int, /) -> _Statistics: ...
def classic_size(size: int, pressure: float, least: int, most: int, /) -> int: ...
def resident() -> tuple[int, int]: ...
def role(name: str, /) -> _Role: ...

# Dicts of the fields that csrc/estimate/estimate.h lists.
_Numbers = dict[str, Any]

def estimate(model: _Numbers, run: _Numbers, profile: _Numbers, stage: int, /) -> _Numbers: ...
def estimate_grid(
    model: _Numbers,
    run: _Numbers,
    profile: _Numbers,
    counter: int,
    axes: list[tuple[str, list[int | str]]],
    /,
) -> Buffer: ...
def model_parameters(model: _Numbers, run: _Numbers, /) -> tuple[int, int]: ...
def kv_bytes(model: _Numbers, run: _Numbers, profile: _Numbers, tokens: int, /) -> int: ...
def saved_tensors(
    model: _Numbers, run: _Numbers, stack: int, layer: int, grad: bool, /
) -> list[tuple[int, int, str]]: ...
def estimate_fields() -> _Numbers: ...
def quantize(
    scheme: str,
    dtype: str,
    columns: int,
    group: int | str,
    has_zero: bool,
    first_row: int,
    rows: int,
    floats: _Bytes,
    codes: _Bytes,
    scales: _Bytes,
    zeros: _Bytes,
    /,
) -> None: ...
def dequantize(
    scheme: str,
    dtype: str,
    columns: int,
    group: int | str,
    has_zero: bool,
    first_row: int,
    rows: int,
    floats: _Bytes,
    codes: _Bytes,
    scales: _Bytes,
    zeros: _Bytes,
    /,
) -> None: ...
def deviation(
    scheme: str,
    dtype: str,
    columns: int,
    group: int | str,
    has_zero: bool,
    first_row: int,
    rows: int,
    floats: _Bytes,
    codes: _Bytes,
    scales: _Bytes,
    zeros: _Bytes,
    /,
) -> tuple[float, float, float, float, float]: ...
def quantized_sizes(
    scheme: str, dtype: str, columns: int, group: int | str, has_zero: bool, rows: int, /
) -> tuple[int, int]: ...
def quantize_scale(
    scheme: str,
    dtype: str,
    columns: int,
    group: int | str,
    has_zero: bool,
    min: float,
    max: float,
    /,
) -> tuple[float, int]: ...
def nested_quantize(scales: _Bytes, codes: _Bytes, nested: _Bytes, /) -> float: ...
def nested_dequantize(
    scales: _Bytes, codes: _Bytes, nested: _Bytes, mean: float, /
) -> None: ...
def scheme_names() -> tuple[str, ...]: ...
def compress(
    data: _Bytes,
    dtype: str,
    shape: tuple[int, ...],
    mode: str,
    chunk: int,
    threads: int,
    base: _Bytes | None,
    name: str,
    /,
) -> Buffer: ...
def frame_facts(
    frame: _Bytes, /
) -> tuple[str, tuple[int, ...], str, str, int, int, int, int, int, str | None]: ...
def decompress(
    frame: _Bytes, out: _Bytes, base: _Bytes | None, threads: int, verify: bool, /
) -> None: ...
def dtype_block(dtype: str, /) -> tuple[int, int]: ...
