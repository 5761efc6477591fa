"""Reports: every record has a row, names stay text, unknown stays unknown, emulated stays apart."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.cli import main
from bench.record import Record
from bench.report import text
from bench.report.frame import columns, frame, latest, main_metric, row
from bench.report.markdown import render_markdown
from bench.report.plain import to_csv, to_json
from bench.report.terminal import render_terminal
from bench.store import Problem, Store
from tests.records import failed_record, make_record


def printed(*records: Record, width: int = 200, terminal: bool = False, problems: tuple[Problem, ...] = ()) -> str:
    out = io.StringIO()
    render_terminal(records, Console(file=out, width=width, force_terminal=terminal, color_system=None), problems)
    return out.getvalue()


def line_with(words: str, printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if words in line]
    return line


# -- numbers as text


@pytest.mark.parametrize(("value", "shown"), [
    (None, "–"), (0, "0"), (12345.6, "12,346"), (123.44, "123.4"), (1.2345, "1.234"), (0.0123456, "0.01235"),
    (0.00001234, "1.234e-05"), (2.5e13, "2.5e+13"), (-1.5, "-1.500")])
def test_numbers_have_four_significant_digits(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


def test_half_width_is_half_the_interval_in_percent_of_the_value() -> None:
    assert text.half_width(200.0, 196.0, 206.0) == "±2.5 %"  # (206 - 196) / 2 / 200
    assert text.half_width(200.0, None, 206.0) == ""
    assert text.half_width(1.0, 0.5, 3.0) == "±125 %"


def test_memory_is_in_binary_gigabytes_and_unknown_is_a_dash() -> None:
    assert text.gib(3 * 2**29) == "1.500"
    assert text.gib(None) == "–"


def test_a_records_text_cannot_steer_a_terminal() -> None:
    assert text.plain("a\x1b[31mb\nc\ud800") == "a\N{REPLACEMENT CHARACTER}[31mb c\N{REPLACEMENT CHARACTER}"


# -- the frame


def test_a_row_holds_the_numbers_of_the_record() -> None:
    one = row(make_record("run-1", step_ms=10, spread=0, steps_per_round=2))
    assert one["throughput_per_second"] == pytest.approx(800)  # 8 samples in 10 ms
    assert one["step_time_ms"] == pytest.approx(10)
    assert one["mfu"] == pytest.approx(0.4)  # 8 x 1.4e10 FLOPs in 10 ms are 1.12e13 of 2.8e13 FLOP/s
    assert one["peak_memory_bytes"] == 3 * 2**29
    assert one["phase_measure_s"] == pytest.approx(2.0)  # 0.5 s in a scout and three children
    assert (one["item"], one["main_metric"], one["main_unit"]) == ("sample", "samples_per_second", "samples/s")
    assert (one["parity_ok"], one["canary_ok"], one["children"], one["disturbed_children"]) == (True, True, 3, 0)
    assert one["settings"] == "compile=inductor layout=contiguous threads=1"


def test_a_frame_has_a_row_a_record_and_numeric_columns_even_where_nothing_is_known() -> None:
    rows = frame([make_record("run-1"), failed_record("run-2")])
    assert list(rows.columns) == columns()
    assert rows["throughput_per_second"].dtype == "float64"
    assert rows["ttft_ms_p50"].dtype == "float64"
    assert rows["throughput_per_second"].notna().tolist() == [True, False]
    assert rows["reasons"].tolist() == ["", "the child was killed for memory"]
    assert list(frame([]).columns) == columns()


def test_the_main_metric_is_latency_for_single_queries_and_throughput_else() -> None:
    def name(**case: object) -> str:
        metric = main_metric(make_record(case=dict(case)))
        assert metric
        return metric.name

    assert name() == "samples_per_second"
    assert name(scenario="single-stream", batch_size=1) == "latency_ms_p50"
    short = main_metric(make_record(rounds=3, children=1, case={"scenario": "single-stream", "batch_size": 1}))
    assert short
    assert short.name == "step_time_ms"  # three samples have no median worth the name (MLPerf's floor is 11)
    assert main_metric(failed_record()) is None


def test_a_generation_has_time_to_first_token_and_per_token() -> None:
    one = row(make_record(step_ms=80, spread=0, item="token", case={"workload": "gpt2", "scenario": "generation"}))
    assert one["ttft_ms_p50"] == pytest.approx(40)  # half of 80 ms
    assert one["tpot_ms_p50"] == pytest.approx(10)  # (80 - 40) ms over four further tokens
    assert one["itl_ms_p50"] == pytest.approx(10)


def test_the_newest_record_of_each_case_on_each_machine_is_the_latest() -> None:
    def at(run_id: str, day: int, machine: str = "one") -> Record:
        return make_record(run_id, started_at=f"2026-01-0{day}T00:00:00Z", machine={"name": machine})

    records = [at("new", 2), at("old", 1), at("other", 1, "two")]
    assert [record.run_id for record in latest(records)] == ["new", "other"]


# -- the terminal


def test_a_valid_record_shows_throughput_with_its_half_width_memory_and_mfu() -> None:
    line = line_with("run-1", printed(make_record("run-1", spread=0)))
    assert line.split() == ["bert:base", "s128", "inference/offline", "cpu", "1t", "inductor", "contiguous", "bf16",
                            "8", "800.0", "samples", "±0", "%", "10.00", "step", "40", "1.500", "1.60", "valid",
                            "run-1"]


def test_a_record_that_is_not_valid_has_a_row_without_numbers_and_its_reason() -> None:
    shown = printed(make_record("run-1"),
                    make_record("run-2", status="invalid", reasons=("MFU 1.5 is above 1",), case={"dtype": "fp32"}))
    bad = next(line for line in shown.splitlines() if line.rstrip().endswith("run-2"))
    assert "invalid" in bad
    assert "samples" not in bad
    assert "1.500" not in bad
    assert "MFU 1.5 is above 1" in shown.partition("Not valid:")[2]


def test_emulated_and_imported_records_stand_in_tables_of_their_own() -> None:
    shown = printed(make_record("run-emulated", tier="emulated", case={"backend": "emulated"}), make_record("run-real"),
                    make_record("run-imported", tier="published"))
    order = [shown.index(words) for words in ("Measured\n", "run-real", "Published or imported", "run-imported",
                                              "Emulated: no such device", "run-emulated")]
    assert order == sorted(order)
    assert shown.count("workload ") == 3


def test_one_child_has_no_interval_and_disturbed_children_are_marked() -> None:
    calm = make_record("run-1", children=1)
    child = calm.children[1] | {"disturbance": {"disturbed": True, "why": ["steal 12 % > 5 %"]}}
    line = line_with("run-1", printed(dataclasses.replace(calm, children=(calm.children[0], child))))
    assert "±" not in line
    assert "valid, disturbed" in line


def test_markup_in_names_stays_text() -> None:
    shown = printed(make_record("run-1", case={"workload": "my[red]net[/red]"}, warnings=("[link=x]look[/link]",)),
                    make_record("run-2", status="failed", reasons=("[/bold] is no tag",)), terminal=True)
    assert "my[red]net[/red]:base" in shown
    assert "[link=x]look[/link]" in shown
    assert "[/bold] is no tag" in shown


def test_a_pipe_gets_whole_lines_without_colour_however_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = io.StringIO()
    render_terminal([make_record("run-1"), failed_record("run-2", reason="x" * 300)], Console(file=out))
    assert "\x1b" not in out.getvalue()
    assert "run-1" in line_with("samples", out.getvalue())
    assert "x" * 300 in out.getvalue()


def test_a_narrow_terminal_loses_columns_and_says_which() -> None:
    shown = printed(make_record("run-1"), width=100, terminal=True)
    assert max(map(len, shown.splitlines()[:2])) <= 100
    assert "Too narrow for: run, machine" not in shown  # one machine is no column
    assert "Too narrow for: run, compile s" in shown
    assert "800" in printed(make_record("run-1", spread=0), width=60, terminal=True)


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours() -> str:
        out = io.StringIO()
        render_terminal([failed_record()], Console(file=out, force_terminal=True, width=150))
        return out.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in colours()


def test_nothing_to_report_and_files_passed_over_are_said() -> None:
    assert "No records." in printed()
    assert "x/bad.json: not whole JSON" in printed(problems=(Problem("x/bad.json", "not whole JSON"),))


# -- Markdown, csv, JSON


def test_markdown_escapes_names_and_keeps_its_tables_whole() -> None:
    record = make_record("run-1", case={"workload": "a|b*c[d](e)<b>"}, warnings=("1 | 2 `x` _y_",))
    page = render_markdown([record, failed_record("run-2", reason="no | room")], [Problem("a|b.json", "empty file")])
    assert "a\\|b\\*c\\[d\\](e)\\<b\\>:base" in page
    assert "1 \\| 2 \\`x\\` \\_y\\_" in page
    assert "no \\| room" in page
    assert "a\\|b.json" in page
    for line in page.splitlines():
        if line.startswith("|"):  # every row of a table has as many cells as its heading
            assert line.replace("\\|", "").count("|") in (15, 12)


def test_markdown_tells_machine_versions_ledger_and_how_intervals_are_made() -> None:
    page = render_markdown([make_record("run-1")])
    for words in ("torch 2.13.0+cpu", "noise floor 2 %", "95 % interval", "Where the time went", "trnbench 0.1.0"):
        assert words in page
    ledger = next(line for line in page.splitlines() if line.startswith("| bert:base inference"))
    assert ledger.endswith("| 2.00 | 16.0 |")  # teardown, wall


def test_a_machine_that_nobody_described_is_said_to_be_unknown() -> None:
    assert "unknown machine: unknown CPU; trnbench of unknown version, versions not kept; noise floor not measured" in (
        render_markdown([make_record(machine={}, tool={})]).replace("\\", ""))


def test_csv_has_a_line_a_record_and_leaves_unknown_empty() -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv([make_record("run-1", spread=0), failed_record("run-2")]))))
    assert [line["run_id"] for line in lines] == ["run-1", "run-2"]
    assert float(lines[0]["throughput_per_second"]) == pytest.approx(800)
    assert lines[1]["throughput_per_second"] == ""
    assert list(lines[0]) == columns()


def test_json_is_one_document_with_rows_machines_and_problems() -> None:
    document = json.loads(to_json([make_record("run-1"), failed_record("run-2")], [Problem("bad.json", "empty file")]))
    assert document["schema_version"] == "trnbench.report/1"
    assert [one["status"] for one in document["rows"]] == ["valid", "oom"]
    assert document["rows"][1]["mfu"] is None
    assert document["machines"]["emr-2c"]["software"]["torch"] == "2.13.0+cpu"
    assert document["problems"] == [{"path": "bad.json", "reason": "empty file"}]


# -- the commands


@pytest.fixture
def results(tmp_path: Path) -> str:
    store = Store(str(tmp_path / "results"))
    store.save(make_record("run-1", started_at="2026-01-01T00:00:00Z"))
    store.save(make_record("run-2", started_at="2026-01-02T00:00:00Z"))
    store.save(failed_record("run-3", case={"batch_size": 64}))
    (tmp_path / "results" / "half.json").write_text('{"schema_version": "trnbench.rec')
    return store.location


def run(*arguments: str, env: dict[str, str] | None = None, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments, env=env)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_report_shows_the_newest_of_a_case_unless_all_are_asked_for(results: str) -> None:
    assert "run-1" not in run("report", results)
    shown = run("report", results, "--all")
    for words in ("run-1", "run-2", "run-3", "half.json: not whole JSON"):
        assert words in shown


def test_report_finds_results_by_variable_and_in_the_current_folder(
        results: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "run-2" in run("report", env={"TRNBENCH_RESULTS": results})
    monkeypatch.chdir(Path(results).parent)
    assert "run-2" in run("report", env={"TRNBENCH_RESULTS": ""})


def test_report_writes_the_format_that_the_file_name_asks_for(results: str, tmp_path: Path) -> None:
    for name, beginning in (("r.md", "# Benchmark report"), ("r.csv", "run_id,"), ("r.json", "{"),
                            ("r.txt", "workload")):
        assert run("report", results, "-o", str(tmp_path / name)) == ""
        assert (tmp_path / name).read_text().startswith(beginning)


def test_report_says_what_to_do_where_there_is_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "trnbench run" in done.stderr


def test_an_output_that_cannot_be_written_is_a_usage_error(results: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", results, "-o", str(tmp_path / "no" / "r.md")])
    assert done.exit_code == 2
    assert "could not be written: No such file or directory" in done.stderr


def test_csv_on_stdout_is_alone_there_and_unread_files_are_told_beside_it(results: str) -> None:
    done = CliRunner().invoke(main, ["report", results, "--format", "csv"])
    assert len(done.stdout.splitlines()) == 3
    assert "half.json" in done.stderr


def test_show_prints_ledger_parity_settings_and_metrics_with_reasons(results: str) -> None:
    shown = run("show", "run-2", "--results", results)
    for words in ("run-2:", "samples_per_second: ", "Where the time went", "scout", "Parity:", "status: passed",
                  "this workload states no bytes a step", "torch: 2.13.0+cpu", "compile=inductor"):
        assert words in shown
    assert "the child was killed for memory" in run("show", "run-3", "--results", results)


def test_show_json_is_the_record_itself_found_by_prefix_or_file(results: str) -> None:
    record = make_record("run-2", started_at="2026-01-02T00:00:00Z")
    assert Record.from_json(json.loads(run("show", "run-2", "--results", results, "--json"))) == record
    assert Record.from_json(json.loads(run("show", f"{results}/emr-2c/bert/run-2.json", "--json"))) == record


def test_show_of_an_unknown_run_names_the_nearest(results: str) -> None:
    done = CliRunner().invoke(main, ["show", "run-9", "--results", results])
    assert done.exit_code == 2
    assert "Did you mean" in done.stderr


@pytest.mark.parametrize("name", ["show", "report", "compare", "export", "import"])
def test_help_has_examples_a_line_each(name: str) -> None:
    lines = run(name, "--help").splitlines()
    examples = [line for line in lines[lines.index("  Examples:"):] if line.strip().startswith("trnbench")]
    assert len(examples) >= 1
    assert all(name in line for line in examples)


def test_reading_commands_never_import_torch(results: str) -> None:
    """In a clean interpreter, the commands run and not only imported."""
    code = ("import sys\nfrom bench.cli import main\n"
            "import bench.store, bench.report.frame, bench.report.compare, bench.stats\n"
            f"for line in (['report', {results!r}], ['show', 'run-2', '--results', {results!r}],\n"
            f"             ['compare', {results!r}, {results!r}], ['list', 'backends']):\n"
            "    try: main(line)\n"
            "    except SystemExit as end: assert end.code in (0, None), (line, end.code)\n"
            "heavy = {'torch', 'transformers', 'diffusers', 'pandas'} & set(sys.modules)\n"
            "print('heavy:', sorted(heavy))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1],
                          env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, check=False)
    assert done.stdout.splitlines()[-1:] == ["heavy: []"], done.stderr
