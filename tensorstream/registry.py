"""What was encoded: one JSON file that tells source, encoder, sizes, digests, rate and time.

The file is rewritten whole and appears whole; processes that record at the same moment wait
for each other.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tensorstream import _core

VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint that was encoded.  Sizes in bytes.

    Attributes:
        source, target: paths, absolute.
        format: of the target.
        encoder: "dtype=F16, quantize=q8_0, compression=fast" as far as they were asked for;
            "copy" when nothing was.
        tensors, parameters: how many.
        bytes_in: of the tensors in the source.
        bytes_out: of the files of the target.
        source_size, source_mtime_ns: of the files of the source, to know it again: their sizes
            together, the time of the youngest.
        digest: SHA-256 of the names of the tensors and the XXH3 of what each became.
        seconds: that it took.
        rate: bytes_in a second.
        time: when it was done, ISO 8601, UTC.
    """

    source: str
    target: str
    format: str
    encoder: str
    tensors: int
    parameters: int
    bytes_in: int
    bytes_out: int
    source_size: int
    source_mtime_ns: int
    digest: str
    seconds: float
    rate: float
    time: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(
            timespec="seconds"
        )
    )

    @property
    def ratio(self) -> float:
        """Bytes of the target over bytes of the tensors."""
        return self.bytes_out / self.bytes_in if self.bytes_in else 1.0


def default_path() -> pathlib.Path:
    """tensorstream/registry.json in $XDG_STATE_HOME, or in ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = pathlib.Path(state) if os.path.isabs(state) else pathlib.Path.home() / ".local/state"
    return base / "tensorstream" / "registry.json"


def digest_of(digests: Mapping[str, str]) -> str:
    """One digest of the digests of tensors, whatever their order."""
    lines = (f"{digest} {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(path: str | os.PathLike[str] | None = None) -> list[Entry]:
    """The entries of a registry, the oldest first; none where there is no file.

    Raises:
        FormatError: the file is no registry, or of a later version.
    """
    place = pathlib.Path(path) if path is not None else default_path()
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        found = json.loads(text)
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']!r} is not {VERSION}")
        return [Entry(**entry) for entry in found["entries"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _core.FormatError(f"{place}: is no registry of ours: {error}") from None


def record(entry: Entry, path: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Add an entry; the path of the registry.

    Raises:
        FormatError: what is there is no registry; it is left alone.
        OSError: it cannot be written; the old one is untouched.
    """
    place = pathlib.Path(path) if path is not None else default_path()
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place):
        entries = [*read(place), entry]
        found: dict[str, Any] = {
            "version": VERSION,
            "entries": [asdict(one) for one in entries],
        }
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        _core.write_file(place, text.encode())
    return place


@contextmanager
def _locked(place: pathlib.Path) -> Iterator[None]:
    """One process at a time, by a lock that ends with the process that holds it."""
    with open(place.with_name(f".{place.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def statistics(entries: list[Entry]) -> dict[str, float]:
    """Totals of a registry: encoded, tensors, parameters, bytes_in, bytes_out, ratio, seconds,
    rate."""
    bytes_in = sum(one.bytes_in for one in entries)
    bytes_out = sum(one.bytes_out for one in entries)
    seconds = sum(one.seconds for one in entries)
    return {
        "encoded": len(entries),
        "tensors": sum(one.tensors for one in entries),
        "parameters": sum(one.parameters for one in entries),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "ratio": bytes_out / bytes_in if bytes_in else 1.0,
        "seconds": seconds,
        "rate": bytes_in / seconds if seconds > 0 else 0.0,
    }
