#!/bin/sh
# Make .venv with the requirements and the package in it:  sh tools/make_venv.sh [PYTHON]
# Without PYTHON, an existing .venv keeps its Python, and a new one uses the newest on the PATH that is supported and
# complete. With WHEELHOUSE=folder in the environment, no network is needed.
#   --describe PYTHON   prints its version, and its kind if that is unusual
#   --newest            prints the Python that a new .venv would use
#   --changed           prints what .venv has lost since set-up; nothing if it is complete
set -eu
cd "$(dirname "$0")/.."
pythons='python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python3 python'

# Prints nothing if PYTHON does not exist or does not run (a pyenv shim may exist and fail). Works from Python 2.7 on.
describe() {
    "$1" -c 'import platform, struct, sysconfig
kind, bits = platform.python_implementation(), struct.calcsize("P") * 8
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
words = kind * (kind != "CPython"), platform.python_version(), "free-threaded" * free_threaded, "32-bit" * (bits == 32)
print(" ".join(word for word in words if word))' 2>/dev/null || true
}

# Debian has the module that installs pip in a separate package; pyenv omits modules whose libraries it does not find.
missing_modules() {
    "$1" -c 'for name in "ensurepip", "venv", "ctypes", "ssl", "zlib", "sqlite3", "bz2", "lzma":
    try: __import__(name)
    except ImportError: print(name)' 2>/dev/null || true
}

# Set-up records each installed package by its metadata folder, whose name contains the version.
changed() {
    .venv/bin/python -c '' 2>/dev/null || { echo 'a Python that runs'; return; }
    for folder in $(cat .venv/packages 2>/dev/null); do
        [ -e .venv/lib/python*/site-packages/"$folder" ] || echo "${folder%.dist-info}"
    done
}

# Sets python to the newest usable one of these; sets incomplete and foreign to the first that is almost usable. If a
# wheelhouse supports none of them, python is the first, so that the wheelhouse can say why it refuses.
choose() {
    python='' newest=0 incomplete='' foreign='' unlisted=''
    for candidate; do
        "$candidate" -m gluon_bn.doctor python >/dev/null 2>&1 || continue
        if ! "$candidate" -m gluon_bn.doctor platform >/dev/null 2>&1; then
            foreign=${foreign:-$candidate}
        elif [ -n "${WHEELHOUSE:-}" ] && ! "$candidate" tools/wheelhouse.py --has "$WHEELHOUSE"; then
            unlisted=${unlisted:-$candidate}
        elif [ -n "$(missing_modules "$candidate")" ]; then
            incomplete=${incomplete:-$candidate}
        else
            minor=$("$candidate" -c 'import sys; print(sys.version_info[1])')
            if [ "$minor" -gt "$newest" ]; then python=$candidate newest=$minor; fi
        fi
    done
    if [ -z "$python$incomplete" ]; then python=$unlisted; fi
}

case "${1:-}" in
--describe) describe "$2"; exit ;;
--newest) choose $pythons; echo "$python"; exit ;;
--changed) changed; exit ;;
esac

if [ -n "${1:-}" ]; then choose "$1"
elif behind=$(.venv/bin/python -c 'import os, sys
print(os.path.realpath(sys.executable))' 2>/dev/null); then
    choose "$behind" # not .venv/bin/python: up to 3.10, venv would link it to itself
    if [ -z "$python$incomplete$foreign" ]; then choose $pythons; fi
else choose $pythons
fi

if [ -z "$python" ] && [ -n "$incomplete" ]; then
    minor=$("$incomplete" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cat >&2 <<END
$incomplete ($(describe "$incomplete")) is incomplete: it lacks $(echo $(missing_modules "$incomplete"))
On Debian and Ubuntu:  sudo apt-get install python$minor-venv   then repeat the make command.
END
    exit 1
fi

# On Windows, Apple silicon and 32 bits, the doctor gives the reason; pip would only say "no matching distribution".
if [ -z "$python" ] && [ -n "$foreign" ]; then
    "$foreign" -m gluon_bn.doctor platform >&2
    exit 1
fi

if [ -z "$python" ] && [ -n "${1:-}" ]; then
    choose $pythons
    if [ -n "$python" ]; then
        version=$(describe "$1")
        command -v "$1" >/dev/null 2>&1 || version='not found'
        cat >&2 <<END
$1 (${version:-does not run}) was requested, but this package needs CPython 3.8 to 3.14, not free-threaded.
$python ($(describe "$python")) is available: omit PYTHON to use it.
END
        exit 1
    fi
fi

if [ -z "$python" ]; then
    if [ -n "${1:-}" ]; then set -- "$1"; else set -- python3.15 $pythons python3.7 python3.6 pypy3; fi
    found=''
    for candidate; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        version=$(describe "$candidate")
        found="$found${found:+, }$candidate (${version:-does not run})"
    done
    if [ $# -gt 1 ]; then none='no Python'; else none=$1; fi
    cat >&2 <<END
No suitable Python was found. This package needs CPython 3.8 to 3.14, not free-threaded.
Found: ${found:-$none (not found)}.
Why:   d2l 1.0.3 needs Python 3.8; versions after 3.14, PyPy and free-threaded builds are not tested.
To do: sudo apt-get install python3.11-venv (Debian 12) or python3-venv (later), uv python install 3.13, pyenv install
       3.13 or conda create -n py313 python=3.13. Then repeat the make command, with PYTHON=/path/to/python if needed.
END
    exit 1
fi

# MXNet's wheel for aarch64 is linked against Arm's own libraries, which Debian does not have. LAPACKE, its BLAS and the
# C library provide every function that it uses from them. It looks in its own folder first: see the links below.
library() { /sbin/ldconfig -p | sed -n "s|.* => \(.*/$1\)\$|\1|p" | head -n 1; }
arm='' lapacke=''
if [ "$(uname -sm)" = 'Linux aarch64' ]; then
    arm=yes lapacke=$(library liblapacke.so.3)
    if [ -z "$lapacke" ]; then
        cat >&2 <<END
MXNet on aarch64 needs LAPACKE and OpenBLAS, and liblapacke.so.3 is missing.
On Debian and Ubuntu:  sudo apt-get install liblapacke libopenblas0-pthread   then repeat the make command.
END
        exit 1
    fi
fi

offline=''
if [ -n "${WHEELHOUSE:-}" ]; then # a folder that replaces the network: see tools/wheelhouse.py
    offline="--no-index --find-links $("$python" tools/wheelhouse.py --check "$WHEELHOUSE")"
fi

version=$(describe "$python")
if [ "$(cat .venv/ready 2>/dev/null)" != "$version" ] || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    echo "Making .venv with $python ($version). This takes a minute or two." >&2
    # in a container, .venv may be a volume, which can be emptied but not removed
    "$python" -m venv --clear .venv || { "$python" -S -m gluon_bn.doctor setup >&2; exit 1; } # -S: without packages
else
    lost=$(echo $(changed))
    echo "Bringing .venv ($version) up to date.${lost:+ Removed or replaced since set-up: $lost}" >&2
fi
rm -f .venv/ready
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
# MXNet 1.9.1 and d2l 1.0.3 pin versions that do not run on 3.12 and later. There the pins are overridden, and an import
# hook adds the names to NumPy that MXNet needs.
what='-r requirements.txt -r requirements/test.txt' hook=''
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    what='--no-deps -r requirements/locked-3.12.txt' hook=tools/mxnet.pth
fi
if ! pip install -qq $offline $what; then
    cat >&2 <<END
pip could not install the requirements. Check the network, pip's index, and that 1 GB of disk space is free.
For details:  .venv/bin/python -m pip install $what
END
    exit 1
fi
pip install -qq --no-deps --no-build-isolation -e .
if [ -n "$arm" ]; then
    (cd .venv/lib/python*/site-packages/mxnet && ln -sf "$lapacke" libarmpl_lp64_mp.so &&
        ln -sf "$(library libm.so.6)" libamath.so && ln -sf "$(library libm.so.6)" libastring.so)
fi
if [ -z "$hook" ]; then
    pip check
else
    cp "$hook" "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    complaints=$(pip check) || true # each starts with its package; the pins of MXNet and d2l are overridden
    if printf '%s\n' "$complaints" | grep ' has requirement \| requires ' | grep -v '^mxnet \|^d2l ' >&2; then exit 1; fi
fi
if [ -n "$offline" ]; then # gluon_bn.data looks here, for every user
    mkdir -p .venv/share/datasets
    cp -R "$WHEELHOUSE/fashion-mnist" .venv/share/datasets/
fi
(cd .venv/lib/python*/site-packages && echo *.dist-info) >.venv/packages
echo "$version" >.venv/ready
