#!/bin/sh
# Install the Debian packages that are missing.  usage: system_packages.sh PYTHON [lint|fuzz|browser]
#
# Looks for the things themselves first, so that a machine which has them in
# another way is left alone; asks for root only when something must be
# installed.
set -eu
python=${1:-python3}
what=${2:-base}
missing=

need() { # need PACKAGE COMMAND...: the package unless the command succeeds
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

header() { # does the compiler find this header?
    printf '#include <%s>\nint main(void) { return 0; }\n' "$1" | cc -fsyntax-only -x c -
}

python_headers() {
    "$python" -c 'import os, sysconfig; raise SystemExit(not os.path.exists(
        os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

case $what in
base)
    need python3 command -v "$python"
    need python3-dev python_headers
    need python3-venv "$python" -c 'import venv, ensurepip'
    need gcc command -v cc
    need gcc command -v gcc
    need libc6-dev header stdio.h
    need make command -v make
    need zlib1g-dev header zlib.h
    need libzstd-dev header zstd.h
    need libxxhash-dev header xxhash.h
    need libnuma1 "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")'
    ;;
lint)
    need clang-tidy command -v clang-tidy
    need cppcheck command -v cppcheck
    ;;
browser)
    need chromium sh -c 'command -v chromium || command -v chromium-browser ||
        command -v google-chrome'
    ;;
fuzz)
    need clang command -v clang
    need libclang-rt-14-dev sh -c 'ls /usr/lib/llvm-*/lib/clang/*/lib/linux/*fuzzer*'
    ;;
esac

[ -z "$missing" ] && exit 0
echo "installing:$missing"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
else
    echo "these Debian packages are needed; run as root:  apt-get install$missing" >&2
    exit 1
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
