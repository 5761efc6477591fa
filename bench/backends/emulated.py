"""A device with known truth: step times follow a law of your own, so that the harness can be tested.

Models really run, once, on the CPU, so that outputs and parity are real; only time is made up, on a
clock of the device's own. Its faults are those of real devices: a wait that returns early, lazy
execution, compile caches, out of memory, a crash, a hang. Records carry tier `emulated`.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.case import Case, Scalar
from bench.contracts import Device, Probe, Program, Settings, Work
from bench.errors import CaseFailed

if TYPE_CHECKING:
    from torch import nn

CACHE, CHILD = "TRNBENCH_EMULATED_CACHE", "TRNBENCH_CHILD"

LAW: Mapping[str, Scalar] = {
    "flops_per_second": 1e10,  # the step-time law: (overhead + FLOPs / rate) x slowdown x noise
    "overhead_us": 50.0,
    "slowdown": 1.0,
    # The noise of a shared machine in a good hour, each number relative, on a log scale where it is a
    # spread. On a Xeon of 2 vCPUs the medians of five steps in two processes a minute apart differed by
    # 1.7 and 2.3 % (BERT-base: 598 and 608 ms, 927 and 949 ms), of which these steps' own scatter explains
    # most. In a bad hour processes differ by 5 % and more: raise child_sd to see that.
    "child_sd": 0.007,  # between processes
    "jitter": 0.05,  # of each step; its median is 1
    "wander": 0.01,  # a slow wander within a process, forgotten after `wander_s` of the device's clock
    "wander_s": 0.2,
    "spike_share": 0.02,  # of steps, which take `spike_factor` times as long
    "spike_factor": 2.5,
    "drift": 0.0,  # rise in time per second of the device's clock
    "slow_start": 0.0,  # the first step takes this share more, falling by half every 3 steps
    "compile_cold_s": 0.0,  # by graph, where the cache is empty
    "compile_warm_s": 0.0,
    "lazy": False,  # work starts at the wait, not at the call
    "early_wait": False,  # the wait returns at once, so that only the overhead is seen: the canary must catch it
    "memory_bytes_per_flop": 1e-3,
    "memory_limit_bytes": 1e15,
    "output_error": 0.0,  # relative error added to what is read back
    "recompile_at_step": 0,  # of the case's own steps, counted from 1 in each process; 0: never
    "crash_at_step": 0,
    "hang_at_step": 0,
    "noise_seed": None,  # None: another one in every process
}


class EmulatedBackend:
    name = "emulated"
    tier = "emulated"
    rank = -1
    options = LAW
    process_group = None

    def probe(self) -> Probe:
        return Probe(available=True, devices=({"name": "made-up device, for tests of the harness"},))

    def refuse(self, case: Case) -> str | None:
        return None if case.parallelism == "dp=1" else "the emulated device is one device: use dp=1"

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        return dtypes[0]

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        return {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", CACHE: str(Path(scratch) / "emulated-cache")}

    def fixed(self, case: Case) -> dict[str, Any]:
        return {"compile": "off" if case.compile == "off" else "emulated"}

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        return {}

    def open(self, case: Case, settings: Settings) -> Device:
        return _device(case, settings)

    def explain(self, text: str) -> tuple[str, str] | None:
        return None


def _device(case: Case, settings: Settings) -> Device:
    import torch

    from bench.backends._eager import EagerDevice

    law: dict[str, Any] = dict(LAW) | case.backend_options

    class EmulatedDevice(EagerDevice):
        def __init__(self) -> None:
            super().__init__(case, "cpu")
            self._noise = Noise(law)
            self._now_ns = self._busy_until_ns = self._queued_ns = 0.0
            self._steps, self._graphs, self._peak_bytes = 0, 0, 0
            cache = Path(os.environ.get(CACHE, ""))
            self._cache = "warm" if cache.name and cache.exists() else "cold"
            self.clock_ns: Callable[[], int] = lambda: int(self._now_ns)

        def prepare(self, module: nn.Module, example: Sequence[Any], work: Work, *,
                    plain: bool = False) -> Callable[..., Any]:
            call = super().prepare(module, example, work)
            known: dict[Any, Any] = {}

            def emulated_call(*inputs: Any) -> Any:
                key = tuple(map(id, inputs))
                if key not in known:
                    known[key] = inputs, call(*inputs)  # inputs too: while they live, no other has their id
                if not plain:
                    self._own_step(work)
                self._spend(work)
                return known[key][1]

            if not plain:
                self._compile()
            return emulated_call

        def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
            real_step = super().prepare_training(program, work)
            losses: list[Any] = []
            self._compile()

            def emulated_step() -> Any:
                if len(losses) < 12:  # enough for the loss curve that parity asks for
                    losses.append(real_step())
                self._own_step(work)
                self._spend(work)
                return losses[-1]

            return emulated_step

        def _compile(self) -> None:
            if settings["compile"] == "off":
                return
            self._graphs += 1
            self._now_ns += 1e9 * law[f"compile_{self._cache}_s"]
            if CACHE in os.environ:
                Path(os.environ[CACHE]).touch()

        def _own_step(self, work: Work) -> None:
            """Count a step of the case's own (not of the canary's), with the faults that the law plans."""
            self._steps += 1
            if self._steps == law["crash_at_step"]:
                os.kill(os.getpid(), signal.SIGSEGV)
            if self._steps == law["hang_at_step"]:
                time.sleep(1e6)
            if self._steps == law["recompile_at_step"]:
                self._compile()
            self._peak_bytes = max(self._peak_bytes, int((work.flops or 0.0) * law["memory_bytes_per_flop"]))
            if self._peak_bytes > law["memory_limit_bytes"]:
                raise CaseFailed("oom", f"Out of device memory: asked {self._peak_bytes} bytes of "
                                        f"{law['memory_limit_bytes']:.0f} bytes.")

        def _spend(self, work: Work) -> None:
            """Queue one step of the law's time."""
            true_s = law_s(law, work.flops)
            slow = law["slow_start"] * 0.5 ** ((self._steps - 1) / 3) if self._steps else 0.0
            factor = self._noise.factor(true_s) * (1 + slow + law["drift"] * self._now_ns / 1e9)
            self._queued_ns += true_s * factor * 1e9
            if law["early_wait"]:
                self._now_ns += law["overhead_us"] * 1e3
            if not law["lazy"]:
                self._start_queued()

        def _start_queued(self) -> None:
            self._busy_until_ns = max(self._now_ns, self._busy_until_ns) + self._queued_ns
            self._queued_ns = 0.0

        def wait(self) -> None:
            self._start_queued()
            if not law["early_wait"]:
                self._now_ns = max(self._now_ns, self._busy_until_ns)

        def read(self, output: Any) -> list[Any]:
            self._start_queued()
            self._now_ns = max(self._now_ns, self._busy_until_ns)
            error = law["output_error"]
            return [t * (1 + error * torch.sign(torch.randn_like(t))) if error else t for t in super().read(output)]

        def reset_peak_memory(self) -> None:
            self._peak_bytes = 0

        def peak_memory_bytes(self) -> tuple[int | None, str]:
            return self._peak_bytes, "the law's bytes a FLOP"

        def ceiling_flops_per_second(self) -> tuple[float | None, str]:
            return 2 * law["flops_per_second"], "twice the law's own rate"

        def compiles(self) -> int:
            return self._graphs

        def report(self) -> dict[str, Any]:
            return {"device": {"kind": "emulated", "name": "emulated device", "chips": 1, "law": law},
                    "compile": {"cache": self._cache if settings["compile"] != "off" else None},
                    "fallbacks": {}, "warnings": [],
                    "energy": {"joules": None, "method": None, "reason": "an emulated device uses none"}}

    return EmulatedDevice()


def law_s(law: Mapping[str, Any], flops: float | None) -> float:
    """Return the seconds that a step of so many FLOPs takes by the law, noise apart."""
    seconds: float = (law["overhead_us"] / 1e6 + (flops or 0.0) / law["flops_per_second"]) * law["slowdown"]
    return seconds


class Noise:
    """How many times longer than by the law each step takes in one process.

    Factors of log-normal law with median 1: one for the process, one a step (jitter), and a
    first-order autoregressive wander in its stationary state; times the spikes.
    """

    def __init__(self, law: Mapping[str, Any]) -> None:
        import numpy

        seed = law["noise_seed"]
        random = numpy.random.default_rng(
            None if seed is None else [int(seed), int(os.environ.get(CHILD, "0"))])
        self._law = law
        self._normal, self._uniform = _blocks(random.standard_normal), _blocks(random.random)
        self._child = law["child_sd"] * next(self._normal)
        self._wander = law["wander"] * next(self._normal)

    def factor(self, step_s: float) -> float:
        """Return the next step's factor; `step_s` is how far the wander goes on."""
        law, normal = self._law, self._normal
        kept = math.exp(-step_s / law["wander_s"])
        self._wander = kept * self._wander + math.sqrt(1 - kept**2) * law["wander"] * next(normal)
        factor = math.exp(self._child + self._wander + law["jitter"] * next(normal))
        return factor * law["spike_factor"] if next(self._uniform) < law["spike_share"] else factor


def _blocks(draw: Callable[[int], Any]) -> Iterator[float]:
    """Random numbers one by one, drawn in blocks: numpy takes a microsecond a call."""
    while True:
        yield from draw(512).tolist()


BACKEND = EmulatedBackend()
