"""What keeps the page small: a text is written once and pointed at, a number has seven digits."""

from __future__ import annotations

from collections.abc import Iterable


class Texts:
    """Texts by number, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: object) -> int | None:
        """Return a text's number, a new one where it was not seen before; None for none or empty."""
        if text is None or text == "":
            return None
        return self._numbers.setdefault(str(text), len(self._numbers))

    def numbers(self, texts: Iterable[object]) -> list[int]:
        return [n for n in map(self.number, texts) if n is not None]

    def all(self) -> list[str]:
        return list(self._numbers)


def short(value: float | None) -> float | None:
    """A number for showing: seven significant digits, as four are shown. None stays None."""
    return None if value is None else float(f"{value:.7g}")


def shorts(*values: float | None) -> list[float | None]:
    """Numbers for showing, unknown ones at the end left away."""
    found = [short(value) for value in values]
    while found and found[-1] is None:
        found.pop()
    return found
