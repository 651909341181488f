"""The base class of loss configs, each of which makes the training objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import model_validator

from recsys.config import StrictModel
from recsys.data.negatives import NegativesConfig
from recsys.losses.pairs.grouped import RepeatedUsers
from recsys.losses.softmax import NestedLossOutput

Objective = Callable[..., NestedLossOutput]
"""Called as `nested_softmax` is: `(users, items, targets, scales, granularities, *, negatives)`. An
nn.Module is trained with the model."""

_OWNERS = {
    "negatives": "losses that sample them",
    "distillation": "softmax and sampled_softmax",
    "focus": "softmax and sampled_softmax",
    "calibration": "gbce",
}


class LossConfig(StrictModel):
    """Options of a loss, which is taken at every granularity; subclasses add their own options."""

    name: str
    """The name the loss is registered by."""

    @property
    def draws(self) -> NegativesConfig | None:
        """How negatives are drawn, the field `negatives` of the class; None: it takes all items."""
        return getattr(self, "negatives", None)

    @property
    def takes_own(self) -> bool:
        """The objective takes `own`, candidates of each token (`model.seen_negatives` and
        `model.repeat_bias`).
        """
        return False

    def objective(self, num_items: int, num_sizes: int) -> Objective:
        """What a model of `num_items` items and `num_sizes` granularities is trained on."""
        raise NotImplementedError

    def grouped(self, num_items: int, num_sizes: int) -> Objective:
        """The objective of pairs with one row for each user, `users [U, D]`, and `lengths [U]`, how
        many of the targets are his; by default the other one with every row repeated.
        """
        return RepeatedUsers(self.objective(num_items, num_sizes))

    def misfit(self, model: Any) -> str | None:
        """Why a model of this config (`ModelConfig`) cannot be trained by it; None: it can."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _own_options(cls, given: Any) -> Any:
        """An override of the name alone leaves options of the former loss in the section."""
        for option, owners in _OWNERS.items():
            if isinstance(given, dict) and option in given and option not in cls.model_fields:
                raise ValueError(
                    f"{option} is an option of {owners}, not of {given.get('name')}; leave it out "
                    "(an override of the whole section, loss=..., replaces what the file says)"
                )
        return given


def lacks_of_loss(found: Any) -> list[str]:
    """What a class lacks to be the config of a loss."""
    if not isinstance(found, type) or not issubclass(found, LossConfig):
        return ["the base class recsys.losses.LossConfig"]
    if found.objective is LossConfig.objective:
        return ["objective(num_items, num_sizes) -> what is called as nested_softmax is"]
    return []
