"""`recsys study`: plan, runs, methods, measurements, tables."""

from recsys.study.config import StudyConfig
from recsys.study.states import print_states
from recsys.study.tables.config import TableStudyConfig
from recsys.study.tables.verb import TableStudyResult
from recsys.study.verb import StudyResult, study

__all__ = [
    "StudyConfig",
    "StudyResult",
    "TableStudyConfig",
    "TableStudyResult",
    "print_states",
    "study",
]
