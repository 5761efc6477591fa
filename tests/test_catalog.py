"""The catalog: every fact has its unit, source and day; a wrong row is named; an unknown number stays unknown."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bench.catalog import chips as chips_room
from bench.catalog import instances as instances_room
from bench.catalog import prices as prices_room
from bench.catalog.chips import chip, chip_id_of, chips, load_chips, peak_flops_per_second
from bench.catalog.instances import (
    forget_instances,
    hosts_for,
    instance,
    instances,
    known_instance,
    load_instances,
    own_instances_path,
)
from bench.catalog.prices import BASES, Price, PriceBook, load_book, load_prices, own_prices_path, shipped_prices
from bench.errors import BenchError
from tests.commandline import ROOT, one_document, trnbench

TODAY = date(2026, 11, 22)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's own facts, empty."""
    monkeypatch.delenv("TRNBENCH_PRICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    forget_instances()
    return tmp_path / "trnbench"


def told(call: Callable[[], Any]) -> str:
    """The BenchError that a call raises, its fix included."""
    with pytest.raises(BenchError) as caught:
        call()
    return str(caught.value)


def table(columns: Sequence[str], *rows: dict[str, str]) -> str:
    """A CSV text; cells not given are empty."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


# ---------------------------------------------------------------- chips


def test_peaks_are_dense_and_in_operations_per_second() -> None:
    # Data sheet, dense: 667 TFLOP/s in BF16, 1299 in FP8; 2563 is with sparsity and may be no peak.
    trainium2 = chip("trainium2")
    assert trainium2.peak_flops_per_second == {"fp32": 181e12, "tf32": 667e12, "bf16": 667e12, "fp16": 667e12,
                                               "fp8": 1299e12}
    assert max(chip("h100-sxm").peak_flops_per_second.values()) == 1979e12


def test_trainium3_is_twice_trainium2_in_fp8_alone() -> None:
    # 2517 / 1299 = 1.9376 in FP8; 671 / 667 = 1.0060 in BF16; 4900 / 2900 = 1.6897 GB/s; 144 / 96 = 1.5 GiB.
    old, new = chip("trainium2"), chip("trainium3")
    ratio = {dtype: new.peak_flops_per_second[dtype] / old.peak_flops_per_second[dtype] for dtype in ("fp8", "bf16")}
    assert ratio == pytest.approx({"fp8": 1.9376, "bf16": 1.0060}, abs=5e-5)
    assert (new.memory_bandwidth_gb_per_second, old.memory_bandwidth_gb_per_second) == (4900, 2900)
    assert (new.memory_gib, old.memory_gib) == (144, 96)


def test_cores_are_physical_and_logical_cores_stand_beside_them() -> None:
    assert [(chip(name).cores, chip(name).logical_cores) for name in ("trainium1", "trainium2", "trainium3")] == [
        (2, None), (8, 4), (8, 4)]
    assert "LNC 2" in chip("trainium2").notes


@pytest.mark.parametrize(("dtype", "tera"), [
    ("bf16", 312.0), ("amp-bf16", 312.0), ("fp16", 312.0), ("amp-fp16", 312.0), ("tf32", 156.0), ("fp32", 19.5)])
def test_autocast_counts_as_what_it_casts_to_and_fp32_never_as_tf32(dtype: str, tera: float) -> None:
    peak, source = peak_flops_per_second("a100-40gb", dtype)
    assert peak == tera * 1e12
    assert "stas00/ml-engineering" in source


def test_mxfp4_is_the_fp4_peak_and_int4_has_none() -> None:
    assert peak_flops_per_second("trainium3", "mxfp4")[0] == 2517e12
    assert peak_flops_per_second("trainium3", "int4")[0] is None


@pytest.mark.parametrize(("name", "dtype"), [
    ("t4", "bf16"), ("a100-40gb", "fp8"), ("trainium2", "int8"), ("inferentia1", "fp32"), ("graviton3", "fp32"),
    ("gaudi2", "int8"), ("h100-sxm", "unstated")])
def test_an_unpublished_peak_is_none_with_its_reason(name: str, dtype: str) -> None:
    peak, why = peak_flops_per_second(name, dtype)
    assert peak is None
    assert f"no dense {dtype} peak is published" in why
    assert chip(name).source in why


def test_an_unknown_chip_is_told_with_the_nearest() -> None:
    assert "Unknown chip 'tranium2'. Did you mean 'trainium2'" in told(lambda: chip("tranium2"))
    assert "trnbench list chips" in told(lambda: peak_flops_per_second("h100", "bf16"))


PUBLISHED_NAMES = (
    "H100 SXM", "Inferentia2", "Trainium2", "Trainium1", "B200 SXM", "Inferentia1", "H200 SXM", "L4", "T4", "A10G",
    "A100 SXM 80GB", "A100 SXM 40GB", "L40S", "TPU v6e (Trillium)", "B300 SXM", "Xeon (Ice Lake, 8 vCPU)", "TPU v5e",
    "MI355X", "A30", "V100 SXM2 16GB", "Trainium3", "MI300X", "TPU v5p", "Xeon Platinum 8480+ (Sapphire Rapids)", "A10",
    "Xeon Platinum 8592+ (Emerald Rapids)", "Xeon 6980P (Granite Rapids)", "Xeon 6 (Granite Rapids, 128 cores)",
    "Trainium4", "A100", "V100 SXM2 32GB", "MI325X", "Gaudi 2", "GB300 (per GPU)", "A100 PCIe 80GB")


def test_every_chip_that_published_results_name_is_in_the_catalog_under_that_name() -> None:
    ids = [chip_id_of(name) for name in PUBLISHED_NAMES]
    assert None not in ids
    assert len(set(ids)) == len(PUBLISHED_NAMES)


def test_chips_that_sound_alike_are_kept_apart() -> None:
    assert [chip_id_of(name) for name in ("A10", "A10G", "A100", "A100 SXM 40GB", "A100 SXM 80GB", "A100 PCIe 80GB")] \
        == ["a10", "a10g", "a100-unstated", "a100-40gb", "a100-80gb", "a100-pcie-80gb"]
    assert chip_id_of("h100 sxm") is None, "names are exact"
    assert chip_id_of("h100-sxm") == "h100-sxm"
    assert hosts_for("a100-unstated", 1) == (), "which A100 it was is not known, so it has no price"


DRIVERS = {
    "Tesla V100-SXM2-16GB": "v100-16gb", "Tesla V100-SXM2-32GB": "v100-32gb", "Tesla V100-PCIE-16GB": "v100-pcie-16gb",
    "Tesla V100-PCIE-32GB": "v100-pcie-32gb", "Tesla V100S-PCIE-32GB": "v100s-pcie-32gb", "Tesla T4": "t4",
    "NVIDIA A10": "a10", "NVIDIA A10G": "a10g", "NVIDIA A30": "a30", "NVIDIA A40": "a40", "NVIDIA L4": "l4",
    "NVIDIA L40": "l40", "NVIDIA L40S": "l40s", "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb", "NVIDIA A100-PCIE-40GB": "a100-pcie-40gb",
    "NVIDIA A100 80GB PCIe": "a100-pcie-80gb", "NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl", "NVIDIA H200": "h200-sxm", "NVIDIA H200 NVL": "h200-nvl",
    "NVIDIA GH200 480GB": "gh200-96gb", "NVIDIA B200": "b200-sxm", "NVIDIA B300 SXM6 AC": "b300-sxm",
    "NVIDIA GB200": "gb200", "NVIDIA GB300": "gb300",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtx-pro-6000-blackwell-server",
    "NVIDIA RTX PRO 4500 Blackwell Server Edition": "rtx-pro-4500-blackwell-server",
    "AMD Instinct MI300X": "mi300x", "AMD Instinct MI325X": "mi325x", "AMD Instinct MI355X": "mi355x"}


@pytest.mark.parametrize(("name", "chip_id"), DRIVERS.items())
def test_a_driver_s_exact_name_is_a_chip(name: str, chip_id: str) -> None:
    assert chip_id_of(name) == chip_id


@pytest.mark.parametrize("name", [
    "NVIDIA H100 PCIe MIG 1g.10gb", "NVIDIA H100 80GB HBM3e-special", "NVIDIA H100", "H100 80GB HBM3",
    "NVIDIA H100 80GB HBM2e", "nvidia h100 pcie", "NVIDIA H100  PCIe", " NVIDIA H100 PCIe", "NVIDIA H800 PCIe",
    "NVIDIA H20", "NVIDIA H200 141GB", "NVIDIA A100-PG509-200", "NVIDIA A100-SXM-64GB", "NVIDIA A100-PCIE-80GB",
    "NVIDIA A800-SXM4-80GB", "NVIDIA A10-24Q", "NVIDIA A10M", "NVIDIA L40G", "NVIDIA L20", "GRID T4-16C",
    "Tesla V100-SXM3-32GB", "Tesla V100-DGXS-32GB", "NVIDIA GH200 120GB", "NVIDIA GH200 144G HBM3e", "NVIDIA GB10",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "AMD Instinct MI300X VF", "AMD Instinct MI300X OAM",
    "AMD Instinct MI300A", "AMD Instinct MI308X", "AMD Instinct MI350X", "AMD Radeon Graphics", "AMD GPU gfx942", ""])
def test_a_name_near_a_chip_s_is_no_chip_by_luck(name: str) -> None:
    assert chip_id_of(name) is None


def test_cards_of_one_die_have_peaks_of_their_own() -> None:
    # NVIDIA's H100 white paper, dense: SXM5 989.4 and PCIe 756; product page, halved: NVL 1671 / 2 = 835.5.
    assert [peak_flops_per_second(name, "bf16")[0] for name in ("h100-sxm", "h100-pcie", "h100-nvl", "h200-nvl")] == [
        989e12, 756e12, 835.5e12, 835.5e12]
    assert [(chip(name).memory_gib, chip(name).tdp_w) for name in ("h100-sxm", "h100-pcie", "h100-nvl")] == [
        (80, 700), (80, 350), (94, 400)]
    assert peak_flops_per_second("v100-pcie-16gb", "fp16")[0] == 112e12


def test_no_peak_of_a_gpu_is_one_with_sparsity_beside_dense_ones() -> None:
    """Tensor cores double from TF32 to BF16, and to FP8 and INT8; a sparse figure among them would be 1 or 4 times."""
    pairs = (("tf32", "bf16"), ("bf16", "fp8"), ("fp8", "int8"))
    ratios = {(one.id, high): one.peak_flops_per_second[high] / one.peak_flops_per_second[low]
              for one in chips() if one.vendor == "nvidia" for low, high in pairs
              if {low, high} <= one.peak_flops_per_second.keys()}
    assert len(ratios) > 30
    odd = {key: ratio for key, ratio in ratios.items() if not 0.97 < ratio / (1 if key[1] == "int8" else 2) < 1.03}
    assert odd.keys() == {("gb300", "int8")}, "its INT8 is a 30th of its FP8"


def test_every_chip_and_instance_has_a_day_and_a_source() -> None:
    facts = [(one.source, one.as_of) for one in chips()] + [(one.source, one.as_of) for one in instances()]
    for source, as_of in facts:
        assert source
        assert date(2017, 1, 1) <= as_of <= TODAY


# ---------------------------------------------------------------- instances


def test_instances_say_which_chips_and_how_many() -> None:
    facts = {name: (instance(name).chip, instance(name).chips, instance(name).vcpus, instance(name).cores_per_chip)
             for name in ("inf1.xlarge", "inf2.48xlarge", "trn2.48xlarge", "p5.4xlarge", "p4de.24xlarge")}
    assert facts == {"inf1.xlarge": ("inferentia1", 1, 4, 4), "inf2.48xlarge": ("inferentia2", 12, 192, 2),
                     "trn2.48xlarge": ("trainium2", 16, 192, 8), "p5.4xlarge": ("h100-sxm", 1, 16, 132),
                     "p4de.24xlarge": ("a100-80gb", 8, 96, 108)}
    cpu = instance("c7g.16xlarge")
    assert (cpu.chip, cpu.chips, cpu.accelerator_memory_gib) == (None, 0, None)


def test_hosts_come_smallest_first_and_aws_before_others() -> None:
    assert [one.type for one in hosts_for("inferentia2", 1)] == ["inf2.xlarge", "inf2.8xlarge", "inf2.24xlarge",
                                                                "inf2.48xlarge"]
    assert [one.type for one in hosts_for("inferentia2", 2)] == ["inf2.24xlarge", "inf2.48xlarge"]
    assert [one.type for one in hosts_for("h100-sxm", 2)][:2] == ["p5.48xlarge", "Standard_ND96isr_H100_v5"]
    assert hosts_for("inferentia2", 13) == ()


def test_an_unknown_instance_is_told_with_the_nearest() -> None:
    assert "Unknown instance 'inf2.xlagre'. Did you mean 'inf2.xlarge'" in told(lambda: instance("inf2.xlagre"))
    assert known_instance("inf2.xlagre") is None


def test_a_users_own_machine_is_an_instance_like_any_other(own: Path) -> None:
    own.mkdir()
    own_instances_path().write_text(table(instances_room.COLUMNS, MACHINE | {
        "provider": "own", "type": "rack-7", "chip": "h100-sxm", "chips": "8", "vcpus": ""}))
    forget_instances()
    assert (instance("rack-7").chips, instance("rack-7").vcpus) == (8, None)
    assert "rack-7" in [one.type for one in hosts_for("h100-sxm", 8)]


# ---------------------------------------------------------------- shipped prices, copied by hand


@pytest.mark.parametrize(("name", "region", "basis", "day", "usd_per_hour"), [
    ("inf1.xlarge", "us-east-1", "on-demand", "2026-07-20", 0.228),
    ("inf2.xlarge", "us-east-1", "on-demand", "2026-07-20", 0.7582),
    ("inf2.48xlarge", "us-east-1", "on-demand", "2026-07-20", 12.98127),
    ("trn1.32xlarge", "us-east-1", "on-demand", "2026-07-20", 21.5),
    ("g4dn.xlarge", "us-east-1", "on-demand", "2026-07-20", 0.526),
    ("g6.xlarge", "us-east-1", "on-demand", "2026-07-20", 0.8048),
    ("g6e.xlarge", "us-east-1", "on-demand", "2026-07-20", 1.861),
    ("p4d.24xlarge", "us-east-1", "on-demand", "2026-11-09", 21.957642),
    ("p4d.24xlarge", "us-east-1", "on-demand", "2025-05-31", 32.77),
    ("p4de.24xlarge", "us-east-1", "on-demand", "2025-05-31", 40.97),
    ("p5.48xlarge", "us-east-1", "on-demand", "2025-05-31", 98.32),
    ("p5en.48xlarge", "us-east-1", "on-demand", "2025-05-31", 84.80),
    ("inf1.xlarge", "us-east-1", "reserved-1yr", "2026-01-21", 0.144),
    ("inf2.8xlarge", "us-east-1", "spot", "2026-01-01", 0.5917),
    ("trn1.32xlarge", "us-east-1", "capacity-block", "2026-07-22", 9.532),
    ("trn2.3xlarge", "ap-southeast-4", "capacity-block", "2026-05-21", 2.235),
    ("trn2.48xlarge", "us-east-2", "capacity-block", "2026-10-08", 35.7608),
    ("p4de.24xlarge", "us-east-1", "capacity-block", "2026-03-01", 14.766),
    ("p5.4xlarge", "us-east-1", "capacity-block", "2026-10-07", 5.97),
    ("p5e.48xlarge", "us-east-2", "capacity-block", "2026-07-22", 47.76),
    ("p5en.48xlarge", "us-east-1", "capacity-block", "2026-07-22", 54.92),
    ("p6-b200.48xlarge", "us-east-1", "capacity-block", "2026-10-07", 113.664),
    ("p6-b300.48xlarge", "us-west-2", "capacity-block", "2026-03-01", 93.6),
    ("tpu7x-standard-4t", "us-central1", "reserved-3yr", "2026-09-17", 21.6),
    ("a3-highgpu-8g", "us-east5", "spot", "2026-08-20", 45.1254),
    ("Standard_ND96isr_H200_v5", "eastus2", "on-demand", "2026-06-18", 84.8)])
def test_a_shipped_price_is_the_one_that_its_source_has(name: str, region: str, basis: str, day: str,
                                                        usd_per_hour: float) -> None:
    price = load_book().quote(name, basis, region=region, as_of=date.fromisoformat(day)).price
    assert price
    assert (price.usd_per_hour, price.as_of.isoformat(), price.region) == (usd_per_hour, day, region)
    assert price.source


def test_a_price_has_an_id_that_reports_can_cite() -> None:
    price = load_book().quote("inf2.xlarge", "on-demand", as_of=date(2026, 7, 20)).price
    assert price
    assert price.id == "aws/inf2.xlarge/us-east-1/on-demand/2026-07-20"
    assert len({one.id for one in shipped_prices()}) == len(shipped_prices())


def test_the_price_cut_of_june_2025_flips_from_its_month_on_and_left_trainium_as_it_was() -> None:
    book = load_book()

    def usd(name: str, day: date) -> float | None:
        price = book.quote(name, "on-demand", as_of=day).price
        return price.usd_per_hour if price else None

    before, after = date(2025, 5, 31), date(2025, 7, 1)
    assert [usd("p4d.24xlarge", day) for day in (before, after, TODAY)] == [32.77, 21.957642, 21.957642]
    assert [usd("p5en.48xlarge", day) for day in (before, after, TODAY)] == [84.80, 63.296, 63.296]
    assert [usd("trn1.32xlarge", day) for day in (before, after, TODAY)] == [21.5, 21.5, 21.5]
    assert usd("p4d.24xlarge", date(2024, 1, 1)) is None


def test_no_shipped_price_of_one_instance_moves_by_more_than_twofold_in_a_year() -> None:
    """A slip of a digit would."""
    for one in shipped_prices():
        others = [p.usd_per_hour for p in shipped_prices() if p.basis == one.basis
                  and p.instance_type == one.instance_type and p.region == one.region]
        assert max(others) < 2 * min(others), one.id


# ---------------------------------------------------------------- quotes


def a_price(**changes: Any) -> Price:
    facts: dict[str, Any] = {
        "provider": "aws", "instance_type": "inf2.xlarge", "region": "us-east-1", "basis": "on-demand",
        "usd_per_hour": 1.0, "as_of": date(2026, 1, 1), "source": "a list"}
    return Price(**facts | changes)


def test_the_newest_price_that_is_not_of_a_later_day_is_quoted() -> None:
    book = PriceBook([a_price(usd_per_hour=3.0, as_of=date(2026, 3, 1)), a_price(usd_per_hour=1.0),
                      a_price(usd_per_hour=2.0, as_of=date(2026, 2, 1))])
    days = (date(2026, 1, 1), date(2026, 1, 31), date(2026, 2, 1), date(2026, 12, 1))
    quotes = [book.quote("inf2.xlarge", "on-demand", as_of=day) for day in days]
    assert [quote.price and quote.price.usd_per_hour for quote in quotes] == [1.0, 1.0, 2.0, 3.0]
    assert [quote.age_days for quote in quotes[:3]] == [0, 30, 0]
    assert book.quote("inf2.xlarge", "on-demand", as_of=date(2025, 12, 31)).reason == (
        "no on-demand price of inf2.xlarge by 2025-12-31: the first is of 2026-01-01; pass --usd-per-hour, "
        "or `trnbench price set`")


def test_without_a_day_it_is_today() -> None:
    book = PriceBook([a_price(as_of=date.today()), a_price(as_of=date(9999, 1, 1), usd_per_hour=9.0)])
    quote = book.quote("inf2.xlarge", "on-demand")
    assert (quote.price and quote.price.usd_per_hour, quote.age_days) == (1.0, 0)


def test_us_east_1_is_quoted_first_even_where_another_region_costs_less() -> None:
    book = PriceBook([a_price(), a_price(region="eu-west-1", usd_per_hour=0.5)])
    quote = book.quote("inf2.xlarge", "on-demand", as_of=date(2026, 1, 2))
    assert (quote.price and quote.price.region, quote.notes) == ("us-east-1", ())


def test_without_us_east_1_the_cheapest_region_is_quoted_and_the_notes_say_so() -> None:
    book = PriceBook([a_price(region="eu-west-1", usd_per_hour=2.0), a_price(region="sa-east-1", usd_per_hour=1.5),
                      a_price(region="eu-west-1", usd_per_hour=1.0, as_of=date(2025, 1, 1))])
    quote = book.quote("inf2.xlarge", "on-demand", as_of=date(2026, 1, 2))
    assert quote.price
    assert (quote.price.region, quote.price.usd_per_hour) == ("sa-east-1", 1.5)
    assert quote.notes == ("not priced in us-east-1: sa-east-1 has the lowest price of 2 regions",)


def test_a_region_without_a_price_is_refused_naming_those_that_have_one() -> None:
    quote = load_book().quote("trn2.3xlarge", "capacity-block", region="us-east-1", as_of=TODAY)
    assert quote.price is None
    assert quote.reason == ("no capacity-block price of trn2.3xlarge in us-east-1; it has one in ap-southeast-4, "
                            "sa-east-1: pass another --region, --usd-per-hour, or `trnbench price set`")


def test_a_basis_without_a_price_is_refused_naming_those_that_have_one() -> None:
    quote = load_book().quote("trn2.48xlarge", "on-demand", as_of=TODAY)
    assert quote.price is None
    assert quote.reason == ("no on-demand price of trn2.48xlarge in the book; it has: spot (us-east-2), capacity-block "
                            "(us-east-2): pass another --basis, --usd-per-hour, or `trnbench price set`")


def test_an_instance_that_has_no_price_at_all_says_what_to_do() -> None:
    for name in ("trn2u.48xlarge", "Trn3 Gen1 UltraServer"):
        assert instance(name)
        quote = load_book().quote(name, "on-demand")
        assert quote.price is None
        assert quote.reason == f"no price of {name} in the book; pass --usd-per-hour, or `trnbench price set`"
    assert str(load_book().quote("trn1.2xlrge", "on-demand").reason).startswith(
        "no price of trn1.2xlrge in the book (did you mean 'trn1.2xlarge'")


def test_an_unknown_basis_is_an_error_with_the_nearest() -> None:
    assert "Unknown price basis 'ondemand'. Did you mean 'on-demand'?" in told(
        lambda: load_book().quote("inf2.xlarge", "ondemand"))


@pytest.mark.parametrize(("basis", "days"), [("on-demand", 90), ("reserved-1yr", 90), ("reserved-3yr", 90),
                                             ("user", 90), ("spot", 30), ("capacity-block", 30)])
def test_a_price_is_stale_the_day_after_its_last(basis: str, days: int) -> None:
    book = PriceBook([a_price(basis=basis)])

    def quote(after_days: int) -> prices_room.Quote:
        return book.quote("inf2.xlarge", basis, as_of=date.fromordinal(date(2026, 1, 1).toordinal() + after_days))

    assert (quote(days).stale, quote(days).notes) == (False, ())
    assert (quote(days + 1).stale, quote(days + 1).notes) == (True, (f"the price is {days + 1} days old",))
    assert set(BASES) == set(prices_room.STALE_AFTER_DAYS)


def test_a_price_whose_day_nobody_recorded_is_always_stale() -> None:
    quote = load_book().quote("inf2.xlarge", "spot", as_of=date(2026, 1, 2))
    assert quote.price
    assert (quote.price.usd_per_hour, quote.price.as_of, quote.stale) == (0.1207, date(2026, 1, 1), True)
    assert quote.notes == ("the day of this price is not recorded", "lowest zone of the region")
    assert load_book().quote("inf2.xlarge", "spot", as_of=date(2025, 12, 31)).price is None


def test_the_notes_of_a_price_come_with_its_quote() -> None:
    quote = load_book().quote("p4d.24xlarge", "on-demand", as_of=date(2025, 6, 1))
    assert quote.notes == ("the rate until the cut of June 2025",)


# ---------------------------------------------------------------- a user's own prices


PRICE = {"provider": "aws", "instance_type": "inf2.xlarge", "region": "us-east-1", "basis": "on-demand",
         "usd_per_hour": "0.5", "as_of": "2026-07-20", "source": "our contract"}
MACHINE = {"provider": "aws", "type": "inf9.xlarge", "vcpus": "4", "chip": "inferentia2", "chips": "1",
           "as_of": "2026-07-20", "source": "a list"}
CHIP = {"id": "x1", "names": "X1", "vendor": "x", "name": "X1", "as_of": "2026-07-20", "source": "a data sheet"}


def own_file(path: Path, *rows: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table(prices_room.COLUMNS, *rows))
    return path


def test_an_own_price_wins_over_a_shipped_one_of_the_same_day_and_gives_way_to_a_newer_one(tmp_path: Path) -> None:
    book = load_book(own_file(tmp_path / "mine.csv", PRICE, PRICE | {"usd_per_hour": "0.4", "as_of": "2026-02-01"}))

    def asked(day: date) -> tuple[float, bool]:
        price = book.quote("inf2.xlarge", "on-demand", as_of=day).price
        assert price
        return price.usd_per_hour, price.own

    assert asked(TODAY) == (0.5, True)
    assert asked(date(2026, 7, 19)) == (0.4, True)
    assert asked(date(2026, 1, 31)) == (0.7582, False)
    assert PriceBook([a_price(own=True), a_price(usd_per_hour=2.0)]).prices[0].usd_per_hour == 1.0


def test_own_prices_are_found_where_the_environment_or_the_users_settings_have_them(
        own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def usd() -> float | None:
        price = load_book().quote("inf2.xlarge", "on-demand", as_of=TODAY).price
        return price.usd_per_hour if price else None

    assert usd() == 0.7582
    assert own_prices_path() == own / "prices.csv"
    own_file(own_prices_path(), PRICE)
    assert usd() == 0.5
    monkeypatch.setenv("TRNBENCH_PRICES", str(own_file(tmp_path / "other/mine.csv", PRICE | {"usd_per_hour": "0.3"})))
    assert usd() == 0.3
    assert own_instances_path() == tmp_path / "other/instances.csv"


def test_a_price_file_that_was_named_and_is_not_there_is_an_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No price file" in told(lambda: load_book(tmp_path / "none.csv"))
    monkeypatch.setenv("TRNBENCH_PRICES", str(tmp_path / "none.csv"))
    assert "`trnbench price set` makes one" in told(load_book)
    monkeypatch.setenv("TRNBENCH_PRICES", str(tmp_path))
    assert "could not be read" in told(load_book)


def test_a_user_prices_a_machine_of_their_own(own: Path) -> None:
    own.mkdir()
    own_instances_path().write_text(table(instances_room.COLUMNS, MACHINE | {"provider": "own", "type": "rack-7"}))
    own_file(own_prices_path(), PRICE | {"provider": "own", "instance_type": "rack-7", "region": "on-premises",
                                         "basis": "user"})
    quote = load_book().quote("rack-7", "user", as_of=TODAY)
    assert (quote.price and quote.price.id) == "own/rack-7/on-premises/user/2026-07-20"


def test_a_file_saved_by_a_spreadsheet_is_read() -> None:
    """With a byte order mark, Windows line ends, an empty last line, and its columns in another order."""
    text = table(sorted(prices_room.COLUMNS), PRICE).replace("\n", "\r\n") + "\r\n"
    assert load_prices(text, "mine.csv")[0].usd_per_hour == 0.5


def test_a_byte_order_mark_is_no_part_of_the_heading(tmp_path: Path) -> None:
    path = own_file(tmp_path / "mine.csv", PRICE)
    path.write_text(path.read_text(), "utf-8-sig")
    price = load_book(path).quote("inf2.xlarge", "on-demand", as_of=TODAY).price
    assert price
    assert price.own


# ---------------------------------------------------------------- bad rows


@pytest.mark.parametrize(("changes", "column", "what"), [
    ({"usd_per_hour": "0"}, "usd_per_hour", "a number above 0, got '0'"),
    ({"usd_per_hour": "-1"}, "usd_per_hour", "a number above 0, got '-1'"),
    ({"usd_per_hour": "nan"}, "usd_per_hour", "a number above 0, got 'nan'"),
    ({"usd_per_hour": "inf"}, "usd_per_hour", "a number above 0, got 'inf'"),
    ({"usd_per_hour": ""}, "usd_per_hour", "a number above 0, got ''"),
    ({"usd_per_hour": "$1.20"}, "usd_per_hour", "a number above 0, got '$1.20'"),
    ({"as_of": "20.07.2026"}, "as_of", "a day such as 2026-07-20, got '20.07.2026'"),
    ({"as_of": "2026-13-01"}, "as_of", "a day such as 2026-07-20"),
    ({"as_of": "20260720"}, "as_of", "a day such as 2026-07-20"),
    ({"as_of": ""}, "as_of", "a day such as 2026-07-20"),
    ({"basis": "on demand"}, "basis", "'on demand' is not known. Did you mean 'on-demand'?"),
    ({"instance_type": "inf2.xlagre"}, "instance_type", "Did you mean 'inf2.xlarge'"),
    ({"provider": "gcp"}, "provider", "inf2.xlarge is of aws, not of 'gcp'"),
    ({"region": ""}, "region", "it is empty"),
    ({"source": " "}, "source", "it is empty")])
def test_a_bad_price_is_named_by_file_line_row_and_column(changes: dict[str, str], column: str, what: str) -> None:
    bad = PRICE | changes
    error = told(lambda: load_prices(table(prices_room.COLUMNS, PRICE | {"as_of": "2026-01-01"}, bad), "mine.csv"))
    row = "/".join(bad[name] for name in ("provider", "instance_type", "region", "basis", "as_of"))
    assert error.startswith(f"mine.csv line 3 ({row}), {column}: ")
    assert what in error
    assert "To fix: " in error


def test_two_prices_of_one_day_are_refused_and_the_same_row_twice_is_not() -> None:
    again = PRICE | {"usd_per_hour": "0.6"}
    error = told(lambda: load_prices(table(prices_room.COLUMNS, PRICE, again), "mine.csv"))
    assert error.startswith("mine.csv line 3 (aws/inf2.xlarge/us-east-1/on-demand/2026-07-20), usd_per_hour: "
                            "0.6, but line 2 of the same day says 0.5.")
    assert len(load_prices(table(prices_room.COLUMNS, PRICE, PRICE | {"usd_per_hour": "0.50"}), "mine.csv")) == 1


@pytest.mark.parametrize(("changes", "column", "what"), [
    ({"chip": "inferentia9"}, "chip", "'inferentia9' is not known. Did you mean 'inferentia2'"),
    ({"chips": "0"}, "chips", "a whole number of at least 1, got '0'"),
    ({"chips": "1.5"}, "chips", "a whole number of at least 1, got '1.5'"),
    ({"chip": ""}, "chips", "1 chips, but no chip is named"),
    ({"memory_gib": "-4"}, "memory_gib", "a number above 0"), ({"vcpus": "four"}, "vcpus", "a whole number"),
    ({"as_of": "soon"}, "as_of", "a day such as"), ({"source": ""}, "source", "it is empty")])
def test_a_bad_instance_is_named_by_file_line_row_and_column(changes: dict[str, str], column: str, what: str) -> None:
    error = told(lambda: load_instances(table(instances_room.COLUMNS, MACHINE | changes), "mine.csv"))
    assert error.startswith(f"mine.csv line 2 (inf9.xlarge), {column}: ")
    assert what in error


@pytest.mark.parametrize(("changes", "column", "what"), [
    ({"bf16_dense_tflops": "0"}, "bf16_dense_tflops", "a number above 0"),
    ({"memory_gib": "NaN"}, "memory_gib", "a number above 0"), ({"cores": "-2"}, "cores", "a whole number"),
    ({"as_of": "2026/07"}, "as_of", "a day such as"), ({"source": ""}, "source", "it is empty")])
def test_a_bad_chip_is_named_by_file_line_row_and_column(changes: dict[str, str], column: str, what: str) -> None:
    error = told(lambda: load_chips(table(chips_room.COLUMNS, CHIP | changes), "mine.csv"))
    assert error.startswith(f"mine.csv line 2 (x1), {column}: ")
    assert what in error


def test_two_rows_of_one_chip_or_instance_and_a_name_of_two_chips_are_refused() -> None:
    assert "mine.csv lines 2 and 3 are both x1." in told(
        lambda: load_chips(table(chips_room.COLUMNS, CHIP, CHIP), "mine.csv"))
    assert "mine.csv lines 2 and 3 are both inf9.xlarge." in told(
        lambda: load_instances(table(instances_room.COLUMNS, MACHINE, MACHINE), "mine.csv"))
    assert "line 3 (x2), names: 'X1' is a name of x1 too" in told(
        lambda: load_chips(table(chips_room.COLUMNS, CHIP, CHIP | {"id": "x2", "names": "X2; X1"}), "mine.csv"))


@pytest.mark.parametrize(("text", "what"), [
    ("", "mine.csv line 1: no column provider, instance_type"),
    ("provider,price\n", "mine.csv line 1: column 'price' is not known."),
    (table(prices_room.COLUMNS).replace("usd_per_hour", "usd_per_hr"), "Did you mean 'usd_per_hour'"),
    (table(prices_room.COLUMNS).replace("term", "note"), "mine.csv line 1: column 'note' stands twice."),
    (table(prices_room.COLUMNS, PRICE) + "aws,inf2.xlarge\n", "mine.csv line 3 has 2 cells, the heading 9."),
    (table(prices_room.COLUMNS, PRICE) + ",".join("abcdefghij") + "\n", "mine.csv line 3 has 10 cells")])
def test_a_file_of_another_shape_is_refused(text: str, what: str) -> None:
    assert what in told(lambda: load_prices(text, "mine.csv"))


# ---------------------------------------------------------------- trnbench list, start-up


def test_list_chips_shows_dense_peaks_in_teraflops_and_unknown_ones_empty() -> None:
    rows = {row["chip"]: row for row in one_document(trnbench("list", "chips", "--json").stdout)}
    assert len(rows) == len(chips())
    assert rows["trainium1"] == {
        "chip": "trainium1", "memory_gib": 32, "gb_per_second": 820, "int8_tops": 380, "as_of": "2026-08-21",
        "dense_tflops": {"fp32": 47.5, "tf32": 190, "bf16": 190, "fp16": 190, "fp8": 190}}
    assert (rows["mi300x"]["dense_tflops"]["tf32"], rows["gaudi2"]["dense_tflops"]) == (653.7, {})
    text = trnbench("list", "chips", COLUMNS="160").stdout
    assert "fp32 47.5, tf32 190, bf16 190, fp16 190, fp8 190" in text


def test_list_into_a_pipe_has_a_line_a_row_however_narrow_the_terminal_is() -> None:
    lines = trnbench("list", "chips", COLUMNS="80").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [one.id for one in chips()]
    assert len(trnbench("list", "instances", COLUMNS="80").stdout.splitlines()) == len(instances()) + 1


def test_list_instances_shows_chips_and_the_newest_on_demand_price() -> None:
    rows = {row["instance"]: row for row in one_document(trnbench("list", "instances", "--json").stdout)}
    assert len(rows) == len(instances())
    assert rows["inf2.48xlarge"] == {
        "instance": "inf2.48xlarge", "provider": "aws", "chips": "12 x inferentia2", "vcpus": 192, "memory_gib": 768,
        "on_demand_usd_per_hour": 12.98127, "region": "us-east-1", "as_of": "2026-07-20"}
    assert (rows["trn2.48xlarge"]["on_demand_usd_per_hour"], rows["trn2.48xlarge"]["as_of"]) == (None, None)
    text = trnbench("list", "instances", COLUMNS="160").stdout
    assert "12 x inferentia2" in text
    assert "12.98127" in text, "a price is shown whole"


def test_a_bad_own_price_file_is_told_and_no_stack_trace_is_shown(own: Path) -> None:
    own_file(own / "prices.csv", PRICE | {"usd_per_hour": "free"})
    result = trnbench("list", "instances")
    assert result.exit_code == 2
    assert f"Error: {own / 'prices.csv'} line 2" in result.stderr


def test_the_catalog_is_read_in_under_50_ms_and_without_pandas() -> None:
    code = ("import sys, time\nfrom bench.catalog.prices import load_book\n"
            "times = []\n"
            "for _ in range(5):\n"
            "    from bench.catalog import chips, instances, prices\n"
            "    for cached in (chips.chips, instances._shipped, prices.shipped_prices): cached.cache_clear()\n"
            "    start = time.process_time()\n    load_book()\n    times.append(time.process_time() - start)\n"
            "print(min(times), 'pandas' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    seconds, pandas = done.stdout.split()
    assert (float(seconds) < 0.05, pandas) == (True, "False"), seconds
