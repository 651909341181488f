"""The base class of baseline configs, each of which fits its model."""

from __future__ import annotations

from typing import Any, ClassVar

from recsys.arrays import Int64
from recsys.config import StrictModel
from recsys.data.features.loading import ItemFeatures
from recsys.data.histories import Histories
from recsys.model_protocols import ScoreModel, VectorModel

Baseline = VectorModel | ScoreModel
"""What the evaluator can rank."""
Choices = dict[str, tuple[float, ...]]
"""Setting -> values worth a try, ascending."""


class BaselineConfig(StrictModel):
    """Settings of a baseline and the method that fits it; subclasses add their own settings."""

    name: str
    """The name the baseline is registered by."""

    order_free: ClassVar[bool] = True
    """The order of a history does not matter, so data sets without one are taken."""
    choices: ClassVar[Choices] = {}
    """What is chosen on the validation part, where it was not given."""

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the item features that fitting reads."""
        return ()

    def open_choices(self, *, timed: bool) -> Choices:
        """`choices` of the settings that decide something on histories with or without times."""
        return self.choices

    def takes_minutes(self, num_items: int, lengths: Int64) -> bool:
        """Whether to fit it several times, on histories of `lengths [U]`, takes minutes."""
        return False

    def fit(
        self, histories: Histories, num_items: int, features: ItemFeatures | None = None
    ) -> Baseline:
        """Fits it on the training rows of all users, of which some may be empty.

        Args:
            histories: of U users.
            num_items: N.
            features: those of `item_features`.
        """
        raise NotImplementedError


def lacks_of_baseline(found: Any) -> list[str]:
    """What a class lacks to be the config of a baseline."""
    if not isinstance(found, type) or not issubclass(found, BaselineConfig):
        return ["the base class recsys.baselines.BaselineConfig"]
    if found.fit is BaselineConfig.fit:
        return ["fit(histories, num_items, features=None) -> a model with scores or vectors"]
    return []
