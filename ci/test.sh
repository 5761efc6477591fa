#!/usr/bin/env bash
# Run the tests, two files at a time (TEST_JOBS says how many); arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${VENV:-.venv}/bin/python" -m pytest --benchmark-skip -n "${TEST_JOBS:-2}" --dist loadfile "$@"
