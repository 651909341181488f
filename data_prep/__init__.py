"""Raw dumps -> dataset folder.

from data_prep import PrepareOptions, prepare
dataset = prepare("ml-100k")
dataset = prepare("csv", PrepareOptions(time_column="when"), source="log.csv", out="data/log")
encode_text("data/log", columns=["title"]); attach("data/log", "posters.npz", name="image")
"""

from data_prep.clicks.prepare import CLICK_SOURCES, prepare_clicks
from data_prep.item_features.attach import attach
from data_prep.item_features.encode import encode_images, encode_text
from data_prep.item_features.item_columns import featurize_columns
from data_prep.option_text import options_from_text
from data_prep.options import PrepareOptions, SyntheticOptions
from data_prep.prepare import READERS, SOURCES, Source, prepare
from data_prep.raw_tables.raw import Columns, RawData, Table

__all__ = [
    "CLICK_SOURCES",
    "READERS",
    "SOURCES",
    "Columns",
    "PrepareOptions",
    "RawData",
    "Source",
    "SyntheticOptions",
    "Table",
    "attach",
    "encode_images",
    "encode_text",
    "featurize_columns",
    "options_from_text",
    "prepare",
    "prepare_clicks",
]
