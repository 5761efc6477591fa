"""What is going on, on stderr: one moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

TOLD_PLAINLY = ("tune", "measure")


class Progress:
    """Call it with a message whenever a child enters a phase; nothing is drawn in between.

    A refreshing thread would wake the parent while a child is being timed.
    """

    def __init__(self, total: int) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._total, self._done = total, 0

    def __call__(self, message: str) -> None:
        if self._console.is_terminal:
            width = max(20, self._console.width - 12)
            sys.stderr.write(f"\r\x1b[2K[{self._done + 1}/{self._total}] {message[:width]}")
            sys.stderr.flush()
        elif message.rsplit(": ", 1)[-1] in TOLD_PLAINLY:
            self.line(f"[{self._done + 1}/{self._total}] {message}")

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._console.is_terminal:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        self._console.print(text, markup=False, soft_wrap=True)

    def done(self, text: str) -> None:
        """A case has ended."""
        self.line(f"[{self._done + 1}/{self._total}] {text}")
        self._done += 1
