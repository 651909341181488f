"""Raw dumps -> dataset folder.

from data_prep import PrepareOptions, prepare
dataset = prepare("ml-100k")
dataset = prepare("csv", PrepareOptions(time_column="when"), source="log.csv", out="data/log")
"""

from data_prep.options import PrepareOptions, SyntheticOptions
from data_prep.prepare import SOURCES, Source, prepare

__all__ = ["SOURCES", "PrepareOptions", "Source", "SyntheticOptions", "prepare"]
