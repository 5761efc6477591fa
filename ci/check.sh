#!/usr/bin/env bash
# Lint and types: strict where records are read, as money and verdicts stand on it.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${VENV:-.venv}/bin
"$BIN/ruff" check bench workloads tests
"$BIN/mypy" bench workloads
"$BIN/mypy" --strict bench/errors.py bench/case.py bench/record.py bench/stats bench/machine bench/catalog bench/store \
    bench/cost bench/claims bench/exchange bench/report
