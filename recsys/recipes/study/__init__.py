"""`recsys study`: plan, runs, methods, measurements, tables."""

from recsys.recipes.study.config import StudyConfig
from recsys.recipes.study.states import print_states
from recsys.recipes.study.verb import StudyResult, study

__all__ = ["StudyConfig", "StudyResult", "print_states", "study"]
