"""Models of each library and the settings among which the validation part chooses."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "ml100k_sasrec.yaml")


def _grid(**options: list[Any]) -> list[dict[str, Any]]:
    """All settings of some options."""
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


CANDIDATES: dict[str, dict[str, list[dict[str, Any]]]] = {
    "recsys": {
        "sasrec": [
            {"model": CONFIG, "trainer.epochs": epochs, "model.encoder.dropout": dropout}
            for epochs, dropout in product([10, 20], [0.2, 0.4])
        ],
        "sequential_rules": _grid(model=["sequential_rules"], reach=[1, 10, 20], last=[1, 10, 20]),
        "ease": _grid(model=["ease"], l2=[50, 100, 200, 500, 1000]),
        "item_knn": _grid(model=["item_knn"], neighbours=[50, 100, 500], shrinkage=[0, 10, 100]),
    },
    "rectools": {
        "SASRecModel": _grid(
            model=["SASRecModel"],
            n_blocks=[1],
            n_heads=[1],
            n_factors=[256],
            batch_size=[32],
            dropout_rate=[0.2, 0.4],
            epochs=[30, 60],
        ),
        "EASEModel": _grid(model=["EASEModel"], regularization=[50, 100, 200, 500, 1000]),
        "ItemKNN": _grid(
            model=["ImplicitItemKNNWrapperModel"],
            kind=["BM25Recommender", "TFIDFRecommender", "CosineRecommender"],
            K=[50, 100, 500],
        ),
    },
    "implicit": {
        "als": _grid(
            model=["als"],
            factors=[32, 64, 128],
            alpha=[1.0, 4.0, 16.0],
            regularization=[0.01, 1.0, 10.0],
        ),
        "item kNN": _grid(model=["bm25", "tfidf", "cosine"], K=[50, 100, 500]),
    },
    "lenskit": {
        "EASE": _grid(model=["EASE"], regularization=[50, 100, 200, 500, 1000]),
        "ItemKNN": _grid(model=["ItemKNN"], feedback=["implicit"], max_nbrs=[20, 50, 100]),
        "ImplicitMF": _grid(
            model=["ImplicitMF"], embedding_size=[32, 64, 128], weight=[1.0, 4.0, 16.0]
        ),
    },
}
DRAWN = {"sasrec", "SASRecModel", "als", "ImplicitMF"}
"""Models whose figures depend on a seed."""
SEED_OPTIONS = {"sasrec": "trainer.seed"}
"""Models that draw from random numbers of their own, and the option that seeds them."""
