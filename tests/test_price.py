"""`trnbench price`: what is shown, what is kept in the user's own file, and what AWS answers.

Answers of AWS are in tests/samples/aws, in the shape that the calls give them (botocore's Stubber
checks that); the numbers in them are made to be worked out by hand.
"""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from datetime import date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.instances import COLUMNS as INSTANCE_COLUMNS
from bench.catalog.instances import forget_instances, known_instance, own_instances_path
from bench.catalog.own import OnPremises, append_prices
from bench.catalog.prices import Price, load_book, own_prices_path
from bench.errors import BenchError
from tests.commandline import one_document, spawn, trnbench

SAMPLES = Path(__file__).parent / "samples/aws"
TODAY = date.today()
HEAD = "provider,instance_type,region,basis,term,usd_per_hour,as_of,source,note\n"


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A user who has no price file yet; gives the path that it will have."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRNBENCH_PRICES", raising=False)
    forget_instances()
    yield own_prices_path()
    forget_instances()


def shown(*words: object) -> list[dict[str, Any]]:
    """The prices that `price show --json` gives."""
    result = trnbench("price", "show", *words, "--json")
    assert result.exit_code == 0, result.output
    prices: list[dict[str, Any]] = one_document(result.stdout)["prices"]
    return prices


def keep(path: Path, *lines: str) -> None:
    """Write a price file as a user might, and the machine called "box" beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(f"{line}\n" for line in lines))
    own_instances_path().write_text(f"{','.join(INSTANCE_COLUMNS)}\nown,box,,,,0,,,,2026-01-01,me,\n")
    forget_instances()


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# Show


def test_a_price_is_shown_per_hour_and_per_chip_with_date_age_and_source() -> None:
    """trn1.32xlarge has 16 chips: 21.50 / 16 = 1.34375."""
    price, = shown("trn1.32xlarge", "--basis", "on-demand", "--as-of", "2026-10-01")
    assert price["usd_per_hour"] == 21.5
    assert (price["chips"], price["chip"], price["usd_per_chip_hour"]) == (16, "trainium1", 1.34375)
    assert (price["region"], price["as_of"], price["age_days"]) == ("us-east-1", "2026-07-20", 73)
    assert (price["stale"], price["own"]) == (False, False)
    assert "karpenter" in price["source"]


def test_of_several_dates_the_newest_by_the_day_asked_about_is_shown(mine: Path) -> None:
    keep(mine, "own,box,here,user,,1,2026-01-01,me,", "own,box,here,user,,2,2026-02-01,me,",
         "own,box,here,user,,3,2026-03-01,me,")
    assert [p["usd_per_hour"] for p in shown("box")] == [3]
    assert [p["usd_per_hour"] for p in shown("box", "--as-of", "2026-02-28")] == [2]
    assert [p["usd_per_hour"] for p in shown("box", "--history")] == [1, 2, 3]
    assert [p["usd_per_hour"] for p in shown("box", "--history", "--as-of", "2026-02-01")] == [1, 2]


def test_the_rate_before_the_cut_of_june_2025_is_still_shown_for_its_day() -> None:
    price, = shown("p4d.24xlarge", "--as-of", "2025-06-01", "--basis", "on-demand", "--region", "us-east-1")
    assert price["usd_per_hour"] == pytest.approx(32.77, abs=0.01)


@pytest.mark.parametrize(("basis", "days", "stale"), [("on-demand", 90, False), ("on-demand", 91, True),
                                                      ("spot", 30, False), ("spot", 31, True),
                                                      ("capacity-block", 30, False), ("capacity-block", 31, True)])
def test_an_old_price_is_marked_stale(mine: Path, basis: str, days: int, stale: bool) -> None:
    keep(mine, f"own,box,here,{basis},,1,2026-01-01,me,")
    day = date(2026, 1, 1) + timedelta(days=days)
    assert [p["stale"] for p in shown("box", "--as-of", day)] == [stale]
    assert [p["stale"] for p in shown("box", "--history", "--as-of", day)] == [stale]
    assert ("stale" in trnbench("price", "show", "box", "--as-of", day).stdout) == stale


def test_prices_are_chosen_by_chip_region_and_basis() -> None:
    found = shown("--chip", "inferentia2", "--basis", "on-demand", "--region", "us-east-1")
    assert {p["instance_type"] for p in found} == {"inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge", "inf2.48xlarge"}


def test_an_unknown_instance_is_told_the_nearest_and_ends_with_2() -> None:
    result = trnbench("price", "show", "inf2.xlrge")
    assert result.exit_code == 2
    assert "inf2.xlarge" in result.stderr


def test_a_price_that_is_not_there_says_what_there_is() -> None:
    result = trnbench("price", "show", "trn2.48xlarge", "--basis", "on-demand")
    assert result.exit_code == 2
    assert "capacity-block" in result.stderr


def test_of_two_instances_the_one_without_a_price_is_listed_beside_the_other() -> None:
    result = trnbench("price", "show", "inf2.xlarge", "trn2.48xlarge", "--basis", "on-demand")
    assert result.exit_code == 0
    assert "0.7582" in result.stdout
    assert "no on-demand price of trn2.48xlarge" in result.stdout
    unpriced = one_document(trnbench("price", "show", "inf2.xlarge", "trn2.48xlarge", "--basis", "on-demand",
                                     "--json").stdout)["unpriced"]
    assert list(unpriced) == ["trn2.48xlarge"]


def test_the_table_numbers_its_sources_and_names_them_below() -> None:
    text = trnbench("price", "show", "inf2.xlarge", "--basis", "on-demand").stdout
    assert "[1]" in text.split("Sources:")[0]
    assert "[1] " in text.split("Sources:")[1]


def test_text_of_a_row_is_printed_as_it_is(mine: Path) -> None:
    keep(mine, "own,box,here,user,,1,2026-01-01,me [bold]x[/bold],[red]cheap")
    text = trnbench("price", "show", "box").stdout
    assert "me [bold]x[/bold]" in text
    assert "[red]cheap" in text


# Set


def test_a_rate_of_ones_own_is_kept_and_used_before_the_shipped_one(mine: Path) -> None:
    result = trnbench("price", "set", "trn1.32xlarge", "--usd-per-hour", "11.2", "--note", "private offer")
    assert result.exit_code == 0, result.output
    assert f"aws/trn1.32xlarge/us-east-1/user/{TODAY}: 11.2 USD per hour, kept in {mine}" in result.stdout
    price, = shown("trn1.32xlarge", "--basis", "user")
    assert (price["usd_per_hour"], price["own"], price["note"]) == (11.2, True, "private offer")

    trnbench("price", "set", "trn1.32xlarge", "--usd-per-hour", "20", "--basis", "on-demand", "--as-of", "2026-07-20")
    quote = load_book().quote("trn1.32xlarge", "on-demand", region="us-east-1")
    assert quote.price is not None
    assert (quote.price.usd_per_hour, quote.price.own) == (20.0, True)


def test_the_file_may_be_named_by_a_variable_before_it_is_there(tmp_path: Path) -> None:
    mine = tmp_path / "team.csv"
    result = trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "0.5", TRNBENCH_PRICES=str(mine))
    assert result.exit_code == 0, result.output
    assert [row["usd_per_hour"] for row in rows_of(mine)] == ["0.5"]
    assert "0.5" in trnbench("price", "show", "inf2.xlarge", "--basis", "user", "--prices", mine).stdout


def test_a_rate_reads_back_to_the_last_digit(mine: Path) -> None:
    trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "0.12345678901234567")
    assert shown("inf2.xlarge", "--basis", "user")[0]["usd_per_hour"] == 0.12345678901234567


def test_a_second_rate_of_the_same_day_is_refused_and_the_first_stays(mine: Path) -> None:
    def setting(usd: float) -> Any:
        return trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", usd)

    assert setting(1.0).exit_code == 0
    assert "was already in" in setting(1.0).stdout
    refused = setting(2.0)
    assert refused.exit_code == 2
    assert "stands in" in refused.stderr
    assert "--as-of" in refused.stderr
    assert [row["usd_per_hour"] for row in rows_of(mine)] == ["1.0"]


@pytest.mark.parametrize("usd", ["0", "-1", "nan", "inf"])
def test_what_is_no_price_is_refused_and_nothing_written(mine: Path, usd: str) -> None:
    result = trnbench("price", "set", "inf2.xlarge", f"--usd-per-hour={usd}")
    assert result.exit_code == 2
    assert not mine.exists()


def test_a_name_that_nobody_knows_is_refused_unless_its_chips_are_given(mine: Path) -> None:
    result = trnbench("price", "set", "trn1.32xlrge", "--usd-per-hour", "1")
    assert result.exit_code == 2
    assert "trn1.32xlarge" in result.stderr
    assert not mine.exists()


def test_another_providers_rate_needs_its_region() -> None:
    result = trnbench("price", "set", "a3-highgpu-8g", "--usd-per-hour", "50")
    assert result.exit_code == 2
    assert "--region" in result.stderr


def test_a_machine_on_the_premises_is_priced_from_what_it_costs(mine: Path) -> None:
    """280,000 USD over 4 years and 20,000 a year are 90,000 a year; 8,760 h x 0.6 = 5,256 h of work.

    90,000 / 5,256 = 17.123288, power 8 kW x 1.4 x 0.12 = 1.344; together 18.467288 USD per hour,
    2.308411 per chip of 8.
    """
    result = trnbench("price", "set", "rack-1", "--chip", "h100-sxm", "--chips", "8", "--on-prem",
                      "--capex-usd", "280000", "--amortise-years", "4", "--power-kw", "8", "--usd-per-kwh", "0.12",
                      "--pue", "1.4", "--utilisation", "0.6", "--opex-usd-per-year", "20000", "--note", "row 3")
    assert result.exit_code == 0, result.output
    price, = shown("rack-1")
    assert price["usd_per_hour"] == pytest.approx(18.467288, abs=1e-6)
    assert price["usd_per_chip_hour"] == pytest.approx(2.308411, abs=1e-6)
    assert (price["provider"], price["region"], price["basis"]) == ("own", "on-premises", "user")
    for part in ("row 3", "280,000 USD over 4 years", "opex 20,000", "0.6 of all hours", "8 kW x PUE 1.4 x 0.12",
                 "idle"):
        assert part in price["note"]


def test_full_use_of_a_machine_without_opex_is_purchase_and_power() -> None:
    """87,600 USD over 1 year of 8,760 h is 10 an hour; 2 kW x 1 x 0.5 is 1: 11."""
    owned = OnPremises(capex_usd=87600, amortise_years=1, power_kw=2, usd_per_kwh=0.5, pue=1, utilisation=1)
    assert owned.usd_per_hour == pytest.approx(11)
    assert "idle" not in owned.note


def test_half_the_use_doubles_the_purchase_and_not_the_power_of_an_hour() -> None:
    """As before at one half: 10 becomes 20, the power of a working hour stays 1."""
    owned = OnPremises(capex_usd=87600, amortise_years=1, power_kw=2, usd_per_kwh=0.5, pue=1, utilisation=0.5)
    assert owned.usd_per_hour == pytest.approx(21)


@pytest.mark.parametrize(("option", "value"), [("--utilisation", "0"), ("--utilisation", "1.1"), ("--pue", "0.9"),
                                               ("--power-kw", "0"), ("--capex-usd", "nan"),
                                               ("--opex-usd-per-year", "-1")])
def test_an_impossible_cost_of_a_machine_is_refused(mine: Path, option: str, value: str) -> None:
    costs = {"--capex-usd": "1", "--amortise-years": "1", "--power-kw": "1", "--usd-per-kwh": "1", "--pue": "1",
             "--utilisation": "1"} | {option: value}
    result = trnbench("price", "set", "box", "--on-prem", *(f"{name}={given}" for name, given in costs.items()))
    assert result.exit_code == 2
    assert option.strip("-").replace("-", "_") in result.stderr
    assert not mine.exists()


def test_costs_that_are_missing_are_asked_for_not_guessed() -> None:
    result = trnbench("price", "set", "box", "--on-prem", "--capex-usd", "1000")
    assert result.exit_code == 2
    for option in ("--amortise-years", "--power-kw", "--usd-per-kwh", "--pue", "--utilisation"):
        assert option in result.stderr
    assert "--opex-usd-per-year" not in result.stderr


def test_costs_without_on_prem_are_not_silently_ignored() -> None:
    result = trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "1", "--capex-usd", "1000")
    assert result.exit_code == 2
    assert "--on-prem" in result.stderr


def test_a_machine_of_ones_own_is_known_by_its_chips_from_then_on(mine: Path) -> None:
    def setting(*words: str) -> Any:
        return trnbench("price", "set", "rack-1", "--usd-per-hour", "9", *words)

    assert setting("--chip", "h100-sxm", "--chips", "8").exit_code == 0
    known = known_instance("rack-1")
    assert known is not None
    assert (known.chip, known.chips, known.provider, known.vcpus) == ("h100-sxm", 8, "own", None)
    assert setting("--as-of", "2026-01-01").exit_code == 0
    other = setting("--chip", "h100-sxm", "--chips", "4")
    assert other.exit_code == 2
    assert "8 x h100-sxm" in other.stderr


def test_a_shipped_instance_keeps_its_chips() -> None:
    result = trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "1", "--chip", "t4", "--chips", "1")
    assert result.exit_code == 2
    assert "1 x inferentia2" in result.stderr


# The user's own file


def test_prices_set_at_once_are_all_there(mine: Path) -> None:
    usd = [str(n + 1) for n in range(6)]
    running = [spawn("price", "set", "inf2.xlarge", "--usd-per-hour", one, "--as-of", f"2026-01-0{one}")
               for one in usd]
    assert [process.wait(60) for process in running] == [0] * 6, [p.communicate() for p in running]
    assert sorted(row["usd_per_hour"] for row in rows_of(mine)) == [f"{one}.0" for one in usd]


@pytest.mark.parametrize(("line", "told"), [
    ("aws,inf2.xlarge,us-east-1,user,,cheap,2026-01-01,me,", "usd_per_hour"),
    ("aws,inf2.xlarge,us-east-1,user,,0,2026-01-01,me,", "usd_per_hour"),
    ("aws,inf2.xlarge,us-east-1,mine,,1,2026-01-01,me,", "basis"),
    ("aws,inf2.xlarge,us-east-1,user,,1,yesterday,me,", "as_of"),
    ("aws,inf2.xlarge,us-east-1,user,1", "cells")])
def test_a_damaged_file_is_named_with_line_and_column_and_left_as_it_is(mine: Path, line: str, told: str) -> None:
    keep(mine, "aws,inf2.xlarge,us-east-1,user,,1,2025-01-01,me,", line)
    before = mine.read_bytes()
    for words in (["show"], ["set", "inf2.xlarge", "--usd-per-hour", "1"]):
        result = trnbench("price", *words)
        assert result.exit_code == 2
        assert f"{mine} line 3" in result.stderr
        assert told in result.stderr
    assert mine.read_bytes() == before


def test_a_disk_that_is_full_leaves_the_file_as_it_was(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "1")
    before = mine.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "2", "--as-of", "2026-01-01")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert mine.read_bytes() == before
    assert [path.name for path in mine.parent.iterdir() if "part" in path.name] == []


def test_a_file_with_its_columns_in_another_order_goes_on_in_that_order(mine: Path) -> None:
    mine.parent.mkdir(parents=True)
    mine.write_text("note,usd_per_hour,provider,instance_type,region,basis,term,as_of,source\n"
                    "mine,1,aws,g6.xlarge,here,user,,2026-01-01,me")  # and no newline at its end
    assert trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "2", "--note", "a, \"b\"").exit_code == 0
    assert mine.read_text().startswith("note,usd_per_hour,provider,instance_type,region,basis,term,as_of,source\n"
                                       "mine,1,aws,g6.xlarge,here,user,,2026-01-01,me\n")
    assert rows_of(mine)[1]["note"] == 'a, "b"'


def test_a_link_to_the_file_stays_a_link(mine: Path, tmp_path: Path) -> None:
    mine.parent.mkdir(parents=True)
    real = tmp_path / "team.csv"
    real.write_text(HEAD)
    mine.symlink_to(real)
    assert trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "2").exit_code == 0
    assert mine.is_symlink()
    assert len(rows_of(real)) == 1


def test_a_row_that_could_not_be_read_again_is_never_written(mine: Path) -> None:
    with pytest.raises(BenchError):
        append_prices([Price(provider="aws", instance_type="inf2.xlarge", region="", basis="user", usd_per_hour=1.0,
                             as_of=TODAY, source="me")])
    assert not mine.exists()


# Refresh: what AWS answers, through botocore's own Stubber


class Aws:
    """Answers in the order in which they are to be asked for, by service and region."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        boto3 = pytest.importorskip("boto3")
        from botocore.stub import Stubber

        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        session, self.stubber = boto3.Session(), Stubber
        self.real = session.client
        self.stubs: dict[tuple[str, str], Any] = {}
        monkeypatch.setattr(boto3.Session, "client",
                            lambda _, service, region_name, config: self.of(service, region_name).client)

    def of(self, service: str, region: str) -> Any:
        """The Stubber of a service's client in a region."""
        if (service, region) not in self.stubs:
            self.stubs[service, region] = self.stubber(self.real(service, region_name=region))
            self.stubs[service, region].activate()
        return self.stubs[service, region]

    def products(self, name: str, region: str = "us-east-1", pages: int = 1, listed: bool = True) -> None:
        products = [json.dumps(one) for one in sample("get_products")[name]] if listed else []
        for page in range(pages):
            answer = {"FormatVersion": "aws_v1", "PriceList": products if page == pages - 1 else []}
            asked = {"ServiceCode": "AmazonEC2", "Filters": filters_for(name, region)}
            if page:
                asked["NextToken"] = f"page-{page}"
            if page < pages - 1:
                answer["NextToken"] = f"page-{page + 1}"
            self.of("pricing", "us-east-1").add_response("get_products", answer, asked)

    def spot(self, region: str = "us-east-1") -> None:
        for page in sample("describe_spot_price_history"):
            self.of("ec2", region).add_response("describe_spot_price_history", page)

    def blocks(self, name: str, region: str = "us-east-1") -> None:
        self.of("ec2", region).add_response("describe_capacity_block_offerings", {
            "CapacityBlockOfferings": sample("describe_capacity_block_offerings").get(name, [])})

    def refuses(self, service: str, operation: str, code: str, region: str = "us-east-1") -> None:
        self.of(service, region).add_client_error(operation, service_error_code=code,
                                                  service_message=f"no {operation} for you")

    def all_asked(self) -> None:
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    return Aws(monkeypatch)


def sample(name: str) -> Any:
    """A recorded answer; times are what botocore would make of them."""
    def timed(found: dict[str, Any]) -> dict[str, Any]:
        return {key: datetime.fromisoformat(value) if key in ("Timestamp", "StartDate", "EndDate") else value
                for key, value in found.items()}

    return json.loads((SAMPLES / f"{name}.json").read_text(), object_hook=timed)


def filters_for(name: str, region: str) -> list[dict[str, str]]:
    asked = {"instanceType": name, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared",
             "preInstalledSw": "NA", "capacitystatus": "Used"}
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in asked.items()]


def refreshed(*words: str) -> dict[str, Any]:
    result = trnbench("price", "refresh", *words, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = one_document(result.stdout)
    return document


def by_basis(document: dict[str, Any]) -> dict[str, float]:
    return {row["basis"]: row["usd_per_hour"] for row in document["written"]}


LISTED = ("--basis", "on-demand", "--basis", "reserved-1yr", "--basis", "reserved-3yr", "--region", "us-east-1")


def test_on_demand_and_reserved_rates_are_read_from_the_price_list(aws: Aws, mine: Path) -> None:
    """Of five reservations the standard ones without upfront count; the answer's second page has the product."""
    aws.products("inf2.xlarge", pages=2)
    found = refreshed("--instance", "inf2.xlarge", *LISTED)
    aws.all_asked()
    assert by_basis(found) == {"on-demand": 0.7582, "reserved-1yr": 0.47767, "reserved-3yr": 0.32754}
    row, *_ = rows_of(mine)
    assert (row["provider"], row["region"], row["as_of"]) == ("aws", "us-east-1", TODAY.isoformat())
    assert row["source"] == "AWS Price List Query API, SKU 6CV5BGTVAFBU5C4A, published 2026-11-19"
    assert found["file"] == str(mine)


def test_an_upfront_fee_is_spread_over_the_term_and_the_row_says_so(aws: Aws) -> None:
    """105,120 USD over 3 x 8,760 = 26,280 h is 4.00; with 5.00 an hour 9.00. All upfront, 8.00, comes after partial."""
    aws.products("p4d.24xlarge")
    found = refreshed("--instance", "p4d.24xlarge", *LISTED)
    assert by_basis(found)["reserved-3yr"] == pytest.approx(9.0)
    row = next(row for row in found["written"] if row["basis"] == "reserved-3yr")
    assert "partial upfront" in row["term"]
    assert "105,120.00 USD spread over 26,280 h" in row["note"]


@pytest.mark.parametrize("usd", ["0.0000000000", "1.0000000000"])
def test_the_price_list_s_capacity_blocks_are_no_on_demand_price(aws: Aws, usd: str) -> None:
    """The list has them at 0 USD; were they at 1, they would be none either."""
    products = [json.dumps(one).replace("0.0000000000", usd) for one in sample("get_products")["p5.48xlarge"]]
    aws.of("pricing", "us-east-1").add_response("get_products", {"FormatVersion": "aws_v1", "PriceList": products})
    found = refreshed("--instance", "p5.48xlarge", "--basis", "on-demand", "--region", "us-east-1")
    assert by_basis(found) == {"on-demand": 55.04}


def test_a_type_that_the_list_has_not_is_left_out_and_said(aws: Aws, mine: Path) -> None:
    aws.products("trn2.48xlarge", listed=False)
    found = refreshed("--instance", "trn2.48xlarge", "--basis", "on-demand", "--region", "us-east-1")
    assert (found["written"], found["left_out"]) == ([], ["trn2.48xlarge on-demand us-east-1: not in the price list"])
    assert not mine.exists()


def test_a_product_at_nothing_is_no_price(aws: Aws, mine: Path) -> None:
    products = [json.dumps(one).replace("55.0400000000", "0") for one in sample("get_products")["p5.48xlarge"]]
    aws.of("pricing", "us-east-1").add_response("get_products", {"FormatVersion": "aws_v1", "PriceList": products})
    found = refreshed("--instance", "p5.48xlarge", "--basis", "on-demand", "--region", "us-east-1")
    assert found["left_out"] == ["p5.48xlarge on-demand us-east-1: not in the price list"]
    assert not mine.exists()


def test_two_prices_for_one_thing_are_none(aws: Aws) -> None:
    products = sample("get_products")["inf2.xlarge"] + sample("get_products")["p4d.24xlarge"]
    aws.of("pricing", "us-east-1").add_response("get_products", {
        "FormatVersion": "aws_v1", "PriceList": [json.dumps(one) for one in products]})
    found = refreshed("--instance", "inf2.xlarge", "--basis", "on-demand", "--region", "us-east-1")
    assert found["written"] == []
    assert "several, 0.7582, 21.9576" in found["left_out"][0]


def test_spot_is_the_newest_price_of_the_cheapest_zone_and_says_which(aws: Aws) -> None:
    """Zone a is at 0.1523; zone b was at 0.1311 and is at 0.148 since: 0.148."""
    aws.spot()
    found = refreshed("--instance", "inf2.xlarge", "--basis", "spot", "--region", "us-east-1")
    aws.all_asked()
    row, = found["written"]
    assert row["usd_per_hour"] == 0.148
    assert "us-east-1b" in row["note"]
    assert "us-east-1a 0.1523" in row["note"]


def test_a_block_costs_its_fee_by_the_hour_and_the_cheapest_counts(aws: Aws) -> None:
    """281.194 USD for 29 h 30 min is 9.532 an hour, under 240 / 24 = 10; the Local Zone's 5.00 is another place's."""
    aws.blocks("trn1.32xlarge")
    found = refreshed("--instance", "trn1.32xlarge", "--basis", "capacity-block", "--region", "us-east-1")
    assert by_basis(found) == {"capacity-block": 9.532}


def test_an_ultraserver_is_asked_for_as_one_in_its_local_zone(aws: Aws) -> None:
    """9,142.848 USD for 24 h of one UltraServer of 9 instances: 380.952 an hour."""
    aws.of("ec2", "us-east-1").add_response(
        "describe_capacity_block_offerings",
        {"CapacityBlockOfferings": sample("describe_capacity_block_offerings")["u-p6e-gb200x36"]},
        {"UltraserverType": "u-p6e-gb200x36", "UltraserverCount": 1, "CapacityDurationHours": 24})
    found = refreshed("--instance", "u-p6e-gb200x36", "--basis", "capacity-block")
    row, = found["written"]
    assert (row["usd_per_hour"], row["region"]) == (380.952, "us-east-1-dfw-2a")


def test_a_type_without_capacity_blocks_is_left_out_and_the_others_go_on(aws: Aws) -> None:
    aws.refuses("ec2", "describe_capacity_block_offerings", "InvalidParameterValue")
    aws.blocks("trn1.32xlarge")
    found = refreshed("--instance", "inf2.xlarge", "--instance", "trn1.32xlarge", "--basis", "capacity-block",
                      "--region", "us-east-1")
    assert by_basis(found) == {"capacity-block": 9.532}
    assert "inf2.xlarge" in found["left_out"][0]


def test_without_an_instance_all_that_the_book_has_of_aws_are_asked_for(aws: Aws) -> None:
    from bench.catalog.refresh import wanted

    asked = {(want.instance_type, want.region) for want in wanted(load_book(), ["capacity-block"])}
    assert {("trn1.32xlarge", "us-east-1"), ("trn2.3xlarge", "sa-east-1")} <= asked
    assert "a3-highgpu-8g" not in {name for name, _ in asked}
    assert "inf2.xlarge" not in {name for name, _ in asked}
    for basis in ("reserved-3yr", "spot"):
        abroad = wanted(load_book(), [basis], regions=["eu-west-1"])
        assert {want.region for want in abroad} == {"eu-west-1"}
        assert {"inf2.xlarge", "g6.xlarge"} <= {want.instance_type for want in abroad}


@pytest.mark.parametrize(("before", "flagged"), [("0.05", True), ("0.074", False), ("0.29", False), ("0.30", True)])
def test_a_price_more_than_twice_or_under_half_of_the_last_is_written_but_flagged(
        aws: Aws, before: str, flagged: bool) -> None:
    """0.148 is 2.96 times 0.05, 2 times 0.074, more than half of 0.29 and less than half of 0.30."""
    yesterday = TODAY - timedelta(days=1)
    trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", before, "--basis", "spot", "--as-of", yesterday)
    aws.spot()
    row, = refreshed("--instance", "inf2.xlarge", "--basis", "spot", "--region", "us-east-1")["written"]
    assert row["jumped_from"] == (float(before) if flagged else None)


def test_a_jump_is_shown_in_the_table(aws: Aws) -> None:
    trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "0.05", "--basis", "spot", "--as-of",
             TODAY - timedelta(days=1))
    aws.spot()
    result = trnbench("price", "refresh", "--instance", "inf2.xlarge", "--basis", "spot", "--region", "us-east-1")
    assert "3 times that of" in result.stdout
    assert "1 prices written to" in result.stdout


def test_a_second_refresh_of_a_day_changes_nothing(aws: Aws, mine: Path) -> None:
    for _ in range(2):
        aws.spot()
    words = ("--instance", "inf2.xlarge", "--basis", "spot", "--region", "us-east-1")
    refreshed(*words)
    before = mine.read_bytes()
    again = refreshed(*words)
    assert (again["written"], again["there_already"]) == ([], [f"aws/inf2.xlarge/us-east-1/spot/{TODAY}"])
    assert mine.read_bytes() == before


def test_a_price_set_by_hand_today_stays_and_the_other_is_told(aws: Aws, mine: Path) -> None:
    trnbench("price", "set", "inf2.xlarge", "--usd-per-hour", "0.2", "--basis", "spot")
    aws.spot()
    found = refreshed("--instance", "inf2.xlarge", "--basis", "spot", "--region", "us-east-1")
    assert found["written"] == []
    assert found["stays"] == [f"aws/inf2.xlarge/us-east-1/spot/{TODAY} stays at 0.2, now 0.148"]


def test_a_refused_call_keeps_the_bases_that_are_whole_and_says_which_is_not(aws: Aws, mine: Path) -> None:
    """The second region's spot call fails: no spot price is kept, not even the first region's."""
    aws.products("inf2.xlarge")
    aws.products("inf2.xlarge", region="eu-west-1", listed=False)
    aws.spot()
    aws.refuses("ec2", "describe_spot_price_history", "UnauthorizedOperation", region="eu-west-1")
    result = trnbench("price", "refresh", "--instance", "inf2.xlarge", "--basis", "on-demand", "--basis", "spot",
                      "--region", "us-east-1", "--region", "eu-west-1")
    assert result.exit_code == 2
    assert "spot: UnauthorizedOperation from describe_spot_price_history" in result.stderr
    assert "1 prices of on-demand were written" in result.stderr
    assert "The shipped prices go on being used: newest of" in result.stderr
    assert [row["basis"] for row in rows_of(mine)] == ["on-demand"]


def test_a_refusal_of_one_kind_of_call_leaves_the_others_to_be_tried(aws: Aws, mine: Path) -> None:
    aws.refuses("pricing", "get_products", "AccessDeniedException")
    aws.spot()
    result = trnbench("price", "refresh", "--instance", "inf2.xlarge", "--basis", "on-demand", "--basis", "spot",
                      "--region", "us-east-1", "--json")
    assert result.exit_code == 2
    document = one_document(result.stdout)
    assert by_basis(document) == {"spot": 0.148}
    assert "AccessDeniedException" in document["failed"][0]


def test_an_answer_of_an_unknown_shape_is_a_failed_call_not_a_stack_trace(aws: Aws, mine: Path) -> None:
    aws.of("pricing", "us-east-1").add_response("get_products", {
        "FormatVersion": "aws_v2", "PriceList": ['{"product": {"attributes": {}}}']})
    result = trnbench("price", "refresh", "--instance", "inf2.xlarge", "--basis", "on-demand", "--region", "us-east-1")
    assert result.exit_code == 2
    assert "shape that this version does not know: KeyError('terms')" in result.stderr
    assert not mine.exists()


def test_the_shipped_prices_are_never_written_to(aws: Aws) -> None:
    import bench.catalog

    folder = Path(bench.catalog.__file__).parent
    before = {path: path.read_bytes() for path in folder.glob("*.csv")}
    aws.spot()
    refreshed("--instance", "inf2.xlarge", "--basis", "spot", "--region", "us-east-1")
    assert {path: path.read_bytes() for path in folder.glob("*.csv")} == before


def test_an_unknown_region_is_told_the_nearest(aws: Aws) -> None:
    result = trnbench("price", "refresh", "--region", "us-eat-1")
    assert result.exit_code == 2
    assert "us-east-1" in result.stderr


@pytest.mark.parametrize(("name", "told"), [("inf2.xlrge", "inf2.xlarge"),
                                            ("a3-highgpu-8g", "price set a3-highgpu-8g")])
def test_an_instance_that_aws_has_not_is_refused_before_any_call(aws: Aws, name: str, told: str) -> None:
    result = trnbench("price", "refresh", "--instance", name)
    assert result.exit_code == 2
    assert told in result.stderr


def test_without_boto3_the_extra_is_named_and_the_shipped_prices_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    result = trnbench("price", "refresh")
    assert result.exit_code == 2
    assert "pip install 'trnbench[aws]'" in result.stderr
    newest = max(price.as_of for price in load_book().prices if price.as_of <= TODAY)
    assert f"newest of {newest}, {(TODAY - newest).days} days old" in result.stderr


@pytest.fixture
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
                 "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                 "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_without_credentials_it_says_how_to_get_some(no_credentials: None, mine: Path) -> None:
    result = trnbench("price", "refresh")
    assert result.exit_code == 2
    assert "No AWS credentials were found. The shipped prices go on being used: newest of" in result.stderr
    assert "aws configure" in result.stderr
    assert not mine.exists()


def test_a_profile_that_is_not_there_is_said(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    result = trnbench("price", "refresh")
    assert result.exit_code == 2
    assert "nobody" in result.stderr


def test_without_network_it_ends_soon_and_says_so(no_credentials: None, monkeypatch: pytest.MonkeyPatch,
                                                  mine: Path) -> None:
    """Port 9 of this machine takes no connection; the second kind of call is not tried after the first."""
    for name, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "NO_PROXY": "127.0.0.1",
                        "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    start = time.monotonic()
    result = trnbench("price", "refresh", "--instance", "inf2.xlarge", "--basis", "on-demand", "--basis", "spot")
    assert time.monotonic() - start < 15
    assert result.exit_code == 2
    assert "on-demand: EndpointConnectionError" in result.stderr
    assert "spot: not asked" in result.stderr
    assert "Nothing was written" in result.stderr
    assert "The shipped prices go on being used: newest of" in result.stderr
    assert not mine.exists()


def test_a_proxy_that_answers_in_place_of_aws_is_no_stack_trace(
        no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nonsense(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(407)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the test's stderr."""

    server = HTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "NO_PROXY": "127.0.0.1",
                        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
        monkeypatch.setenv(name, value)
    result = trnbench("price", "refresh", "--instance", "inf2.xlarge", "--basis", "spot")
    server.shutdown()
    server.server_close()
    assert result.exit_code == 2
    assert "spot: ResponseParserError" in result.stderr
