"""The canary: a matrix product of known FLOPs, timed at two sizes, that only a sound clock survives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from bench.contracts import Device, Work
from bench.errors import CaseFailed

NAME = "canary: "
"""Stands in the reason where the canary's own work failed, for which the user's model is not to blame."""

LONG_ENOUGH_NS, LONG_ENOUGH_TIMES = 50_000_000, 5
REPEATS = 3
UNWAITED_SHARE, UNWAITED_LEAST_NS = 0.1, 1e6
COPY_BYTES = 128 * 2**20
BLOCK = 2048
SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Whatever fails in here is the canary's."""
    try:
        yield
    except CaseFailed as failed:
        raise CaseFailed(failed.status, f"{NAME}{failed.reason}") from failed
    except Exception as error:
        raise RuntimeError(f"{NAME}{type(error).__name__}: {error}") from error


class Canary:
    """Matrix products n x n x n on an open device, in the case's number format.

    The sizes double until one product takes 50 ms and five times as long as the smallest, which a call's
    fixed cost alone does not; the last two are the canary's. Three things must hold of a wait that waits
    and a clock that counts:
    * scaling: twice the size is 8 times the work. Under 2.5 times the time, work was not waited for
      (fixed costs and better use of a large device explain a factor of 3, not more);
    * read-back: reading one value straight after the wait must take no longer than reading it once
      more, by a tenth of the product's time: what it takes longer, the wait did not wait for;
    * rate: at most the device's ceiling, where one is known.
    """

    def __init__(self, device: Device) -> None:
        from torch import nn

        def product(n: int) -> nn.Module:
            layer = nn.Linear(n, n, bias=False, device="meta")  # so a device treats it as it does the model's layers
            layer.weight = nn.Parameter(_random(n) / n**0.5, requires_grad=False)
            return layer

        self._device, self._product = device, product
        self._best_ns: dict[int, float] = {}
        self._unwaited_ns: dict[int, float] = {}
        self._steps: dict[int, Callable[[], Any]] = {}
        self._sizes: tuple[int, ...] = ()

    @_named()
    def before(self) -> dict[str, Any]:
        """Find the two sizes, time both and return the canary with what is wrong in `reasons`."""
        for n in SIZES:
            self._prepare(n)
            self._time(n, REPEATS if n == SIZES[0] else 1)
            if self._is_long(n) or n == SIZES[-1]:
                self._time(n, REPEATS)  # a stall of the machine is no long product
            if self._is_long(n):
                break
        small, large = self._sizes = tuple(sorted(self._best_ns)[-2:])
        self._time(small, REPEATS)
        self._steps.clear()  # its matrices must not count as the case's memory
        return self._verdict(small, large)

    @_named()
    def after(self) -> float:
        """Time both sizes once more, after the timed part; return the best FLOP/s seen by now."""
        for n in self._sizes:
            self._prepare(n)
            self._time(n, REPEATS)
        return max(_flops(n) / (self._best_ns[n] / 1e9) for n in self._sizes)

    @_named()
    def copy_gb_per_second(self) -> float:
        """Return the best rate of a device copy of 128 MiB: bytes read and bytes written, decimal GB."""
        import torch
        from torch import nn

        class Copy(nn.Module):
            def forward(self, source: Any) -> Any:
                return source.clone()

        source = self._device.put(torch.zeros(COPY_BYTES // 4, dtype=torch.int32))
        call = self._device.prepare(Copy(), [source], Work(item="copy", items=1, bytes=2.0 * COPY_BYTES), plain=True)
        best_ns = float("inf")
        for _ in range(2 * REPEATS):
            start_ns = self._device.clock_ns()
            call(source)
            self._device.wait()
            best_ns = min(best_ns, max(self._device.clock_ns() - start_ns, 1))
        return 2.0 * COPY_BYTES / best_ns

    def _prepare(self, n: int) -> None:
        module = self._device.place(self._product(n))
        left = self._device.put(_random(n))
        call = self._device.prepare(module, [left], Work(item="matmul", items=1, flops=_flops(n)),
                                    plain=True)
        self._steps[n] = lambda: call(left)
        output = self._steps[n]()
        self._device.wait()
        self._device.read(output[:1, :1])  # a first read may compile something

    def _is_long(self, n: int) -> bool:
        took_ns = {size: max(ns, self._unwaited_ns[size]) for size, ns in self._best_ns.items()}
        return took_ns[n] >= max(LONG_ENOUGH_NS, LONG_ENOUGH_TIMES * took_ns[SIZES[0]])

    def _time(self, n: int, repeats: int) -> None:
        """Keep the best time to the end of the wait, and the least that the first of two reads took longer."""
        clock_ns, step, device = self._device.clock_ns, self._steps[n], self._device
        for _ in range(repeats):
            start_ns = clock_ns()
            output = step()
            device.wait()
            waited_ns = clock_ns()
            device.read(output[:1, :1])
            read_ns = clock_ns()
            device.read(output[:1, :1])
            unwaited_ns = 2 * read_ns - waited_ns - clock_ns()
            self._best_ns[n] = min(self._best_ns.get(n, float("inf")), max(waited_ns - start_ns, 1))
            self._unwaited_ns[n] = min(self._unwaited_ns.get(n, float("inf")), unwaited_ns)

    def _verdict(self, small: int, large: int) -> dict[str, Any]:
        scaling = self._best_ns[large] / self._best_ns[small]
        expected = (large / small) ** 3
        rate = _flops(large) / (self._best_ns[large] / 1e9)
        ceiling, source = self._device.ceiling_flops_per_second()
        reasons = []
        if self._unwaited_ns[large] > max(UNWAITED_SHARE * self._best_ns[large], UNWAITED_LEAST_NS):
            reasons.append(f"the device's wait returns early: after it, a {large}^3 matrix product went on for "
                           f"{self._unwaited_ns[large] / 1e6:.3g} ms; {self._best_ns[large] / 1e6:.3g} ms of it "
                           "were waited for")
        if scaling < expected / 3.2:
            reasons.append(f"impossible scaling: {expected:.0f} times the work took {scaling:.2f} times the time")
        if ceiling is not None and rate > ceiling:
            reasons.append(f"impossible rate: {rate:.4g} FLOP/s in a {large}^3 matrix product, "
                           f"the ceiling is {ceiling:.4g} ({source})")
        return {"sizes": [small, large], "milliseconds": [self._best_ns[n] / 1e6 for n in (small, large)],
                "scaling": scaling, "flops_per_second": rate,
                "flops_per_second_source": "best matrix product in the same process and number format",
                "ceiling_flops_per_second": ceiling,
                "ceiling_source": source, "passed": not reasons, "reasons": reasons}


def _flops(n: int) -> float:
    return 2.0 * n**3


def _random(n: int) -> Any:
    """Normal numbers [n, n], a block of them side by side: to draw 16384^2 takes a host core three seconds."""
    import torch

    side = min(n, BLOCK)
    return torch.randn(side, side, generator=torch.Generator().manual_seed(0)).repeat(n // side, n // side)
