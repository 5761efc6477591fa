"""Where a child's compilers keep what they compile: a new folder each time (cold), or one that is kept (warm)."""

from __future__ import annotations

import os
from pathlib import Path

from bench.case import Case, Scalar
from bench.errors import BenchError

OPTION = "cold"
"""The default of a backend's option `cache`: cold, warm, or a folder of the user's."""


def cache_folder(option: Scalar, scratch: str, backend: str) -> Path:
    """Return the folder for `cache=` an option: below `scratch` for cold, the user's cache folder for warm.

    `trnbench compile` fills what is kept. Raises BenchError where a user has no home folder, or names no folder.
    """
    if is_address(option):
        raise BenchError(f"cache={option} is no folder, and backend {backend!r} keeps what it compiles in one here.",
                         fix="pass cold, warm or a folder.")
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


def is_address(option: Scalar) -> bool:
    """Whether it is somewhere else, such as s3://bucket/x."""
    return "://" in str(option)


def work_folder(case: Case, scratch: str, backend: str) -> Path:
    """Return the folder of a case's work and rank, so that another model's code does not make this one's look warm."""
    folder = cache_folder(case.backend_options.get("cache", OPTION), scratch, backend)
    return own_folder(folder / case.work_id, case)


def own_folder(folder: Path, case: Case) -> Path:
    """Return a rank's own part of its case's folder, where rank 1 does not find what rank 0 has just compiled.

    It is found again by the rank of this number in the next run. Outside of a rank, the folder itself.
    """
    rank = os.environ.get("LOCAL_RANK", "") if case.ranks > 1 else ""
    return folder / f"rank{rank}" if rank.isdigit() else folder
