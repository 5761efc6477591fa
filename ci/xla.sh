#!/usr/bin/env bash
# Test the backends that stand on torch_xla, for real, on PJRT's CPU device.
#
#   ci/xla.sh [OPTION OF pytest]...     by default -n 2 -m 'not slow'; all of it: ci/xla.sh -m ''
#
# torch_xla 2.9.0 is the last on PyPI and needs torch 2.9.0, so it has an environment of its own, made here once
# (XLA_VENV, default .venv-xla; PYTHON chooses the interpreter). Where it cannot be had this says why and ends with 0.
# Measured: the environment takes 2.7 GB (2.3 GB of it torch; 7 GB with real CUDA libraries) and 100 s of CPU time; the
# tests without the slow ones, every workload among them, 190 s of CPU time shared by two processes; the slow ones (real
# children) 100 s more. Wall time is that where nobody else computes: on a busy machine, several times it.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${XLA_VENV:-.venv-xla}
PYTHON=${PYTHON:-python3}

skip() { echo "ci/xla.sh: skipped: $1"; exit 0; }

if [ ! -e "$VENV/.ready" ]; then
    [ "$(uname -sm)" = "Linux x86_64" ] || skip "torch_xla is built for Linux on x86-64 only, and this is $(uname -sm)"
    command -v gcc > /dev/null && command -v readelf > /dev/null ||
        skip "gcc and readelf are needed, to stand in for CUDA libraries"
    # torch_xla links against libpython.
    "$PYTHON" -c 'import sys, sysconfig; sys.exit(
        not ((3, 11) <= sys.version_info[:2] <= (3, 13) and sysconfig.get_config_var("Py_ENABLE_SHARED")))' ||
        skip "$PYTHON is no Python 3.11 to 3.13 with a shared library: set PYTHON to one that is"
    rm -rf "$VENV"
    "$PYTHON" -m venv "$VENV"
    echo '*' > "$VENV/.gitignore"
    # Alone: what torch requires is 5 GB of CUDA libraries, which pip will say it misses.
    "$VENV/bin/pip" install --quiet --no-deps torch==2.9.0 torch_xla==2.9.0 nvidia-cuda-runtime-cu12==12.8.90 \
        nvidia-cuda-cupti-cu12==12.8.90 || skip "torch 2.9.0 and torch_xla 2.9.0 cannot be installed from here"
    # What they import, then what trnbench requires, less what requires torch in its turn.
    "$PYTHON" -c 'import re, tomllib
for needed in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    if re.split(r"\W", needed)[0] not in ("torch", "peft"):
        print(needed)' > "$VENV/needed.txt"
    "$VENV/bin/pip" install --quiet absl-py jinja2 networkx requests sympy typing_extensions pytest pytest-benchmark \
        pytest-timeout pytest-xdist -r "$VENV/needed.txt"
    "$VENV/bin/pip" install --quiet --no-deps peft accelerate
    "$VENV/bin/python" ci/stub_cuda_libs.py
    touch "$VENV/.ready"
fi
[ $# -gt 0 ] || set -- -n 2 -m 'not slow'
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONPATH=. exec "$VENV/bin/python" -m pytest tests/test_xla.py "$@"
