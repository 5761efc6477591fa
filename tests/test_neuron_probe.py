"""The Neuron backend's torch-free half: which package is here, what is missing, what a child is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.backends.neuron import NeuronBackend
from bench.backends.neuron.facts import facts
from bench.backends.neuron.flavour import EMULATED, Flavour, flavour, misfit
from bench.backends.neuron.start import one_at_a_time
from bench.case import Case, Effort
from bench.errors import BUSY, BenchError
from bench.registry import backend_names, load_backend
from bench.runner import Session, ask
from tests.fakes.neuron_machine import machine, site, write

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests/samples/neuron"
TOOLS = ROOT / "tests/fakes/neuron_tools"

NATIVE = Flavour(name="native", version="2.13.3.0")
XLA = Flavour(name="xla", version="2.9.0.2.15.32035")
XLA_PACKAGES = {"torch-neuronx": "2.9.0.2.15.32035", "torch": "2.9.0"}


def case(**fields: Any) -> Case:
    known = {"workload": "bert", "size": "tiny", "task": "inference", "scenario": "offline", "backend": "neuron",
             "dtype": "bf16", "batch_size": 1}
    return Case(**(known | fields))


# Which package


@pytest.mark.parametrize(("packages", "modules", "name", "words"), [
    ({}, (), "none", "torch-neuronx is not installed"),
    ({"libtorch-neuronx-lite": "2.13.0"}, ("torch_neuronx_lite",), "lite", "vLLM"),
    ({"torch-neuronx": "1.0"}, (), "placeholder", "placeholder of the public PyPI"),
    ({"torch-neuronx": "1.0.0", "torch": "2.13.0"}, ("torch_neuronx",), "placeholder", "holds no code"),
    ({"torch-neuronx": "2.13.3.0", "torch": "2.13.0+cpu"}, ("torch_neuronx",), "native", None),
    ({"torch-neuronx": "2.10.0", "torch": "2.10.1"}, ("torch_neuronx",), "native", None),
    ({"torch-neuronx": "2.14.3.0", "torch": "2.13.0"}, ("torch_neuronx",), "broken", "torch 2.14, and torch 2.13"),
    ({"torch-neuronx": "2.14.3.0"}, ("torch_neuronx",), "broken", "no torch is installed"),
    ({"torch-neuronx": "0.1.0", "torch": "2.10.0"}, ("torch_neuronx", "torch_neuronx/neuron_dynamo_backend"),
     "native", None),
    (XLA_PACKAGES, ("torch_neuronx", "torch_xla", "libneuronxla"), "xla", None),
    (XLA_PACKAGES, ("torch_neuronx", "libneuronxla"), "broken", "torch_xla is missing"),
    (XLA_PACKAGES, ("torch_neuronx", "torch_xla"), "broken", "libneuronxla is missing"),
    ({"torch-neuron": "1.13.1.2"}, ("torch_neuron",), "inf1", "archived"),
])
def test_the_package_is_told_by_metadata_alone(tmp_path: Path, packages: dict[str, str], modules: tuple[str, ...],
                                               name: str, words: str | None) -> None:
    found = flavour(site(tmp_path, packages, *modules))
    assert found.name == name
    assert found.usable is (words is None)
    assert words is None or words in str(found.reason)
    assert bool(found.fix) is not found.usable
    assert not found.emulated


@pytest.mark.parametrize("packages", [{}, {"torch-neuronx": "1.0"}, {"libtorch-neuronx-lite": "2.13.0"},
                                      {"torch-neuron": "1.13.1.2"}])
def test_what_to_install_instead_is_said_for_every_chip(tmp_path: Path, packages: dict[str, str]) -> None:
    fix = str(flavour(site(tmp_path, packages)).fix)
    assert "on Trn2 and Trn3: pip install --extra-index-url https://pip.repos.neuron" in fix
    assert "on Inf2 and Trn1: pip install --extra-index-url https://pip.repos.neuron" in fix
    assert "\n" not in fix


def test_a_stand_in_is_told_by_its_classifier_and_makes_records_emulated(tmp_path: Path) -> None:
    packages = {"torch-neuronx": "2.13.3.0+emulator", "torch": "2.13.0"}
    found = flavour(site(tmp_path, packages, "torch_neuronx", classifier=EMULATED))
    assert (found.name, found.emulated, found.usable) == ("native", True, True)
    backend = NeuronBackend(tmp_path, found)
    assert backend.tier == "emulated"
    assert backend.rank < 0  # so that `auto` never takes it
    assert backend.probe().available
    assert (NeuronBackend(tmp_path, NATIVE).tier, NeuronBackend(tmp_path, NATIVE).rank) == ("measured", 20)


def test_looking_imports_neither_torch_nor_the_package() -> None:
    code = ("import sys; from bench.registry import load_backend; b = load_backend('neuron'); b.probe(); b.tier;"
            "print([m for m in sys.modules if m.partition('.')[0] in ('torch', 'torch_neuronx', 'torch_xla')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "chip", "words"), [
    ("native", "trainium2", None), ("native", "trainium3", None), ("native", None, None),
    ("native", "trainium1", "Trainium2 and Trainium3 only"), ("native", "inferentia2", "Trainium2 and Trainium3 only"),
    ("xla", "inferentia2", None), ("xla", "trainium1", None), ("xla", "trainium2", None),
    ("xla", "trainium3", "does not run on trainium3"), ("xla", "inferentia1", "Inf1"),
    ("native", "inferentia1", "Inf1")])
def test_each_flavour_runs_on_its_own_chips(name: str, chip: str | None, words: str | None) -> None:
    found = misfit(name, chip)
    assert (found is None) is (words is None)
    assert found is None or words in found[0]


# What doctor is told


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """PATH with the stand-in tools and, where asked, a neuronx-cc; neuron-ls prints the sample given."""
    def put(sample: str | None, *, compiler: bool = True) -> None:
        programs = tmp_path / "programs"
        if compiler:
            write(programs, "neuronx-cc", "#!/bin/sh\n")
            (programs / "neuronx-cc").chmod(0o755)
        monkeypatch.setenv("PATH", f"{TOOLS}:{programs}:/usr/bin:/bin")
        if sample:
            monkeypatch.setenv("FAKE_NEURON_LS", str(SAMPLES / sample))

    return put


def nothing(root: Path) -> None:
    root.mkdir()


@pytest.mark.parametrize(("there", "installed", "reason", "fix"), [
    (nothing, NATIVE, "no Neuron device (/dev/neuron*) here", "Trn2"),
    (lambda r: machine(r, files=0, driver=None, chip=None, product="trn2.48xlarge"), NATIVE,
     "this is a trn2.48xlarge and the Neuron driver is not loaded", "aws-neuronx-dkms"),
    (lambda r: machine(r, driver=None, chip=None), NATIVE, "driver is not loaded", "sudo modprobe neuron"),
    (lambda r: machine(r, files=0), NATIVE, "no /dev/neuron* here", "--device=/dev/neuron0"),
    (machine, Flavour(name="none", reason="torch-neuronx is not installed", fix="pip install it"),
     "torch-neuronx is not installed", "pip install"),
    (machine, Flavour(name="placeholder", version="1.0", reason="a placeholder", fix="add the index"),
     "a placeholder", "add the index"),
    (lambda r: machine(r, chip="Trainium1"), NATIVE, "and this is trainium1", "torch-neuronx==2.9"),
    (lambda r: machine(r, chip="Trainium3"), XLA, "does not run on trainium3", "torch-neuronx==2.14"),
    (lambda r: machine(r, chip="Inferentia"), XLA, "Inf1", "Inf2"),
    (lambda r: machine(r, chip="Inferentia"), Flavour(name="inf1", reason="archived", fix="install the other"),
     "software ended", "use an Inf2"),
])
def test_the_first_thing_that_is_missing_is_told_in_a_line_with_a_next_step(
        tmp_path: Path, tools: Callable[..., None], there: Callable[[Path], Any], installed: Flavour, reason: str,
        fix: str) -> None:
    tools(None)
    there(tmp_path / "root")
    found = NeuronBackend(tmp_path / "root", installed).probe()
    assert not found.available
    assert reason in str(found.reason)
    assert fix in str(found.fix)
    assert "\n" not in f"{found.reason}{found.fix}"


def test_a_missing_compiler_is_told_before_the_first_operation_hangs(tmp_path: Path,
                                                                     tools: Callable[..., None]) -> None:
    tools("neuron-ls-trn2.json", compiler=False)
    found = NeuronBackend(machine(tmp_path / "root"), NATIVE).probe()
    assert "neuronx-cc is not on PATH" in str(found.reason)


def test_cores_that_are_all_held_are_told_with_pid_and_command(tmp_path: Path, tools: Callable[..., None]) -> None:
    tools("neuron-ls-trn2.json")
    found = NeuronBackend(machine(tmp_path / "root"), NATIVE).probe()
    assert found.reason == "all 4 NeuronCores are held: device 0 (cores 0-3) by pid 4242 (python -m train)"
    assert found.fix == "wait for it to end, or end it by its pid"


@pytest.mark.parametrize(("asked", "held"), [
    ({}, False),  # two who do not say how much they hold, on one of sixteen chips
    ({4242: "NEURON_RT_NUM_CORES=1"}, False),
    ({4242: "NEURON_RT_VISIBLE_CORES=0-31"}, True)])
def test_who_does_not_say_what_he_holds_holds_the_devices_that_list_him(
        tmp_path: Path, tools: Callable[..., None], monkeypatch: pytest.MonkeyPatch, asked: dict[int, str],
        held: bool) -> None:
    tools(None)
    holders = [{"pid": pid, "command": "python"} for pid in (4242, 4243)]
    chips = [{"neuron_device": index, "nc_count": 2, "neuroncore_ids": [2 * index, 2 * index + 1],
              "neuron_processes": holders if index == 0 else holders[:1] if asked else []} for index in range(16)]
    write(tmp_path, "ls.json", json.dumps(chips))
    monkeypatch.setenv("FAKE_NEURON_LS", str(tmp_path / "ls.json"))
    root = machine(tmp_path / "root", chip="Trainium1", devices=16)
    for pid, text in asked.items():
        write(root, f"proc/{pid}/environ", f"{text}\0")
    assert NeuronBackend(root, XLA).probe().available is not held


def test_a_holder_of_one_core_leaves_the_others_available(tmp_path: Path, tools: Callable[..., None]) -> None:
    tools("neuron-ls-trn2.json")
    root = machine(tmp_path / "root")
    write(root, "proc/4242/environ", "NEURON_RT_NUM_CORES=1\0")
    found = NeuronBackend(root, NATIVE).probe()
    assert found.available
    [device] = found.devices
    assert (device["chip"], device["cores"], device["lnc"]) == ("trainium2", 4, 2)
    assert device["held_by"] == [{"pid": 4242, "command": "python -m train"}]


def test_devices_are_named_without_neuron_ls_and_their_cores_unknown_with_the_reason(
        tmp_path: Path, tools: Callable[..., None]) -> None:
    tools(None)
    found = NeuronBackend(machine(tmp_path / "root", chip="Inferentia2", devices=2), XLA).probe()
    assert found.available
    assert [device["chip"] for device in found.devices] == ["inferentia2"] * 2
    assert "neuron-ls ended with exit code 1" in found.devices[0]["unknown"]["cores"]


def test_probing_is_quick_and_safe_on_this_machine() -> None:
    assert "neuron" in backend_names()
    backend = load_backend("neuron")
    times_s = []
    for _ in range(3):
        started_s = time.perf_counter()
        found = backend.probe()
        times_s.append(time.perf_counter() - started_s)
    assert found.available or (found.reason and found.fix)
    assert min(times_s) < 0.3


# What a case is told


@pytest.mark.parametrize(("installed", "chip", "fields", "words"), [
    (NATIVE, "Trainium2", {}, None), (XLA, "Trainium1", {}, None),
    (NATIVE, "Trainium2", {"dtype": "fp8"}, "NCC_EVRF051"),
    (NATIVE, "Trainium2", {"dtype": "tf32"}, None), (XLA, "Trainium1", {"dtype": "tf32"}, None),
    (NATIVE, "Trainium2", {"dtype": "fp16", "task": "training"}, "loss scaling"),
    (XLA, "Trainium1", {"dtype": "amp-bf16"}, "mode=lazy"),
    (NATIVE, "Trainium1", {}, "Trainium2 and Trainium3 only"),
    (Flavour(name="none", reason="torch-neuronx is not installed", fix="x"), "Trainium2", {}, "not installed"),
    (NATIVE, "Trainium2", {"compile": "dynamic"}, "fixed shapes"),
    (NATIVE, "Trainium2", {"compile": "inductor"}, "not one of auto, off, on, neuron"),
    (NATIVE, "Trainium2", {"backend_options": {"mode": "trace"}}, "compile or eager"),
    (NATIVE, "Trainium2", {"backend_options": {"mode": "eager"}, "compile": "on"}, "contradict"),
    (XLA, "Trainium1", {"backend_options": {"mode": "trace"}, "task": "training"}, "neither trains"),
    (NATIVE, "Trainium2", {"backend_options": {"cores": 2}}, "--parallelism dp=2"),
    (XLA, "Trainium1", {"backend_options": {"cores": 2}}, None),
    (NATIVE, "Trainium2", {"backend_options": {"cores": "many"}}, "neither a number of cores nor a range"),
    (NATIVE, "Trainium2", {"backend_options": {"cores": "7-4"}}, "neither a number"),
    (XLA, "Trainium1", {"backend_options": {"cores": 2}, "parallelism": "dp=4"}, "2 cores for 4 process(es)"),
    (XLA, "Trainium1", {"backend_options": {"cores": "4-4"}, "parallelism": "dp=4"}, "1 cores for 4 process(es)"),
    (XLA, "Trainium1", {"backend_options": {"cores": "4-7"}, "parallelism": "dp=4"}, None),
    (NATIVE, "Trainium2", {"backend_options": {"lnc": 3}}, "neither 1 nor 2"),
    (XLA, "Trainium1", {"backend_options": {"lnc": 1}}, "this is trainium1"),
    (NATIVE, "Trainium2", {"backend_options": {"optlevel": 4}}, "not 1, 2 or 3"),
    (NATIVE, "Trainium2", {"backend_options": {"auto_cast": "some"}}, "none, matmult, all"),
])
def test_an_impossible_case_is_refused_with_the_reason(tmp_path: Path, installed: Flavour, chip: str,
                                                       fields: dict[str, Any], words: str | None) -> None:
    refused = NeuronBackend(machine(tmp_path, chip=chip), installed).refuse(case(**fields))
    assert (refused is None) is (words is None), refused
    assert words is None or words in str(refused)


@pytest.mark.parametrize(("installed", "fields", "mode", "compiling"), [
    (NATIVE, {}, "compile", "neuron"), (NATIVE, {"compile": "off"}, "eager", "off"),
    (NATIVE, {"task": "training"}, "compile", "neuron"),
    (NATIVE, {"backend_options": {"mode": "eager"}}, "eager", "off"),
    (XLA, {}, "trace", "neuron"), (XLA, {"compile": "off"}, "lazy", "neuron"),
    (XLA, {"task": "training"}, "lazy", "neuron"), (XLA, {"scenario": "generation"}, "lazy", "neuron"),
])
def test_auto_is_the_flavour_s_own_way_of_compiling(installed: Flavour, fields: dict[str, Any], mode: str,
                                                    compiling: str) -> None:
    found = NeuronBackend(installed=installed).fixed(case(**fields))
    assert (found["mode"], found["compile"], found["flavour"]) == (mode, compiling, installed.name)


def environment(installed: Flavour, scratch: Path, **options: Any) -> dict[str, str]:
    backend = NeuronBackend(installed=installed)
    one = case(backend_options=dict(backend.options) | options)
    return backend.environment(one, backend.fixed(one), str(scratch / "record" / "measure"))


def test_a_child_takes_one_core_is_asynchronous_and_has_a_tag_of_its_own(tmp_path: Path) -> None:
    found = environment(NATIVE, tmp_path)
    assert found["NEURON_RT_NUM_CORES"] == "1"
    assert "NEURON_RT_VISIBLE_CORES" not in found
    assert "NEURON_LOGICAL_NC_CONFIG" not in found
    assert (found["NEURON_LAUNCH_BLOCKING"], found["NEURON_RT_STOCHASTIC_ROUNDING_EN"]) == ("0", "0")
    assert found["NEURON_PROCESS_TAG"] == "record"


def test_the_native_flavour_neither_falls_back_nor_copies_in_silence(tmp_path: Path) -> None:
    found = environment(NATIVE, tmp_path)
    assert found["TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION"] == "1"
    assert found["TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY"] == "1"
    assert found["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"
    assert "PJRT_DEVICE" not in found


def test_the_xla_flavour_never_runs_on_the_cpu_unless_it_is_a_stand_in(tmp_path: Path) -> None:
    assert environment(XLA, tmp_path)["PJRT_DEVICE"] == "NEURON"
    stand_in = Flavour(name="xla", version="2.9.0", emulated=True)
    assert environment(stand_in, tmp_path)["PJRT_DEVICE"] == "CPU"


CACHES = {"native": ("TORCH_NEURONX_NEFF_CACHE_DIR", "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR",
                     "TORCH_NEURONX_HLO_CACHE_DIR", "NKI_COMPILE_CACHE_URL", "TORCHINDUCTOR_CACHE_DIR"),
          "xla": ("NEURON_COMPILE_CACHE_URL",)}


@pytest.mark.parametrize("installed", [NATIVE, XLA], ids=lambda one: one.name)
def test_cold_caches_are_the_record_s_own_and_warm_ones_are_kept(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: Flavour) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    for cache, folder in (("cold", tmp_path / "record/measure"), ("warm", tmp_path / "kept/trnbench/compiled/neuron"),
                          (str(tmp_path / "mine"), tmp_path / "mine")):
        found = environment(installed, tmp_path, cache=cache)
        for name in CACHES[installed.name]:
            assert Path(found[name]).is_relative_to(folder), (cache, name)
    assert len({environment(installed, tmp_path)[name] for name in CACHES[installed.name]}) == len(
        CACHES[installed.name])


def test_variables_with_two_spellings_are_set_in_both(tmp_path: Path) -> None:
    found = environment(NATIVE, tmp_path, lnc=1)
    assert (found["NEURON_LOGICAL_NC_CONFIG"], found["NEURON_RT_VIRTUAL_CORE_SIZE"]) == ("1", "1")
    assert "--lnc=1" in found["NEURON_CC_FLAGS"].split()
    assert (found["TORCH_NEURONX_DISABLE_NEFF_CACHE"], found["TORCH_NEURONX_NEFF_DISABLE_CACHE"]) == ("0", "0")


@pytest.mark.parametrize(("exported", "cores", "parallelism", "number", "named"), [
    (None, None, "dp=1", "1", None),  # the runtime takes a free one
    (None, 4, "dp=1", "4", "0-3"),  # of several the number is not enough
    (None, "4-7", "dp=1", "4", "4-7"), (None, None, "dp=4", "1", "0-3"),
    ("4-7", None, "dp=1", "1", "4"), ("5", None, "dp=1", "1", "5"), ("4-7", 2, "dp=1", "2", "4-5"),
    ("4-7", "0-1", "dp=1", "2", "0-1"), ("4-7", None, "dp=2", "1", "4-5"), ("2,4-6", 3, "dp=1", "3", "2,4-5")])
def test_cores_are_those_named_or_left_to_us_and_the_variables_agree(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: str | None, cores: int | str | None,
        parallelism: str, number: str, named: str | None) -> None:
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "32")  # a shell's, which is not ours
    if exported:
        monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", exported)
    backend = NeuronBackend(machine(tmp_path), XLA)
    one = case(parallelism=parallelism, backend_options={"cores": cores})
    assert backend.refuse(one) is None
    settings = backend.fixed(one)
    found = backend.environment(one, settings, str(tmp_path))
    assert (found["NEURON_RT_NUM_CORES"], found.get("NEURON_RT_VISIBLE_CORES")) == (number, named)
    assert settings["cores"] == (1 if parallelism != "dp=1" else cores or 1)


@pytest.mark.parametrize(("exported", "words"), [("4-5", "names 2 core(s), and 4 are asked for"),
                                                 ("a few", "names 0 core(s), and 4 are asked for")])
def test_cores_that_are_not_left_to_us_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: str,
                                                   words: str) -> None:
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", exported)
    refused = NeuronBackend(machine(tmp_path), XLA).refuse(case(parallelism="dp=4"))
    assert words in str(refused)


def test_a_rank_s_core_is_one_of_those_that_its_launcher_was_left(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURON_RT_VISIBLE_CORES", "4-7")
    backend, one = NeuronBackend(machine(tmp_path), XLA), case(parallelism="dp=3")
    for name, value in backend.environment(one, backend.fixed(one), str(tmp_path)).items():
        monkeypatch.setenv(name, value)  # the launcher's, which a rank is given
    for rank in range(3):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        found = backend.environment(one, backend.fixed(one), str(tmp_path))
        assert found["NEURON_RT_VISIBLE_CORES"] == str(4 + rank)


@pytest.mark.parametrize(("options", "core"), [({}, "3"), ({"cores": "4-7"}, "7")])
def test_each_rank_of_a_parallel_case_takes_the_core_of_its_number(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], core: str) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    backend = NeuronBackend(machine(tmp_path), NATIVE)
    one = case(parallelism="dp=4", backend_options=options)
    assert backend.refuse(one) is None
    found = backend.environment(one, backend.fixed(one), str(tmp_path))
    assert found["NEURON_RT_VISIBLE_CORES"] == core
    assert found["NEURON_RT_NUM_CORES"] == "1"
    assert environment(NATIVE, tmp_path)["NEURON_RT_NUM_CORES"] == "1"  # another's LOCAL_RANK is not a case's of one


def test_ranks_that_train_together_on_xla_are_told_of_all_their_cores_and_streams_of_their_own(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    backend = NeuronBackend(machine(tmp_path), XLA)

    def cores(**changes: Any) -> str:
        one = case(parallelism="dp=4", **changes)
        return backend.environment(one, backend.fixed(one), str(tmp_path))["NEURON_RT_VISIBLE_CORES"]

    assert cores(task="training", scenario="training") == "0-3"
    assert cores(task="training", scenario="training", backend_options={"cores": "4-7"}) == "4-7"
    assert cores() == "1"


@pytest.mark.parametrize(("installed", "variable", "below"), [
    (NATIVE, "TORCH_NEURONX_NEFF_CACHE_DIR", "neff"), (XLA, "NEURON_COMPILE_CACHE_URL", "")])
def test_each_rank_compiles_into_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     installed: Flavour, variable: str, below: str) -> None:
    backend = NeuronBackend(machine(tmp_path), installed)
    kept = tmp_path / "kept"

    def folder(parallelism: str) -> Path:
        one = case(parallelism=parallelism, backend_options={"cache": str(kept)})
        return Path(backend.environment(one, backend.fixed(one), str(tmp_path))[variable])

    assert folder("dp=2") == kept / below  # the launcher's, which compiles nothing
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert folder("dp=2") == kept / "rank1" / below
    assert folder("dp=1") == kept / below


def test_cores_train_together_in_both_flavours() -> None:
    assert [NeuronBackend(installed=one).process_group for one in (NATIVE, XLA)] == [
        "neuron", "torch_xla.distributed.xla_backend:xla"]
    collective = case(workload="collectives", scenario="collective", parallelism="dp=2")
    assert NeuronBackend(installed=XLA).fixed(collective)["mode"] == "lazy"


def test_a_model_in_shards_is_not_compiled(tmp_path: Path) -> None:
    backend = NeuronBackend(machine(tmp_path), NATIVE)
    shards = case(task="training", scenario="training", parallelism="fsdp=2")
    assert "no one graph" in str(backend.refuse(shards))
    eager = case(task="training", scenario="training", parallelism="fsdp=2", compile="off")
    assert backend.refuse(eager) is None


@pytest.mark.parametrize(("installed", "options", "flags"), [
    (NATIVE, {}, "--auto-cast=none --optlevel=2 --model-type=transformer"),
    (NATIVE, {"mode": "eager"}, "--auto-cast=none --optlevel=1 --model-type=transformer"),
    (XLA, {}, "--auto-cast=none --optlevel=2 --model-type=generic"),
    (XLA, {"auto_cast": "matmult", "optlevel": 3}, "--auto-cast=matmult --optlevel=3 --model-type=generic"),
    (XLA, {"cc_flags": "--model-type unet-inference -O1"}, "--auto-cast=none --model-type unet-inference -O1"),
])
def test_the_compiler_s_flags_are_all_said_and_the_user_s_win(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: Flavour, options: dict[str, Any],
        flags: str) -> None:
    monkeypatch.delenv("NEURON_LOGICAL_NC_CONFIG", raising=False)
    assert environment(installed, tmp_path, **options)["NEURON_CC_FLAGS"] == flags


@pytest.mark.parametrize(("options", "level"), [({}, "-O2"), ({"mode": "eager"}, "-O1"), ({"optlevel": 3}, "-O3")])
def test_the_native_flavour_is_told_the_same_level_as_the_compiler(tmp_path: Path, options: dict[str, Any],
                                                                   level: str) -> None:
    found = environment(NATIVE, tmp_path, **options)
    assert found["NEURON_COMPILER_OPT_LEVEL"] == level
    assert f"--optlevel={level[-1]}" in found["NEURON_CC_FLAGS"]


@pytest.mark.parametrize("installed", [NATIVE, XLA], ids=lambda one: one.name)
def test_tf32_is_a_cast_of_the_compiler_s(installed: Flavour) -> None:
    backend = NeuronBackend(installed=installed)
    assert backend.cc_flags(case(dtype="tf32")).startswith("--auto-cast=matmult --auto-cast-type=tf32 ")


@pytest.mark.parametrize("installed", [NATIVE, XLA], ids=lambda one: one.name)
def test_a_profiler_that_a_shell_left_on_is_off(tmp_path: Path, installed: Flavour) -> None:
    assert environment(installed, tmp_path)["NEURON_RT_INSPECT_ENABLE"] == "0"


def test_a_cache_at_an_address_is_passed_on_where_it_can_be_one_and_refused_where_not(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment(XLA, tmp_path, cache="s3://bucket/x")["NEURON_COMPILE_CACHE_URL"] == "s3://bucket/x"
    with pytest.raises(BenchError, match="cache=s3://bucket/x is no folder") as refused:
        environment(NATIVE, tmp_path, cache="s3://bucket/x")
    assert refused.value.fix == "pass cold, warm or a folder."
    with pytest.raises(BenchError, match="is no folder"):
        load_backend("cpu").environment(case(backend="cpu", backend_options={"cache": "s3://bucket/x"}), {}, "/scratch")


def test_the_interpreter_s_programs_and_neuron_s_tools_are_on_the_child_s_path(tmp_path: Path) -> None:
    folders = environment(NATIVE, tmp_path)["PATH"].split(os.pathsep)
    assert folders[0] == str(Path(sys.executable).parent)
    assert folders[-1] == "/opt/aws/neuron/bin"


def test_busy_cores_are_explained_by_who_holds_them_now(tmp_path: Path, tools: Callable[..., None]) -> None:
    tools("neuron-ls-trn2.json")
    told = NeuronBackend(machine(tmp_path), NATIVE).explain("NeuronCore(s) not available - Requested:nc1 Available:0")
    assert told is not None
    assert told[0] == BUSY
    assert told[1].endswith("held, device 0 (cores 0-3) by pid 4242 (python -m train)")


@pytest.mark.parametrize("free", [True, False])
def test_a_case_whose_cores_are_busy_is_tried_once_more_and_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: bool) -> None:
    monkeypatch.setattr(runner, "AGAIN_AFTER_S", 0.0)
    busy = {"status": "failed", "reason": "NeuronCore(s) not available - Requested:nc1 Available:0"}
    results = [dict(busy), {"status": "valid", "reason": None, "warnings": ["another"]} if free else dict(busy)]
    asked: list[dict[str, Any]] = []

    def converse(request: dict[str, Any], *_: Any) -> dict[str, Any]:
        asked.append(request)
        return {"result": results[len(asked) - 1], "stderr": "", "wall_s": 1.0}

    monkeypatch.setattr(runner, "converse", converse)
    session = Session(effort=Effort(), machine={"name": "a machine"})
    found = ask({"role": "measure"}, case(), session, {}, str(tmp_path), "child 1")
    assert len(asked) == 2
    assert found["status"] == ("valid" if free else "failed")
    assert found["warnings"][0].startswith("tried once more after 0 s: NeuronCores are busy (asked for nc1, free 0)")
    assert found["warnings"][1:] == (["another"] if free else [])


def test_processes_start_the_runtime_one_at_a_time_unless_they_meet_there(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started: list[str] = []

    def start(one: Case) -> threading.Thread:
        def run() -> None:
            with one_at_a_time(one):
                started.append(one.parallelism)
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with one_at_a_time(case()):
        stream = start(case(parallelism="dp=2"))
        start(case(parallelism="dp=4", task="training", scenario="training")).join(10)
        assert started == ["dp=4"]
    stream.join(10)
    assert started == ["dp=4", "dp=2"]


# What a record says


def test_facts_of_a_machine_are_its_chip_cores_versions_and_flags(
        tmp_path: Path, tools: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    tools("neuron-ls-trn2.json")
    monkeypatch.setenv("NEURON_CC_FLAGS", "--auto-cast=none")
    monkeypatch.setenv("NEURON_RT_ROOT_COMM_ID", "host.example:1234")
    found = facts(NATIVE, machine(tmp_path))
    assert (found["name"], found["chip"], found["chips_here"], found["cores_here"]) == ("Trainium2", "trainium2", 1, 4)
    assert (found["lnc"], found["driver"], found["flavour"]) == (2, "2.31.7.0", "native")
    assert found["flags"]["NEURON_CC_FLAGS"] == "--auto-cast=none"
    assert "host.example" not in json.dumps(found)
    assert set(found["packages"]) == {"torch", "torch-neuronx", "neuronx-cc", "libneuronxla", "nki", "torch-xla"}


@pytest.mark.parametrize(("known", "cores", "expected"), [
    ({"chip": "trainium2", "lnc": 2}, 1, (1, 0.25)),  # 8 physical cores, joined by twos
    ({"chip": "trainium2", "lnc": 1}, 1, (1, 0.125)),
    ({"chip": "trainium2", "lnc": 2}, 6, (2, 0.75)),
    ({"chip": "inferentia2", "lnc": 1}, 2, (1, 1.0)),
    ({"chips_here": 16, "cores_here": 64}, 64, (16, 1.0)),  # an unknown chip, as neuron-ls counts it
    ({}, 1, (1, None)),
    ({}, 2, (None, None)),
])
def test_cores_in_use_are_a_share_of_as_few_chips_as_hold_them(known: dict[str, Any], cores: int,
                                                                expected: tuple[int | None, float | None]) -> None:
    from bench.backends.neuron.native import used

    found = used(known, cores)
    assert (found["cores"], found["chips"], found["share_of_chips"]) == (cores, *expected)


def test_facts_that_are_unknown_are_none_with_the_reason(tmp_path: Path, tools: Callable[..., None]) -> None:
    tools(None)
    found = facts(NATIVE, tmp_path)
    for name in ("name", "chip", "chips_here", "cores_here", "driver", "visible_cores"):
        assert found[name] is None
        assert found["unknown"][name]
    json.dumps(found, allow_nan=False)


def test_a_logical_core_is_one_physical_core_where_none_can_be_joined(
        tmp_path: Path, tools: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    tools("neuron-ls-trn1.json")
    assert facts(XLA, machine(tmp_path, chip="Trainium1"))["lnc"] == 1
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "1")
    assert facts(NATIVE, machine(tmp_path / "other", chip="Trainium2"))["lnc"] == 1


@pytest.mark.parametrize(("lnc", "cores"), [(None, 4), ("2", 4), ("1", 8)])
def test_the_machine_s_cores_are_counted_as_this_process_joins_them(
        tmp_path: Path, tools: Callable[..., None], monkeypatch: pytest.MonkeyPatch, lnc: str | None,
        cores: int) -> None:
    tools("neuron-ls-trn2.json")  # it shows 4 logical cores of 2 physical ones each
    if lnc:
        monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", lnc)
    found = facts(NATIVE, machine(tmp_path))
    assert found["cores_here"] == cores
    assert found["lnc"] == int(lnc or 2)


@pytest.mark.parametrize("name", ["NEURON_RT_INSPECT_ENABLE", "TORCH_NEURONX_COMPILE_ONLY",
                                  "TORCH_NEURONX_ENABLE_STACK_TRACE", "NEURON_PLATFORM_TARGET_OVERRIDE"])
def test_an_inherited_variable_that_changes_what_runs_or_how_fast_is_kept(
        tmp_path: Path, tools: Callable[..., None], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tools(None)
    monkeypatch.setenv(name, "1")
    assert facts(NATIVE, machine(tmp_path))["flags"][name] == "1"
