"""Builds tensorstream._core; everything else about the package is in pyproject.toml.

Switches, all environment variables:
  TENSORSTREAM_DEBUG=1                 -O0, assertions, no optimisation
  TENSORSTREAM_SANITIZE=address|thread compile and link with that sanitizer
  TENSORSTREAM_COVERAGE=1              gcov counters
  TENSORSTREAM_WERROR=1                warnings are errors (CI sets it)
"""

from __future__ import annotations

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).parent
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.c"))
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.h"))


def switched(name: str) -> str:
    value = os.environ.get(f"TENSORSTREAM_{name}", "")
    return "" if value == "0" else value


def flags() -> tuple[list[str], list[str]]:
    compile_args = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-Wall",
        "-Wextra",
        "-Wshadow",
        "-Wstrict-prototypes",
        "-Wmissing-prototypes",
        "-Wvla",
        "-fvisibility=hidden",
        # Bits must not depend on whether the compiler fuses a*b+c.
        "-ffp-contract=off",
        "-fno-semantic-interposition",
        "-fstack-protector-strong",
        "-g",
    ]
    link_args = ["-Wl,-z,relro,-z,now"]
    if switched("DEBUG"):
        compile_args += ["-O0", "-UNDEBUG"]
    else:
        compile_args += ["-O3", "-D_FORTIFY_SOURCE=2"]
    if switched("WERROR"):
        compile_args.append("-Werror")
    if sanitizer := switched("SANITIZE"):
        extra = ["-fsanitize=undefined"] if sanitizer == "address" else []
        both = [f"-fsanitize={sanitizer}", *extra, "-fno-omit-frame-pointer"]
        compile_args += [*both, "-O1", "-U_FORTIFY_SOURCE"]
        link_args += both
    if switched("COVERAGE"):
        compile_args += ["--coverage", "-O0", "-U_FORTIFY_SOURCE"]
        link_args.append("--coverage")
    return compile_args, link_args


class BuildExt(build_ext):
    """Compile only what changed, and on every core: setuptools alone recompiles all."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # pip builds in a folder that it throws away; objects here serve the next build.
        self.build_temp = str(ROOT / "build" / "objects" / sys.implementation.cache_tag)

    def build_extension(self, ext: Extension) -> None:
        compile_one = self.compiler.compile
        newest_header = max(pathlib.Path(path).stat().st_mtime for path in [*HEADERS, __file__])

        def fresh(source: str, directory: str, signature: str) -> bool:
            (target,) = self.compiler.object_filenames([source], output_dir=directory)
            written = pathlib.Path(target)
            note = written.with_suffix(".flags")
            if not written.exists() or not note.exists() or note.read_text() != signature:
                return False
            return written.stat().st_mtime > max(
                pathlib.Path(source).stat().st_mtime, newest_header
            )

        def compile_changed(
            sources: list[str], output_dir: str, **options: object
        ) -> list[str]:
            signature = repr(sorted((key, repr(value)) for key, value in options.items()))

            def one(source: str) -> str:
                (target,) = self.compiler.object_filenames([source], output_dir=output_dir)
                if not fresh(source, output_dir, signature):
                    compile_one([source], output_dir=output_dir, **options)
                    pathlib.Path(target).with_suffix(".flags").write_text(signature)
                return target

            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                return list(pool.map(one, sources))

        self.compiler.compile = compile_changed
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = compile_one


compile_args, link_args = flags()

setup(
    ext_modules=[
        Extension(
            "tensorstream._core",
            sources=SOURCES,
            depends=HEADERS,
            include_dirs=["csrc"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            libraries=["z", "zstd", "m", "dl", "pthread"],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
