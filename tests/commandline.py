"""The command line as users have it: in this process where that is enough, else in one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from bench.cli import main
from bench.record import Record
from bench.store import Store

ROOT = Path(__file__).parents[1]
MY_MODEL = ROOT / "tests/fakes/my_model.py"
BRIEF = ("--repeats", "1", "--max-seconds", "0.1")
EMULATED = ("--backend", "emulated", *BRIEF)
PLAIN_CPU = ("--backend", "cpu", "--threads", "1", "--no-compile", *BRIEF)


def trnbench(*words: object, **variables: str) -> Result:
    """Run the command line in this process; whatever was wrong, no stack trace reaches the user."""
    result = CliRunner().invoke(main, [str(word) for word in words], env=dict(variables), prog_name="trnbench")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def spawn(*words: object, stdout: Any = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, which Ctrl-C reaches even where it does not reach us."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen([sys.executable, "-m", "bench", *map(str, words)], env=environment, text=True,
                            stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def records_in(folder: Path) -> list[Record]:
    """The records of a store, in order; every file in it must be one."""
    loaded = Store(str(folder)).load_all()
    assert loaded.problems == ()
    return list(loaded.records)


def workload_file(folder: Path, code: str, name: str = "mine.py") -> Path:
    """A user's file: `my_model.py`'s WORKLOAD as W, then `code`."""
    path = folder / name
    path.write_text("import dataclasses, importlib.util, json, os, signal, sys, time\n"
                    f"spec = importlib.util.spec_from_file_location('my_model', {str(MY_MODEL)!r})\n"
                    "my_model = importlib.util.module_from_spec(spec)\n"
                    "spec.loader.exec_module(my_model)\n"
                    f"W = my_model.WORKLOAD\n{code}\n")
    return path


def one_document(stdout: str) -> Any:
    """The one JSON document that stdout must be."""
    return json.loads(stdout)
