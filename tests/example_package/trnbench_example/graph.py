"""`graph`: PyTorch on the CPU, the model captured as one graph whose kernels run one by one, as they are.

What it gains over `--backend cpu --no-compile` is Python's share of a step; what inductor gains over it is fusion.
It is written against `bench/contracts.py`, which says what each part must do; nothing is inherited.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from bench.case import Case, Scalar
from bench.contracts import Device, Probe, Program, Settings, Work
from bench.machine import memory
from bench.machine.cpu import cpu, usable_cores


class GraphBackend:
    """The half without torch, which `list`, `doctor` and `--dry-run` ask too."""

    name = "graph"
    tier = "measured"  # "emulated" where the device is not the real thing
    rank = -1  # `--backend auto` never takes it; a device's is above the CPU's 0
    options: Mapping[str, Scalar] = {}
    process_group = None  # torch.distributed's name for what joins its devices: none, it is one device

    def probe(self) -> Probe:
        if find_spec("torch") is None:
            return Probe(available=False, reason="torch is not installed", fix="pip install torch")
        return Probe(available=True, devices=[{"name": cpu()["model"], "cores": usable_cores()}])

    def refuse(self, case: Case) -> str | None:
        if case.dtype not in ("fp32", "bf16"):
            return f"dtype {case.dtype} is not offered by graph: use fp32 or bf16"
        if case.ranks > 1:
            return f"graph is one device: use dp=1, not {case.parallelism}"
        return None if case.compile in ("auto", "on") else "graph always captures: pass --compile"

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        return "fp32"

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        return {"OMP_NUM_THREADS": str(settings["threads"]), "CUDA_VISIBLE_DEVICES": ""}

    def fixed(self, case: Case) -> dict[str, Any]:
        return {"threads": (usable_cores() or 1) if case.threads == "auto" else case.threads, "compile": "graph"}

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        """What a short trial decides where the user left it open."""
        return {"threads": [usable_cores() or 1, 1]} if case.threads == "auto" else {}

    def open(self, case: Case, settings: Settings) -> Device:
        return GraphDevice(case, settings)

    def explain(self, text: str) -> tuple[str, str] | None:
        """Errors of this device in words: here a model that is no single graph."""
        line = next((line for line in text.splitlines() if line.startswith("Unsupported: ")), None)
        return ("unsupported", f"the model cannot be captured as one graph: {line[:300]}") if line else None


class GraphDevice:
    """The half with torch, in a child process of its own; torch is imported when it is opened, not before."""

    clock_ns = staticmethod(time.perf_counter_ns)

    def __init__(self, case: Case, settings: Settings) -> None:
        import torch
        import torch._dynamo  # the compiler is no part of the model's memory

        self._torch, self._training, self._graphs = torch, case.task == "training", 0
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case.dtype]
        torch.set_num_threads(int(settings["threads"]))
        self._inference = torch.inference_mode(not self._training)
        self._inference.__enter__()
        self._baseline_bytes = memory.rss_bytes()

    def place(self, model: Any) -> Any:
        return model.to(self._dtype).train(self._training)

    def put(self, tensor: Any) -> Any:
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def _captured(self, module: Any) -> Callable[..., Any]:
        """The module as one graph or not at all: a break would run a part of it eagerly, unseen."""
        def keep(graph: Any, inputs: Sequence[Any]) -> Callable[..., Any]:
            self._graphs += 1
            return graph.forward

        return self._torch.compile(module, backend=keep, fullgraph=True, dynamic=False)

    def prepare(self, module: Any, example: Sequence[Any], work: Work, *, plain: bool = False) -> Callable[..., Any]:
        return module if plain else self._captured(module)

    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
        assert program.optimizer is not None
        model, batches = self._captured(program.model), itertools.cycle(program.batches)
        optimizer = program.optimizer([p for p in program.model.parameters() if p.requires_grad])

        def step() -> Any:
            optimizer.zero_grad()
            total = 0
            for _ in range(program.accumulate):
                loss = model(*next(batches)) / program.accumulate
                loss.backward()
                total = total + loss.detach()
            optimizer.step()
            return total

        return step

    def wait(self) -> None:
        """Nothing to wait for: a CPU's kernel is done when its call returns. Other devices wait here."""

    def read(self, output: Any) -> list[Any]:
        outputs = output if isinstance(output, (tuple, list)) else [output]
        return [tensor.detach().to("cpu", self._torch.float32, copy=True) for tensor in outputs]

    def reset_peak_memory(self) -> None:
        memory.reset_peak()

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        peak = memory.peak_rss_bytes()
        if peak is None or self._baseline_bytes is None:
            return None, "this system does not show resident memory"
        return max(0, peak - self._baseline_bytes), "RSS high-water mark, net of the RSS at open"

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        return None, "this package knows no CPU's peak"  # unknown is None with a reason, never a guess

    def compiles(self) -> int:
        return self._graphs  # a step in which it rises is booked as compiling; a timed part with one is void

    def report(self) -> dict[str, Any]:
        """Energy "host": the joules are those of the CPU, which the harness reads where it can."""
        return {"device": {"kind": "cpu", "name": cpu()["model"], "chips": cpu()["sockets"],
                           "threads": self._torch.get_num_threads()},
                "compile": {"cache": "cold"}, "energy": "host", "fallbacks": {}, "warnings": []}

    def close(self) -> None:
        self._inference.__exit__(None, None, None)


BACKEND = GraphBackend()
