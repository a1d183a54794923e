"""Install the requirements of one of pyproject.toml's extras into this environment.

usage: install_extra.py NAME [PIP OPTION ...]

`pip install -e .[name]` would build the package again; this installs only what the
extra lists.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).parent.parent


def main(name: str, *options: str) -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["optional-dependencies"][name]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    return subprocess.run([*command, *options, *needed], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
