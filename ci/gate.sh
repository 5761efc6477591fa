#!/usr/bin/env bash
# Measure, hold the result against a previous run's, and say so in Markdown.
#
#   ci/gate.sh [PREVIOUS.json [OPTION OF `trnbench run`]...]      by default --suite smoke
#
# Leaves gate/this.json (what the next run is given as PREVIOUS.json) and gate/summary.md.
# GATES: what fails it, one a line. TRNBENCH_COMPARE_USD_PER_HOUR: what an hour of this machine costs, for gates on money.
# Ends with 1 where a gate fails; without a previous run there is nothing to fail.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=${VENV:-.venv}/bin
PREVIOUS=${1:-}
shift || true
GATES=${GATES:-$'throughput<-10%\nlatency>10%\nusd_per_1m_inferences>+10%\nmemory>10%'}

rm -rf gate && mkdir gate
"$BIN/trnbench" run "${@:---suite=smoke}" --results gate/new
"$BIN/trnbench" export gate/new --format pytest-benchmark -o gate/this.json
if [ ! -s "$PREVIOUS" ]; then
    "$BIN/trnbench" report gate/new --format md -o gate/summary.md
    echo "no previous run: nothing to compare with"
    exit 0
fi
"$BIN/trnbench" import --format pytest-benchmark "$PREVIOUS" --results gate/old
failing=()
while read -r gate; do failing+=(--fail-if "$gate"); done <<< "$GATES"
status=0
"$BIN/trnbench" compare gate/old gate/new "${failing[@]}" --format md -o gate/summary.md || status=$?
[ "$status" -ne 3 ] || { echo "no two cases are alike: nothing to fail" && status=0; }
exit "$status"
