"""The report of a comparison: one self-contained HTML page that needs no script and no network."""

from antcache.evaluation.report.films import Films
from antcache.evaluation.report.page import ReportLayout, check_page, render, write_report

__all__ = ["Films", "ReportLayout", "check_page", "render", "write_report"]
