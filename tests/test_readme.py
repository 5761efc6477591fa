"""What the README says is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from bench.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_s_own_model_is_the_one_that_the_tests_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert (ROOT / "tests/fakes/my_model.py").read_text("utf-8") in blocks


def test_the_readme_s_table_has_every_command() -> None:
    named = set(re.findall(r"`(?:trnbench )?(\w+)[ `]", README))
    assert set(COMMANDS) <= named, set(COMMANDS) - named


def test_files_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:bench|ci|tests|workloads)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name
