"""What users are told: what happened, what to do next, and the exit code that says which kind."""

from __future__ import annotations

from collections.abc import Sequence

HOST_OOM = ("MemoryError", "can't allocate memory", "std::bad_alloc")
"""How Python, torch and C++ say that host memory ran out."""

DONE, GATE_FAILED, USAGE, NOTHING_VALID, INTERRUPTED = 0, 1, 2, 3, 130


BUSY = "busy"
"""A status that a backend's `explain` alone may give: failed, as another process held the device, and worth one more
try in a new process. No record has it."""


class BenchError(Exception):
    """A failure that is the user's to mend: `what` happened and the `fix`, never a stack trace."""

    def __init__(self, what: str, *, fix: str, exit_code: int = USAGE) -> None:
        super().__init__(what)
        self.what, self.fix, self.exit_code = what, fix, exit_code

    def __str__(self) -> str:
        return f"{self.what}\n  To fix: {self.fix}"


class CaseFailed(Exception):
    """A case that cannot be measured: it becomes a record with this `status` and reason.

    `status` is one of `bench.record.STATUSES` other than "valid".
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def nearest(name: str, known: Sequence[str]) -> str:
    """Return " Did you mean 'x' or 'y'?" for a mistyped name, or "" where nothing is close."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
