"""What a workload, a backend and a scenario are: all that the harness asks of each.

Importing this page, a workload file or a backend file costs no torch: names that need it are
imported inside the functions that run in the child. So the parent, `list` and `--dry-run` know
what there is without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bench.case import DTYPES, Case, Scalar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Settings = Mapping[str, Any]
"""What `auto` decided, e.g. {"threads": 1, "compile": "inductor", "layout": "channels_last"}."""


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
    """A model and its host inputs, on the CPU in float32, for a backend to place and prepare.

    * inference: `model(*inputs)` -> a tensor.
    * training: `model(*batches[i])` -> a scalar loss; `optimizer(parameters)` makes the optimiser;
      one step is `accumulate` batches forward and backward, then one update. A batch's tensors have
      its samples along their first dimension, where data parallel splits them.
    * generation: `prefill(*inputs)` -> (logits_BV, next_B1); `decode(token_B1, position_1)` ->
      (logits_BV, next_B1), in place on a static KV cache held in `model`'s buffers. `prefill` and
      `decode` are modules sharing `model`'s parameters; shapes never change between calls.
    `weights` is the module a checkpoint of the user's is loaded into.
    """

    model: nn.Module
    inputs: Sequence[Tensor] = ()
    batches: Sequence[Sequence[Tensor]] = ()
    optimizer: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer] | None = None
    accumulate: int = 1
    prefill: nn.Module | None = None
    decode: nn.Module | None = None
    new_tokens: int = 0
    weights: nn.Module | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One file in `workloads/`, which ends in `WORKLOAD = Workload(...)`. The file's name is its name.

    `build(case)` seeds torch with `case.seed` itself, so that every process builds equal weights
    and inputs, and works under `with torch.device("meta")`. `work(case)` is plain arithmetic.
    """

    summary: str
    source: str  # where the architecture and the FLOP formula come from
    sizes: Mapping[str, Mapping[str, Any]]  # "tiny" (a step well under a second) and real ones
    default_size: str
    scenarios: Mapping[str, Sequence[str]]  # task -> scenarios it can serve, the default first
    build: Callable[[Case], Program]
    work: Callable[[Case], Work]
    seq_len: int | None = None  # default; None where the workload has no sequence
    batch_size: int = 1
    parallelism: str = "dp=1"  # default; dp=2 for one that makes no sense on one device
    dtypes: Sequence[str] = DTYPES  # it can run in, the default first; a backend may refuse some
    options: Mapping[str, Scalar] = field(default_factory=dict)  # its own settings with defaults
    limits: Callable[[Case], str | None] = lambda case: None  # why a case is impossible, or None


class Device(Protocol):
    """A backend's torch half: one open device in one child process, set up by one `settings`."""

    clock_ns: Callable[[], int]  # the host's clock; the emulated device brings its own

    def place(self, model: nn.Module) -> nn.Module:
        """Move and cast a model, in place where possible; called once for each model."""

    def put(self, tensor: Tensor) -> Tensor:
        """A host input as this device wants it; floating tensors are cast to the case's dtype."""

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        """An inference callable of a placed module: eager, compiled or traced, without gradients.

        `plain`: with as little compiling as the device can do (for the canary).
        """

    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
        """A callable that does one whole training step and returns its loss, unread."""

    def wait(self) -> None:
        """Return once all work given to the device is done, proven where the device's own wait is not."""

    def read(self, output: Any) -> list[Tensor]:
        """An output (a tensor, or tuple of them) as float32 tensors on the host."""

    def reset_peak_memory(self) -> None:
        """Forget the peak so far: what counts is the timed part."""

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        """Peak since the reset, net of what the process held at `open`, and how it was read (or why not)."""

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        """What no such device can exceed in the case's dtype, and its source (or why unknown)."""

    def compiles(self) -> int:
        """Graphs compiled so far in this process: a rise inside the timed part voids it."""

    def report(self) -> dict[str, Any]:
        """For the record: {"device": {...}, "compile": {"cache": ...}, "fallbacks": {...}, "warnings": [...]}.

        Where the work was done elsewhere than on the host's CPU, also "energy" {"joules", "method", "reason"}
        of the timed part; the CPU packages' then stands beside it as "host".

        `device` has the chips (and cores) that all of the case's ranks use.
        """

    def close(self) -> None:
        """Give the device back."""


class Backend(Protocol):
    """A device family's torch-free half; a file or folder in `bench/backends` ends in `BACKEND = ...`."""

    name: str
    tier: str  # of its records: "measured" or "emulated"
    rank: int  # `auto` takes the available backend of the highest rank; below 0 never
    options: Mapping[str, Scalar]  # its own settings (`--backend-option`), with defaults
    process_group: str | None  # torch.distributed's name for what joins its devices (gloo, nccl); None: nothing does

    def probe(self) -> Probe:
        """What is here, without importing torch; safe and quick on every machine."""

    def refuse(self, case: Case) -> str | None:
        """Why this case is impossible here, or None."""

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        """The number format a user who names none should measure, among those of the workload."""

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        """Variables the child needs before it imports torch; `scratch` is a folder of this record's own.

        Asked once more in each rank of a parallel case, where LOCAL_RANK says which device is its own.
        """

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        """Settings that `auto` decides, each with values to try, best guess first, in trial order."""

    def fixed(self, case: Case) -> dict[str, Any]:
        """The whole of the settings: the case's own, and the best guess where the case says auto."""

    def open(self, case: Case, settings: Settings) -> Device:
        """Open the device in this process, or open it again with other settings; CaseFailed where it cannot be had."""

    def explain(self, text: str) -> tuple[str, str] | None:
        """An error's text or a dead child's last lines -> (status, what to tell the user), if known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a backend found: devices, or one reason and a next step."""

    available: bool
    devices: Sequence[Mapping[str, Any]] = ()
    reason: str | None = None
    fix: str | None = None


class Scenario(Protocol):
    """How work arrives; a file in `bench/scenarios` ends in `SCENARIO = ...`."""

    name: str
    summary: str
    tasks: Sequence[str]
    batch_size: int | None  # imposed (single-stream: 1), or None
    round_ns: int  # steps are timed in rounds of about this long; 0: every step alone
    together: bool  # a step needs every rank of a parallel case; else each is a stream of its own

    def prepare(self, program: Program, device: Device, work: Work) -> Timed:
        """The step as it is timed, and what it must compute."""


class Timed(Protocol):
    """A prepared case. `step` is one step, unwaited; `evidence` proves what the steps compute."""

    step: Callable[[], Any]
    series: Mapping[str, list[float]]  # extra raw times in ns that a step leaves, e.g. ttft, itl

    def evidence(self, reference: Sequence[Tensor] | None, *, full: bool) -> list[Tensor]:
        """The first steps' results as host float32 tensors, to hold against the reference's.

        `reference` None: this is the reference. Not `full`: as few steps as prove something.
        """
