"""`recsys study`: plan, runs, methods, measurements, tables."""

from recsys.recipes.study.config import StudyConfig
from recsys.recipes.study.states import print_states
from recsys.recipes.study.table_config import TableStudyConfig
from recsys.recipes.study.table_verb import TableStudyResult
from recsys.recipes.study.verb import StudyResult, study

__all__ = [
    "StudyConfig",
    "StudyResult",
    "TableStudyConfig",
    "TableStudyResult",
    "print_states",
    "study",
]
