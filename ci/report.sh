#!/usr/bin/env bash
# Draw report.html from results/ and the published evidence; arguments go to `trnbench report`.
set -euo pipefail
cd "$(dirname "$0")/.."
"${VENV:-.venv}/bin/trnbench" report results --format html -o report.html "$@"
