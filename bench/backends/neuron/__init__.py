"""AWS Neuron (Inferentia2, Trainium): the torch-free half of both flavours.

`native` is TorchNeuron (device "neuron"; Trn2, Trn3), `xla` torch-neuronx on PyTorch/XLA (Inf2, Trn1, Trn2): two
packages of one name, so which one it is follows from metadata (`flavour.py`) before torch is imported.
Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us.
Sources: AWS Neuron documentation, runtime configuration guide, torch environment variables, compile reference and
neuronx-cc command line reference (2.32, 2.33); torch-neuronx before its release (0.1.0) for spellings.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.backends import _cache
from bench.backends.neuron import errors
from bench.backends.neuron.flavour import Flavour, flavour, misfit
from bench.backends.neuron.start import one_at_a_time
from bench.case import Case, Scalar
from bench.contracts import Device, Probe, Program, Settings
from bench.errors import BUSY
from bench.machine import neuron
from bench.machine.files import ROOT, read
from bench.registry import load_scenario

MODES = {"native": {"compile": "neuron", "eager": "off"}, "xla": {"trace": "neuron", "lazy": "neuron"}}
"""Ways to run a model -> its setting `compile`; an XLA device always compiles."""

OPTLEVEL = {"eager": 1, "compile": 2, "trace": 2, "lazy": 2}
MODEL_TYPE = {"native": "transformer", "xla": "generic"}
"""What each mode and flavour passes to neuronx-cc where nobody says otherwise; here it is always said, and recorded.

Sources: torch-neuronx 0.1.0, KernelExecution.cpp (-O1 for an eager operator, -O2 for a graph of torch.compile; one
variable is for both, so that eager operators beside a graph are compiled as it is); neuronx-cc's reference for XLA.
"""

AUTO_CAST = ("none", "matmult", "all")
SPELLINGS = {"-O": "--optlevel", "-O1": "--optlevel", "-O2": "--optlevel", "-O3": "--optlevel", "-lnc": "--lnc",
             "--logical-nc-config": "--lnc"}


class NeuronBackend:
    name = "neuron"
    options: Mapping[str, Scalar] = {
        "cores": None,  # logical cores of a process: how many (default 1), or which: "4-7"
        "lnc": None,  # physical cores joined to a logical one: 1 or 2, on Trn2 and Trn3; None: as it is set up
        "cache": _cache.OPTION,  # cold, warm or a folder; XLA also takes an address such as s3://bucket/x
        "mode": None,  # compile, eager (native); trace, lazy (xla); None: as --compile says
        "optlevel": None,  # of neuronx-cc: 1 to 3; None: the mode's own
        "auto_cast": "none",  # none, matmult or all: what neuronx-cc may compute in fewer bits than asked
        "cc_flags": "",  # more flags of neuronx-cc; they win over ours
    }

    def __init__(self, root: Path = ROOT, installed: Flavour | None = None) -> None:
        self._root, self._installed = root, installed

    @property
    def flavour(self) -> Flavour:
        """What is installed, looked up once."""
        if self._installed is None:
            self._installed = flavour()
        return self._installed

    @property
    def process_group(self) -> str | None:
        """torch.distributed's name for what joins cores, and the module that brings it."""
        return "torch_xla.distributed.xla_backend:xla" if self.flavour.name == "xla" else "neuron"

    @property
    def tier(self) -> str:
        """Of records: a stand-in measures nothing of a Neuron device."""
        return "emulated" if self.flavour.emulated else "measured"

    @property
    def rank(self) -> int:
        """The first choice of `auto`, which never takes a stand-in."""
        return -1 if self.flavour.emulated else 20

    def probe(self) -> Probe:
        """What is here, or the first thing that is missing; neuron-ls alone is run, and only where devices are."""
        found = self.flavour
        if found.emulated and found.usable:
            return Probe(available=True, devices=({"name": f"stand-in torch-neuronx {found.version}, for tests"},))
        # Which chip it is comes first: of software for another one there is no use, and for Inf1 there is none.
        missing = self._no_device() or misfit(found.name, self._chip()) or self._no_software()
        if missing:
            return Probe(available=False, reason=missing[0], fix=missing[1])
        devices, unlisted = neuron.neuron_devices(self._root)
        kind, source = neuron.chip(self._root, devices)
        wrong = misfit(found.name, kind) or self._all_held(devices)
        if wrong:
            return Probe(available=False, reason=wrong[0], fix=wrong[1])
        shown = [_shown(one, kind) for one in devices] or [
            {"name": kind or "Neuron device", "chip": kind, "unknown": {"cores": unlisted}}
            for _ in neuron.device_files(self._root)]
        return Probe(available=True, devices=[one | {"chip_source": source} for one in shown])

    def refuse(self, case: Case) -> str | None:
        if not self.flavour.usable:
            return self.flavour.reason
        kind = self._chip()
        wrong = misfit(self.flavour.name, kind)
        return (wrong[0] if wrong else None) or self._wrong_dtype(case) or self._wrong_options(case, kind)

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        """bf16, which every NeuronCore multiplies at four times the rate of float32; autocast in training."""
        wanted = "amp-bf16" if task == "training" else "bf16"
        return wanted if wanted in dtypes else "fp32"

    def fixed(self, case: Case) -> dict[str, Any]:
        """The mode: whole graphs unless --no-compile or mode=eager asks for operators one by one.

        `auto` does not try eager beside compiled: eager too compiles each new operator and shape, some of
        them for hours, so that the trial could cost more than the measurement.
        """
        mode = self._mode(case)
        count, which = _cores(case.backend_options.get("cores"))
        compiling = MODES.get(self.flavour.name, {}).get(mode, "off")
        return {"flavour": self.flavour.name, "mode": mode, "compile": compiling,
                "cores": which or count if case.ranks == 1 else 1, "lnc": case.backend_options.get("lnc")}

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        return {}

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        """All that must be set before torch is imported; a variable with two spellings is set in both.

        BenchError where `cache` names no folder and the flavour's caches are folders.
        """
        own = {"native": self._native, "xla": self._xla}.get(self.flavour.name)
        threads = {} if case.threads == "auto" else {"OMP_NUM_THREADS": str(case.threads)}
        return {"PATH": self._path(), "CUDA_VISIBLE_DEVICES": "", "NEURON_CC_FLAGS": self.cc_flags(case),
                "NEURON_PROCESS_TAG": Path(scratch).parent.name[:255],  # no case's: two may share a process
                "NEURON_LAUNCH_BLOCKING": "0", "NEURON_RT_LOG_LOCATION": "console", "NEURON_RT_LOG_LEVEL": "ERROR",
                "NEURON_RT_STOCHASTIC_ROUNDING_EN": "0", "NEURON_RT_INSPECT_ENABLE": "0"} | threads | (
                    self._core_variables(case)) | (own(case, scratch) if own else {})

    def cc_flags(self, case: Case) -> str:
        """Flags of neuronx-cc: nothing is left to its defaults, which differ by version and flavour."""
        options, name = case.backend_options, self.flavour.name
        cast = ["--auto-cast=matmult", "--auto-cast-type=tf32"] if case.dtype == "tf32" else [
            f"--auto-cast={options.get('auto_cast', 'none')}"]
        ours = [*cast, f"--optlevel={self._optlevel(case)}",
                f"--model-type={MODEL_TYPE.get(name, 'generic')}"]
        lnc = options.get("lnc") or os.environ.get("NEURON_LOGICAL_NC_CONFIG")
        if lnc:
            ours.append(f"--lnc={lnc}")  # it must be that of the runtime
        theirs = shlex.split(str(options.get("cc_flags", "")))
        said = {SPELLINGS.get(name, name) for name in (word.partition("=")[0] for word in theirs)}
        return shlex.join([flag for flag in ours if flag.partition("=")[0] not in said] + theirs)

    def open(self, case: Case, settings: Settings) -> Device:
        if self.flavour.name == "native":
            from bench.backends.neuron.native import open_device
        else:
            from bench.backends.neuron.xla import open_device
        with one_at_a_time(case):
            return open_device(case, settings, self.flavour)

    def explain(self, text: str) -> tuple[str, str] | None:
        known, (row, _) = errors.explain(text, busy=self._busy, chip=self._chip), errors.row_of(text)
        return (BUSY, known[1]) if known and row and row.kind == "cores busy" else known

    def _core_variables(self, case: Case) -> dict[str, str]:
        """Which cores, and how many physical ones each is of; a process that is not told takes all there are.

        Only one core by itself is left to the runtime, which takes a free one: of several the number is not enough, as
        torch-neuronx on XLA sets NEURON_RT_NUM_CORES to 1 when it is imported (1.13, xla.py). A rank takes the
        one of its own number among its case's. Ranks that work together on XLA are each told of all: torch_xla
        picks by LOCAL_RANK, and refuses a list that is not as long as there are processes (torch_xla 2.9,
        _internal/neuron_utils.py).
        """
        chosen = _chosen(case)
        rank = os.environ.get("LOCAL_RANK", "") if case.ranks > 1 else ""
        if rank.isdigit() and not (self.flavour.name == "xla" and load_scenario(case.scenario).together):
            chosen = chosen[int(rank):int(rank) + 1]
        each = 1 if case.ranks > 1 else len(chosen) or 1
        cores = {"NEURON_RT_NUM_CORES": str(each)} | ({neuron.VISIBLE: neuron.core_list(chosen)} if chosen else {})
        lnc = case.backend_options.get("lnc")
        joined = {} if lnc is None else {"NEURON_LOGICAL_NC_CONFIG": str(lnc), "NEURON_RT_VIRTUAL_CORE_SIZE": str(lnc)}
        return cores | joined

    def _optlevel(self, case: Case) -> Scalar:
        return case.backend_options.get("optlevel") or OPTLEVEL.get(self._mode(case), 2)

    def _folder(self, case: Case, scratch: str) -> Path:
        """Where this process keeps what it compiles."""
        option = case.backend_options.get("cache", _cache.OPTION)
        return _cache.own_folder(_cache.cache_folder(option, scratch, self.name), case)

    def _native(self, case: Case, scratch: str) -> dict[str, str]:
        """Variables of TorchNeuron. Fallback of whole graphs to the CPU is off; that of operators is counted."""
        folder = self._folder(case, scratch)
        return {"TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
                "TORCH_NEURONX_NEFF_CACHE_DIR": str(folder / "neff"),
                "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR": str(folder / "local"),
                "TORCH_NEURONX_HLO_CACHE_DIR": str(folder / "hlo"),
                "NKI_COMPILE_CACHE_URL": str(folder / "nki"),
                "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
                "TORCH_NEURONX_DISABLE_NEFF_CACHE": "0", "TORCH_NEURONX_NEFF_DISABLE_CACHE": "0",
                "TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION": "1", "TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY": "1",
                "TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS": "1", "TORCH_NEURONX_METRICS_ENABLED": "1",
                "NEURON_COMPILER_OPT_LEVEL": f"-O{self._optlevel(case)}"}

    def _xla(self, case: Case, scratch: str) -> dict[str, str]:
        """Variables of torch-neuronx on XLA; unset, PJRT_DEVICE would be the CPU without a word.

        The compiler's cache may be at an address, which all ranks share; traced models are not kept there.
        """
        option = str(case.backend_options.get("cache", _cache.OPTION))
        kept = option if _cache.is_address(option) else str(self._folder(case, scratch))
        return {"PJRT_DEVICE": "CPU" if self.flavour.emulated else "NEURON", "NEURON_COMPILE_CACHE_URL": kept}

    def _mode(self, case: Case) -> str:
        """The mode asked for, else the flavour's own: XLA traces models without state, all else runs lazily."""
        asked = case.backend_options.get("mode")
        if asked is not None:
            return str(asked)
        if self.flavour.name == "xla":
            return "lazy" if _untraceable(case) or case.compile == "off" else "trace"
        return "eager" if case.compile == "off" else "compile"

    def _wrong_dtype(self, case: Case) -> str | None:
        if case.dtype == "fp8":
            return ("fp8 is not offered on Neuron: Trn1 and Trn2 reject torch.float8_e4m3fn (NCC_EVRF051), eager fp8 "
                    "products are computed in bf16, and torch._scaled_mm is not on the device")
        if case.dtype.startswith("amp-") and self._mode(case) == "trace":
            return f"{case.dtype} is not offered for traced models: use bf16, or mode=lazy"
        if case.dtype in ("fp16", "amp-fp16") and case.task == "training":
            return "fp16 training needs loss scaling, which is not offered on Neuron: use bf16 or amp-bf16"
        return None

    def _wrong_options(self, case: Case, kind: str | None) -> str | None:
        """What is wrong in the case's compile mode and backend options, or None."""
        options, name, mode = case.backend_options, self.flavour.name, self._mode(case)
        count, which = _cores(options.get("cores"))
        if case.compile == "dynamic":
            return "Neuron compiles for fixed shapes: dynamic=True is rejected"
        if case.compile not in ("auto", "on", "off", "neuron"):
            return f"compile mode {case.compile!r} is not one of auto, off, on, neuron"
        if mode not in MODES[name]:
            return f"the {name} flavour has no mode {mode!r}: choose {' or '.join(MODES[name])}"
        if (mode == "eager" and case.compile in ("on", "neuron")) or (mode in ("compile", "trace")
                                                                      and case.compile == "off"):
            return f"mode={mode} and --{'no-' if case.compile == 'off' else ''}compile contradict each other"
        if mode == "compile" and case.parallelism.startswith("fsdp"):
            return "a model in shards is no one graph, as Neuron's compiler wants it: pass --no-compile or --shard none"
        if name == "xla" and case.parallelism.startswith("fsdp"):
            return "parameters are not sharded over devices of torch_xla here: use --shard none"
        if mode == "trace" and _untraceable(case):
            return "a traced graph neither trains, nor keeps state between calls, nor exchanges tensors: use mode=lazy"
        if count is None:
            return f"cores={options['cores']!r} is neither a number of cores nor a range such as 4-7"
        if (count > 1 or which) and case.ranks not in ((1, count) if mode == "trace" else (count,)):
            return (f"cores={options['cores']!r} is {count} cores for {case.ranks} process(es) of one each: use "
                    f"--parallelism dp={count}, or mode=trace on XLA, where one process splits its batch")
        wanted, told = max(count, case.ranks), os.environ.get(neuron.VISIBLE)
        if told and not which and len(neuron.core_numbers(told)) < wanted:
            return f"{neuron.VISIBLE}={told} names {len(neuron.core_numbers(told))} core(s), and {wanted} are asked for"
        if options.get("lnc") not in (None, 1, 2):
            return f"lnc={options['lnc']!r} is neither 1 nor 2"
        if options.get("lnc") is not None and kind not in (None, *neuron.JOINS_CORES):
            return f"lnc is a setting of Trainium2 and Trainium3, and this is {kind}"
        if options.get("optlevel") not in (None, 1, 2, 3):
            return f"optlevel={options['optlevel']!r} is not 1, 2 or 3"
        if options.get("auto_cast", "none") not in AUTO_CAST:
            return f"auto_cast={options['auto_cast']!r} is not one of {', '.join(AUTO_CAST)}"
        return None

    def _no_device(self) -> tuple[str, str] | None:
        """Why there is no device to open, and what to do."""
        files, driver = neuron.device_files(self._root), neuron.driver_version(self._root)
        if files and driver:
            return None
        product = read(self._root, "sys/class/dmi/id/product_name") or ""
        if driver:
            return ("the Neuron driver is loaded and there is no /dev/neuron* here",
                    "in a container pass the devices in: docker run --device=/dev/neuron0")
        if files or neuron.family(product):
            here = f"this is a {product}" if neuron.family(product) else "there is a /dev/neuron*"
            return (f"{here} and the Neuron driver is not loaded (no /{neuron.DRIVER})",
                    "install aws-neuronx-dkms from AWS's apt or yum repository, then: sudo modprobe neuron")
        return "no Neuron device (/dev/neuron*) here", "run on an AWS Inf2, Trn1, Trn2 or Trn3 instance"

    def _no_software(self) -> tuple[str, str] | None:
        if self.flavour.reason and self.flavour.fix:
            return self.flavour.reason, self.flavour.fix
        if shutil.which("neuronx-cc", path=self._path()) is None:
            return ("the compiler neuronx-cc is not on PATH: the first operation would hang without a word",
                    "pip install neuronx-cc from AWS's index, and have its bin folder on PATH")
        return None

    def _all_held(self, devices: Sequence[neuron.NeuronDevice]) -> tuple[str, str] | None:
        """Whether others hold every core: a process holds what it asked for, else all of the devices that list it."""
        total = sum(one.cores or 0 for one in devices)
        asked = {holder.pid: neuron.cores_of(holder.pid, self._root) for one in devices
                 for holder in one.held_by({os.getpid()})}
        whole = [one for one in devices if any(asked[holder.pid] is None for holder in one.held_by({os.getpid()}))]
        others = {holder.pid for one in devices if one not in whole for holder in one.held_by({os.getpid()})}
        held = sum(one.cores or 0 for one in whole) + sum(asked[pid] or 0 for pid in others)
        if not total or held < total:
            return None
        return (f"all {total} NeuronCores are held: {_held(devices)}", "wait for it to end, or end it by its pid")

    def _busy(self) -> str | None:
        """Who holds what, for an error's text, or None where nobody is seen."""
        return _held(neuron.neuron_devices(self._root)[0]) or None

    def _chip(self) -> str | None:
        return neuron.chip(self._root)[0]

    def _path(self) -> str:
        """PATH with this interpreter's programs before and Neuron's tools behind: both flavours start some by name."""
        return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath),
                                str(self._root / neuron.TOOLS)])


def _untraceable(case: Case) -> bool:
    """Whether a case is beyond a graph that is traced once: it trains, keeps state, or exchanges tensors."""
    return case.task == "training" or case.scenario in ("generation", "collective")


def _chosen(case: Case) -> tuple[int, ...]:
    """Numbers of the cores of all of a case's processes: those that `cores` names, else the first that were left to
    us by NEURON_RT_VISIBLE_CORES, else the machine's first; () for one that the runtime may choose."""
    count, which = _cores(case.backend_options.get("cores"))
    wanted = case.ranks if case.ranks > 1 else count or 1
    left = neuron.core_numbers(which or os.environ.get(neuron.VISIBLE, ""))
    return left[:wanted] if left or wanted == 1 else tuple(range(wanted))


def _cores(option: Scalar) -> tuple[int | None, str | None]:
    """How many cores an option asks for, and which ones where it says so; (None, None) where it makes no sense."""
    if option is None:
        return 1, None
    if isinstance(option, int) and not isinstance(option, bool) and option > 0:
        return option, None
    found = re.fullmatch(r"(\d+)-(\d+)", str(option)) if isinstance(option, str) else None
    if found and int(found[1]) <= int(found[2]):
        return int(found[2]) - int(found[1]) + 1, str(option)
    return None, None


def _shown(one: neuron.NeuronDevice, kind: str | None) -> dict[str, Any]:
    """A device as `doctor` shows it."""
    holders = [{"pid": holder.pid, "command": holder.command} for holder in one.holders]
    return {"name": f"{kind or 'Neuron'} {one}", "chip": kind, "cores": one.cores, "lnc": one.lnc,
            "memory_bytes": one.memory_bytes, "held_by": holders}


def _held(devices: Sequence[neuron.NeuronDevice]) -> str:
    """Such as "device 0 (cores 0-3) by pid 4242 (python train.py)"."""
    return "; ".join(f"{one} by pid {holder.pid} ({holder.command or 'command unknown'})"
                     for one in devices for holder in one.held_by({os.getpid()}))


BACKEND = NeuronBackend()
