import re

import numpy as np
import polars as pl
import pytest

import recsys
from recsys.data.dataset import write_dataset
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_vectors
from tests.examples.pages import PAGES, ROOT, blocks
from tests.recipes.test_verbs import config, frame

WIDTH = 3


def named_items():
    """Every item that a snippet names, by the quotes around it."""
    texts = [text for page in PAGES for text in blocks(page, "python")]
    return sorted({name for text in texts for name in re.findall(r'"(B[0-9A-Z]{9})"', text)})


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """A folder as the pages speak of: configs/, runs/beauty_content and its bundle, of walks over
    25 items.
    """
    place = tmp_path_factory.mktemp("pages")
    (place / "configs").symlink_to(ROOT / "configs")
    ids = [*named_items(), *(f"other {i}" for i in range(25))][:25]
    walks = frame().with_columns(pl.col("item_id").replace_strict(dict(enumerate(ids))))
    data = write_dataset(place / "data/walks", walks, name="walks").folder
    vectors = np.random.default_rng(0).normal(size=(25, WIDTH))
    write_vectors(data, "text", vectors, np.ones(25, bool), FeatureOrigin(source="made by hand"))
    model = {
        "granularities": {"sizes": [4, 8]}, "history_length": 8, "items": {"features": ["text"]},
    }  # fmt: skip
    run = recsys.train(
        config(data, trainer={"epochs": 1}, model=model), out=place / "runs/beauty_content"
    )
    recsys.export(run, place / "bundles/beauty")
    return place
