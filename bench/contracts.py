"""What a workload, a backend and a scenario are: all that the harness asks of each.

This page, a workload file and a backend file cost no torch to import: what needs it is imported inside the
functions that run in the child. So the parent, `list` and `--dry-run` know what there is without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bench.case import DTYPES, Case, Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Settings = Mapping[str, Any]  # what `auto` decided, such as {"threads": 1, "compile": "inductor"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one step does. Unknown is None, never 0."""

    item: str  # "sample", "image", "token", ...: throughput is `<item>s_per_second`
    items: int  # in one step (for generation: output tokens of the whole batch)
    flops: float | None = None  # in one step; a multiply-add counts as 2
    bytes: float | None = None  # moved to and from memory at least, in one step (for MBU)
    bus_bytes: float | None = None  # over each device's links in one step, by nccl-tests' formulas
    parts: Mapping[str, float] = field(default_factory=dict)  # FLOPs by part: prefill, decode


@dataclass(slots=True, kw_only=True)
class Program:
    """A model and its host inputs, on the CPU in float32, for a backend to place and prepare."""

    model: nn.Module  # inference: model(*inputs) -> a tensor; training: model(*batches[i]) -> a scalar loss
    inputs: Sequence[Tensor] = ()
    batches: Sequence[Sequence[Tensor]] = ()  # samples along each tensor's first dimension, where ranks split them
    optimizer: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer] | None = None
    accumulate: int = 1  # batches that go forward and backward in one step, before its one update
    prefill: nn.Module | None = None  # prefill(*inputs) -> (logits_BV, next_B1); with `decode` on model's parameters
    decode: nn.Module | None = None  # decode(token_B1, position_1) -> the same, on a static KV cache in its buffers
    new_tokens: int = 0
    weights: nn.Module | None = None  # what a checkpoint of the user's is loaded into


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One file in `workloads/`, which ends in `WORKLOAD = Workload(...)`. The file's name is its name."""

    summary: str
    source: str  # where the architecture and the FLOP formula come from
    sizes: Mapping[str, Mapping[str, Any]]  # "tiny" (a step well under a second) and real ones
    default_size: str
    scenarios: Mapping[str, Sequence[str]]  # task -> scenarios it can serve, the default first
    build: Callable[[Case], Program]  # seeds torch with case.seed; works under torch.device("meta") too
    work: Callable[[Case], Work]  # plain arithmetic
    seq_len: int | None = None  # default; None where the workload has no sequence
    batch_size: int = 1
    parallelism: str = "dp=1"  # default; dp=2 for one that makes no sense on one device
    dtypes: Sequence[str] = DTYPES  # it can run in, the default first; a backend may refuse some
    options: Mapping[str, Scalar] = field(default_factory=dict)  # its own settings with defaults
    limits: Callable[[Case], str | None] = lambda case: None  # why a case is impossible, or None


class Device(Protocol):
    """A backend's torch half: one open device in one child process, set up by one `settings`."""

    clock_ns: Callable[[], int]  # the host's clock; the emulated device brings its own

    def place(self, model: nn.Module) -> nn.Module: ...  # move and cast, once for each model
    def put(self, tensor: Tensor) -> Tensor: ...  # a host input; floating ones are cast to the case's dtype
    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]: ...  # placed; no gradients; plain: compiled least (canary)
    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]: ...  # one step -> its loss, unread
    def wait(self) -> None: ...  # return once all work is done, proven where the device's own wait is not
    def read(self, output: Any) -> list[Tensor]: ...  # a tensor, or tuple of them, as float32 on the host
    def reset_peak_memory(self) -> None: ...  # the timed part begins
    def peak_memory_bytes(self) -> tuple[int | None, str]: ...  # since then, less what `open` found; how, or why not
    def ceiling_flops_per_second(self) -> tuple[float | None, str]: ...  # none can exceed it in this dtype; its source
    def compiles(self) -> int: ...  # graphs so far in this process: a rise inside the timed part voids it
    def close(self) -> None: ...

    def report(self) -> dict[str, Any]:
        """For the record: "device" {"name", "chips" that all ranks use, ...}, "compile" {"cache": cold, warm or None},
        "fallbacks" {}, "warnings" [], and "energy" {"joules", "method", "reason"} of the timed part, or the word "host"
        where the host's CPU is the device."""


class Backend(Protocol):
    """A device family's torch-free half; a file or folder in `bench/backends` ends in `BACKEND = ...`."""

    name: str
    tier: str  # of its records: "measured" or "emulated"
    rank: int  # `auto` takes the available backend of the highest rank; below 0 never
    options: Mapping[str, Scalar]  # its own settings (`--backend-option`), with defaults
    process_group: str | None  # torch.distributed's name for what joins devices (module:name: import it); None: nothing

    def probe(self) -> Probe: ...  # what is here, without torch; safe and quick on every machine
    def refuse(self, case: Case) -> str | None: ...  # why this case is impossible here
    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str: ...  # of the workload's, for who names none
    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]: ...  # what `auto` tries, best first
    def fixed(self, case: Case) -> dict[str, Any]: ...  # all settings, the best guess where the case says auto
    def open(self, case: Case, settings: Settings) -> Device: ...  # also anew; CaseFailed where it cannot be had
    def explain(self, text: str) -> tuple[str, str] | None: ...  # last words -> (status or "busy", what to say)

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        """Variables the child needs before it imports torch; `scratch` is a folder of this record's own. Asked once
        more in each rank of a parallel case, where LOCAL_RANK says which device is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    available: bool
    devices: Sequence[Mapping[str, Any]] = ()
    reason: str | None = None  # in one line, where there is none
    fix: str | None = None  # the next step


class Scenario(Protocol):
    """How work arrives; a file in `bench/scenarios` ends in `SCENARIO = ...`."""

    name: str
    summary: str
    tasks: Sequence[str]
    batch_size: int | None  # imposed (single-stream: 1), or None
    round_ns: int  # steps are timed in rounds of about this long; 0: every step alone
    together: bool  # a step needs every rank of a parallel case; else each is a stream of its own

    def prepare(self, program: Program, device: Device, work: Work) -> Timed: ...


class Timed(Protocol):
    step: Callable[[], Any]  # one step, unwaited
    series: Mapping[str, list[float]]  # extra raw times in ns that a step leaves, e.g. ttft, itl

    def evidence(self, reference: Sequence[Tensor] | None, *, full: bool) -> list[Tensor]:
        """The first steps' results on the host in float32, to hold against the reference's (None: this makes it).
        Not `full`: as few steps as prove something."""
