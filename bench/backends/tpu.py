"""Google TPUs by torch_xla: lazy tensors with PJRT_DEVICE=TPU. Written from documentation, not run on a TPU by us.

Sources: PyTorch/XLA 2.9 documentation (installation, PJRT runtime, float precision).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.case import Case, Scalar
from bench.catalog.chips import chip_id_of, peak_flops_per_second
from bench.contracts import Device, Probe, Program, Settings
from bench.errors import CaseFailed
from bench.machine.accelerators import tpus
from bench.machine.files import ROOT

UNTRIED = "not run on hardware by us"
COMPILE_MODES = ("auto", "on")


class TpuBackend:
    name = "tpu"
    rank = 5
    process_group = None  # one device: an all-reduce over PJRT on the CPU changes nothing, so this could not be tested
    options: Mapping[str, Scalar] = {}

    def __init__(self, root: Path = ROOT, pjrt_device: str = "TPU") -> None:
        """`pjrt_device`: "CPU" in tests, on a machine without a TPU; its records are marked as emulated."""
        self._root, self._pjrt_device = root, pjrt_device

    @property
    def tier(self) -> str:
        return "measured" if self._pjrt_device == "TPU" else "emulated"

    def probe(self) -> Probe:
        found = tpus(self._root)
        if not found:
            return Probe(available=False, reason="no TPU on this machine's PCI bus",
                         fix=f"run on a Google Cloud TPU VM (this backend was {UNTRIED})")
        for module, fix in (("torch_xla", "pip install torch==2.9.0 'torch_xla[tpu]==2.9.0'"),
                            ("libtpu", "pip install 'torch_xla[tpu]==2.9.0'")):
            if find_spec(module) is None:
                return Probe(available=False, reason=f"{len(found)} x {found[0]} here, and {module} is not installed",
                             fix=f"{fix} (this backend was {UNTRIED})")
        return Probe(available=True, devices=[{"name": f"{name} ({UNTRIED})", "chip": chip_id_of(name)}
                                              for name in found])

    def refuse(self, case: Case) -> str | None:
        if case.dtype in ("tf32", "fp8"):
            return f"dtype {case.dtype} is not offered on TPU: use fp32, bf16 or amp-bf16"
        if case.dtype in ("fp16", "amp-fp16"):
            return f"dtype {case.dtype} has no unit of its own on a TPU: use bf16 or amp-bf16"
        if case.compile not in COMPILE_MODES:
            return (f"compile mode {case.compile!r} is not one of {', '.join(COMPILE_MODES)}: lazy tensors always "
                    "compile")
        if case.parallelism != "dp=1":
            return f"parallelism {case.parallelism} is not offered on TPU: use dp=1"
        return None

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        """bf16, the format of a TPU's matrix units; autocast in training."""
        wanted = "amp-bf16" if task == "training" else "bf16"
        return wanted if wanted in dtypes else "fp32"

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        threads = {} if case.threads == "auto" else {"OMP_NUM_THREADS": str(case.threads)}
        return {"PJRT_DEVICE": self._pjrt_device, "CUDA_VISIBLE_DEVICES": ""} | threads

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        return {}

    def fixed(self, case: Case) -> dict[str, Any]:
        return {"compile": "xla"}

    def open(self, case: Case, settings: Settings) -> Device:
        if find_spec("torch_xla") is None:
            raise CaseFailed("failed", "torch_xla is not installed: pip install torch==2.9.0 'torch_xla[tpu]==2.9.0'")
        return _device(case, self._pjrt_device, tpus(self._root))

    def explain(self, text: str) -> tuple[str, str] | None:
        """XLA's own words for what it ran out of: RESOURCE_EXHAUSTED, as a status of the runtime."""
        line = next((line for line in text.splitlines() if "RESOURCE_EXHAUSTED" in line), None)
        return ("oom", f"the TPU's memory ran out: {line.strip()[:300]}") if line else None


def _device(case: Case, pjrt_device: str, chips: Sequence[str]) -> Device:
    """Open the first TPU device of this process; the class needs torch, so it is made here."""
    from torch_xla import backends

    from bench.backends._lazy import LazyDevice

    chip = chip_id_of(chips[0]) if len(set(chips)) == 1 else None
    # float32 products would be of bf16 otherwise, whose error is no float32's.
    backends.set_mat_mul_precision("highest" if case.dtype == "fp32" else "default")

    class TpuDevice(LazyDevice):
        def ceiling_flops_per_second(self) -> tuple[float | None, str]:
            if chip is None:
                return None, "the chip is unknown"
            return peak_flops_per_second(chip, case.dtype)

        def report(self) -> dict[str, Any]:
            found = super().report()
            found["device"] = {"kind": "tpu", "name": chips[0] if chips else found["device"]["device_kind"],
                               "chip": chip, "chips": 1, "cores": None,
                               "unknown": {"cores": "torch_xla does not say"}, **found["device"]}
            found["energy"] = {"joules": None, "method": None, "reason": "torch_xla shows no power of a TPU"}
            found["warnings"].append(f"the TPU backend was {UNTRIED}: mistrust it until you have checked a number")
            return found

    return TpuDevice(case, pjrt_device)


BACKEND = TpuBackend()
