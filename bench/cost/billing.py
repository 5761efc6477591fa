"""Used against billed: what a provider charges for a time, by its smallest block and its increments.

A reservation is paid for its whole term, used or not; what it costs per hour of use is
`breakeven.usd_per_used_hour`.
"""

from __future__ import annotations

import math

DAY_S = 86400.0

SECONDS_RULES = {
    ("aws", "on-demand"): (60.0, 1.0), ("aws", "spot"): (60.0, 1.0), ("aws", "reserved-1yr"): (60.0, 1.0),
    ("aws", "reserved-3yr"): (60.0, 1.0),
}
"""(least, increment) in seconds. Source: AWS, "Announcing Amazon EC2 per second billing", 2017-10-02:
Linux instances on demand, reserved and spot by the second, at least 60."""

BLOCK_DAYS, BLOCK_WEEKS_FROM, BLOCK_MOST = 1, 14, 182
"""Capacity Blocks: whole days up to 14, then whole weeks up to 182 days.
Source: Amazon EC2 user guide, "Find and purchase Capacity Blocks", read 2026-11."""


def billed_seconds(used_s: float, *, provider: str | None, basis: str) -> tuple[float | None, str | None]:
    """Return the seconds that are billed for `used_s` of an instance, or None and why that is not known."""
    if basis == "user":
        return used_s, None
    if provider == "aws" and basis == "capacity-block":
        return _block_s(used_s)
    rule = SECONDS_RULES.get((provider or "", basis))
    if rule is None:
        return None, f"how {provider or 'an unknown provider'} rounds {basis} hours is not in the catalog"
    least, increment = rule
    return max(least, math.ceil(used_s / increment) * increment), None


def _block_s(used_s: float) -> tuple[float | None, str | None]:
    days = max(BLOCK_DAYS, math.ceil(used_s / DAY_S))
    if days > BLOCK_WEEKS_FROM:
        days = math.ceil(days / 7) * 7
    if days > BLOCK_MOST:
        return None, f"a Capacity Block lasts {BLOCK_MOST} days at most, and this takes {days}"
    return days * DAY_S, None
