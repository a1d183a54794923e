"""The package as a whole: one exported symbol, true stubs, the stable ABI, versions."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import shutil
import subprocess
import sys
import types
from typing import Any

import pytest

import tensorstream as ts
from tensorstream import _core

ROOT = pathlib.Path(__file__).parent.parent
BINARY = pathlib.Path(_core.__file__)
STUB = ROOT / "tensorstream" / "_core.pyi"


def test_one_symbol_is_exported() -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(BINARY)], capture_output=True, text=True, check=True
    )
    symbols = {line.split()[-1] for line in done.stdout.splitlines()}
    allowed = {"_init", "_fini"}
    assert {name for name in symbols if not re.match(r"_?_?(gcov|asan|ubsan)", name)} <= {
        "PyInit__core", *allowed
    }  # fmt: skip
    assert "PyInit__core" in symbols


def test_the_binary_is_of_the_stable_abi() -> None:
    assert ".abi3." in BINARY.name


def stub_names() -> dict[str, ast.stmt]:
    names: dict[str, ast.stmt] = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] = node
    return {name: node for name, node in names.items() if not name.startswith("_")}


def test_stubs_and_module_name_the_same_things() -> None:
    module = {name for name in dir(_core) if not name.startswith("_")}
    assert set(stub_names()) == module


@pytest.mark.parametrize(
    "name", [n for n, node in stub_names().items() if isinstance(node, ast.ClassDef)]
)
def test_stubs_of_classes_have_their_members(name: str) -> None:
    node: Any = stub_names()[name]
    if issubclass(getattr(_core, name), BaseException):
        return
    in_stub = {one.name for one in node.body if isinstance(one, ast.FunctionDef)} - {
        "__iter__",
        "__next__",
        "__new__",
        "__len__",
        "__buffer__",
    }
    in_type = {one for one in vars(getattr(_core, name)) if not one.startswith("_")}
    assert in_stub == in_type


def test_stubs_of_functions_have_their_parameters() -> None:
    for name, node in stub_names().items():
        if not isinstance(node, ast.FunctionDef):
            continue
        function = getattr(_core, name)
        signature = inspect.signature(function)
        assert list(signature.parameters) == [
            one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        ], name
        assert function.__doc__, f"{name} has no docstring"


def test_public_names_are_documented_and_listed() -> None:
    for name in ts.__all__:
        thing = getattr(ts, name)
        if isinstance(thing, (type, types.FunctionType)):
            assert thing.__doc__, name
    assert sorted(ts.__all__) == list(ts.__all__)


def test_the_version_is_the_changelogs() -> None:
    heading = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heading is not None and heading.group(1) == ts.__version__


def test_errors_are_also_of_builtin_kinds() -> None:
    assert issubclass(ts.FormatError, ValueError)
    assert issubclass(ts.BudgetError, MemoryError)
    assert issubclass(ts.ChangedError, OSError)
    assert issubclass(ts.UnsupportedError, NotImplementedError)
    assert issubclass(ts.CorruptionError, ts.FormatError)
    for name in ("FormatError", "BudgetError", "ChangedError", "UnsupportedError"):
        assert issubclass(getattr(ts, name), ts.Error)


def test_a_second_import_of_the_module_is_isolated() -> None:
    script = (
        "import sys, importlib, tensorstream._core as one\n"
        "del sys.modules['tensorstream._core']\n"
        "two = importlib.import_module('tensorstream._core')\n"
        "assert one is not two and one.Error is not two.Error\n"
        "assert bytes(two.convert(b'\\x80\\x3f', 'BF16', 'F32', 1)) == b'\\0\\0\\x80\\x3f'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
