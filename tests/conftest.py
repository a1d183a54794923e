"""What all tests share: where real files lie, and which oracles must be there."""

from __future__ import annotations

import importlib
import os
import pathlib
import signal
import types

import pytest
from hypothesis import settings

ROOT = pathlib.Path(__file__).parent.parent

# What a shell runs in the background ignores Ctrl-C, and so would the programs tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure: no test is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def shared_folder() -> pathlib.Path | None:
    """Real files that are not part of the repository: $TENSORSTREAM_SHARED or ../shared."""
    for place in (os.environ.get("TENSORSTREAM_SHARED"), ROOT.parent / "shared"):
        if place and (pathlib.Path(place) / "data").is_dir():
            return pathlib.Path(place)
    return None


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real inputs made by others; tests that need it skip without."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("the folder of real inputs is not here (set TENSORSTREAM_SHARED)")
    return folder / "data"


def oracle(name: str) -> types.ModuleType:
    """An independent implementation to compare with; its test skips without it.

    With TENSORSTREAM_REQUIRE_ORACLES=1 (CI) a missing one is a failure.
    """
    if os.environ.get("TENSORSTREAM_REQUIRE_ORACLES") == "1":
        return importlib.import_module(name)
    module: types.ModuleType = pytest.importorskip(name)
    return module
