#!/usr/bin/env bash
# Measure the quick suite on the best backend here, print the table, write report.md.
set -euo pipefail
cd "$(dirname "$0")/.."
"${VENV:-.venv}/bin/trnbench" run --suite quick "$@"
"${VENV:-.venv}/bin/trnbench" report --format md -o report.md
echo "written: report.md"
