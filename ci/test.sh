#!/usr/bin/env bash
# Run the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${VENV:-.venv}/bin/python" -m pytest --benchmark-skip "$@"
