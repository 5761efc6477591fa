"""The page itself: one file that opens offline, asks the network for nothing and runs only its own scripts."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.catalog.prices import PriceBook
from bench.cost.terms import Terms
from bench.errors import BenchError
from bench.record import Record
from bench.report.html.data import page_data
from bench.store import Problem

if TYPE_CHECKING:
    from bench.claims.verdict import Verdict

SCRIPTS = ("format.js", "tables.js", "charts.js", "decisions.js", "results.js", "claims.js", "page.js")


def render_html(records: Sequence[Record], *, book: PriceBook, terms: Terms, verdicts: Sequence[Verdict],
                problems: Sequence[Problem], baseline: str | None = None) -> str:
    """Return the report page. `records`: those to be told about (`frame.latest`), in any order.

    All money is computed here, under every basis, so that the page's switch only picks. `verdicts`
    may hold one claim under several bases; the page then shows that of its switch. `baseline`: a chip's
    id, an instance type, a machine or a run to hold costs against. BenchError where plotly is missing.
    """
    data = page_data(records, book=book, terms=terms, verdicts=verdicts, problems=problems, baseline=baseline)
    own = "\n".join(_part(name) for name in SCRIPTS)
    parts = {"POLICY": policy((plotly_js(), own)), "STYLE": _part("page.css"), "PLOTLY": plotly_js(),
             "DATA": script_json(data), "SCRIPT": own}
    head, *rest = _part("page.html").split("{{")
    return head + "".join(parts[name] + text for name, _, text in (piece.partition("}}") for piece in rest))


def script_json(value: Any) -> str:
    """JSON that may stand between script tags: no text in it can end them or be taken for markup."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()


def policy(scripts: Sequence[str]) -> str:
    """The content security policy: these scripts and no others, styles of the page's own, no network.

    plotly sets styles on its elements, so that style needs 'unsafe-inline'.
    """
    allowed = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
            "connect-src 'none'; base-uri 'none'; form-action 'none'")


@functools.cache
def plotly_js() -> str:
    """plotly.js as plotly's Python package carries it (MIT licence), read without importing the package."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise BenchError("The HTML report needs plotly, which is not installed.",
                         fix="pip install plotly, or choose --format md.")
    return (Path(found.origin).parent / "package_data" / "plotly.min.js").read_text("utf-8")


@functools.cache
def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
