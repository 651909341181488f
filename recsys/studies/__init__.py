"""Studies: a nested model beside its controls, trained, measured and reported."""

from recsys.studies.config import StudyConfig
from recsys.studies.states import print_states
from recsys.studies.tables.config import TableStudyConfig
from recsys.studies.tables.verb import TableStudyResult
from recsys.studies.verb import StudyResult, study

__all__ = [
    "StudyConfig",
    "StudyResult",
    "TableStudyConfig",
    "TableStudyResult",
    "print_states",
    "study",
]
