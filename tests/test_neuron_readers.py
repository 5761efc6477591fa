"""Neuron's tools and files read without a device: recorded shapes, executable stand-ins, and error texts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from bench.backends.neuron import errors
from bench.backends.neuron.errors import ROWS, explain
from bench.catalog.chips import chip as chip_of
from bench.machine import neuron
from bench.machine.neuron import CHIPS, FAMILIES, Monitor, neuron_devices, parse_monitor_line, parse_neuron_ls
from bench.record import STATUSES
from tests.fakes.neuron_machine import SYSFS, machine, write

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests/samples/neuron"
TOOLS = ROOT / "tests/fakes/neuron_tools"
HELD = "device 0 (cores 0-3) by pid 4242 (python -m train)"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins of neuron-ls and neuron-monitor on PATH."""
    monkeypatch.setenv("PATH", f"{TOOLS}:/usr/bin:/bin")


# neuron-ls


def test_neuron_ls_shows_logical_and_physical_cores_memory_and_who_holds_them() -> None:
    [device], reason = parse_neuron_ls((SAMPLES / "neuron-ls-trn2.json").read_text())
    assert reason is None
    assert (device.index, device.cores, device.lnc, device.physical_cores) == (0, 4, 2, 8)
    assert (device.memory_bytes, device.core_ids) == (96 * 2**30, (0, 1, 2, 3))
    [holder] = device.holders
    assert (holder.pid, holder.command, holder.runtime) == (4242, "python -m train", "2.35.30.0")
    assert device.held_by({4242}) == []
    assert str(device) == "device 0 (cores 0-3)"


def test_cores_that_cannot_be_joined_are_each_one_physical_core() -> None:
    [device], _ = parse_neuron_ls((SAMPLES / "neuron-ls-trn1.json").read_text())
    assert (device.cores, device.lnc, device.physical_cores, device.holders) == (2, None, 2, ())


def test_every_key_of_neuron_ls_may_be_missing() -> None:
    [device], reason = parse_neuron_ls('[{"neuron_processes": [{"command": "no pid"}], "new_key": 1}]')
    assert reason is None
    assert (device.index, device.cores, device.physical_cores, device.memory_bytes, device.core_ids) == (None,) * 5
    assert device.holders == ()


@pytest.mark.parametrize(("text", "why"), [("", "no JSON"), ('{"neuron_device": 0}', "no list of devices"),
                                           ("[1]", "no list of devices"), ("[]", "lists no device")])
def test_what_is_no_list_of_devices_is_none_with_the_reason(text: str, why: str) -> None:
    devices, reason = parse_neuron_ls(text)
    assert devices == []
    assert why in str(reason)


def test_core_numbers_are_written_as_ranges() -> None:
    assert [neuron.core_list(ids) for ids in ((0, 1, 2, 3), (5,), (4, 6, 7))] == ["0-3", "5", "4,6-7"]


@pytest.mark.usefixtures("tools")
def test_neuron_ls_is_run_from_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NEURON_LS", str(SAMPLES / "neuron-ls-trn2.json"))
    devices, reason = neuron_devices()
    assert reason is None
    assert [device.cores for device in devices] == [4]


@pytest.mark.usefixtures("tools")
def test_neuron_ls_that_fails_gives_its_exit_code_and_last_words() -> None:
    assert neuron_devices() == ([], "neuron-ls ended with exit code 1: neuron-ls: no neuron device found")


def test_neuron_ls_is_found_where_its_package_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert "install aws-neuronx-tools" in str(neuron_devices(tmp_path)[1])
    (tmp_path / "opt/aws/neuron/bin").mkdir(parents=True)
    os.symlink(TOOLS / "neuron-ls", tmp_path / "opt/aws/neuron/bin/neuron-ls")
    monkeypatch.setenv("FAKE_NEURON_LS", str(SAMPLES / "neuron-ls-trn1.json"))
    assert [device.cores for device in neuron_devices(tmp_path)[0]] == [2]


def test_a_neuron_ls_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron, "LS_TIMEOUT_S", 0.2)
    assert neuron_devices(command=("sh", "-c", "sleep 5")) == ([], "neuron-ls gave no answer within 0.2 s")


# Files of the system


def test_devices_are_numbered_files_alone_and_in_order(tmp_path: Path) -> None:
    for name in ("neuron10", "neuron2", "neuron0", "neuron_reserved"):
        write(tmp_path, f"dev/{name}", "")
    assert [Path(path).name for path in neuron.device_files(tmp_path)] == ["neuron0", "neuron2", "neuron10"]
    assert neuron.device_files(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", list(CHIPS))
def test_a_chip_is_known_by_the_driver_s_exact_name(tmp_path: Path, name: str) -> None:
    found, source = neuron.chip(machine(tmp_path, chip=name))
    assert found == CHIPS[name]
    assert source == "sysfs, device_name"


def test_every_chip_of_driver_and_instance_families_is_in_the_catalog() -> None:
    assert {chip_of(one).vendor for one in {*CHIPS.values(), *FAMILIES.values()}} == {"aws"}


def test_a_chip_of_another_name_is_unknown_unless_its_instance_tells(tmp_path: Path) -> None:
    assert neuron.chip(machine(tmp_path, chip="Trainium20")) == (None, "neither sysfs nor neuron-ls names the chip")
    devices, _ = parse_neuron_ls((SAMPLES / "neuron-ls-trn2.json").read_text())
    assert neuron.chip(tmp_path, devices) == ("trainium2", "neuron-ls, instance_type")
    write(tmp_path, f"{SYSFS}/neuron0/info/architecture/instance_type", "Trn1\n")
    assert neuron.chip(tmp_path) == ("trainium1", "sysfs, instance_type")


@pytest.mark.parametrize(("text", "found"), [("trn2u.48xlarge", "trainium2"), ("Inf2", "inferentia2"),
                                             ("trn20.48xlarge", None), ("m7i.large", None)])
def test_an_instance_family_is_matched_whole(text: str, found: str | None) -> None:
    assert neuron.family(text) == found


def test_power_is_a_percentage_with_its_time_or_unknown_with_a_reason(tmp_path: Path) -> None:
    machine(tmp_path, devices=4)
    write(tmp_path, f"{SYSFS}/neuron0/stats/power/utilization", "POWER_STATUS_VALID,1764000000,10.50,61.00,48.25\n")
    write(tmp_path, f"{SYSFS}/neuron1/stats/power/utilization", "POWER_STATUS_NO_DATA,0,0.00,0.00,0.00\n")
    write(tmp_path, f"{SYSFS}/neuron2/stats/power/utilization", "POWER_STATUS_VALID,what\n")
    rows = neuron.power_percent(tmp_path)
    assert rows[0] == {"device": 0, "at_unix_s": 1764000000, "min_percent": 10.5, "max_percent": 61.0,
                       "avg_percent": 48.25, "reason": None}
    assert [row["avg_percent"] for row in rows[1:]] == [None, None, None]
    assert [row["reason"].partition(":")[0] for row in rows[1:]] == [
        "the driver says POWER_STATUS_NO_DATA", "stats/power/utilization can't be read",
        "the driver shows no stats/power/utilization"]
    assert not any("joule" in key or key.endswith("_w") for row in rows for key in row)


def test_device_memory_is_the_cores_own_peak_and_by_use(tmp_path: Path) -> None:
    machine(tmp_path, cores=2)
    memory = f"{SYSFS}/neuron0/neuron_core0/stats/memory_usage/device_mem"
    for path, text in (("total", "700"), ("present", "3"), ("peak", "1000"), ("tensors/total", "600"),
                       ("tensors/peak", "800"), ("constants/peak", "400")):
        write(tmp_path, f"{memory}/{path}", f"{text}\n")
    first, second = neuron.device_memory(tmp_path)
    assert (first["device"], first["core"], first["now_bytes"], first["peak_bytes"]) == (0, 0, 700, 1000)
    assert first["parts"] == {"constants": {"now_bytes": None, "peak_bytes": 400},
                              "tensors": {"now_bytes": 600, "peak_bytes": 800}}
    assert (second["core"], second["peak_bytes"], second["parts"]) == (1, None, {})


def test_error_counters_are_summed_and_only_rises_count(tmp_path: Path) -> None:
    machine(tmp_path, cores=2)
    write(tmp_path, f"{SYSFS}/neuron0/stats/hardware/mem_ecc_uncorrected", "1\n")
    for core in (0, 1):
        write(tmp_path, f"{SYSFS}/neuron0/neuron_core{core}/stats/status/timeout/total", "2\n")
        write(tmp_path, f"{SYSFS}/neuron0/neuron_core{core}/stats/status/success/total", "900\n")
    before = neuron.error_counts(tmp_path)
    assert before == {"mem_ecc_uncorrected": 1, "timeout": 4}
    write(tmp_path, f"{SYSFS}/neuron0/neuron_core1/stats/status/timeout/total", "5\n")
    assert neuron.rises(before, neuron.error_counts(tmp_path)) == {"timeout": 3}


@pytest.mark.parametrize(("variables", "cores"), [
    ("NEURON_RT_VISIBLE_CORES=4-7", 4), ("NEURON_RT_VISIBLE_CORES=2\0NEURON_RT_NUM_CORES=8", 1),
    ("NEURON_RT_NUM_CORES=2", 2), ("NEURON_RT_NUM_CORES=0", None), ("HOME=/", None)])
def test_a_process_holds_as_many_cores_as_its_variables_say(tmp_path: Path, variables: str, cores: int | None) -> None:
    write(tmp_path, "proc/4242/environ", variables + "\0")
    assert neuron.cores_of(4242, tmp_path) == cores


def test_system_packages_are_asked_of_the_package_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "dpkg-query", "#!/bin/sh\necho 'aws-neuronx-runtime-lib 2.35.30.0-abc'\n"
                                  "echo 'dpkg-query: no packages found matching aws-neuronx-tools' >&2; exit 1\n")
    (tmp_path / "dpkg-query").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    assert neuron.installed() == {"aws-neuronx-runtime-lib": "2.35.30.0-abc"}


# neuron-monitor


def test_a_report_without_processes_has_no_utilisation_and_no_memory() -> None:
    first = parse_monitor_line((SAMPLES / "neuron-monitor-trn2.jsonl").read_text().splitlines()[0])
    assert first is not None
    assert (first["utilization"], first["device_bytes"], first["host_bytes"]) == ({}, None, None)
    assert first["hardware"]["neuron_device_type"] == "trainium2"


def test_flops_are_read_under_both_of_their_names() -> None:
    lines = [parse_monitor_line(line) for line in (SAMPLES / "neuron-monitor-trn2.jsonl").read_text().splitlines()]
    assert [line and line["flops_per_second"] for line in lines] == [{}, {"0": 98e12}, {"0": 99e12}]


@pytest.mark.parametrize("line", ["", "half a line {", "[]", "3"])
def test_a_line_that_is_no_report_is_none(line: str) -> None:
    assert parse_monitor_line(line) is None


@pytest.mark.parametrize("line", ["{}", '{"neuron_runtime_data": null, "system_data": []}',
                                  '{"neuron_runtime_data": [{"report": {"memory_used": null}}]}'])
def test_a_report_may_lack_any_of_its_groups(line: str) -> None:
    found = parse_monitor_line(line)
    assert found is not None
    assert (found["utilization"], found["device_bytes"], found["errors"]) == ({}, None, {})


def test_a_group_s_own_error_is_kept() -> None:
    found = parse_monitor_line('{"system_data": {"neuron_hw_counters": {"error": "no driver"}}}')
    assert found is not None
    assert found["complaints"] == ["no driver"]


@pytest.mark.usefixtures("tools")
def test_a_monitor_is_asked_for_one_tag_read_in_the_background_and_ended(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NEURON_MONITOR", str(SAMPLES / "neuron-monitor-trn2.jsonl"))
    monkeypatch.setenv("FAKE_NEURON_MONITOR_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("FAKE_NEURON_MONITOR_PID", str(tmp_path / "pid"))
    with Monitor("run.7f", 0.5) as monitor:
        deadline = time.monotonic() + 10
        while monitor.summary()["reports"] < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    config, found = json.loads((tmp_path / "config").read_text()), monitor.summary()
    assert config["period"] == "0.5s"
    assert config["neuron_runtimes"][0]["tag_filter"] == r"^run\.7f$"
    assert found["utilization_percent"] == {"0": {"mean": 76.0, "max": 80.5}}
    assert (found["device_peak_bytes"], found["host_peak_bytes"]) == (5 * 2**30, 310378496)
    assert found["executions"]["completed"] == 1000
    assert found["warnings"] == ["Neuron runtime: completed_with_num_err 3 times", "Neuron runtime: transient 1 times",
                                 "Neuron device: mem_ecc_corrected rose by 1"]
    assert (found["reports"], found["unreadable"], found["reason"]) == (3, 0, None)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_neuron_monitor_a_summary_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with Monitor(root=tmp_path) as monitor:
        pass
    assert "install aws-neuronx-tools" in monitor.summary()["reason"]
    assert monitor.summary()["device_peak_bytes"] is None


@pytest.mark.usefixtures("tools")
def test_a_monitor_that_ends_by_itself_is_told_with_its_exit_code() -> None:
    with Monitor() as monitor:
        deadline = time.monotonic() + 10
        while monitor._process is not None and monitor._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    assert monitor.summary()["reason"] == "neuron-monitor ended by itself with exit code 3"


# Error texts


def _recorded() -> list[tuple[str, str, str, str]]:
    """(kind, status, words of the message, text) of every paragraph of errors.txt."""
    found = []
    for paragraph in (SAMPLES / "errors.txt").read_text().strip().split("\n\n"):
        head, _, text = paragraph.partition("\n")
        kind, status, words = (part.strip() for part in head.removeprefix("##").split("|"))
        found.append((kind, status, words, text))
    return found


@pytest.mark.parametrize(("kind", "status", "words", "text"), _recorded(), ids=lambda value: value[:40])
def test_an_error_text_ends_in_its_status_and_message(kind: str, status: str, words: str, text: str) -> None:
    told = explain(f"Traceback (most recent call last):\n  x\n{text}\n", busy=lambda: HELD, chip=lambda: "trainium2")
    assert told is not None, kind
    assert told[0] == status
    assert words in told[1]


def test_every_kind_of_failure_has_a_recorded_text_and_a_known_status() -> None:
    assert {row.kind for row in ROWS} == {kind for kind, *_ in _recorded()}
    assert {row.status for row in ROWS} <= set(STATUSES) - {"valid", "interrupted"}


def test_a_compiler_s_own_code_wins_over_the_wrapper_that_passes_it_on() -> None:
    wrapper = "RuntimeError: Compilation error occurred on Neuron for operation=aten::sort; COMPILATION FAILED"
    for code, kind in (("NCC_EOOM001", "oom"), ("NCC_EVRF029", "unsupported"), ("NCC_EVRF007", "unsupported"),
                       ("NCC_EMOD025", "unsupported")):
        told = explain(f"{wrapper}\n[{code}] what the compiler says")
        assert told is not None
        assert told[0] == kind
    crash = explain(wrapper)
    assert crash is not None
    assert crash[0] == "failed"


@pytest.mark.parametrize("text", ["subprocess ended with exit status 4", "step 5 took 1005 ms", "HTTP 101",
                                  "batch 9 of 10", "exited with status 6", "nothing of Neuron's", ""])
def test_a_number_alone_is_no_status_of_the_runtime(text: str) -> None:
    assert explain(text) is None


def test_the_cores_holder_is_asked_for_only_when_cores_are_busy() -> None:
    def never() -> str | None:
        raise AssertionError("asked")

    assert explain("NEFF version mismatch", busy=never, chip=never) is not None
    told = explain("NeuronCore(s) not available - Requested:nc0-nc0 Available:0")
    assert told is not None
    assert "names no process any more" in told[1]


def test_a_message_quotes_the_line_and_not_the_whole_log() -> None:
    told = explain("x" * 5000 + "\nCould not open the nd7\n" + "y" * 5000)
    assert told is not None
    assert len(told[1]) < 400
    assert "Could not open the nd7" in told[1]
    assert errors.explain("Could not open the nd7" + "z" * 9000) is not None
