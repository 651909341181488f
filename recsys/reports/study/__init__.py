"""The report of a study: accuracy by bytes per item, retention, nested against separate."""

from recsys.reports.study.content import (
    MEAN,
    RETENTION,
    SUMMARY_SCHEMA,
    VERSUS_SEPARATE,
    StudyContent,
)
from recsys.reports.study.terminal import print_study
from recsys.reports.study.writing import write_study

__all__ = [
    "MEAN",
    "RETENTION",
    "SUMMARY_SCHEMA",
    "VERSUS_SEPARATE",
    "StudyContent",
    "print_study",
    "write_study",
]
