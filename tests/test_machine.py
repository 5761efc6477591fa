"""The machine room, on fake /proc and /sys trees and on the machine at hand."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.chips import chip as chip_of
from bench.catalog.chips import chip_id_of
from bench.errors import BenchError
from bench.machine import describe, tool, usable_cores
from bench.machine.accelerators import AMAZON, GOOGLE, NEURON, TPUS, accelerators
from bench.machine.cpu import cpu, cpu_quota, machine_name
from bench.machine.disturbance import Snapshot, between, snapshot
from bench.machine.energy import EnergyReading, joules_between, read_energy
from bench.machine.files import cpu_list
from bench.machine.memory import host_memory, peak_rss_bytes, reset_peak, rss_bytes
from bench.machine.noise import load_noise_floor, save_noise_floor, state_file
from bench.machine.software import package_version, software, system
from tests.commandline import trnbench
from tests.fakes.neuron_machine import machine as neuron_machine
from tests.fakes.nvml import GIB, FakeGpu, FakeNvml

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests/samples/neuron"
TOOLS = ROOT / "tests/fakes/neuron_tools"

AMD_BLOCK = """processor\t: {n}
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9R14 96-Core Processor
cpu MHz\t\t: 2600.000
physical id\t: 0
core id\t\t: {n}
flags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512_bf16 hypervisor
"""
INTEL_BLOCK = """processor\t: {n}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8488C CPU @ 2.40GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile amx_int8
"""
ARM_BLOCK = """processor\t: {n}
BogoMIPS\t: 2100.00
Features\t: fp asimd asimdhp asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def cpus(block: str, siblings: list[str], package: str = "0") -> dict[str, str]:
    """A tree of one CPU for each of `siblings`, the kernel's list of its core's threads."""
    sys_cpu = "sys/devices/system/cpu"
    files = {"proc/cpuinfo": "\n".join(block.format(n=n) for n in range(len(siblings))),
             f"{sys_cpu}/online": f"0-{len(siblings) - 1}\n"}
    for n, same_core in enumerate(siblings):
        files[f"{sys_cpu}/cpu{n}/topology/thread_siblings_list"] = same_core + "\n"
        files[f"{sys_cpu}/cpu{n}/topology/physical_package_id"] = package + "\n"
    return files


@pytest.fixture
def amd_vm(tmp_path: Path) -> Path:
    return tree(tmp_path, cpus(AMD_BLOCK, ["0", "1"]) | {
        "proc/meminfo": "MemTotal: 8000 kB\nMemAvailable: 6000 kB\nHugePages_Total: 0\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "sys/devices/system/node/node0/cpulist": "0-1",
        "sys/devices/system/cpu/smt/active": "0",
        "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'})


@pytest.fixture
def intel_smt(tmp_path: Path) -> Path:
    freq = "sys/devices/system/cpu/cpu{}/cpufreq/"
    return tree(tmp_path, cpus(INTEL_BLOCK, ["0,2", "1,3", "0,2", "1,3"]) | {
        freq.format(0) + "scaling_governor": "performance\n",
        freq.format(1) + "scaling_governor": "powersave\n",
        freq.format(0) + "scaling_cur_freq": "3100000\n", freq.format(0) + "cpuinfo_max_freq": "3800000\n"})


@pytest.fixture
def graviton(tmp_path: Path) -> Path:
    return tree(tmp_path, cpus(ARM_BLOCK, ["0", "1", "2", "3"]) | {
        "sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "c7g.xlarge\n"})


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("TRNBENCH_STATE_DIR", str(folder))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # trees here say they are on EC2
    return folder


# CPU


def test_an_amd_vm_is_read_from_proc_and_sys(amd_vm: Path) -> None:
    about = cpu(amd_vm)
    assert about == {
        "model": "AMD EPYC 9R14 96-Core Processor", "vendor": "AMD", "sockets": 1, "physical_cores": 2,
        "logical_cpus": 2, "usable_physical_cores": 2, "usable_logical_cpus": 2, "cpu_quota": None,
        "smt": False, "isa": ["sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16"], "governor": None,
        "current_mhz": 2600.0, "max_mhz": None}
    assert machine_name(about) == "amd-epyc-9r14-2cpu"


def test_threads_of_one_core_are_one_core_and_amx_is_named(intel_smt: Path) -> None:
    about = cpu(intel_smt)
    assert (about["logical_cpus"], about["physical_cores"], about["smt"]) == (4, 2, True)
    assert about["vendor"] == "Intel"
    assert about["isa"] == ["avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"]
    assert machine_name(about) == "intel-xeon-platinum-8488c-4cpu"


def test_frequencies_come_from_cpufreq_and_differing_governors_are_all_named(intel_smt: Path) -> None:
    about = cpu(intel_smt)
    assert (about["current_mhz"], about["max_mhz"]) == (3100.0, 3800.0)
    assert about["governor"] == "performance,powersave"


def test_an_arm_core_is_named_by_its_part_and_its_features_by_their_usual_names(graviton: Path) -> None:
    about = cpu(graviton)
    assert (about["model"], about["vendor"], about["smt"]) == ("Neoverse-V1", "Arm", False)
    assert about["isa"] == ["neon", "fp16", "dotprod", "bf16", "i8mm", "sve"]
    assert machine_name(about) == "arm-neoverse-v1-4cpu"


def test_affinity_narrows_what_is_usable_but_not_the_machine_or_its_name(intel_smt: Path) -> None:
    name = machine_name(cpu(intel_smt))
    tree(intel_smt, {"proc/self/status": "Name:\tx\nCpus_allowed_list:\t0,2,100-120\n"})
    about = cpu(intel_smt)
    assert (about["usable_logical_cpus"], about["usable_physical_cores"]) == (2, 1)  # CPUs 0 and 2: one core
    assert (about["logical_cpus"], about["physical_cores"], machine_name(about)) == (4, 2, name)


def test_a_version_2_quota_of_an_ancestor_counts_and_is_rounded_down_to_cores(amd_vm: Path) -> None:
    tree(amd_vm, {"proc/self/cgroup": "0::/kubepods/pod1/main\n",
                  "sys/fs/cgroup/kubepods/pod1/main/cpu.max": "max 100000\n",
                  "sys/fs/cgroup/kubepods/pod1/cpu.max": "150000 100000\n",  # 1.5 CPUs
                  "sys/fs/cgroup/kubepods/pod1/memory.max": "4096000\n",
                  "sys/fs/cgroup/kubepods/memory.max": "max\n"})
    assert cpu(amd_vm)["cpu_quota"] == 1.5
    assert usable_cores(amd_vm) == 1
    assert host_memory(amd_vm)["limit_bytes"] == 4_096_000
    assert system(amd_vm)["container"] == "kubernetes"


def test_a_quota_below_one_cpu_still_leaves_one_core(amd_vm: Path) -> None:
    tree(amd_vm, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert (cpu_quota(amd_vm), usable_cores(amd_vm)) == (0.5, 1)


def test_a_version_1_quota_is_found_where_a_container_mounts_only_its_own_group(amd_vm: Path) -> None:
    tree(amd_vm, {"proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n",
                  "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                  "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                  "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000000\n"})
    assert cpu_quota(amd_vm) == 2.5
    assert usable_cores(amd_vm) == 2
    assert host_memory(amd_vm)["limit_bytes"] == 5_000_000
    assert system(amd_vm)["container"] == "docker"


def test_no_limit_in_version_1_is_none(amd_vm: Path) -> None:
    tree(amd_vm, {"proc/self/cgroup": "5:memory:/\n4:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                  "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                  "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert cpu_quota(amd_vm) is None
    assert host_memory(amd_vm)["limit_bytes"] is None


def test_cores_come_from_cpuinfo_where_sysfs_is_hidden_or_else_are_none(tmp_path: Path) -> None:
    one_core = AMD_BLOCK.replace("core id\t\t: {n}", "core id\t\t: 7")
    text = "\n".join(one_core.format(n=n) for n in range(2))
    about = cpu(tree(tmp_path / "a", {"proc/cpuinfo": text}))
    assert (about["physical_cores"], about["logical_cpus"], about["smt"]) == (1, 2, True)
    about = cpu(tree(tmp_path / "b", {"proc/cpuinfo": ARM_BLOCK.format(n=0)}))
    assert about["logical_cpus"] == 1
    assert (about["physical_cores"], about["smt"], about["sockets"]) == (None, None, None)


def test_a_system_without_proc_has_the_same_keys_and_a_name(tmp_path: Path, amd_vm: Path) -> None:
    bare = cpu(tmp_path / "nothing")
    assert bare.keys() == cpu(amd_vm).keys()
    assert bare["logical_cpus"] == os.cpu_count()
    assert bare["isa"] is None
    assert bare["governor"] is None
    assert re.fullmatch(r"[a-z0-9-]+", machine_name(bare))


@pytest.mark.parametrize(("text", "expected"), [
    ("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", None), (None, None), ("a-b", None)])
def test_kernel_lists_of_cpus_are_read(text: str | None, expected: set[int] | None) -> None:
    assert cpu_list(text) == expected


# The machine around it


def test_memory_nodes_and_huge_pages_are_read(amd_vm: Path) -> None:
    assert host_memory(amd_vm) == {
        "total_bytes": 8_192_000, "available_bytes": 6_144_000,  # 8000 and 6000 KiB
        "limit_bytes": None, "numa_nodes": 1, "huge_pages": 0, "transparent_huge_pages": "madvise"}


def test_virtual_machines_are_told_from_bare_metal_only_where_something_says_so(
        amd_vm: Path, tmp_path: Path) -> None:
    assert system(amd_vm)["virtualised"] is True
    assert system(amd_vm)["platform_vendor"] == "Amazon EC2"
    assert system(tree(tmp_path / "i", cpus(INTEL_BLOCK, ["0"])))["virtualised"] is False
    arm = tree(tmp_path / "arm", cpus(ARM_BLOCK, ["0"]))
    assert system(arm)["virtualised"] is None
    dmi = {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "c7g.metal\n"}
    assert system(tree(arm, dmi))["virtualised"] is False
    assert system(tree(arm, {"sys/class/dmi/id/product_name": "c7g.large\n"}))["virtualised"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="containers are looked for on Linux only")
@pytest.mark.parametrize(("files", "expected"), [
    ({".dockerenv": ""}, "docker"), ({"run/.containerenv": ""}, "podman"),
    ({"etc/hosts": "# Kubernetes-managed hosts file.\n127.0.0.1 localhost\n"}, "kubernetes"),
    ({"var/run/secrets/kubernetes.io/x": "", ".dockerenv": ""}, "kubernetes"),
    ({".singularity.d/runscript": ""}, "apptainer"),
    ({"proc/1/cgroup": "0::/lxc/a\n"}, "lxc"), ({"proc/1/cgroup": "0::/\n"}, "none")])
def test_a_container_is_known_by_its_marker(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    assert system(tree(tmp_path, files))["container"] == expected


@pytest.mark.skipif(sys.platform != "linux", reason="containers are looked for on Linux only")
def test_a_pod_is_known_by_the_variable_that_every_pod_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert system()["container"] == "kubernetes"
    assert system(tmp_path)["container"] == "none"  # the variable is of this machine, not of a folder's


def test_the_operating_system_is_named_by_os_release(amd_vm: Path) -> None:
    assert system(amd_vm)["name"] == "Debian GNU/Linux 12 (bookworm)"


def test_versions_are_those_installed_and_none_where_a_package_is_not() -> None:
    versions = software()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["numpy"] is not None
    assert versions["numpy"].startswith(("2.", "3."))
    assert package_version("no-such-distribution-at-all") is None


# The tool's own version


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True,
                          text=True).stdout.strip()


def test_the_tool_says_its_commit_and_whether_its_source_was_changed(tmp_path: Path) -> None:
    tree(tmp_path, {"bench/a.py": "1\n", "results/x.json": "{}"})
    git(tmp_path, "init", "-q")
    assert tool(tmp_path)["commit"] is None  # nothing committed yet
    git(tmp_path, "add", "bench")  # not results/: new records are no change of the tool
    git(tmp_path, "commit", "-qm", "one")
    clean = tool(tmp_path)
    assert (clean["commit"], clean["dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    tree(tmp_path, {"bench/new.py": "2\n"})
    assert tool(tmp_path)["dirty"] is True


def test_without_a_checkout_or_without_git_the_commit_is_none(tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    import bench

    unknown = {"version": bench.__version__, "commit": None, "dirty": None}
    assert tool(tmp_path) == unknown
    (tmp_path / ".git").mkdir()
    assert tool(tmp_path) == unknown  # a broken checkout: git refuses it
    monkeypatch.setenv("PATH", "")
    assert tool(tmp_path) == unknown


# Noise floor


def test_a_noise_floor_is_kept_for_each_machine(own_state: Path) -> None:
    assert load_noise_floor("a-2cpu", "cpu") is None
    save_noise_floor("a-2cpu", "cpu", 0.02, "A/A, 20 pairs")
    save_noise_floor("b-4cpu", "cpu", 0.01, "A/A, 45 pairs")
    floor = load_noise_floor("a-2cpu", "cpu")
    assert floor is not None
    assert (floor["relative"], floor["method"], floor["stale"]) == (0.02, "A/A, 20 pairs", False)
    assert datetime.now(UTC) - datetime.fromisoformat(floor["measured_at"]) < timedelta(minutes=1)
    assert [p.name for p in own_state.iterdir()] == ["noise.json"]  # no half-written file left behind


def test_an_old_noise_floor_is_still_given_with_its_date_and_called_stale() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    save_noise_floor("a-2cpu", "cpu", 0.02, "A/A", now=then)
    for days, stale in ((29, False), (31, True)):
        floor = load_noise_floor("a-2cpu", "cpu", now=then + timedelta(days=days))
        assert floor == {"relative": 0.02, "measured_at": "2026-01-01T00:00:00+00:00", "method": "A/A",
                         "stale": stale}


def test_a_noise_floor_of_another_backend_is_not_used() -> None:
    save_noise_floor("a-2cpu", "cuda", 0.001, "A/A")
    assert load_noise_floor("a-2cpu", "cpu") is None


def test_a_noise_floor_of_another_torch_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    save_noise_floor("a-2cpu", "cpu", 0.02, "A/A")
    monkeypatch.setattr("bench.machine.noise.package_version", lambda _: "99.0")
    assert load_noise_floor("a-2cpu", "cpu") is None


@pytest.mark.parametrize("text", [
    "{", "[]", '{"a-2cpu cpu torch X": 5}', '{"a-2cpu cpu torch X": {"relative": "x"}}'])
def test_a_broken_state_file_is_no_floor_and_is_made_anew(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.machine.noise.package_version", lambda _: "X")
    state_file().write_text(text)
    assert load_noise_floor("a-2cpu", "cpu") is None
    save_noise_floor("a-2cpu", "cpu", 0.03, "A/A")
    assert (load_noise_floor("a-2cpu", "cpu") or {})["relative"] == 0.03


def test_a_state_folder_that_cannot_be_made_is_an_error_that_says_what_to_do(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRNBENCH_STATE_DIR", str(tmp_path / "file/state"))
    with pytest.raises(BenchError, match="TRNBENCH_STATE_DIR"):
        save_noise_floor("a-2cpu", "cpu", 0.02, "A/A")
    assert load_noise_floor("a-2cpu", "cpu") is None


def test_a_noise_floor_must_be_a_finite_fraction() -> None:
    for bad in (float("nan"), float("inf"), -0.1):
        with pytest.raises(ValueError, match="finite"):
            save_noise_floor("a-2cpu", "cpu", bad, "A/A")


def test_the_state_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRNBENCH_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_file() == tmp_path / "trnbench/noise.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_file() == tmp_path / ".local/state/trnbench/noise.json"


# Disturbance


def seen(at_s: float = 0.0, **counters: Any) -> Snapshot:
    zero = {"busy_s": 0.0, "idle_s": 0.0, "steal_s": 0.0, "own_s": 0.0, "parent_s": 0.0,
            "involuntary_switches": 0, "major_faults": 0}
    return Snapshot(at_s=at_s, **(zero | counters))


def test_disturbance_is_told_from_two_snapshots() -> None:
    # 2 CPUs for 10 s are 20 CPU seconds: 14 busy, 1 stolen, 5 idle.
    # Steal: 1 of 20 in all, 1 of the 15 that were wanted = 6.7 %.
    # Others: (14 - 9.5 - 0.2) / 10 s = 0.43 CPUs.
    a = seen(100.0, busy_s=50.0, idle_s=7.0, steal_s=3.0, own_s=2.0, parent_s=1.0, involuntary_switches=4,
             major_faults=2)
    b = seen(110.0, busy_s=64.0, idle_s=12.0, steal_s=4.0, own_s=11.5, parent_s=1.2, involuntary_switches=24,
             major_faults=5)
    result = between(a, b)
    assert result["wall_s"] == 10.0
    assert result["steal_fraction"] == pytest.approx(0.05)
    assert result["steal_of_wanted"] == pytest.approx(1 / 15)
    assert result["others_cpus"] == pytest.approx(0.43)
    assert result["parent_cpu_fraction"] == pytest.approx(0.02)
    assert (result["involuntary_switches"], result["major_faults"]) == (20, 3)
    assert result["disturbed"] is True
    assert result["why"] == ["steal 7 % > 5 %", "others' CPUs 0.43 > 0.20"]
    assert result["reason"] is None


def test_a_quiet_machine_is_not_disturbed() -> None:
    # 2 CPUs, 10 s: this process 9.9 s, others 0.5 s (0.05 CPUs), the parent 0.1 s (1 %), 0.1 s stolen (1 %).
    result = between(seen(), seen(10.0, busy_s=10.5, idle_s=9.4, steal_s=0.1, own_s=9.9, parent_s=0.1))
    assert (result["disturbed"], result["why"]) == (False, [])


def test_a_parent_that_spins_is_named_and_is_not_counted_among_the_others() -> None:
    result = between(seen(), seen(10.0, busy_s=20.0, own_s=10.0, parent_s=10.0))
    assert result["others_cpus"] == 0.0
    assert result["why"] == ["parent's CPU 100 % > 5 %"]


def test_steal_is_weighed_by_what_one_thread_loses_where_other_cpus_idle() -> None:
    # One thread on 2 CPUs: 9.2 s run, 0.8 s stolen, the other CPU idle: 4 % of all CPUs, 8 % of the thread.
    result = between(seen(), seen(10.0, busy_s=9.2, idle_s=10.0, steal_s=0.8, own_s=9.2))
    assert result["steal_fraction"] == pytest.approx(0.04)
    assert result["why"] == ["steal 8 % > 5 %"]


def test_a_child_that_waits_for_an_accelerator_is_not_disturbed_by_a_little_steal() -> None:
    # 0.1 s stolen beside 0.5 s busy is 17 % of those, but 1 % of one CPU's 10 s.
    result = between(seen(), seen(10.0, busy_s=0.5, idle_s=19.4, steal_s=0.1, own_s=0.5))
    assert result["steal_of_wanted"] == pytest.approx(0.01)
    assert result["disturbed"] is False


def test_on_many_cpus_others_may_use_a_share_of_them() -> None:
    # 64 CPUs for 10 s: 2 % of them are 1.28 CPUs. Others use 1.0, then 2.0.
    for others_s, disturbed in ((10.0, False), (20.0, True)):
        busy_s = 100.0 + others_s
        result = between(seen(), seen(10.0, busy_s=busy_s, idle_s=640.0 - busy_s, own_s=100.0))
        assert result["disturbed"] is disturbed


def test_many_major_faults_disturb() -> None:
    result = between(seen(), seen(10.0, busy_s=10.0, idle_s=10.0, own_s=10.0, major_faults=150))
    assert result["why"] == ["major faults 15/s > 10/s"]


def test_too_short_a_time_can_not_say_and_is_none_with_a_reason() -> None:
    result = between(seen(), seen(0.3, busy_s=0.6, own_s=0.3, involuntary_switches=2))
    for key in ("steal_fraction", "steal_of_wanted", "others_cpus", "parent_cpu_fraction", "disturbed"):
        assert result[key] is None
    assert "too short" in result["reason"]
    assert result["involuntary_switches"] == 2


def test_without_proc_stat_there_is_a_reason_and_no_verdict(tmp_path: Path) -> None:
    a = snapshot(root=tmp_path)
    assert (a.busy_s, a.parent_s) == (None, None)
    unknown: dict[str, Any] = {"busy_s": None, "idle_s": None, "steal_s": None}
    result = between(seen(**unknown), seen(10.0, **unknown))
    assert (result["others_cpus"], result["disturbed"]) == (None, None)
    assert "/proc/stat" in result["reason"]


def test_a_parent_that_is_gone_is_none_with_a_reason() -> None:
    result = between(seen(parent_s=None), seen(10.0, busy_s=10.0, idle_s=10.0, own_s=10.0, parent_s=None))
    assert result["parent_cpu_fraction"] is None
    assert "parent" in result["reason"]
    assert result["disturbed"] is False


def test_counters_are_read_in_ticks_and_a_process_name_may_hold_brackets(tmp_path: Path) -> None:
    hertz = os.sysconf("SC_CLK_TCK")
    stat = "cpu " + " ".join(str(n * hertz) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 0))
    parent = f"77 (a (b) c) S {' '.join('0' * 10)} {3 * hertz} {2 * hertz} 0 0"  # utime and stime: 14th, 15th
    now = snapshot(77, tree(tmp_path, {"proc/stat": stat + "\ncpu0 1 1 1\n", "proc/77/stat": parent}))
    assert now.busy_s == 1 + 2 + 4 + 32 + 64  # user, nice, system, irq, softirq; guests are in user
    assert now.idle_s == 8 + 16
    assert now.steal_s == 128
    assert now.parent_s == 5


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc/stat")
def test_another_process_that_is_busy_is_seen() -> None:
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)
        a = snapshot()
        time.sleep(0.7)
        result = between(a, snapshot())
    finally:
        other.kill()
        other.wait()
    assert result["others_cpus"] > 0.3  # about 1.0, but for steal
    assert result["disturbed"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc/stat")
def test_a_snapshot_costs_little() -> None:
    times = []
    for _ in range(50):
        start = time.perf_counter()
        snapshot()
        times.append(time.perf_counter() - start)
    assert min(times) < 500e-6  # under 200 us where nothing else runs; the counters grow with the CPUs


# Energy


def rapl(root: Path, counters: dict[str, int], span: int = 1_000_000_000) -> Path:
    for name, value in counters.items():
        label = "package-" + name.rpartition(":")[2] if name.count(":") == 1 else "core"
        tree(root, {f"sys/class/powercap/{name}/{file}": f"{text}\n" for file, text in (
            ("name", label), ("energy_uj", value), ("max_energy_range_uj", span))})
    return root


def test_energy_is_the_rise_of_all_packages_counted_once(tmp_path: Path) -> None:
    # Packages rise by 2.0 J and 3.5 J; the core part and the second door to package 0 are not added.
    names = ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl-mmio:0")
    a = read_energy(rapl(tmp_path, dict(zip(names, (1_000_000, 5_000_000, 10, 1_000_000), strict=True))))
    b = read_energy(rapl(tmp_path, dict(zip(names, (3_000_000, 8_500_000, 900_000, 3_000_000), strict=True))))
    assert joules_between(a, b) == {"joules": 5.5, "method": "RAPL package counters", "reason": None}


def test_a_counter_that_came_round_is_put_right() -> None:
    # From 999 J to the end at 1000 J is 1 J, then 2 J more.
    a = EnergyReading(0, {"intel-rapl:0": (999_000_000, 1_000_000_000)})
    b = EnergyReading(500_000_000, {"intel-rapl:0": (2_000_000, 1_000_000_000)})
    assert joules_between(a, b)["joules"] == 3.0


def test_after_so_long_that_a_counter_may_have_come_round_twice_energy_is_unknown() -> None:
    # A range of 1000 J lasts 1 s at 1000 W.
    a = EnergyReading(0, {"intel-rapl:0": (0, 1_000_000_000)})
    b = EnergyReading(2_000_000_000, {"intel-rapl:0": (5_000_000, 1_000_000_000)})
    result = joules_between(a, b)
    assert result["joules"] is None
    assert "more than once" in result["reason"]


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    result = joules_between(read_energy(tmp_path), read_energy(tmp_path))
    assert result["joules"] is None
    assert "no RAPL" in result["reason"]


def test_counters_that_only_root_may_read_say_what_to_do(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rapl(tmp_path, {"intel-rapl:0": 5})
    usual = Path.read_text

    def refuse(path: Path, *args: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return usual(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    reason = read_energy(tmp_path)
    assert isinstance(reason, str)
    assert "chmod" in reason
    assert joules_between(reason, reason)["joules"] is None


def test_a_garbled_counter_is_a_reason_and_not_a_number(tmp_path: Path) -> None:
    tree(rapl(tmp_path, {"intel-rapl:0": 5}), {"sys/class/powercap/intel-rapl:0/energy_uj": "x\n"})
    assert "intel-rapl:0" in str(read_energy(tmp_path))


# Memory of this process


def test_memory_of_the_process_is_read_in_kib(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/status": "VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"})
    assert (peak_rss_bytes(tmp_path), rss_bytes(tmp_path)) == (2048 * 1024, 1024 * 1024)


def test_without_proc_the_peak_comes_from_getrusage_and_cannot_be_reset(tmp_path: Path) -> None:
    peak, now = peak_rss_bytes(tmp_path / "no"), rss_bytes(tmp_path / "no")
    assert peak is not None
    assert now is not None
    assert 1e6 < peak < 1e12
    assert 1e6 < now < 1e12
    assert reset_peak(tmp_path / "no") is False


@pytest.mark.skipif(sys.platform != "linux", reason="resets by /proc/self/clear_refs")
def test_a_reset_forgets_an_earlier_peak_and_a_later_one_is_seen() -> None:
    code = """
from bench.machine.memory import peak_rss_bytes, reset_peak
def take():
    return len(bytearray(b"x") * (64 * 2**20))
take()
known = reset_peak()
before = peak_rss_bytes()
take()
print(known, peak_rss_bytes() - before)
"""  # in a process of its own, whose heap has nothing left over from others' tests
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known, rise_bytes = done.stdout.split()
    if known == "False":
        pytest.skip("this kernel has no clear_refs")
    assert int(rise_bytes) > 0.8 * 64 * 2**20


# Accelerators


PCI = "sys/bus/pci/devices"
PLAIN = {"0000:00:1e.0": ("0x1d0f", "0xec20", "0x020000"), "0000:00:04.0": ("0x1d0f", "0x8061", "0x010802"),
         "0000:00:03.0": ("0x1a03", "0x2000", "0x030000"), "0000:00:05.0": ("0x1ae0", "0x0042", "0x020000"),
         "0000:41:00.1": ("0x10de", "0x1aef", "0x040300")}
"""Amazon's network and disk, a server's own display, Google's network, a GPU's sound: none of them computes."""


def bus(root: Path, devices: dict[str, tuple[str, str, str]]) -> Path:
    """A PCI bus with what never is an accelerator, and some more devices: vendor, device, class."""
    return tree(root, {f"{PCI}/{place}/{name}": f"{text}\n" for place, texts in (PLAIN | devices).items()
                       for name, text in zip(("vendor", "device", "class"), texts, strict=True)})


def nvidia_bus(root: Path, count: int = 8) -> Path:
    return bus(root, {f"0000:{at:02x}:00.0": ("0x10de", "0x2335", "0x030200") for at in range(64, 64 + count)})


def neuron_bus(root: Path, count: int, device: str = "0x7364") -> Path:
    return bus(root, {f"0000:{at:02x}:00.0": (AMAZON, device, "0x088000") for at in range(32, 32 + count)})


def only(root: Path) -> dict[str, Any]:
    """The one kind of accelerator that is found, and nothing went wrong."""
    found = accelerators(root)
    assert found["reason"] is None
    [entry] = found["kinds"]
    assert {name for name, value in entry.items() if value is None} == set(entry["unknown"])
    json.dumps(entry, allow_nan=False)
    return entry


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    def put(*gpus: FakeGpu, **options: Any) -> FakeNvml:
        fake = FakeNvml(*gpus, **options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return put


def test_a_machine_without_an_accelerator_has_none_and_no_driver_is_asked(
        tmp_path: Path, nvml: Callable[..., FakeNvml], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml(FakeGpu())
    tree(tmp_path, {"bin/neuron-ls": "#!/bin/sh\ntouch was_run\n"})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert accelerators(bus(tmp_path, {})) == {"kinds": [], "reason": None}
    assert fake.calls == []
    assert not (tmp_path / "was_run").exists()


def test_where_the_bus_is_not_shown_accelerators_are_unknown_with_the_reason(tmp_path: Path) -> None:
    assert accelerators(tmp_path) == {"kinds": None, "reason": f"there is no /{PCI} here to look in"}


def test_gpus_are_told_as_their_driver_names_them_one_entry_a_kind(
        tmp_path: Path, nvml: Callable[..., FakeNvml]) -> None:
    nvml(*[FakeGpu(name="NVIDIA H200", memory_bytes=141 * GIB)] * 7, FakeGpu(name="NVIDIA L4", memory_bytes=24 * GIB))
    tree(nvidia_bus(tmp_path), {"proc/driver/nvidia/version": (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n")})
    assert accelerators(tmp_path)["kinds"] == [
        {"kind": "nvidia", "name": "NVIDIA H200", "count": 7, "memory_bytes": 141 * GIB, "driver": "570.86.15",
         "unknown": {}},
        {"kind": "nvidia", "name": "NVIDIA L4", "count": 1, "memory_bytes": 24 * GIB, "driver": "570.86.15",
         "unknown": {}}]


def test_without_nvmls_package_the_drivers_files_still_name_the_gpu(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    folder, version = "proc/driver/nvidia", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01\n"
    tree(nvidia_bus(tmp_path, 2), {f"{folder}/version": version} | {
        f"{folder}/gpus/0000:4{at}:00.0/information": "Model: \t\t NVIDIA H200\nIRQ:   \t\t 77\nGPU UUID: GPU-secret\n"
        for at in range(2)})
    entry = only(tmp_path)
    assert (entry["name"], entry["count"], entry["driver"]) == ("NVIDIA H200", 2, "535.183.01")
    assert "nvidia-ml-py" in entry["unknown"]["memory_bytes"]
    assert "secret" not in json.dumps(entry)


def test_gpus_without_a_driver_are_counted_and_their_name_is_unknown_with_the_pci_id(tmp_path: Path) -> None:
    entry = only(nvidia_bus(tmp_path))
    assert (entry["kind"], entry["name"], entry["count"], entry["driver"]) == ("nvidia", None, 8, None)
    assert entry["unknown"]["name"] == "PCI device 10de:2335: no NVIDIA driver is loaded"


def test_a_driver_whose_nvml_fails_leaves_the_count_of_the_bus_and_nvmls_reason(
        tmp_path: Path, nvml: Callable[..., FakeNvml]) -> None:
    nvml(refuses="Driver/library version mismatch")
    tree(nvidia_bus(tmp_path), {"proc/driver/nvidia/version": "NVRM version: x86_64 Kernel Module  570.86.15\n"})
    entry = only(tmp_path)
    assert (entry["name"], entry["count"], entry["driver"]) == (None, 8, "570.86.15")
    assert "version mismatch" in entry["unknown"]["memory_bytes"]


def test_a_library_that_raises_costs_its_own_entry_alone(tmp_path: Path, nvml: Callable[..., FakeNvml]) -> None:
    fake: Any = nvml(FakeGpu())
    fake.nvmlInit = lambda: 1 / 0
    tree(bus(tmp_path, {"0000:01:00.0": (GOOGLE, "0x0063", "0x088000")}), {"proc/driver/nvidia/version": "570.86.15\n"})
    found = accelerators(tmp_path)
    assert [one["name"] for one in found["kinds"]] == ["TPU v5e"]
    assert found["reason"].startswith("nvidia: ZeroDivisionError")


def test_amd_gpus_are_named_by_amdgpu_where_it_names_them(tmp_path: Path) -> None:
    gpu = {"0000:05:00.0": ("0x1002", "0x74a1", "0x120000")}
    entry = only(bus(tmp_path / "bare", gpu))
    assert (entry["kind"], entry["name"], entry["unknown"]["driver"]) == ("amd", None, "no driver amdgpu is loaded")
    root = tree(bus(tmp_path / "there", gpu), {
        "sys/module/amdgpu/version": "6.12.12\n", f"{PCI}/0000:05:00.0/product_name": "AMD Instinct MI300X OAM\n",
        f"{PCI}/0000:05:00.0/mem_info_vram_total": f"{192 * GIB}\n"})
    entry = only(root)
    assert (entry["name"], entry["memory_bytes"], entry["driver"]) == ("AMD Instinct MI300X OAM", 192 * GIB, "6.12.12")
    for name in ("sys/module/amdgpu/version", f"{PCI}/0000:05:00.0/product_name"):
        (root / name).write_text("\n")
    assert set(only(root)["unknown"]) == {"name", "driver"}


def test_neuron_chips_have_their_kind_count_cores_and_lnc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{TOOLS}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_NEURON_LS", str(SAMPLES / "neuron-ls-trn2.json"))
    assert only(neuron_machine(neuron_bus(tmp_path, 1))) == {
        "kind": "neuron", "name": "Trainium2", "count": 1, "memory_bytes": 96 * GIB, "driver": "2.31.7.0",
        "chip": "trainium2", "cores": 4, "lnc": 2, "unknown": {}}


def test_a_container_with_one_of_sixteen_chips_does_not_say_how_many_cores_all_have(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{TOOLS}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_NEURON_LS", str(SAMPLES / "neuron-ls-trn2.json"))
    entry = only(neuron_machine(neuron_bus(tmp_path, 16), devices=16, files=1))
    assert (entry["count"], entry["cores"], entry["lnc"]) == (16, None, 2)
    assert entry["unknown"] == {"cores": "neuron-ls shows 1 of 16 devices"}


@pytest.mark.parametrize(("device", "chip"), [("0x7264", "inferentia2"), ("0x7164", "trainium1"),
                                              ("0x7364", "trainium2"), ("0x7565", "trainium3")])
def test_neuron_chips_without_a_driver_are_known_by_the_bus(tmp_path: Path, device: str, chip: str,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    entry = only(neuron_bus(tmp_path, 16, device))
    assert (entry["chip"], entry["count"], entry["name"], entry["cores"]) == (chip, 16, None, None)
    assert entry["unknown"]["driver"] == "no /sys/module/neuron/version"


def test_a_device_file_without_driver_or_bus_is_a_chip_of_unknown_kind(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    tree(tmp_path, {"dev/neuron0": ""})
    [entry] = accelerators(tmp_path)["kinds"]
    assert (entry["count"], entry["chip"], entry["lnc"]) == (1, None, None)
    assert "aws-neuronx-tools" in entry["unknown"]["cores"]


def test_every_chip_that_is_known_by_its_pci_id_is_in_the_catalog() -> None:
    assert {chip_of(chip).vendor for chip in NEURON.values()} == {"aws"}
    assert {name for name in TPUS.values() if chip_id_of(name) is None} == {"TPU v2 or v3"}


def test_an_accelerator_of_another_maker_is_counted_by_its_class(tmp_path: Path) -> None:
    entry = only(bus(tmp_path, {"0000:19:00.0": ("0x1da3", "0x1060", "0x120000")}))
    assert (entry["kind"], entry["count"]) == ("other", 1)
    assert "1da3:1060" in entry["unknown"]["name"]


def test_a_wide_bus_is_read_quickly(tmp_path: Path) -> None:
    root, times = bus(tmp_path, {f"0000:{at:02x}:{sub:02x}.0": ("0x8086", "0x09a2", "0x088000")
                                 for at in range(20) for sub in range(20)}), []
    for _ in range(3):
        started = time.perf_counter()
        assert accelerators(root)["kinds"] == []
        times.append(time.perf_counter() - started)
    assert min(times) < 0.1  # of 400 devices about 20 ms


# What doctor says of it


def doctor(monkeypatch: pytest.MonkeyPatch, root: Path) -> str:
    """What `doctor --quick` prints of a machine of which `root` holds the files."""
    about = describe(root, instance_type="none")
    monkeypatch.setattr("bench.machine.describe", lambda **_: about)
    return trnbench("doctor", "--quick").output


def test_doctor_says_what_is_plugged_in(tmp_path: Path, nvml: Callable[..., FakeNvml],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    nvml(*[FakeGpu(name="NVIDIA H200", memory_bytes=141 * GIB)] * 8)
    tree(nvidia_bus(tmp_path), {"proc/driver/nvidia/version": "Kernel Module  570.86.15\n"})
    assert "accelerators: 8 x NVIDIA H200 (141.0 GiB, driver 570.86.15)\n" in doctor(monkeypatch, tmp_path)


def test_doctor_says_what_of_an_accelerator_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert ("accelerators: 8 x nvidia device of unknown name (PCI device 10de:2335: no NVIDIA driver is loaded)\n"
            in doctor(monkeypatch, nvidia_bus(tmp_path / "gpu")))
    assert "accelerators: 16 x trainium2\n" in doctor(monkeypatch, neuron_bus(tmp_path / "trn", 16))
    assert "accelerators: none plugged in\n" in doctor(monkeypatch, bus(tmp_path / "none", {}))
    assert "accelerators: unknown: there is no /sys/bus/pci" in doctor(monkeypatch, tmp_path / "nothing")


def test_doctor_says_cores_and_lnc_of_neuron_and_that_this_is_a_container(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{TOOLS}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_NEURON_LS", str(SAMPLES / "neuron-ls-trn2.json"))
    shown = doctor(monkeypatch, tree(neuron_machine(neuron_bus(tmp_path, 1)), {"run/.containerenv": ""}))
    assert "accelerators: 1 x Trainium2 (96.0 GiB, driver 2.31.7.0, 4 logical cores, LNC 2)\n" in shown
    assert "in a container (podman), torch" in shown or sys.platform != "linux"


def test_doctor_explains_each_absent_backend_in_a_line_with_a_next_step_in_time(tmp_path: Path) -> None:
    """As a user runs it: another folder that may not be written to, no HOME, no PATH, GPUs hidden."""
    (tmp_path / "here").mkdir(mode=0o555)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", "from bench.cli import main; main()", "doctor", "--quick", "--json"],
                          capture_output=True, text=True, check=True, cwd=tmp_path / "here",
                          env={"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "0", "PATH": ""})
    assert time.perf_counter() - started < 3.0  # about 0.4 s
    found = {one["backend"]: one for one in json.loads(done.stdout)["backends"]}
    assert found.keys() >= {"cpu", "cuda", "neuron", "tpu"}
    for one in found.values():
        assert one["available"] or (one["reason"] and one["fix"])
        assert "\n" not in one["text"]


# The whole


def test_the_description_is_json_names_no_host_and_is_the_same_each_time() -> None:
    first, second = describe(), describe()
    assert first["name"] == second["name"]
    assert re.fullmatch(r"[a-z0-9-]+", first["name"])
    text = json.dumps(first, allow_nan=False)
    assert json.loads(text) == first
    assert set(first) == {"name", "cpu", "memory", "accelerators", "os", "software", "instance"}
    assert f'"{platform.node()}"' not in text


def test_the_instance_is_what_the_user_says_or_unknown_with_a_reason(amd_vm: Path) -> None:
    assert describe(amd_vm, instance_type="c7a.large")["instance"]["type"] == "c7a.large"
    unknown = describe(amd_vm)["instance"]
    assert unknown["type"] is None
    assert "--instance-type" in unknown["reason"]


def test_describing_is_quick_and_imports_nothing_heavy() -> None:
    code = ("import sys, time\nfrom bench.machine import describe\ntimes = []\nfor _ in range(3):\n"
            "    start = time.perf_counter(); describe(); times.append(time.perf_counter() - start)\n"
            "heavy = {'torch', 'numpy', 'pandas', 'transformers', 'psutil'} & set(sys.modules)\n"
            "print(min(times)); print(sorted(heavy))")
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=Path(__file__).parents[1]).stdout.splitlines()
    assert float(lines[0]) < 0.150
    if sys.platform == "linux":
        assert lines[1] == "[]"
