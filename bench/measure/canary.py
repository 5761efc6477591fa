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
COPY_BYTES, LARGE_COPY_BYTES = 128 * 2**20, 512 * 2**20
LARGE_FLOPS_PER_SECOND = 1e12
"""What multiplies this fast copies 128 MiB so quickly that the ends of a copy, and a cache, are no small part of
it: 80 us on an H100. A small host does not, and is spared the memory."""
COPIES_A_WAIT, COPIES_NS = 10, 50_000_000
MULTIPLIED_IN = {"amp-bf16": "bfloat16", "amp-fp16": "float16"}
"""Of formats whose weights and inputs are kept in another: torch's name of what autocast multiplies."""
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
    """Matrix products n x n x n on an open device, in the number format that the case multiplies in.

    Both matrices are in that format beforehand: a peak is of products alone, and a model's casts are its own.

    The sizes double until one product takes 50 ms and five times as long as the smallest, which a call's
    fixed cost alone does not; the last two are the canary's. Three things must hold of a wait that waits
    and a clock that counts:
    * scaling: twice the size is 8 times the work. Under 2.5 times the time, work was not waited for
      (fixed costs and better use of a large device explain a factor of 3, not more);
    * read-back: reading one value straight after the wait must take no longer than reading it once
      more, by a tenth of the product's time: what it takes longer, the wait did not wait for;
    * rate: at most the device's ceiling, where one is known.
    """

    def __init__(self, device: Device, dtype: str = "fp32") -> None:
        from torch import nn

        def product(n: int) -> nn.Module:
            layer = nn.Linear(n, n, bias=False, device="meta")  # so a device treats it as it does the model's layers
            layer.weight = nn.Parameter(_random(n) / n**0.5, requires_grad=False)
            return layer

        self._device, self._product = device, product
        self._multiplied_in = MULTIPLIED_IN.get(dtype)
        self._best_ns: dict[int, float] = {}
        self._unwaited_ns: dict[int, float] = {}
        self._sizes: tuple[int, ...] = ()
        self.gb_per_second: float | None = None

    @property
    def flops_per_second(self) -> float:
        """The best rate seen by now."""
        return max(_flops(n) / (self._best_ns[n] / 1e9) for n in self._sizes)

    @_named()
    def before(self) -> dict[str, Any]:
        """Find the two sizes, time both and return the canary with what is wrong in `reasons`.

        The matrices of one size are gone before those of the next are made, and none is left for the timed part.
        """
        for n in SIZES:
            step = self._prepared(n)
            self._time(n, step, REPEATS if n == SIZES[0] else 1)
            if self._is_long(n) or n == SIZES[-1]:
                self._time(n, step, REPEATS)  # a stall of the machine is no long product
            del step
            if self._is_long(n):
                break
        small, large = self._sizes = tuple(sorted(self._best_ns)[-2:])
        self._time(small, self._prepared(small), REPEATS)
        return self._verdict(small, large)

    @_named()
    def after(self) -> None:
        """Time both sizes once more, after the timed part: `flops_per_second` is the best seen."""
        for n in self._sizes:
            self._time(n, self._prepared(n), REPEATS)

    @_named()
    def copy(self) -> None:
        """Time device copies: `gb_per_second` is the best rate, bytes read and bytes written, decimal GB.

        Of 128 MiB, and then of 512 MiB on a device that multiplies faster than `LARGE_FLOPS_PER_SECOND`.
        """
        self._copy(COPY_BYTES)
        if self.flops_per_second > LARGE_FLOPS_PER_SECOND:
            self._copy(LARGE_COPY_BYTES)

    def _copy(self, size: int) -> None:
        """Time copies of `size` bytes: ten a wait, or as many as take 50 ms, so that the wait's own cost is spread."""
        import torch
        from torch import nn

        class Copy(nn.Module):
            def forward(self, source: Any) -> Any:
                return source.clone()

        clock_ns, wait = self._device.clock_ns, self._device.wait
        source = self._device.put(torch.zeros(size // 4, dtype=torch.int32))
        call = self._device.prepare(Copy(), [source], Work(item="copy", items=1, bytes=2.0 * size), plain=True)
        best_ns, copies = float("inf"), 1
        for _ in range(2 * REPEATS):
            start_ns = clock_ns()
            for _ in range(copies):
                call(source)
            wait()
            best_ns = min(best_ns, max(clock_ns() - start_ns, 1) / copies)
            copies = max(1, min(COPIES_A_WAIT, int(COPIES_NS / best_ns)))
        self.gb_per_second = max(self.gb_per_second or 0.0, 2.0 * size / best_ns)

    def _prepared(self, n: int) -> Callable[[], Any]:
        """A call of the product of n, called before; its matrices live as long as it does."""
        import torch

        module, left = self._device.place(self._product(n)), self._device.put(_random(n))
        if self._multiplied_in:
            dtype = getattr(torch, self._multiplied_in)
            module, left = module.to(dtype), left.to(dtype)
        call = self._device.prepare(module, [left], Work(item="matmul", items=1, flops=_flops(n)), plain=True)
        if self._multiplied_in:
            call(left)  # a lazy device casts with its first product, and the next one is another graph
            self._device.wait()
        output = call(left)
        self._device.wait()
        self._device.read(output[:1, :1])  # a first read may compile something
        return lambda: call(left)

    def _is_long(self, n: int) -> bool:
        took_ns = {size: max(ns, self._unwaited_ns[size]) for size, ns in self._best_ns.items()}
        return took_ns[n] >= max(LONG_ENOUGH_NS, LONG_ENOUGH_TIMES * took_ns[SIZES[0]])

    def _time(self, n: int, step: Callable[[], Any], repeats: int) -> None:
        """Keep the best time to the end of the wait, and the least that the first of two reads took longer."""
        clock_ns, device = self._device.clock_ns, self._device
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
