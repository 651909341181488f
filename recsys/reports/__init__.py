"""From metric tables to people: terminal, HTML, Markdown, CSV, plots."""

from recsys.reports.content import CURVES_SCHEMA, ReportContent
from recsys.reports.terminal import print_table
from recsys.reports.writing import write_report

__all__ = ["CURVES_SCHEMA", "ReportContent", "print_table", "write_report"]
