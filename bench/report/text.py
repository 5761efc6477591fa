"""Numbers and names as text: units are in the column's heading, unknown is a dash."""

from __future__ import annotations

import math

UNKNOWN = "–"


def number(value: float | None) -> str:
    """Four significant digits, thousands parted: 12,345; 123.4; 0.01234; 1.234e-05."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if value == 0 or not math.isfinite(value):
        return str(value).removesuffix(".0")
    if size >= 1e9 or size < 1e-3:
        return f"{value:.4g}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(size)))}f}"


def half_width(value: float | None, low: float | None, high: float | None) -> str:
    """Half of an interval's width in percent of the value, `±0.8 %`; empty where there is no interval."""
    if value is None or low is None or high is None or value == 0:
        return ""
    return f"±{in_percent((high - low) / 2 / abs(value))}"


def in_percent(share: float) -> str:
    """0.0123 as `1.2 %`, 1.234 as `123 %`."""
    shown = round(share * 100, 2)
    return f"{shown:,.0f} %" if abs(shown) >= 10 else f"{shown:.2g} %"


def percent(share: float | None) -> str:
    """0.4213 as `42.1`: the heading says percent."""
    return UNKNOWN if share is None else f"{share * 100:.3g}"


def seconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def gib(size_bytes: float | None) -> str:
    """Bytes as binary gigabytes, 2^30."""
    return UNKNOWN if size_bytes is None else number(size_bytes / 2**30)


def plain(text: object) -> str:
    """A text of a record's on one line, with nothing in it that could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(str(text).split()))
