#!/usr/bin/env bash
# A Chromium for the tests of the HTML page. Where it cannot be had, those tests are skipped and say so.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } >/dev/null 2>&1; then
    echo "no Chromium here and none could be installed: the page's browser tests will be skipped" >&2
fi
