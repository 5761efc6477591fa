"""Conversions that several rooms share."""

HOUR_S = 3600.0
"""Seconds of an hour, which is what prices are of."""
