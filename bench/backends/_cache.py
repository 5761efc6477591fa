"""Where a child's compilers keep what they compile: a new folder each time (cold), or one that is kept (warm)."""

from __future__ import annotations

import os
from pathlib import Path

from bench.case import Scalar
from bench.errors import BenchError

OPTION = "cold"
"""The default of a backend's option `cache`: cold, warm, or a folder of the user's."""


def cache_folder(option: Scalar, scratch: str, backend: str) -> Path:
    """Return the folder for `cache=` an option: below `scratch` for cold, the user's cache folder for warm.

    `trnbench compile` fills what is kept. Raises BenchError where a user has no home folder.
    """
    if option == "cold":
        return Path(scratch) / "compiled"
    if option != "warm":
        return Path(str(option)).expanduser().absolute()
    kept = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(kept) if kept else Path.home() / ".cache") / "trnbench/compiled" / backend
    except RuntimeError as error:  # neither HOME nor an entry in passwd
        raise BenchError("Compiled artefacts can't be kept: this user has no home folder.",
                         fix="pass --backend-option cache=FOLDER, or set XDG_CACHE_HOME.") from error
