"""The command line: what is refused before anything starts, what is printed where, and every exit code."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import pytest

from bench import __version__
from bench.cli import COMMANDS
from bench.record import schema
from bench.store import Store
from tests.commandline import BRIEF, EMULATED, MY_MODEL, PLAIN_CPU, ROOT, one_document, records_in, trnbench
from tests.records import failed_record, make_record

HEAVY = ["diffusers", "numpy", "pandas", "rich", "torch", "transformers", "yaml"]
GEMM = ("run", "gemm", "--size", "tiny")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of a test without --results stay out of the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be started."""

    def started(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"a child was started: {args}")

    monkeypatch.setattr("bench.runner.converse", started)


# ---------------------------------------------------------------- refused before anything starts


@pytest.mark.parametrize(("words", "told"), [
    ("runn", "Unknown command 'runn'. Did you mean 'run'?"),
    ("run gem", "Unknown workload 'gem'. Did you mean 'gemm'"),
    ("run gemm dlmr", "Unknown workload 'dlmr'. Did you mean 'dlrm'?"),
    ("run gemm --backend emulate", "Unknown backend 'emulate'. Did you mean 'emulated'?"),
    ("run gemm --size tny", "Workload 'gemm' has no size 'tny'. Did you mean 'tiny'?"),
    ("run gemm --scenario offlin", "no inference scenario 'offlin'. Did you mean 'offline'?"),
    ("run gemm --scenario training", "Workload 'gemm' has no inference scenario 'training'."),
    ("run gemm --task training", "Workload 'gemm' has no task 'training'."),
    ("run gemm --task inferance", "'inferance' is not known. Did you mean 'inference'?"),
    ("run gemm --dtype bf61", "'bf61' is not known. Did you mean 'bf16'"),
    ("run membw --dtype fp8", "Workload 'membw' has no dtype 'fp8'."),
    ("run gemm --sise tiny", "No such option '--sise'."),
    ("run gemm --option n=5", "Workload 'gemm' has no option 'n'."),
    ("run dlrm --option sparse_gradient=1", "Did you mean 'sparse_gradients'?"),
    ("run dlrm --option sparse_gradients=5", "takes true or false, got 5."),
    ("run dlrm --option sparse_gradients", "is not of the form key=value"),
    ("run gemm --backend emulated --backend-option earlywait=1", "Did you mean 'early_wait'?"),
    ("run gemm --backend emulated --backend-option slowdown=nan", "takes a number, got nan."),
    ("run gemm --backend emulated --backend-option crash_at_step=1.5", "takes a whole number, got 1.5."),
    ("run gemm --backend emulated --backend-option noise_seed=[1]", "takes one plain value, got [1]."),
    ("run gemm --backend cpu --backend-option x=1", "Backend 'cpu' has no option 'x'."),
    ("run gemm --backend-option /nowhere.yaml", "Cannot read backend options '/nowhere.yaml'"),
    ("run --suite quik", "Unknown suite 'quik'. Did you mean 'quick'?"),
    ("run --suite quick bret", "Suite 'quick' has no workload 'bret'. Did you mean 'bert'"),
    ("run", "Nothing to run."),
    ("list workload", "Nothing called 'workload' to list. Did you mean 'workloads'?"),
    ("run gemm --batch-size 0", "batch_size must be at least 1, got 0."),
    ("run bert --seq-len -1", "seq_len must be at least 1, got -1."),
    ("run bert --seq-len 0", "seq_len must be at least 1, got 0."),
    ("run gemm --seq-len 8", "Workload 'gemm' has no sequence length."),
    ("run dlrm --scenario single-stream --batch-size 4", "Scenario 'single-stream' has batch size 1, not 4."),
    ("run gemm --batch-size 1,x", "'1,x' is not a list of batch sizes"),
    ("run gemm --batch-size 1.5", "'1.5' is not a list of batch sizes"),
    ("run gemm --batch-size ,", "',' names no batch sizes"),
    ("run gemm --repeats 0", "repeats must be a number above 0, got 0."),
    ("run gemm --repeats many", "'many' is not a valid integer"),
    ("run gemm --max-seconds -1", "max_seconds must be a number above 0, got -1.0."),
    ("run gemm --max-seconds nan", "max_seconds must be a number above 0, got nan."),
    ("run gemm --timeout inf", "timeout_s must be a number above 0, got inf."),
    ("run gemm --threads 0", "--threads must be auto or a number above 0, got '0'."),
    ("run gemm --threads two", "--threads must be auto or a number above 0, got 'two'."),
    ("run gemm --seed -1", "seed must be from 0 to 2**63 - 1, got -1."),
    ("run gemm --label team", "'team' is not of the form key=value"),
    ("run gemm --workload-file nowhere.py", "No workload file 'nowhere.py'."),
    ("run gemm --config nowhere.yaml", "Cannot read config 'nowhere.yaml'"),
    ("run gemm --results nosuch://bucket", "nosuch://bucket cannot be opened"),
    ("show nothing-like-it", "No record 'nothing-like-it'"),
    ("report nowhere", "No results at 'nowhere'."),
    ("compare nowhere nowhere-else", "No results at 'nowhere'."),
    ("ab gemm gem", "Unknown workload 'gem'. Did you mean 'gemm'"),
    ("ab gemm 'gemm --batch-size 1,2'", "makes 2 cases; a side is one."),
])
@pytest.mark.usefixtures("no_child")
def test_what_is_mistyped_or_cannot_be_is_refused_with_the_nearest_name(words: str, told: str,
                                                                        tmp_path: Path) -> None:
    import shlex

    result = trnbench(*shlex.split(words))
    assert result.exit_code == 2
    assert told in result.stderr
    assert "To fix: " in result.stderr or "--help' for help" in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize(("words", "reason"), [
    (("run", "gemm", "--size", "tiny", "--dtype", "tf32", "--backend", "cpu"), "tf32 has no meaning on a CPU"),
    (("run", "bert", "--size", "tiny", "--dtype", "fp16", "--task", "training", "--backend", "cpu"), "loss scaling"),
    (("run", "gemm", "--size", "tiny", "--batch-size", "8", "--backend", "cpu"), "pass --batch-size 1"),
    (("run", "gemm", "--size", "tiny", "--compile-mode", "fast", "--backend", "cpu"), "compile mode 'fast'"),
])
def test_a_case_that_is_impossible_here_becomes_a_record_and_exit_3(words: tuple[str, ...], reason: str,
                                                                    tmp_path: Path) -> None:
    result = trnbench(*words, "--results", tmp_path / "r")
    assert result.exit_code == 3
    [record] = records_in(tmp_path / "r")
    assert record.status == "unsupported"
    assert reason in record.reasons[0]
    assert "unsupported" in result.stdout
    assert reason in result.stdout
    jsonschema.validate(record.to_json(), schema())


@pytest.mark.usefixtures("no_child")
def test_a_dry_run_names_every_case_and_why_one_is_impossible_and_runs_and_stores_nothing(tmp_path: Path) -> None:
    words = ("run", "gemm", "--size", "tiny", "--dtype", "fp32,tf32", "--backend", "cpu", "--repeats", "2",
             "--max-seconds", "3", "--timeout", "60", "--results", tmp_path / "r", "--dry-run")
    result = trnbench(*words)
    assert result.exit_code == 0
    first, second, total = result.stdout.splitlines()
    assert first == "gemm:tiny inference/offline fp32 b1"
    assert second.startswith("gemm:tiny inference/offline tf32 b1  IMPOSSIBLE: dtype tf32 has no meaning")
    # one possible case: a scout and two children, 2 x 3 s timed, 3 x 60 s at the very latest
    assert total.startswith("1 of 2 cases would run, in 3 processes: timed for at most 0.1 min")
    assert "3 min by --timeout" in total
    assert not (tmp_path / "r").exists()

    plan = one_document(trnbench(*words, "--json").stdout)
    assert [case["refused"] is None for case in plan["cases"]] == [True, False]
    assert plan["at_most"] == {"timed_s": 6.0, "wall_s": 180.0}


# ---------------------------------------------------------------- options from files and variables

EVERY_KIND = """
workloads: [gemm]
backend: emulated
size: [tiny, "1024"]
dtype: fp32
batch-size: 1
threads: 2
compile: false
repeats: 2
max_seconds: 0.5
timeout: 77
seed: 5
label: {team: mine, version: "1.10"}
backend-option: {slowdown: 2, early_wait: true, flops_per_second: 1e12}
dry-run: true
json: true
"""


def test_every_kind_of_option_can_stand_in_a_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(EVERY_KIND)
    plan = one_document(trnbench("run", "--config", "run.yaml").stdout)
    cases = [case["case"] for case in plan["cases"]]
    assert [(c["workload"], c["size"], c["backend"], c["seed"], c["compile"], c["threads"]) for c in cases] == [
        ("gemm", "tiny", "emulated", 5, "off", 2), ("gemm", "1024", "emulated", 5, "off", 2)]
    assert cases[0]["backend_options"] == {"slowdown": 2.0, "early_wait": True, "flops_per_second": 1e12}
    assert plan["at_most"] == {"timed_s": 2.0, "wall_s": 2 * 3 * 77}


def test_the_command_line_stands_above_variables_and_these_above_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 5\nsize: '1024'\nbatch-size: 1\nworkloads: gemm\n")

    def case(*words: str, **variables: str) -> dict[str, Any]:
        found = one_document(trnbench("run", "--config", "run.yaml", "--dry-run", "--json", *words, **variables).stdout)
        return dict(found["cases"][0]["case"])

    assert (case()["seed"], case()["size"]) == (5, "1024")
    set_too = {"TRNBENCH_RUN_SEED": "6", "TRNBENCH_RUN_SIZE": "2048"}
    assert (case(**set_too)["seed"], case(**set_too)["size"]) == (6, "2048")
    assert (case("--seed", "7", **set_too)["seed"], case("dlrm", TRNBENCH_RUN_SIZE="tiny")["workload"]) == (
        7, "dlrm")


def test_variables_carry_the_long_names_of_options(tmp_path: Path) -> None:
    plan = one_document(trnbench(*GEMM, TRNBENCH_RUN_BACKEND="emulated", TRNBENCH_RUN_COMPILE="no",
                                 TRNBENCH_RUN_BACKEND_OPTION="slowdown=3 lazy=true", TRNBENCH_RUN_DRY_RUN="1",
                                 TRNBENCH_RUN_JSON="1", TRNBENCH_RUN_BATCH_SIZE="1").stdout)
    case = plan["cases"][0]["case"]
    assert (case["backend"], case["compile"]) == ("emulated", "off")
    assert case["backend_options"] == {"slowdown": 3.0, "lazy": True}
    result = trnbench(*GEMM, TRNBENCH_RUN_BATCH_SIZE="none")
    assert (result.exit_code, "'none' is not a list of batch sizes" in result.stderr) == (2, True)


@pytest.mark.parametrize(("text", "told"), [
    ("bacth-size: 8", "unknown option 'bacth-size'. Did you mean 'batch-size'"),
    ("[1, 2", "Cannot read config"),
    ("- gemm", "holds no options"),
    ("batch-size: [1, null]", "is not a list of batch sizes"),
    ("batch-size: {a: 1}", "is not a list of batch sizes"),
    ("repeats: few", "'few' is not a valid integer"),
    ("threads: 0", "--threads must be auto or a number above 0"),
    ("config: other.yaml", "unknown option 'config'"),
])
@pytest.mark.usefixtures("no_child")
def test_a_wrong_config_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    result = trnbench(*GEMM, "--config", "run.yaml")
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_an_unreadable_config_or_backend_option_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for option in ("--config", "--backend-option"):
        result = trnbench(*GEMM, option, path)
        assert result.exit_code == 2
        assert "Cannot read" in result.stderr


def test_backend_options_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "law.yaml").write_text("slowdown: 2\nlazy: true\n")
    plan = one_document(trnbench(*GEMM, *EMULATED, "--backend-option", "law.yaml", "--backend-option", "jitter=1e-3",
                                 "--dry-run", "--json").stdout)
    assert plan["cases"][0]["case"]["backend_options"] == {"slowdown": 2.0, "lazy": True, "jitter": 0.001}


def test_labels_are_text_as_it_was_given_and_stand_in_the_record(tmp_path: Path) -> None:
    result = trnbench(*GEMM, "--dtype", "tf32", "--backend", "cpu", "--label", "version=1.10", "--label", "build=007",
                      "--instance-type", "c7i.large", TRNBENCH_RESULTS=str(tmp_path / "r"))
    assert result.exit_code == 3
    [record] = records_in(tmp_path / "r")
    assert record.labels == {"version": "1.10", "build": "007"}
    assert record.machine["instance"]["type"] == "c7i.large"


# ---------------------------------------------------------------- what is printed, and where


def test_json_is_one_document_on_stdout_though_cases_fail_and_one_valid_case_is_success(tmp_path: Path) -> None:
    result = trnbench("run", "gemm", "--size", "tiny", "--batch-size", "1,8", *EMULATED, "--json",
                      "--results", tmp_path / "r")
    assert result.exit_code == 0
    report = one_document(result.stdout)
    assert [row["status"] for row in report["rows"]] == ["valid", "unsupported"]
    assert "valid: " in result.stderr
    assert "unsupported: a step is one matrix product" in result.stderr
    assert [record.status for record in records_in(tmp_path / "r")] == ["valid", "unsupported"]
    assert {record.tier for record in records_in(tmp_path / "r")} == {"emulated"}


def test_json_of_a_mistake_leaves_stdout_empty() -> None:
    result = trnbench("run", "gem", "--json")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_users_own_model_is_measured_in_inference_and_training_and_found_valid(tmp_path: Path) -> None:
    result = trnbench("run", "--workload-file", MY_MODEL, "--task", "inference,training", "--dtype", "fp32", *PLAIN_CPU,
                      "--results", tmp_path)
    assert result.exit_code == 0, result.output
    records = records_in(tmp_path)
    assert [(r.case.workload, r.case.task, r.status) for r in records] == [
        ("my_model", "inference", "valid"), ("my_model", "training", "valid")]
    for record in records:
        assert record.parity["status"] == "passed"
        assert record.metric("samples_per_second").value > 0  # type: ignore[union-attr,operator]
        jsonschema.validate(record.to_json(), schema())
    assert records[0].work["flops_per_step"] == 2 * 32 * 64 * (64 + 10)  # 32 samples, layers 64 x 64 and 64 x 10
    assert records[1].work["flops_per_step"] == 3 * 2 * 32 * 64 * (64 + 10) - 2 * 32 * 64 * 64
    assert len(records[0].case.workload_sha256 or "") == 16


@pytest.mark.parametrize(("lie", "reason"), [
    ("output_error=0.5", "parity: output 0 is 0.5 away from the float32 reference"),
    ("early_wait=true", "canary: "),
])
def test_a_wrong_answer_or_a_lying_wait_is_an_invalid_record_and_exit_3(lie: str, reason: str, tmp_path: Path) -> None:
    result = trnbench(*GEMM, *EMULATED, "--backend-option", lie, "--results", tmp_path)
    assert result.exit_code == 3
    [record] = records_in(tmp_path)
    assert record.status == "invalid"
    assert any(text.startswith(reason) for text in record.reasons)
    assert "Not valid:" in result.stdout
    assert " ".join(record.reasons[0].split()) in " ".join(result.stdout.split())
    assert record.samples["children"], "the raw times are kept, whatever is said of them"


# ---------------------------------------------------------------- list, help, start-up


@pytest.mark.parametrize(("kind", "key", "some"), [
    ("workloads", "workload", {"gemm", "bert", "dlrm"}), ("backends", "backend", {"cpu", "emulated"}),
    ("scenarios", "scenario", {"offline", "single-stream", "training", "generation"}),
    ("suites", "suite", {"smoke", "quick", "standard", "full"})])
def test_list_shows_what_there_is_as_text_and_as_json(kind: str, key: str, some: set[str]) -> None:
    rows = one_document(trnbench("list", kind, "--json").stdout)
    assert some <= {row[key] for row in rows}
    text = trnbench("list", kind)
    assert text.exit_code == 0
    assert all(row[key] in text.stdout for row in rows)


def test_list_shows_workloads_where_nothing_is_named() -> None:
    assert trnbench("list", "--json").stdout == trnbench("list", "workloads", "--json").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    for flag in ("--help", "-h"):
        result = trnbench(name, flag)
        assert result.exit_code == 0
        assert f"trnbench {name}" in result.stdout.split("\n", 1)[1], "no example"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_table_of_help_under_its_own_name(name: str) -> None:
    module, short = COMMANDS[name]
    assert importlib.import_module(module).command.name == name
    assert short in " ".join(trnbench("--help").stdout.split())


def test_help_names_the_exit_codes() -> None:
    text = " ".join(trnbench("--help").stdout.split())
    for told in ("0 done", "1 a gate", "2 wrong usage", "3 nothing valid", "130 interrupted"):
        assert told in text


def test_the_version_is_told_without_the_package_being_installed() -> None:
    assert trnbench("--version").stdout == f"trnbench, version {__version__}\n"


def loaded_after(*words: str) -> list[str]:
    """Which heavy modules a command leaves in a clean interpreter."""
    code = ("import sys\nfrom bench.cli import main\n"
            "try:\n    main(sys.argv[1:], prog_name='trnbench')\n"
            "except SystemExit as end:\n    code = end.code\n"
            f"print('LOADED', code or 0, *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, timeout=60)
    last = done.stderr.splitlines()[-1].split()
    assert last[:2] == ["LOADED", "0"], done.stderr
    return last[2:]


def test_help_starts_with_nothing_heavy() -> None:
    assert loaded_after("--help") == []


def test_reading_and_listing_commands_never_import_torch(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.save(make_record("run-a"))
    store.save(failed_record("run-b"))
    folder = str(tmp_path)
    for words in (["list", "workloads"], ["list", "backends"], ["report", folder], ["compare", folder, folder],
                  ["show", "run-a", "--results", folder], ["run", "bert", "--dry-run"]):
        assert not {"torch", "transformers", "diffusers"} & set(loaded_after(*words)), words


def test_report_goes_on_past_files_that_are_no_records_and_names_them(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.save(make_record("run-a"))
    newer = json.loads(make_record("run-b").dumps()) | {"schema_version": "trnbench.record/9"}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    (tmp_path / "half.json").write_text(make_record("run-c").dumps()[:500])
    (tmp_path / "other.json").write_text("[]")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    result = trnbench("report", tmp_path, "--format", "json")
    assert result.exit_code == 0
    report = one_document(result.stdout)
    assert [row["run_id"] for row in report["rows"]] == ["run-a"]
    reasons = {Path(problem["path"]).name: problem["reason"] for problem in report["problems"]}
    assert set(reasons) == {"newer.json", "half.json", "other.json"}
    assert "a newer trnbench may read it" in reasons["newer.json"]
    assert "not whole JSON" in reasons["half.json"]
    text = trnbench("report", tmp_path)
    assert text.exit_code == 0
    assert all(name in text.output for name in reasons)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_a_run_adds_to_a_store_that_has_broken_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"schema_version": ')
    assert trnbench(*GEMM, "--dtype", "tf32", "--backend", "cpu", *BRIEF, "--results", tmp_path).exit_code == 3
    loaded = Store(str(tmp_path)).load_all()
    assert (len(loaded.records), len(loaded.problems)) == (1, 1)


def test_doctor_names_the_instance_s_price_and_its_age() -> None:
    price = one_document(trnbench("doctor", "--quick", "--json", "--instance-type", "inf2.xlarge").stdout)["price"]
    assert (price["basis"], price["usd_per_hour"]) == ("on-demand", 0.7582)
    shown = trnbench("doctor", "--quick", "--instance-type", "inf2.xlarge").stdout
    assert "price: 0.7582 USD/h on-demand (aws/inf2.xlarge/us-east-1/on-demand/2026-07-20)" in shown
    nowhere = one_document(trnbench("doctor", "--quick", "--json", "--instance-type", "none").stdout)["price"]
    assert (nowhere["usd_per_hour"], "instance is not known" in nowhere["reason"]) == (None, True)


def test_help_and_a_mistyped_command_work_after_list_was_used() -> None:
    """`list` names a module of the package once it was imported, and Python's own no more."""
    assert trnbench("list", "scenarios").exit_code == 0
    assert "doctor" in trnbench("--help").stdout
    assert "Did you mean 'run'?" in trnbench("runn").stderr


@pytest.mark.usefixtures("no_child")
def test_auto_says_that_it_measures_the_cpu_beside_an_accelerator_that_no_backend_can_use(
        monkeypatch: pytest.MonkeyPatch) -> None:
    plugged = [{"kind": "nvidia", "name": "NVIDIA H100", "count": 8}, {"kind": "other", "name": None, "count": 1}]
    told = "measuring on cpu: no backend can use the 8 x NVIDIA H100 plugged in here; `trnbench doctor` says why"
    seen = importlib.import_module("bench.machine.accelerators")
    monkeypatch.setattr(seen, "accelerators", lambda: {"kinds": plugged, "reason": None})
    found = trnbench(*GEMM, "--dry-run")
    assert [line for line in found.stderr.splitlines() if "plugged in" in line] == [told]
    assert "plugged in" not in trnbench(*GEMM, "--dry-run", "--backend", "cpu").stderr
    monkeypatch.setattr(seen, "accelerators", lambda: {"kinds": None, "reason": "no PCI bus here"})
    assert "plugged in" not in trnbench(*GEMM, "--dry-run").stderr


def test_doctor_tells_the_noise_floor_of_each_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bench import machine
    from bench.machine.noise import save_noise_floor

    monkeypatch.setenv("TRNBENCH_STATE_DIR", str(tmp_path))
    quick = ("doctor", "--quick", "--instance-type", "none")
    assert "noise floor: not measured here yet" in trnbench(*quick).stdout
    save_noise_floor(machine.describe(instance_type="none")["name"], "cpu", 0.0123, "A/A")
    assert "noise floor: 1.23% on cpu of 20" in trnbench(*quick).stdout
    floors = {one["backend"]: one["noise_floor"] for one in one_document(trnbench(*quick, "--json").stdout)["backends"]}
    assert floors["cpu"]["relative"] == 0.0123
    assert [name for name, floor in floors.items() if floor] == ["cpu"]


@pytest.mark.usefixtures("in_process")
def test_doctor_measures_the_noise_of_the_backend_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bench.cli import doctor

    monkeypatch.setenv("TRNBENCH_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(doctor, "RUNS", 2)
    monkeypatch.setattr(doctor, "RUN_SECONDS", 0.1)
    monkeypatch.setattr(doctor, "SHORT_STEP_MS", 0.0)
    found = one_document(trnbench("doctor", "--backend", "cpu", "--json", "--instance-type", "none").stdout)
    assert found["timing"]["case"].startswith("gemm:1024")
    kept, = json.loads((tmp_path / "noise.json").read_text())
    assert " cpu torch " in kept
