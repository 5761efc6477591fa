#!/usr/bin/env bash
# Install the stand-in for native torch-neuronx into a folder of its own and build it, so that .venv stays clean.
#
#   ci/emulator.sh [FOLDER]     by default .emulator; prints FOLDER, which belongs on PYTHONPATH
#
# About half a minute for each of two C++ files the first time (g++ 12), then two seconds: NEURON_EMU_BUILD
# (default ~/.cache/trnbench-neuron-emulator) keeps what was built. Without a compiler it says so and ends with 3.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${VENV:-.venv}/bin/python
FOLDER=${1:-.emulator}
command -v "${CXX:-g++}" > /dev/null || { echo "no C++ compiler (${CXX:-g++}): the emulator is skipped" >&2; exit 3; }

SOURCE=$(mktemp -d) # setuptools leaves a build folder beside what it builds
trap 'rm -rf "$SOURCE"' EXIT
cp -r tests/neuron_emulator/. "$SOURCE"
rm -rf "$FOLDER"
"$PYTHON" -m pip install --quiet --no-deps --no-build-isolation --target "$FOLDER" "$SOURCE"
PYTHONPATH=$(realpath "$FOLDER") "$PYTHON" -c 'import torch_neuronx._build as build; build.load_distributed()'
echo "$FOLDER"
