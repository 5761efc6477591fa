"""What Neuron's error texts and counters mean: which row of the table each falls to, and what ends a measurement."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.backends.neuron import watch as watch_module
from bench.backends.neuron.errors import ROWS, UNSUPPORTED, explain, row_of
from bench.backends.neuron.watch import POWER_PERIOD_S, Watch
from bench.errors import CaseFailed
from bench.machine import neuron
from tests.fakes.neuron_machine import SYSFS, machine, write

ROOT = Path(__file__).parents[1]


def recorded() -> list[tuple[str, str]]:
    """(kind, text) of every paragraph of errors.txt."""
    paragraphs = (ROOT / "tests/samples/neuron/errors.txt").read_text("utf-8").strip().split("\n\n")
    heads = [paragraph.partition("\n") for paragraph in paragraphs]
    return [(head.removeprefix("##").partition("|")[0].strip(), text) for head, _, text in heads]


TEXTS = [
    ("no device", "there is no /dev/neuron0 in this container"),
    ("driver", "nrt_init: Neuron DKMS Driver is not running"),
    ("packages", "ImportError: cannot import name 'neuron' from 'torch'"),
    ("packages", "this is torch-neuronx 1.0, which holds no code"),
    ("compiler not found", "/bin/sh: 1: neuronx-cc: not found"),
    ("compiler not found", "RuntimeError: neuronx-cc compiler binary does not exist"),
    ("compiler not found", "COMPILATION FAILED: Command failed (neuronx-cc compilation) with exit code 127"),
    ("cores busy", "NeuronCores not available"),
    ("cores busy", "nrt_init failed: ret=-16"),
    ("cores busy", "nrt_load: NRT_EXEC_NC_BUSY"),
    ("too many cores", "nrt_load: NRT_LOAD_NOT_ENOUGH_NC"),
    ("too many cores", "RuntimeError: Device index must be between 0 and 3, got 4"),
    ("too many cores", "RuntimeError: Invalid device id 4"),
    ("out of device memory", "nrt_tensor_allocate: NRT_RESOURCE"),
    ("out of device memory", "Failed to allocate 4294967296 bytes on ND 0:NC 0"),
    ("out of device memory", "ERROR  TDRV:log_dev_mem  ONE TMPBUF of 4.0GB"),
    ("out of device memory, compiling", "[NCC_EXSP001] Insufficient memory"),
    ("out of host memory", "[F137] neuronx-cc was forcibly killed - This most commonly occurs due to insufficient "
                           "system memory. Using a smaller data type, dimensions, batch size, or a larger instance "
                           "type may help."),
    ("out of host memory", "RuntimeError: neuronx-cc failed with -9"),
    ("out of host memory", "subprocess.CalledProcessError: Command '['neuronx-cc', 'compile']' died with "
                           "<Signals.SIGKILL: 9>."),
    ("out of host memory", "Compilation error occurred on Neuron for operation=aten::mm; error message=\"COMPILATION "
                           "FAILED: Failed to read compiled NEFF file: /tmp/neuron_compile_1/module.neff\""),
    ("dynamic shape", "torch.fx.experimental.symbolic_shapes.PendingUnbackedSymbolNotFound: Pending unbacked symbols"),
    ("graph too large", "[NCC_EBVF030] the graph is too large"),
    ("graph too large", "COMPILATION FAILED: Command failed (neuronx-cc compilation) with exit code 70: "
                        "[INTERNAL_ERROR] [NCC_IXTP002] Number of instructions (11453027) is over the threshold"),
    ("compiler crash", "[NCC_ITIN902] an internal error"),
    ("compiler crash", "COMPILATION FAILED: no reason given"),
    ("compiler crash", "RuntimeError: neuronx-cc failed with 70"),
    ("compiler crash", "RuntimeError: neuronx-cc failed with -11"),
    ("compiler crash", "Command failed (neuronx-cc compilation) with exit code 70"),
    ("compiler crash", "Command '['/venv/bin/neuronx-cc', 'compile']' returned non-zero exit status 70."),
    ("compiler crash", "[F134] neuronx-cc terminated abnormally - Please open a support ticket"),
    ("hardware", "nrt_execute: NRT_EXEC_HW_ERR_NC_UE"),
    ("hardware", "status HW_ERROR of nrt_execute"),
    ("hardware", "in the timed part, hw_error rose by 1"),
    ("hardware", "in the timed part, mem_ecc_uncorrected rose by 1"),
    ("numerical", "in the timed part, numerical rose by 1"),
    ("numerical", "nrt_execute: NRT_EXEC_COMPLETED_WITH_NUM_ERR"),
    *((kind, "NRT Execution error occurred on Neuron for operation=aten::mm\nerror message=\"NRT EXECUTION FAILED: "
             f"Async execution error: seq_id=5, {words}\"\npython stack trace=\n") for kind, words in (
        ("out of device memory", "Failed to allocate resource"), ("timeout", "Operation timed out"),
        ("too many cores", "Not enough NCs for loading NEFF"), ("NEFF version", "Unsupported NEFF version"),
        ("out of host memory", "Failed to allocate host memory"), ("hardware", "Hardware failure"),
        ("numerical", "Execution completed with numerical errors (NaN)"),
        ("cores busy", "Neuron core busy/locked by another model/process"),
        ("hardware", "Stuck in collectives op (missing notification(s)). Possibly caused by a hardware error"),
        ("hardware", "An HBM encountered an unrepairable uncorrectable error and produced incorrect results"),
        ("hardware", "An on-chip memory of Neuron Core encountered a parity error and produced incorrect results."),
        ("hardware", "A DMA engine encountered an unrecoverable error"),
        ("hardware", "Software notification queue overflow"), ("hardware", "HBM repairable uncorrectable error"),
        ("hardware", "EFA network proxy failure"))),
    *(("unsupported", f"[NCC_{code}] what the compiler says") for code in UNSUPPORTED),
    *((kind, f"nrt_execute failed with status {number}") for kind, numbers in {
        "out of device memory": [4], "timeout": [5], "hardware": [6, 101, *range(1200, 1207)], "too many cores": [9],
        "NEFF version": [10], "out of host memory": [11], "numerical": [1003], "cores busy": [1005],
    }.items() for number in numbers),
]
"""(kind, text) of what errors.txt has no text for: words of the documentation and the sources, less known ones filled
up. Those of neuronx-cc that was killed: reports of its users; numbers: NRT_STATUS, and the native flavour's words
for them (its source before the release, ErrorHandler.cpp)."""


@pytest.mark.parametrize(("kind", "text"), recorded() + TEXTS, ids=lambda value: value[:60])
def test_a_text_falls_to_its_own_row_whatever_stands_around_it(kind: str, text: str) -> None:
    for around in ("{}", "RuntimeError: {}", "INFO all well\nRuntimeError: {}\nTraceback (most recent call last):\n"):
        row, line = row_of(around.format(text))
        assert row is not None
        assert row.kind == kind
        assert line
        told = explain(around.format(text))
        assert told is not None
        assert told[0] == row.status


def test_every_pattern_has_a_text_that_falls_to_its_row_by_it() -> None:
    texts = recorded() + TEXTS
    for row in ROWS:
        for pattern in row.patterns:
            assert any(kind == row.kind and re.search(pattern, text, re.IGNORECASE | re.MULTILINE)
                       for kind, text in texts), (row.kind, pattern)


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_a_refusal_of_the_compiler_says_what_was_refused(code: str) -> None:
    told = explain(f"[NCC_{code}] what the compiler says", chip=lambda: "trainium2")
    assert told is not None
    assert told[1].startswith(f"not supported on trainium2: {UNSUPPORTED[code]}")
    assert f"(NCC_{code})" in told[1]


@pytest.mark.parametrize("text", [
    "Diagnostic logs stored in /tmp/a b/log-neuron-cc.txt\n[NCC_EOOM002] Maximum peak HBM usage exceeds",
    "[NCC_EVRF001] Operator topk is not supported, see /home/ubuntu/log-neuron-cc.txt.",
    "RuntimeError: neuronx-cc failed with 70 (--logfile=/home/ubuntu/log-neuron-cc.txt)"])
def test_where_a_text_names_the_compiler_s_log_so_do_the_words(text: str) -> None:
    told = explain(text)
    assert told is not None
    assert re.search(r"\(the compiler's log: [\w/]*/log-neuron-cc\.txt\)$", told[1])


# ---------------------------------------------------------------- counters of the device during the timed part


@pytest.mark.parametrize(("path", "kind"), [
    ("stats/hardware/mem_ecc_uncorrected", "hardware"), ("stats/hardware/sram_ecc_uncorrected", "hardware"),
    ("stats/hardware/mem_ecc_repairable_uncorrected", "hardware"),
    ("neuron_core0/stats/status/hw_error/total", "hardware"),
    ("neuron_core1/stats/status/execute_completed_with_num_error/total", "numerical")])
def test_a_fault_of_the_device_ends_the_measurement_in_words_of_its_row(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str) -> None:
    watch = _watch(tmp_path, monkeypatch, {path: "4", "stats/hardware/other": "2"})
    write(tmp_path, f"{SYSFS}/neuron0/{path}", "6\n")
    with pytest.raises(CaseFailed) as failed:
        watch.end()
    assert failed.value.status == "failed"
    assert failed.value.reason == f"in the timed part, {_name(path)} rose by 2"
    row, _ = row_of(failed.value.reason)
    assert row is not None
    assert row.kind == kind
    assert watch.warnings == [f"Neuron driver: {_name(path)} rose by 2"]


def test_what_was_wrong_before_or_is_no_fault_warns_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = "neuron_core0/stats/status/timeout/total"
    watch = _watch(tmp_path, monkeypatch, {"stats/hardware/mem_ecc_uncorrected": "4", status: "0"})
    write(tmp_path, f"{SYSFS}/neuron0/{status}", "1\n")
    watch.end()
    assert watch.warnings == ["Neuron driver: timeout rose by 1"]
    watch.end()  # once more does nothing
    assert watch.seen["driver_errors"] == {"timeout": 1}


@pytest.mark.parametrize(("renewed_s", "known"), [
    (POWER_PERIOD_S + 1, True), (299, True), (POWER_PERIOD_S - 1, False), (-10, False), (301, False)])
def test_power_is_that_of_the_timed_part_or_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renewed_s: int,
                                                    known: bool) -> None:
    clock = SimpleNamespace(time=lambda: 1_764_000_000.0)
    monkeypatch.setattr(watch_module, "time", clock)
    line = f"POWER_STATUS_VALID,{1_764_000_000 + renewed_s},10.50,61.00,48.25"
    watch = _watch(tmp_path, monkeypatch, {"stats/power/utilization": line})
    clock.time = lambda: 1_764_000_300.0
    watch.end()
    [power] = watch.seen["power_of_maximum"]
    assert power["at_unix_s"] == 1_764_000_000 + renewed_s
    assert (power["avg_percent"], power["max_percent"]) == ((48.25, 61.0) if known else (None, None))
    assert (power["reason"] is None) is known


def test_a_watch_that_never_began_has_seen_nothing(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.end()
    assert (watch.seen, watch.warnings) == ({}, [])


def test_a_watch_without_driver_or_monitor_finds_nothing_and_says_so(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    watch = Watch(tmp_path)
    watch.start()
    watch.end()
    assert "install aws-neuronx-tools" in watch.seen["reason"]
    assert (watch.seen["driver_errors"], watch.seen["power_of_maximum"]) == ({}, [])


@pytest.mark.parametrize(("sample", "words"), [("neuron-monitor-trn2.jsonl", "completed_with_num_err rose by 3"),
                                               ("neuron-monitor-sound.jsonl", None)])
def test_numerical_errors_that_neuron_monitor_counts_end_the_measurement(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: str, words: str | None) -> None:
    monkeypatch.setenv("PATH", f"{ROOT / 'tests/fakes/neuron_tools'}:/usr/bin:/bin")
    path = ROOT / "tests/samples/neuron" / sample
    monkeypatch.setenv("FAKE_NEURON_MONITOR", str(path))
    watch = Watch(tmp_path)
    watch.start()
    deadline_s = time.monotonic() + 10
    while watch._monitor.summary()["reports"] < len(path.read_text().splitlines()) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    if words is None:
        watch.end()
        assert watch.seen["executions"]["completed"] > 0
        return
    with pytest.raises(CaseFailed, match=words):
        watch.end()


def _watch(root: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> Watch:
    """A watch that has begun, on a machine of two cores with these files; no tools of Neuron are on PATH."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    machine(root, cores=2)
    for path, text in files.items():
        write(root, f"{SYSFS}/neuron0/{path}", f"{text}\n")
    assert neuron.tool("neuron-monitor", root) is None
    watch = Watch(root)
    watch.start()
    return watch


def _name(path: str) -> str:
    """A counter's name: the file's, or its folder's."""
    return Path(path).parent.name if path.endswith("/total") else Path(path).name
