#!/usr/bin/env bash
# Make the virtual environment with trnbench and all that its tests need.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}

"${PYTHON:-python3}" - <<'PY'
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"Error: Python {sys.version.split()[0]} is not 3.11 to 3.13.\n"
             "  To fix: make venv PYTHON=python3.12, say.")
PY
"${PYTHON:-python3}" -m venv "$VENV"
# torch alone and first: with its pin in place nothing after it resolves to another build.
"$VENV/bin/pip" install --quiet -c ci/constraints.txt torch
"$VENV/bin/pip" install --quiet -c ci/constraints.txt -e '.[test]'
