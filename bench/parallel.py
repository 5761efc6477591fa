"""Several processes ("ranks") that share a case: how they meet and agree, and how its work is split.

`dp=N` and `fsdp=N` name how work is spread (`Case.parallelism`). Where a scenario's ranks work
`together` (training, collectives) each step needs all of them: they do equally many, and rank 0
decides how many. Else each is a stream of its own, and what counts is the window in which all ran.

A case's batch is one rank's: `dp=4` at batch 8 trains on 32 samples a step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib
import os
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from bench.case import Case
from bench.contracts import Backend, Device, Program, Work
from bench.errors import CaseFailed
from bench.registry import load_scenario

if TYPE_CHECKING:
    from torch import Tensor, nn

STARTED, ENDED = "trnbench/streams-started", "trnbench/ended"
TORCHRUN = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK")
Chunk = tuple[int, Sequence[int]]
"""When some rounds began, by the device's clock, and the ns of each."""


def refuse(case: Case, backend: Backend) -> str | None:
    """Why a case's ranks are impossible on this backend, or None."""
    together = load_scenario(case.scenario).together
    if case.ranks > 1 and together and backend.process_group is None:
        return (f"{case.scenario} needs devices that can exchange tensors, which backend {backend.name!r} does not "
                "offer here: use dp=1 (inference runs as streams side by side)")
    if case.parallelism.startswith("fsdp") and case.task != "training":
        return "parameters are sharded in training alone: use --shard none"
    return None


def alone(case: Case) -> Case:
    """The case of one rank by itself."""
    return dataclasses.replace(case, parallelism="dp=1")


def whole(case: Case) -> Case:
    """The case whose batches hold all ranks' samples. Streams have none in common."""
    if case.ranks == 1 or case.task != "training":
        return case
    return dataclasses.replace(case, batch_size=case.batch_size * case.ranks)


def is_sharded(case: Case) -> bool:
    """Whether each rank holds a part of every parameter, and no rank all of them."""
    return case.ranks > 1 and case.parallelism.startswith("fsdp")


def share(program: Program, case: Case, rank: int) -> Program:
    """A whole program as one rank runs it: of every training batch its own samples."""
    if case.ranks == 1 or case.task != "training":
        return program
    return dataclasses.replace(program, batches=[_rows(batch, case, rank) for batch in program.batches])


def in_parts(program: Program, case: Case) -> Program:
    """A whole program as one process computes what all ranks would: their parts one after the other.

    Gradients are accumulated over the parts and the update follows the last, which is what data
    parallelism is defined as: also where a mean is over unequally many items in each part, or where
    batch normalisation sees one part at a time.
    """
    if case.ranks == 1 or case.task != "training":
        return program
    parts = [_rows(batch, case, rank) for batch in program.batches for rank in range(case.ranks)]
    return dataclasses.replace(program, batches=parts, accumulate=program.accumulate * case.ranks)


def _rows(batch: Sequence[Tensor], case: Case, rank: int) -> list[Tensor]:
    samples = case.batch_size * case.ranks
    for tensor in batch:
        if not tensor.dim() or tensor.shape[0] != samples:
            raise CaseFailed("unsupported", f"a training batch of {samples} samples has a tensor of shape "
                                            f"{tuple(tensor.shape)}: data parallel splits along the first dimension")
    return [tensor[rank * case.batch_size:(rank + 1) * case.batch_size].clone() for tensor in batch]


class Ranks:
    """The processes of a case as one of them sees them; by itself it agrees with itself."""

    def __init__(self, *, size: int = 1, rank: int = 0, together: bool = False, host: Any = None) -> None:
        self.size, self.rank, self.together, self._host = size, rank, together, host
        self._told = False

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank; any that can be pickled. So ranks also wait for one another."""
        if self.size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self._host)
        return values

    def agree(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        return self.gather(value)[0]

    def same(self, value: Any) -> Any:
        """Rank 0's value where ranks work together; a stream's own where not."""
        return self.agree(value) if self.together else value

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The mean over ranks of each tensor: the loss of a step is the mean of its parts'."""
        every = self.gather(list(tensors))
        return [sum(parts) / self.size for parts in zip(*every, strict=True)]

    def ended(self, done: bool) -> bool:
        """Whether to stop timing: rank 0 says so, of streams once each of them has timed some rounds."""
        if self.size == 1 or self.together:
            return bool(self.same(done))
        store = _store()
        if not self._told:
            store.add(STARTED, 1)
            self._told = True
        if self.rank == 0 and done and store.add(STARTED, 0) == self.size:
            store.set(ENDED, "1")
            return True
        return self.rank != 0 and bool(store.check([ENDED]))

    def common(self, chunks: Sequence[Chunk]) -> slice:
        """Which rounds of a stream lie in the window in which all streams ran; all, where it is the only one.

        Needs a clock that all processes share, as a host's monotonic one is. CaseFailed where a
        stream has none.
        """
        if self.size == 1 or self.together:
            return slice(None)
        begins = [begun + before for begun, times in chunks for before in [0, *accumulate(times)][:-1]]
        ends = [begun + end for begun, times in chunks for end in accumulate(times)]
        windows = self.gather((begins[0], ends[-1]))
        first_ns, last_ns = max(begin for begin, _ in windows), min(end for _, end in windows)
        inside = [i for i in range(len(begins)) if begins[i] >= first_ns and ends[i] <= last_ns]
        counts = self.gather(len(inside))
        if not min(counts):
            raise CaseFailed("failed", f"of {self.size} streams one had no whole round while all ran: "
                                       "pass a longer --max-seconds")
        return slice(inside[0], inside[-1] + 1)

    def prove(self, device: Device) -> None:
        """CaseFailed (invalid) unless an all-reduce of ones over the ranks' devices gives their number.

        It is asked because some return without a word and without having done anything: an XLA
        all-reduce on the CPU leaves 1.
        """
        if self.size == 1:
            return
        import torch
        from torch import distributed

        ones = torch.ones(1) if not self.together else device.put(torch.ones(1))
        distributed.all_reduce(ones)
        found = float(device.read(ones)[0])
        if found != self.size:
            raise CaseFailed("invalid", f"an all-reduce of ones over {self.size} ranks gave {found:g} on rank "
                                        f"{self.rank}: they compute each for itself")

    def all_of(self, work: Work) -> Work:
        """What one step of every rank does. What goes over each rank's links is one exchange of them all."""
        if work.bus_bytes is not None:
            return work
        parts = {name: self.size * flops for name, flops in work.parts.items()}
        return dataclasses.replace(work, items=self.size * work.items, flops=work.flops and self.size * work.flops,
                                   bytes=work.bytes and self.size * work.bytes, parts=parts)


ALONE = Ranks()


def join(case: Case, backend: Backend, rank: int, timeout_s: float) -> Ranks:
    """Meet the other ranks, which torchrun's variables name. To be called before the device is opened.

    Streams meet on the host alone: their devices have nothing to say to one another, and so the libraries that are
    imported from here on are not told that there are others. torch_xla would make one world of what torchrun
    started, and refuse the one core that is each stream's.
    """
    together = load_scenario(case.scenario).together
    module, _, name = str(backend.process_group if together else "gloo").rpartition(":")
    from torch import distributed

    if module:
        importlib.import_module(module)
    limit = datetime.timedelta(seconds=timeout_s)
    distributed.init_process_group(name, timeout=limit)
    host = None if name == "gloo" else distributed.new_group(backend="gloo", timeout=limit)
    for variable in () if together else TORCHRUN:
        os.environ.pop(variable, None)
    return Ranks(size=case.ranks, rank=rank, together=together, host=host)


def shard(model: nn.Module) -> None:
    """Spread a model of the host by FSDP2: each block of its lists of layers, then the rest.

    To be called before the model is placed, so that no device ever holds more of it than one block and its own
    shards: FSDP2 moves what it shards. And before the optimiser is made, as shards take the parameters' place. A
    block is a member of an outermost `ModuleList`, as in
    https://docs.pytorch.org/tutorials/intermediate/FSDP_tutorial.html.
    Source: torch 2.13, torch/distributed/fsdp/_fully_shard/_fsdp_init.py, _move_states_to_device.
    """
    from torch.distributed.fsdp import fully_shard

    for block in _blocks(model):
        fully_shard(block)
    fully_shard(model)


def spread(model: nn.Module, case: Case) -> nn.Module:
    """A placed model as its ranks train it: DDP, unless it is in shards already."""
    if case.ranks == 1 or is_sharded(case):
        return model
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    from torch import nn

    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if next(block.parameters(), None) is not None)
        else:
            yield from _blocks(child)


@contextlib.contextmanager
def gradients_held_back(model: nn.Module) -> Iterator[None]:
    """Inside, a spread model's gradients are added up on each rank and exchanged by none: for all but a
    step's last micro-batch."""
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(model, DistributedDataParallel):
        with model.no_sync():
            yield
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        yield
        model.set_requires_gradient_sync(True)
    else:
        yield


def _store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()
