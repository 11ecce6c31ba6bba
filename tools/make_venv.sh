#!/bin/sh
# Make .venv with the requirements and the package in it:  sh tools/make_venv.sh [PYTHON]
# WHEELHOUSE=folder in the environment: without a network. Without PYTHON: the first of python3.11, 3.10, 3.9, 3.8, 3.14, 3.13, 3.12 that exists and runs.
set -eu
cd "$(dirname "$0")/.."

# Print the version of a Python; nothing if it does not exist or does not run (a pyenv shim may exist and still fail).
version_of() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || true; }

supported() { "$1" -m gluon_bn.doctor python >/dev/null 2>&1; }

# On Debian, the part of Python that installs pip into a new environment is a separate package.
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

python='' no_venv='' found=''
pythons='python3.11 python3.10 python3.9 python3.8 python3.14 python3.13 python3.12 python3 python'
for candidate in ${1:-$pythons}; do
    if supported "$candidate"; then
        if has_venv "$candidate"; then python=$candidate; break; fi
        no_venv=${no_venv:-$candidate}
    fi
done

if [ -z "$python" ] && [ -n "$no_venv" ]; then
    minor=$("$no_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cat >&2 <<END
$no_venv ($(version_of "$no_venv")) cannot make a virtual environment: its module ensurepip is missing.
On Debian and Ubuntu:  sudo apt-get install python$minor-venv   then repeat the make command.
END
    exit 1
fi

if [ -z "$python" ] && [ -n "${1:-}" ]; then
    for candidate in $pythons; do
        supported "$candidate" && has_venv "$candidate" || continue
        version=$(version_of "$1")
        command -v "$1" >/dev/null 2>&1 || version='not found'
        cat >&2 <<END
$1 (${version:-does not run}) was requested, but this package needs CPython 3.8 to 3.14.
$candidate ($(version_of "$candidate")) is available: omit PYTHON to use it.
END
        exit 1
    done
fi

if [ -z "$python" ]; then
    for candidate in ${1:-python3.15 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 \
                          python3.7 python3.6 python3 python}; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        version=$(version_of "$candidate")
        found="$found${found:+, }$candidate (${version:-does not run})"
    done
    cat >&2 <<END
No suitable Python was found. This package needs CPython 3.8 to 3.14.
Found: ${found:-${1:-no Python} (not found)}.
Why:   d2l 1.0.3 needs Python 3.8; versions after 3.14, PyPy and free-threaded builds are not tested.
To do: install Python 3.11 beside your other Pythons (nothing else changes), by one of
         sudo apt-get install python3.11 python3.11-venv     (Debian 12)
         pyenv install 3.11   |   uv python install 3.11   |   conda create -n py311 python=3.11
       then repeat the make command, with PYTHON=/path/to/python3.11 if it is not on the PATH.
END
    exit 1
fi

# Windows, Apple silicon: the doctor gives the reason, where pip says only "no matching distribution".
"$python" -m gluon_bn.doctor platform >&2

offline=''
if [ -n "${WHEELHOUSE:-}" ]; then # a folder that replaces the network: see tools/wheelhouse.py
    offline="--no-index --find-links $("$python" tools/wheelhouse.py --check "$WHEELHOUSE")"
fi

version=$(version_of "$python")
if [ "$(cat .venv/ready 2>/dev/null)" != "$version" ]; then # missing, unfinished, or made by another Python
    echo "Making .venv with $python ($version). This takes a minute or two." >&2
    "$python" -m venv --clear .venv # in a container, .venv may be a volume: emptied, but not removed
else
    echo "Bringing .venv ($version) up to date." >&2
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
if [ -z "$hook" ]; then
    pip check
else
    cp "$hook" "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    complaints=$(pip check) || true # each names its package first; the pins of MXNet and d2l are overridden
    if printf '%s\n' "$complaints" | grep ' has requirement \| requires ' | grep -v '^mxnet \|^d2l ' >&2; then exit 1; fi
fi
if [ -n "$offline" ]; then # where gluon_bn.data looks, whoever the user is
    mkdir -p .venv/share/datasets
    cp -R "$WHEELHOUSE/fashion-mnist" .venv/share/datasets/
fi
echo "$version" >.venv/ready
