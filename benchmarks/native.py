"""Compiles the C files beside it, where they run, and calls them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).parent
CSRC = HERE.parent / "csrc"
BUILD = HERE.parent / "build" / "bench"

_SHARED = ["-std=gnu11", "-D_GNU_SOURCE", "-O3", "-fPIC", "-shared", "-fvisibility=hidden"]

# Loops that gcc may make as fast as it can on this machine.
_CEILINGS = [*_SHARED, "-march=native", "-pthread"]
# As setup.py compiles the extension.
_KERNELS = [*_SHARED, "-ffp-contract=off", "-fno-semantic-interposition", f"-I{CSRC}"]

_LIBRARIES = ["-lm", "-lz", "-lzstd", "-lpthread", "-ldl"]

READ, SUM, WIDEN, PLACE = range(4)  # what is done with a chunk; as in ceilings.c


def compiled(name: str, flags: list[str], sources: list[pathlib.Path]) -> ctypes.CDLL:
    """The library of these sources, compiled unless it is newer than all of them."""
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / f"{name}.so"
    inputs = [*sources, pathlib.Path(__file__), *CSRC.rglob("*.h")]
    with open(BUILD / f"{name}.lock", "w") as lock:  # workers start side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(one.stat().st_mtime for one in inputs)
        if not library.exists() or library.stat().st_mtime < newest:
            partial = library.with_suffix(".partial")
            command = [os.environ.get("CC", "gcc"), *flags, *map(str, sources)]
            subprocess.run([*command, "-o", str(partial), *_LIBRARIES], check=True)
            os.replace(partial, library)
    return ctypes.CDLL(str(library))


class Ceilings:
    """What the machine does with nothing in the way; see ceilings.c."""

    def __init__(self) -> None:
        self._library = compiled("ceilings", _CEILINGS, [HERE / "ceilings.c"])
        self._library.cached_bytes.restype = ctypes.c_int64

    def read(
        self,
        path: str,
        *,
        threads: int,
        chunk: int,
        work: int = READ,
        direct: bool = False,
        begin: int = 0,
    ) -> int:
        """Read a file from `begin` on; returns the sum of its words under SUM."""
        total = ctypes.c_uint64()
        failed = self._library.read_file(
            os.fsencode(path),
            ctypes.c_int(threads),
            ctypes.c_size_t(chunk),
            ctypes.c_int(work),
            ctypes.c_int(direct),
            ctypes.c_uint64(begin),
            ctypes.byref(total),
        )
        if failed:
            raise OSError(failed, os.strerror(failed), path)
        return total.value

    def copy(self, size: int, threads: int) -> None:
        """memcpy of `size` bytes between two places of memory."""
        failed = self._library.copy_memory(ctypes.c_size_t(size), ctypes.c_int(threads))
        if failed:
            raise OSError(failed, os.strerror(failed))

    def cached(self, path: str | os.PathLike[str]) -> int:
        """Bytes of a file that the page cache holds."""
        found: int = self._library.cached_bytes(os.fsencode(path))
        if found < 0:
            raise OSError(f"the system does not tell what it caches of {path}")
        return found


def kernels() -> ctypes.CDLL:
    """Our conversions without the package around them; see kernels.c."""
    sources = [HERE / "kernels.c", *sorted((CSRC / "quant").glob("*.c"))]
    sources += [CSRC / "core" / f"{name}.c" for name in ("cpu", "dtype", "status")]
    return compiled("kernels", _KERNELS, sources)


def tiles(name: str = "") -> ctypes.CDLL:
    """Our codec without the package around it; see tiles.c.  One library for each name."""
    sources = [HERE / "tiles.c", *sorted((CSRC / "codec").glob("*.c"))]
    names = ("buffer", "cpu", "dtype", "large", "status", "utf8")
    sources += [CSRC / "core" / f"{name}.c" for name in names]
    library = compiled(f"tiles{name}", _KERNELS, sources)
    library.packed_room.restype = ctypes.c_uint64
    return library


def drop_cache(path: str | os.PathLike[str]) -> None:
    """Take a file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # dirty pages cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
