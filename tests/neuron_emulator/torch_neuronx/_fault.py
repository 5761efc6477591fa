"""Faults that a test asks for with NEURON_EMU_FAULT=where:text."""
from __future__ import annotations

import os
import sys
import time


def at(place: str) -> None:
    """Fail here if the test says so: RuntimeError, as the runtime's and the compiler's errors arrive in Python."""
    where, _, text = os.environ.get("NEURON_EMU_FAULT", "").partition(":")
    if where == place:
        raise RuntimeError(text)
    if place == "wait" and where == "abort":
        print(text, file=sys.stderr, flush=True)
        os.abort()
    while place == "wait" and where == "hang":
        time.sleep(1)
