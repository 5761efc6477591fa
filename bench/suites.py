"""Suites: named lists of cases, and the plan that options make of workloads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.case import Case
from bench.contracts import Backend, Workload
from bench.errors import BenchError, nearest
from bench.parallel import refuse
from bench.registry import case_for, load_workload, workload_names

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Suite:
    """A list of (workload, options) with the effort that suits it; options as `case_for` takes them."""

    summary: str
    entries: Sequence[tuple[str, Options]]
    effort: Mapping[str, float]


_QUICK: list[tuple[str, Options]] = [
    ("bert", {"size": "base", "batch_size": 8}),
    ("resnet50", {"size": "full", "batch_size": 8}),
    ("vit", {"size": "base", "batch_size": 8}),
    ("gpt2", {"size": "small", "batch_size": 1, "options": {"new_tokens": 16}}),
    ("dlrm", {"size": "small", "batch_size": 512}),
    ("gpt2", {"task": "training", "size": "small", "batch_size": 1, "seq_len": 128}),
]

_STANDARD: list[tuple[str, Options]] = [
    *[("gemm", {"size": size}) for size in ("1024", "2048", "4096", "8192")], ("membw", {}),
    *[("bert", {"size": size, "seq_len": seq, "batch_size": 8}) for size in ("base", "large") for seq in (128, 384)],
    ("bert", {"size": "base", "scenario": "single-stream"}),
    ("resnet50", {"batch_size": 32}), ("resnet50", {"scenario": "single-stream"}), ("vit", {"batch_size": 32}),
    ("gpt2", {"size": "small"}), ("llama", {"size": "1b"}),
    ("whisper", {}), ("unet", {}), ("dlrm", {}),
    ("bert", {"task": "training", "size": "large", "batch_size": 8}),
    *[(name, {"task": "training"}) for name in ("resnet50", "vit", "dlrm")],
    ("gpt2", {"task": "training", "size": "small", "batch_size": 4}),
    ("llama", {"task": "training", "size": "1b", "batch_size": 1}),
    ("llama_lora", {"size": "1b", "batch_size": 1}),
]


def suite(name: str) -> Suite:
    """Return a suite; BenchError for an unknown name.

    `smoke` is every workload, task and scenario at its tiny size; it is found, not listed.
    """
    if name not in SUITES:
        raise BenchError(f"Unknown suite {name!r}.{nearest(name, list(SUITES))}",
                         fix=f"choose one of: {', '.join(SUITES)}.")
    if name == "smoke":
        return Suite(SUITES[name], everything(size="tiny"), {"repeats": 2, "max_seconds": 0.5})
    if name == "full":
        return Suite(SUITES[name], everything(), {})
    return Suite(SUITES[name], *{"quick": (_QUICK, {"max_seconds": 5.0}), "standard": (_STANDARD, {})}[name])


SUITES = {
    "smoke": "every workload, task and scenario at its tiny size: does it all run here?",
    "quick": "six real models in under ten minutes on two CPUs: inference, generation, training",
    "standard": "each family at a size that compares chips and fits into 16 GiB",
    "full": "every workload, task, scenario and real size: hours, and more memory than most machines have",
}


def everything(size: str | None = None) -> list[tuple[str, Options]]:
    """Every workload x task x scenario, at one size or at each real one."""
    entries: list[tuple[str, Options]] = []
    for name in workload_names():
        workload = load_workload(name)
        sizes = [size] if size else [known for known in workload.sizes if known != "tiny"]
        entries += [(name, {"task": task, "scenario": scenario, "size": each})
                    for task, scenarios in workload.scenarios.items() for scenario in scenarios for each in sizes]
    return entries


@dataclass(frozen=True, slots=True)
class Planned:
    """A case, and why it is impossible here (None: it is not)."""

    case: Case
    refused: str | None


def plan(entries: Sequence[tuple[str, Workload, Options]], backend: Backend,
         chosen: Mapping[str, Sequence[Any]], fixed: Options) -> list[Planned]:
    """Return every entry crossed with every combination of the chosen lists, in order, none twice.

    `chosen` holds what a user listed (`{"batch_size": [1, 8]}`) and stands above the entries' own
    options. Raises BenchError for what a workload does not have.
    """
    lists = {key: values for key, values in chosen.items() if values}
    planned: dict[str, Planned] = {}
    for name, workload, own in entries:
        for values in itertools.product(*lists.values()):
            wanted = dict(own) | dict(zip(lists, values, strict=True))
            options = dict(own.get("options", {})) | dict(fixed.get("options", {}))
            others = {key: value for key, value in fixed.items() if key != "options"}
            task = wanted.get("task") or next(iter(workload.scenarios))
            dtype = wanted.pop("dtype", None) or backend.default_dtype(task, workload.dtypes)
            wanted.pop("options", None)
            case = case_for(name, workload, backend=backend.name, dtype=dtype, options=options, **wanted, **others)
            refused = backend.refuse(case) or refuse(case, backend) or workload.limits(case)
            planned.setdefault(case.id, Planned(case, refused))
    return list(planned.values())
