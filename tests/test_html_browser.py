"""The HTML page as a reader meets it: in Chromium, by mouse and keyboard, in light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.cost.normalise import amounts
from bench.cost.rate import rate
from bench.record import Record
from bench.report.html.choose import MOST_ROWS
from bench.report.text import number
from tests.browser import axe, chromium, opened
from tests.records import make_record
from tests.test_html import BOOK, EVIL, INF1, L4, MEASURED, RECORDS, TERMS, VERDICTS, html_of, many

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EVIL_ONE = replace(INF1, run_id="evil", case=replace(INF1.case, workload=EVIL), labels={EVIL: EVIL},
                   machine={"name": EVIL, "instance": {"type": None, "reason": EVIL}},
                   source=INF1.source | {"url": "javascript:window.evil=1", "notes": EVIL})
EMULATED = make_record("emulated", tier="emulated")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_of([*RECORDS, EVIL_ONE, EMULATED], verdicts=VERDICTS), "utf-8")
    return path


def cell(page: Page, run_id: str, title: str) -> str:
    """The text of a column in the row of a run."""
    titles = [text.strip() for text in page.locator("#results-table thead tr > *").all_inner_texts()]
    row = page.evaluate("run => ROWS.find((row) => row.run === run).index", run_id)
    return page.locator(f"#run-{row} > td").nth(titles.index(title)).inner_text()


def cost(record: Record, basis: str) -> str:
    amount = amounts(record, rate(record, replace(TERMS, basis=basis), BOOK))["usd_per_1m_inferences"]
    return f"${number(amount.value)}" if amount.value is not None else "–"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_it_draws_without_errors_or_network_and_never_scrolls_sideways(browser: Browser, file: Path, width: int,
                                                                       scheme: str) -> None:
    with opened(browser, file, width=width, scheme=scheme) as seen:
        assert seen.console == []
        assert seen.requests == []
        assert seen.page.locator("#cards .card").count() >= 1
        assert seen.page.locator("#pareto .main-svg").count() > 0
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_basis_switch_shows_the_amounts_of_bench_cost(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        for basis in ("on-demand", "spot", "capacity-block", "on-demand"):
            seen.page.get_by_role("radio", name=basis).check()
            for record in (INF1, L4, MEASURED):
                assert cell(seen.page, record.run_id, "Cost").split()[0] == cost(record, basis)
            assert f"{basis} prices" in seen.page.locator("#terms").inner_text()
        seen.page.get_by_role("radio", name="spot").check()
        assert "g6.xlarge" in seen.page.locator("#cards .card .best").first.inner_text()
        assert seen.page.locator("#cards .card .big").first.inner_text() == cost(L4, "spot")
        assert seen.console == []


def test_texts_of_records_stay_texts_and_only_web_addresses_become_links(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        page = seen.page
        row = page.evaluate("ROWS.find((row) => row.run === 'evil').index")
        page.locator(f"#run-{row} button").click()
        assert EVIL in page.locator(f"#run-{row} + tr.facts").inner_text()
        assert "javascript:window.evil=1" in page.locator(f"#run-{row} + tr.facts").inner_text()
        assert page.locator("a[href^='javascript']").count() == 0
        page.locator("#group").select_option(str(page.evaluate("ROWS.find((row) => row.run === 'evil').group")))
        assert EVIL[:10] in page.locator("#per-chip").inner_text()
        assert page.evaluate("window.evil") is None
        assert page.locator("img").count() == 0
        link = page.evaluate("ROWS.find((row) => row.run === 'row-l4').index")
        page.locator(f"#run-{link} button").click()
        assert page.locator(f"#run-{link} + tr a").get_attribute("href") == "https://results.example/row-l4"


def test_the_switch_and_a_tables_header_work_by_keyboard(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        page = seen.page
        tab_to(page, "document.activeElement.name === 'basis'")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.value") == page.evaluate("state.basis") == "spot"
        tab_to(page, "document.activeElement.dataset.sort === 'rate'")
        page.keyboard.press("Enter")
        header = page.locator("#results-table th[aria-sort=ascending]")
        assert header.inner_text().startswith("Per second")
        rates = page.evaluate("RESULTS.sorted().map((row) => row.rate[0] ?? null).filter((rate) => rate !== null)")
        assert rates == sorted(rates)
        assert page.evaluate("document.activeElement.dataset.sort") == "rate"
        page.keyboard.press("Enter")
        assert page.locator("#results-table th[aria-sort=descending]").inner_text().startswith("Per second")


def tab_to(page: Page, condition: str) -> None:
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate(condition):
            return
    pytest.fail(f"no Tab leads to where {condition}")


def test_a_number_leads_to_its_record_and_an_address_opens_one(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        seen.page.locator("#results-table input[type=search]").fill("nothing has this")
        assert seen.page.locator("#results-table tbody tr").count() == 0
        seen.page.locator("#cards .best a").first.click()
        row = seen.page.evaluate("location.hash.replace('#', '')")
        assert seen.page.locator(f"#{row} + tr.facts").is_visible()
        assert seen.page.evaluate("document.activeElement.id") == row
    with opened(browser, file, address="#run-1") as seen:
        assert "row-l4" in seen.page.locator("#run-1 + tr.facts").inner_text()


def test_filters_keep_what_they_name(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        table = seen.page.locator("#results-table")
        table.locator("input[type=search]").fill("inferentia1 bert:base")
        assert table.locator("tbody tr").count() == 1
        table.locator("input[type=search]").fill("")
        table.get_by_role("checkbox", name="published").uncheck()
        assert seen.page.evaluate("RESULTS.sorted().map((row) => row.run)") == ["run-t4"]


def test_emulated_records_have_a_table_of_their_own_and_no_place_elsewhere(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        assert seen.page.locator("#emulated").is_visible()
        assert seen.page.evaluate("EMULATED.rows.map((row) => row.run)") == ["emulated"]
        assert "emulated" not in seen.page.evaluate("RESULTS.rows.map((row) => row.tier)")
        drawn = seen.page.evaluate("GROUPS.flatMap((group) => rowsOf(group.index)).map((row) => row.tier)")
        assert "emulated" not in drawn


def test_a_claim_unfolds_into_its_evidence_and_follows_the_switch(browser: Browser, file: Path) -> None:
    with opened(browser, file) as seen:
        table = seen.page.locator("#claims-table")
        assert "supported" in table.locator(".answer").inner_text()
        table.locator("tbody button").click()
        assert f"{EVIL} judged on on-demand" in table.locator("tr.facts").inner_text()
        table.locator("tr.facts a[href^='#run-']").first.click()
        assert "row-inf1" in seen.page.locator("#run-0 + tr.facts").inner_text()
        seen.page.get_by_role("radio", name="spot").check()
        assert "refuted" in table.locator(".answer").inner_text()
        seen.page.get_by_role("radio", name="capacity-block").check()
        assert "Judged under another basis than the switch's" in seen.page.locator("#claims-note").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, file: Path, scheme: str) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed: pip install axe-playwright-python")
    with opened(browser, file, scheme=scheme, address="#run-1") as seen:
        seen.page.locator("#claims-table tbody button").click()
        assert axe(seen.page) == []


def test_a_full_page_draws_fifty_rows_at_a_time(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "full.html"
    path.write_text(html_of(many(MOST_ROWS + 10)), "utf-8")
    with opened(browser, path) as seen:
        assert seen.page.locator("#results-table tbody tr").count() == 50
        assert "10 further results" in seen.page.locator("#results-note").inner_text()
        seen.page.get_by_role("button", name=f"All {MOST_ROWS:,}").click()
        assert seen.page.locator("#results-table tbody tr").count() == MOST_ROWS
        assert seen.console == []


def test_an_empty_page_says_so(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    path.write_text(html_of([]), "utf-8")
    with opened(browser, path) as seen:
        assert seen.console == []
        assert "nothing to choose between" in seen.page.locator("#cards").inner_text()
