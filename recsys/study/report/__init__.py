"""The report of a study: accuracy by bytes per item, retention, nested against separate."""

from recsys.study.report.content import (
    MEAN,
    RETENTION,
    SUMMARY_SCHEMA,
    VERSUS_SEPARATE,
    StudyContent,
)
from recsys.study.report.terminal import print_study
from recsys.study.report.writing import write_study

__all__ = [
    "MEAN",
    "RETENTION",
    "SUMMARY_SCHEMA",
    "VERSUS_SEPARATE",
    "StudyContent",
    "print_study",
    "write_study",
]
