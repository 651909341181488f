"""Gradient-boosted trees by LightGBM: pairwise, listwise or pointwise.

References: Ke et al., LightGBM, NeurIPS 2017; Burges, From RankNet to LambdaRank to LambdaMART,
2010; Bruch, An Alternative Cross Entropy Loss for Learning-to-Rank (XE-NDCG), WWW 2021.
Shape legend: R rows, C numeric features, F categorical fields.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from recsys.arrays import Float32
from recsys.errors import DataError
from recsys.extras import extra, require
from recsys.rankers.base import Ranker, RankerConfig
from recsys.rankers.examples import Examples, Schema

MODEL = "trees.txt"
Objective = Literal["lambdarank", "listwise", "pointwise"]
_OBJECTIVES: dict[Objective, str] = {
    "lambdarank": "lambdarank",
    "listwise": "rank_xendcg",
    "pointwise": "binary",
}


class LightGBMConfig(RankerConfig):
    """Options of the trees."""

    name: Literal["lightgbm"] = "lightgbm"
    objective: Objective = "lambdarank"
    """pointwise: the scores are logits of the label."""
    num_trees: int = Field(default=500, ge=1)
    """At most."""
    learning_rate: float = Field(default=0.03, gt=0)
    num_leaves: int = Field(default=15, ge=2)
    """Of each tree."""
    least_rows: int = Field(default=100, ge=1)
    """Rows in a leaf."""
    feature_share: float = Field(default=0.5, gt=0, le=1)
    """Features that each tree may use."""
    row_share: float = Field(default=0.7, gt=0, le=1)
    """Rows that each tree is grown on."""
    l2: float = Field(default=10.0, ge=0)
    truncation: int = Field(default=20, ge=1)
    """lambdarank: pairs count whose better row is among so many first ones."""
    patience: int = Field(default=50, ge=1)
    """Trees without a better figure on the validation rows, after which growing ends."""
    threads: int = Field(default=0, ge=0)
    """Of the fit; 0: all cores."""

    def check_installed(self) -> None:
        """Raises InstallationError where LightGBM is missing."""
        require("rank")

    def fit(self, schema: Schema, train: Examples, validation: Examples, seed: int) -> Trees:
        """Grows trees until the validation rows' ndcg@10 (pointwise: log-loss) gets no better.

        Raises:
            InstallationError: LightGBM is missing.
        """
        with extra("rank"):
            import lightgbm
        ranked = self.objective != "pointwise"
        parameters = {
            "objective": _OBJECTIVES[self.objective],
            "metric": "ndcg" if ranked else "binary_logloss",
            "eval_at": [10],
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.least_rows,
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "lambda_l2": self.l2,
            "lambdarank_truncation_level": self.truncation,
            "num_threads": self.threads,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        names = _names(schema)
        fields = names[len(schema.numbers) :]

        def rows(given: Examples, reference: Any = None) -> Any:
            return lightgbm.Dataset(
                matrix_of(given),
                given.labels,
                weight=given.weights,
                group=np.diff(given.offsets) if ranked else None,
                feature_name=names,
                categorical_feature=fields,
                reference=reference,
            )

        known = rows(train)
        booster = lightgbm.train(
            parameters,
            known,
            num_boost_round=self.num_trees,
            valid_sets=[rows(validation, known)],
            callbacks=[lightgbm.early_stopping(self.patience, verbose=False)],
        )
        text = booster.model_to_string(num_iteration=booster.best_iteration)
        return Trees(schema, lightgbm.Booster(model_str=text))

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> Ranker:
        """Opens LightGBM's text format.

        Raises:
            InstallationError: LightGBM is missing.
            DataError: the file is absent or damaged.
        """
        with extra("rank"):
            import lightgbm
        try:
            booster = lightgbm.Booster(model_str=(folder / MODEL).read_text(encoding="utf-8"))
        except (OSError, ValueError, lightgbm.basic.LightGBMError) as error:
            raise DataError(
                f"{folder / MODEL} cannot be read ({error}); fit the ranker again"
            ) from error
        if booster.feature_name() != _names(schema):
            raise DataError(
                f"{folder / MODEL} was fitted on other features than the ranker's; fit it again"
            )
        return Trees(schema, booster)


class Trees:
    """Fitted trees."""

    def __init__(self, schema: Schema, booster: Any) -> None:
        """Of a booster of LightGBM."""
        self.schema, self._booster = schema, booster

    def scores(self, examples: Examples) -> Float32:
        """`[R]`, by one thread: a request has few rows."""
        if not len(examples.numbers):
            return np.empty(0, np.float32)
        found = self._booster.predict(matrix_of(examples), raw_score=True, num_threads=1)
        scores: Float32 = np.asarray(found, np.float32)
        return scores

    def multiply_adds(self) -> float:
        """Comparisons on the way to a leaf, in all trees, of a mean training row."""
        return self._comparisons

    @cached_property
    def _comparisons(self) -> float:
        trees = self._booster.dump_model()["tree_info"]
        return float(sum(_mean_depth(tree["tree_structure"]) for tree in trees))

    def importance(self) -> dict[str, float]:
        """What each feature's splits gained, as shares of the whole."""
        gains = self._booster.feature_importance("gain")
        names = [*self.schema.numbers, *(field.name for field in self.schema.fields)]
        return dict(zip(names, (gains / max(gains.sum(), 1e-12)).tolist(), strict=True))

    def save(self, folder: Path) -> None:
        """Writes LightGBM's text format."""
        (folder / MODEL).write_text(self._booster.model_to_string(), encoding="utf-8")


def matrix_of(examples: Examples) -> Float32:
    """`[R, C + F]`: categories behind the numbers; a missing one is NaN."""
    if not examples.fields.shape[1]:
        return examples.numbers
    fields = np.where(examples.fields > 0, examples.fields, np.nan).astype(np.float32)
    return np.concatenate([examples.numbers, fields], axis=1)


def _names(schema: Schema) -> list[str]:
    """LightGBM takes no spaces or brackets in names."""
    return [f"n{place}" for place in range(len(schema.numbers))] + [
        f"c{place}" for place in range(len(schema.fields))
    ]


def _mean_depth(root: dict[str, Any]) -> float:
    """Mean number of splits that a row meets."""
    total, rows, waiting = 0.0, 0, [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        if "left_child" in node:
            waiting += [(node["left_child"], depth + 1), (node["right_child"], depth + 1)]
        else:
            count = int(node.get("leaf_count", 0))
            total, rows = total + depth * count, rows + count
    return total / max(1, rows)
