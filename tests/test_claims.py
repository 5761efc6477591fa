"""The claims that are shipped, and what a file of one's own may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.catalog.claims import LIKENESS, load_claims, shipped_claims
from bench.errors import BenchError

OWN = """
[[claims]]
id = "mine"
title = "Mine is cheaper"
statement = "My chip is half as dear."
source = { publisher = "me" }

[[claims.parts]]
name = "cost"
metric = "usd_per_item"
claimed = "50 % cheaper"
saving_percent = 50
subject = { chips = ["inferentia2"] }
baseline = { instances = ["g6"] }
tasks = ["inference"]
"""


def own(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return load_claims(path)


def test_every_claim_of_the_list_is_shipped_in_order() -> None:
    assert [claim.id for claim in shipped_claims()] == [f"C{n:02}" for n in range(1, 20)]


def test_every_claim_says_who_claims_it_and_what_can_be_done_with_it() -> None:
    for claim in shipped_claims():
        assert claim.source["publisher"]
        assert bool(claim.parts) == (claim.scope == "test"), claim.id
        assert claim.scope == "test" or claim.reason, claim.id
    scopes = {claim.id: claim.scope for claim in shipped_claims()}
    assert (scopes["C14"], scopes["C15"], scopes["C19"]) == ("projection", "listing", "out")


def test_the_first_part_of_a_claim_is_never_a_stand_in() -> None:
    assert not [claim.id for claim in shipped_claims() if claim.parts and claim.parts[0].stand_in]


def test_a_saving_of_40_percent_is_a_ratio_of_1_667() -> None:
    # 40 % less cost: 1 / (1 - 0.40) = 1.6667; 30 % more work per dollar: 1.30; "up to 2.3x": 2.3.
    ratios = {(claim.id, part.name): part.ratio for claim in shipped_claims() for part in claim.parts}
    assert ratios["C01", "cost per inference"] == pytest.approx(1.66667, rel=1e-5)
    assert ratios["C05", "cost to train"] == 2.0
    assert ratios["C07", "work per dollar against H200"] == 1.3
    assert ratios["C02", "throughput per chip"] == 2.3


def test_the_flat_claim_and_the_up_to_claim_are_kept_apart() -> None:
    up_to = {(claim.id, part.name): part.up_to for claim in shipped_claims() for part in claim.parts}
    assert not up_to["C01", "cost per inference"]
    assert up_to["C02", "cost per inference"]


def test_no_claim_passes_over_precision_but_the_one_that_says_so_itself() -> None:
    ignoring = {(claim.id, part.name) for claim in shipped_claims() for part in claim.parts
                if "precision_class" in part.ignore}
    assert ignoring == {("C04", "measured latency, GPU in FP32")}
    assert "precision_class" in LIKENESS


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    claim, = own(tmp_path, OWN)
    part, = claim.parts
    assert (claim.id, claim.scope, part.ratio, part.up_to) == ("mine", "test", 2.0, False)
    assert part.baseline.instances == ("g6",)


@pytest.mark.parametrize(("before", "after", "told"), [
    ('metric = "usd_per_item"', 'metric = "usd_per_itme"', ["mine.toml", "claim mine", "metric", "usd_per_item"]),
    ('metric = "usd_per_item"', 'metrik = "usd_per_item"', ["parts 1, metrik", "Did you mean 'metric'"]),
    ('chips = ["inferentia2"]', 'chips = ["inferentia9"]', ["subject, chips", "inferentia9", "inferentia2"]),
    ('instances = ["g6"]', 'instances = ["g66"]', ["baseline, instances", "'g66'"]),
    ('chips = ["inferentia2"]', 'chips = "inferentia2"', ["subject, chips", "a list of texts"]),
    ('{ instances = ["g6"] }', "{}", ["baseline", "a side must be named"]),
    ("saving_percent = 50", "saving_percent = 100", ["nobody saves 100 %"]),
    ("saving_percent = 50", "", ["exactly one of times"]),
    ("saving_percent = 50", "saving_percent = 50\ntimes = 2", ["exactly one of times"]),
    ("saving_percent = 50", "times = 0.5", ["at least 1, got 0.5"]),
    ("saving_percent = 50", "times = true", ["a number"]),
    ("saving_percent = 50", "times = nan", ["a number"]),
    ("saving_percent = 50", 'saving_percent = 50\nbasis = "on demand"', ["basis", "on-demand"]),
    ("saving_percent = 50", 'saving_percent = 50\nquantities = ["fp8"]', ["quantities", "only the metric peak"]),
    ("saving_percent = 50", "saving_percent = 50\nup_to = 1", ["up_to", "true or false"]),
    ("saving_percent = 50", 'saving_percent = 50\nignore = ["colour"]', ["ignore", "colour"]),
    ('publisher = "me"', 'date = "2026"', ["source, publisher", "missing"]),
    ('title = "Mine is cheaper"', "", ["title", "missing"]),
    ('statement = "My', 'scope = "out"\nstatement = "My', ["parts", "has none"]),
    ("[[claims.parts]]", "[[claims.part]]", ["part", "no such key"]),
    ("[[claims]]", "[[claim]]", ["claim", "no such key"]),
    ('tasks = ["inference"]', 'tasks = ["infrence"]', ["tasks", "inference"]),
])
def test_a_mistake_is_named_by_file_claim_and_key(tmp_path: Path, before: str, after: str, told: list[str]) -> None:
    assert before in OWN
    with pytest.raises(BenchError) as caught:
        own(tmp_path, OWN.replace(before, after, 1))
    for text in told:
        assert text in caught.value.what
    assert caught.value.fix


def test_a_claim_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="mine: it is there twice"):
        own(tmp_path, OWN + OWN)


def test_a_file_that_is_not_toml_or_not_there_is_a_plain_message(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is not TOML"):
        own(tmp_path, "claims = [")
    with pytest.raises(BenchError, match="has no claims"):
        own(tmp_path, "")
    with pytest.raises(BenchError, match="could not be read"):
        load_claims(tmp_path / "none.toml")


def test_a_data_sheet_part_names_one_chip_a_side_and_its_quantities(tmp_path: Path) -> None:
    peak = OWN.replace("usd_per_item", "peak").replace('{ instances = ["g6"] }', '{ chips = ["l4", "t4"] }')
    with pytest.raises(BenchError, match=r"baseline\.chips: the metric peak needs exactly one chip"):
        own(tmp_path, peak)
    with pytest.raises(BenchError, match="quantities: the metric peak needs at least one"):
        own(tmp_path, peak.replace('["l4", "t4"]', '["l4"]'))
