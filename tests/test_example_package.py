"""A package of somebody else's: what it brings is as good as ours, and what is broken in it is told, never measured."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.machine.software import package_version
from bench.record import Record
from tests.commandline import ROOT, one_document, records_in, trnbench

# By metadata: to ask for pip's spec turns setuptools' own distutils off for the whole process.
pytestmark = pytest.mark.skipif(not (package_version("pip") and package_version("setuptools")),
                                reason="the package is installed by pip, and built by setuptools without a network")

PACKAGE = ROOT / "tests/example_package"
BRIEF = ("--size", "tiny", "--repeats", "1", "--max-seconds", "0.2")
GRAPH = ("--backend", "graph", "--threads", "1", *BRIEF)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what trnbench consists of, which nobody else edits; in the end every file of it is as it was."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("bench", "workloads"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    before = digests(folder)
    yield folder
    assert digests(folder) == before


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the package, as any other package; from a copy, as pip builds in place."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "package")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                           "--no-build-isolation", "--disable-pip-version-check", "--target", folder, source],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def measured(tree: Path, site: Path, results: Path) -> Record:
    """The package's workload on its backend, in processes of their own and with threads left to `auto`."""
    done = spawned([tree, site], "run", "mlp_mixer", "--backend", "graph", *BRIEF, "--instance-type", "none",
                   "--results", results)
    assert done.returncode == 0, done.stderr
    return records_in(results)[0]


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch, in_process: None) -> Iterator[Path]:
    """The package on this process's path, where entry points are looked for anew; children answer in here too."""
    monkeypatch.syspath_prepend(str(site))
    registry._entries.cache_clear()
    yield site
    registry._entries.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in ("trnbench_example", "broken")]:
        del sys.modules[name]


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def spawned(path: list[Path], *words: object) -> subprocess.CompletedProcess[str]:
    """`trnbench WORDS` in a fresh process with these folders on its path."""
    done = subprocess.run([sys.executable, "-m", "bench", *map(str, words)], cwd=path[0], text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))})
    assert "Traceback" not in done.stdout + done.stderr
    return done


# ---------------------------------------------------------------- found, planned and measured


def test_the_package_brings_a_backend_and_a_workload_by_its_entry_points(tree: Path, site: Path) -> None:
    backends = {row["backend"]: row for row in one_document(spawned([tree, site], "list", "backends", "--json").stdout)}
    workloads = {row["workload"]: row for row in one_document(spawned([tree, site], "list", "--json").stdout)}
    assert backends["graph"]["available"] == "yes"
    assert backends["graph"]["tier"] == "measured"
    assert workloads["mlp_mixer"]["sizes"] == ["tiny", "s16"]
    assert {"cpu", "emulated"} < backends.keys()
    assert "bert" in workloads


def test_doctor_has_one_line_for_the_backend(tree: Path, site: Path) -> None:
    done = spawned([tree, site], "doctor", "--quick", "--instance-type", "none")
    lines = [line for line in done.stdout.splitlines() if line.startswith("backend graph: ")]
    assert len(lines) == 1
    assert "not here" not in lines[0]


def test_planning_a_case_of_the_package_imports_no_torch(tree: Path, site: Path) -> None:
    code = ("import sys; from bench.cli import main\n"
            "main(['run', 'mlp_mixer', '--backend', 'graph', '--dry-run'], standalone_mode=False)\n"
            "print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tree,
                          env=os.environ | {"PYTHONPATH": f"{tree}{os.pathsep}{site}"})
    assert done.stdout.startswith("mlp_mixer:s16 inference/offline fp32 b8\n1 of 1 cases would run"), done.stderr
    assert done.stdout.endswith("False\n")


def test_a_run_on_the_packages_backend_is_a_whole_record(measured: Record) -> None:
    assert (measured.status, measured.tier, measured.case.backend) == ("valid", "measured", "graph")
    assert measured.parity["status"] == "passed"
    assert measured.canary["passed"]
    assert measured.settings["compile"] == "graph"
    assert measured.settings["threads"] in [trial["settings"]["threads"] for trial in measured.tuning["trials"]]
    assert all("step_ns" in trial for trial in measured.tuning["trials"])
    throughput = measured.metric("images_per_second")
    assert throughput is not None
    assert throughput.value is not None
    assert throughput.value > 0


def test_capturing_is_booked_as_compiling(measured: Record) -> None:
    assert measured.compile["graphs"] == 1
    assert measured.compile["seconds"] > 0
    assert measured.phases_s["compile"] > 0


def test_energy_is_the_hosts_or_unknown_with_a_reason(measured: Record) -> None:
    assert (measured.energy["joules"] is None) == bool(measured.energy["reason"])
    assert measured.energy["joules"] is None or measured.energy["joules"] > 0


@pytest.mark.parametrize("words", [
    ("mlp_mixer", "--task", "training", *GRAPH),
    ("dlrm", "--task", "training", *GRAPH),
    ("gpt2", "--scenario", "generation", "--option", "new_tokens=4", *GRAPH),
    ("mlp_mixer", "--task", "training", "--backend", "cpu", "--threads", "1", "--no-compile", *BRIEF)])
def test_our_workloads_run_on_its_backend_and_its_workload_on_ours(words: tuple[str, ...], installed: Path,
                                                                   tmp_path: Path) -> None:
    result = trnbench("run", *words, "--results", tmp_path / "r")
    assert result.exit_code == 0, result.output
    [record] = records_in(tmp_path / "r")
    assert (record.status, record.parity["status"]) == ("valid", "passed")


@pytest.mark.parametrize("task", ["inference", "training"])
@pytest.mark.parametrize("size", ["tiny", "s16"])
def test_the_workloads_flops_are_those_that_torch_counts(task: str, size: str, installed: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    workload = registry.load_workload("mlp_mixer")
    case = registry.case_for("mlp_mixer", workload, backend="cpu", dtype="fp32", task=task, size=size, batch_size=1)
    program = workload.build(case)
    with FlopCounterMode(display=False) as counter:
        if task == "training":
            program.model(*program.batches[0]).backward()
        else:
            program.model(*program.inputs)
    assert workload.work(case).flops == counter.get_total_flops()


# ---------------------------------------------------------------- read, and read without the package


def test_ab_tells_its_backend_from_ours_with_both_held_against_the_reference(installed: Path) -> None:
    result = trnbench("ab", "mlp_mixer --size tiny --dtype fp32 --backend cpu",
                      "mlp_mixer --size tiny --backend graph --compile", "--repeats", "1", "--max-seconds", "0.2",
                      "--json")
    assert result.exit_code == 0, result.output
    told = one_document(result.stdout)
    assert (told["status"], told["pairs"]) == ("valid", 2)
    assert [check["status"] for check in told["parity"]] == ["passed", "passed"]


@pytest.mark.parametrize("words", [("report", "{results}"), ("show", "{run}", "--results", "{results}"),
                                   ("compare", "{results}", "{results}"), ("report", "{results}", "--format", "csv"),
                                   ("verdict", "--results", "{results}")])
def test_records_of_a_package_that_is_gone_are_read_as_any_others(words: tuple[str, ...], tree: Path, results: Path,
                                                                  measured: Record) -> None:
    done = spawned([tree], *(word.format(results=results, run=measured.run_id) for word in words))
    assert done.returncode == 0, done.stderr
    assert "mlp_mixer" in done.stdout or words[0] == "verdict"


def test_running_what_is_gone_is_a_mistyped_name(tree: Path) -> None:
    done = spawned([tree], "run", "mlp_mixer", "--backend", "graph")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Unknown backend 'graph'" in done.stderr


# ---------------------------------------------------------------- broken packages

BROKEN = '''
import dataclasses
from bench.contracts import Program
from trnbench_example.graph import GraphBackend, GraphDevice
from trnbench_example.mlp_mixer import WORKLOAD

class Broken(GraphBackend):
    def __init__(self, name, device=GraphDevice, **changes):
        self.name, self.device = name, device
        self.__dict__ |= changes
    def open(self, case, settings):
        return self.device(case, settings)

def raises(*_, **__):
    raise RuntimeError("first line\\nsecond line")

class Wrong(GraphDevice):
    def read(self, output):
        return [1.5 * tensor for tensor in super().read(output)]

class NoChips(GraphDevice):
    def report(self):
        return super().report() | {"device": {"name": "x", "chips": 0}}

class Half:
    clock_ns = place = put = wait = read = None

cpu = Broken("cpu")
other_name = Broken("its_own")
no_name = type("Nothing", (), {"name": "no_name"})()
guessed = Broken("guessed", tier="published")
sees_badly = Broken("sees_badly", rank=99, probe=raises)
sees_nothing = Broken("sees_nothing", rank=99, probe=lambda: None)
refuses_badly = Broken("refuses_badly", refuse=raises)
unfixed = Broken("unfixed", fixed=lambda case: {"threads": {1}, "compile": "graph"})
unset = Broken("unset", environment=lambda *_: {"OMP_NUM_THREADS": 1})
cannot_open = Broken("cannot_open", raises)
half = Broken("half", lambda *_: Half())
wrong = Broken("wrong", Wrong)
no_chips = Broken("no_chips", NoChips)

no_tiny = dataclasses.replace(WORKLOAD, sizes={"s16": {}})
bad_limits = dataclasses.replace(WORKLOAD, limits=raises)
bad_build = dataclasses.replace(WORKLOAD, build=raises)

def build_branches(case):
    import torch
    class Branches(torch.nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1
    return Program(model=Branches(), inputs=[torch.ones(case.batch_size)])

branches = dataclasses.replace(WORKLOAD, build=build_branches)
'''
BACKENDS = {  # entry point -> (object in BROKEN, what `list` and `doctor` say of it)
    "nowhere": ("no_such_module:BACKEND", "ModuleNotFoundError: No module named 'no_such_module'"),
    "forgotten": ("broken:forgotten", "has no attribute 'forgotten'"),
    "Broken": ("broken:Broken", "is a class"),
    "other_name": ("broken:other_name", "calls itself 'its_own'"),
    "no_name": ("broken:no_name", "has no tier, rank, options, process_group, probe, refuse"),
    "guessed": ("broken:guessed", "has tier 'published'"),
    "sees_badly": ("broken:sees_badly", "fails: RuntimeError: first line second line"),
    "sees_nothing": ("broken:sees_nothing", "probe() of the backend 'sees_nothing' of package broken 1 answers None"),
}
SECRETLY = ("refuses_badly", "unfixed", "unset", "cannot_open", "half", "wrong", "no_chips")
WORKLOADS = {"no_such": ("broken:nothing", "has no attribute 'nothing'"),
             "no_workload": ("broken:raises", "is function, not a bench.contracts.Workload"),
             "no_tiny": ("broken:no_tiny", "sizes has no 'tiny'")}


def entry_points(group: str, named: dict[str, str]) -> str:
    return "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in named.items()), ""])


def a_broken_package(folder: Path, backends: dict[str, str], workloads: dict[str, str]) -> Path:
    """What pip leaves of an installed package: its module, and the metadata with its entry points."""
    about = folder / "broken-1.dist-info"
    about.mkdir(parents=True)
    (folder / "broken.py").write_text(BROKEN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (about / "entry_points.txt").write_text(entry_points("trnbench.backends", backends)
                                            + entry_points("trnbench.workloads", workloads))
    return folder


@pytest.fixture
def broken(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second package on the path, in which next to nothing works."""
    backends = {name: value for name, (value, _) in BACKENDS.items()} | {name: f"broken:{name}" for name in SECRETLY}
    workloads = {name: value for name, (value, _) in WORKLOADS.items()}
    workloads |= {name: f"broken:{name}" for name in ("bad_limits", "bad_build", "branches")}
    monkeypatch.syspath_prepend(str(a_broken_package(tmp_path / "broken", backends, workloads)))


@pytest.mark.usefixtures("broken")
def test_a_broken_backend_is_a_line_that_says_so_and_hides_no_other() -> None:
    rows = {row["backend"]: row for row in one_document(trnbench("list", "backends", "--json").stdout)}
    doctor = trnbench("doctor", "--quick", "--instance-type", "none").stdout.splitlines()
    assert rows["cpu"]["available"] == rows["graph"]["available"] == "yes"
    for name, (_, told) in BACKENDS.items():
        [line] = [line for line in doctor if line.startswith(f"backend {name}: ")]
        assert rows[name]["available"] == "no"
        for text in (rows[name]["devices"], line):
            assert told in text
            assert "mend or uninstall that package" in text


@pytest.mark.usefixtures("broken")
def test_a_broken_workload_is_a_line_that_says_so_and_hides_no_other() -> None:
    rows = {row["workload"]: row for row in one_document(trnbench("list", "--json").stdout)}
    assert rows["bert"]["sizes"]
    for name, (_, told) in WORKLOADS.items():
        assert told in rows[name]["summary"]
        assert "package broken 1" in rows[name]["summary"]


@pytest.mark.usefixtures("broken")
def test_auto_passes_over_what_is_broken_and_says_so() -> None:
    result = trnbench("run", "gemm", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith("gemm:")
    assert "passed over: probe() of the backend 'sees_badly' of package broken 1 fails" in result.stderr


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(("words", "told"), [
    *[(f"gemm --backend {name}", told) for name, (_, told) in BACKENDS.items()],
    *[(f"{name} --backend cpu", told) for name, (_, told) in WORKLOADS.items()],
    ("gemm --backend refuses_badly", "refuse() of the backend 'refuses_badly' of package broken 1 fails: RuntimeError"),
    ("gemm --backend unfixed", "fixed() of the backend 'unfixed' of package broken 1 fails: TypeError"),
    ("gemm --backend unset", "environment() of the backend 'unset' of package broken 1 answers"),
    ("bad_limits --backend cpu", "limits() of the workload 'bad_limits' of package broken 1 fails: RuntimeError")])
def test_what_is_broken_ends_in_a_message_that_names_the_package(words: str, told: str, tmp_path: Path) -> None:
    result = trnbench("run", *words.split(), "--results", tmp_path / "r")
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert "To fix: mend or uninstall that package" in result.stderr


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(("workload", "backend", "status", "told"), [
    ("mlp_mixer", "cannot_open", "failed", "RuntimeError: first line"),
    ("mlp_mixer", "half", "failed", "gave Half, which has no prepare, prepare_training"),
    ("mlp_mixer", "wrong", "invalid", "parity: output 0 is 0.5 away from the float32 reference"),
    ("mlp_mixer", "no_chips", "failed", "fits no record: malformed record: device.chips is 0"),
    ("bad_build", "graph", "failed", "RuntimeError: first line"),
    ("branches", "graph", "unsupported", "the model cannot be captured as one graph: Unsupported: ")])
def test_what_breaks_in_the_child_is_a_record_with_the_reason_and_no_number(workload: str, backend: str, status: str,
                                                                           told: str, tmp_path: Path) -> None:
    result = trnbench("run", workload, "--backend", backend, "--threads", "1", *BRIEF, "--results", tmp_path / "r")
    assert result.exit_code == 3
    [record] = records_in(tmp_path / "r")
    assert record.status == status
    assert told in record.reasons[0]
    assert status == "invalid" or record.metrics == ()


@pytest.mark.usefixtures("broken")
def test_ab_has_no_number_for_a_backend_whose_answers_are_wrong() -> None:
    result = trnbench("ab", "mlp_mixer --size tiny --dtype fp32 --backend cpu",
                      "mlp_mixer --size tiny --backend wrong --compile", "--repeats", "1", "--max-seconds", "0.2",
                      "--json")
    told = one_document(result.stdout)
    assert (result.exit_code, told["status"]) == (3, "invalid")
    assert "B 1 of 2: parity: output 0 is 0.5 away" in told["reasons"][0]
    assert "ratio" not in told


@pytest.mark.parametrize(("name", "words"), [("cpu", ("gemm", "--backend", "cpu")), ("cpu", ("gemm",)),
                                             ("graph", ("gemm", "--backend", "graph"))])
def test_a_name_that_is_taken_is_refused_and_nobody_s_backend_runs_for_anothers(
        name: str, words: tuple[str, ...], installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_broken_package(tmp_path / "broken", {name: "broken:cpu"}, {})
    monkeypatch.syspath_prepend(str(folder))
    result = trnbench("run", *words, "--results", tmp_path / "r")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"More than one backend is called '{name}'" in result.stderr
    assert "package broken 1" in result.stderr


def test_a_workload_whose_name_is_taken_is_refused(installed: Path, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_broken_package(tmp_path / "broken", {}, {"llama-lora": "broken:WORKLOAD"})
    monkeypatch.syspath_prepend(str(folder))
    result = trnbench("run", "llama_lora", "--backend", "graph", "--dry-run")
    assert result.exit_code == 2
    assert "More than one workload is called 'llama_lora': that of trnbench itself and that of package broken 1" in (
        result.stderr)
