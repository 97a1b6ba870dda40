"""The report of a comparison: one self-contained HTML page that needs no script and no network."""

from antcache.evaluation.report.page import ReportLayout, render, write_report

__all__ = ["ReportLayout", "render", "write_report"]
