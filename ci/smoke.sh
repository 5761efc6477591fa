#!/usr/bin/env bash
# One tiny run of every workload through the installed command, then a comparison of it with itself.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${VENV:-.venv}/bin
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
"$BIN/trnbench" run --suite smoke --backend cpu --threads 1 --no-compile --repeats 1 --results "$OUT/results"
"$BIN/trnbench" report "$OUT/results" --format md -o "$OUT/report.md"
"$BIN/trnbench" compare "$OUT/results" "$OUT/results" --fail-if 'throughput<-1%'
