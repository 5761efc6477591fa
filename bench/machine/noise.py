"""How small a difference this machine can show: the A/A noise floor that `doctor` measured.

One JSON file in the user's state folder, keyed by machine, backend and torch version, as each may move it.
"""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.machine.software import package_version

STALE_AFTER = timedelta(days=30)
"""A floor is a fact about a machine and its neighbours, who come and go; an old one says so."""


def state_file() -> Path:
    """Return where floors are kept: TRNBENCH_STATE_DIR, or trnbench/ in the XDG state folder."""
    own, state = os.environ.get("TRNBENCH_STATE_DIR"), os.environ.get("XDG_STATE_HOME")
    if own:
        return Path(own) / "noise.json"
    try:
        return (Path(state) if state else Path.home() / ".local/state") / "trnbench/noise.json"
    except RuntimeError as error:  # a user with neither HOME nor an entry in passwd
        raise BenchError("The noise floor can't be kept: this user has no home folder.",
                         fix="set TRNBENCH_STATE_DIR to a folder that can be written.") from error


def load_noise_floor(name: str, backend: str, *, now: datetime | None = None) -> dict[str, Any] | None:
    """Return {"relative", "measured_at", "method", "stale"} of a backend on the machine `name`, or None.

    `relative`: the standard deviation between runs of one case, as a share. None: not measured
    with the torch that is installed, or kept in a file that can't be read.
    """
    floor = _load().get(_key(name, backend), {})
    try:
        measured = datetime.fromisoformat(floor["measured_at"])
        relative, method = float(floor["relative"]), str(floor["method"])
        stale = (now or datetime.now(UTC)) - measured > STALE_AFTER
    except (TypeError, KeyError, ValueError):
        return None
    if not math.isfinite(relative):
        return None
    return {"relative": relative, "measured_at": floor["measured_at"], "method": method, "stale": stale}


def save_noise_floor(name: str, backend: str, relative: float, method: str, *, now: datetime | None = None) -> Path:
    """Keep a backend's floor measured now on machine `name`; return the file. BenchError where it can't be written."""
    if not (math.isfinite(relative) and relative >= 0):
        raise ValueError(f"a noise floor is a finite fraction of 0 or more, got {relative}")
    measured = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    path = state_file()
    floors = _load() | {_key(name, backend): {"relative": relative, "measured_at": measured, "method": method}}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(floors, indent=1, sort_keys=True) + "\n", "utf-8")
        part.replace(path)
    except OSError as error:
        raise BenchError(f"The noise floor can't be kept in {path}: {error.strerror}.",
                         fix="make the folder writable, or set TRNBENCH_STATE_DIR to one that is.") from error
    return path


def _key(name: str, backend: str) -> str:
    return f"{name} {backend} torch {package_version('torch')}"


def _load() -> dict[str, Any]:
    """All floors kept; a missing or broken file is none, as `doctor` makes it anew."""
    try:
        floors = json.loads(state_file().read_text("utf-8"))
    except (BenchError, OSError, ValueError):
        return {}
    return floors if isinstance(floors, dict) else {}
