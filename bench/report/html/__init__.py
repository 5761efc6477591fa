"""The report as one HTML page that opens offline: decisions, charts, claims, every record."""

from bench.report.html.page import render_html

__all__ = ["render_html"]
