"""Trained models: one paper, one file, one line in each list here.

Every module is built as `module(config, num_items, num_users=, features=, objective=)` and has
`granularities`, `loss(batch, negatives)`, `user_vectors(histories)` and `item_vectors()`. Every
config has a `name` of its own, `granularities`, `history_length`, `features` and `nested`: whether
a smaller model can be cut out of a trained one (`recsys cut`).
"""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from recsys.models.fmrlrec import FMRLRec, FMRLRecConfig
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.models.two_tower import TwoTower, TwoTowerConfig

__all__ = [
    "MODELS",
    "FMRLRec",
    "FMRLRecConfig",
    "Model",
    "ModelConfig",
    "SASRec",
    "SASRecConfig",
    "TwoTower",
    "TwoTowerConfig",
]

MODELS: dict[str, tuple[Any, Any]] = {
    "sasrec": (SASRecConfig, SASRec),
    "fmrlrec": (FMRLRecConfig, FMRLRec),
    "two_tower": (TwoTowerConfig, TwoTower),
}
"""name -> (config, module)."""

Model = SASRec | FMRLRec | TwoTower
"""The union of all modules."""


def _name_of(given: Any) -> str:
    """Which config `given` is to be read as."""
    name = given.get("name", "sasrec") if isinstance(given, dict) else getattr(given, "name", "")
    return str(name)


ModelConfig = Annotated[
    Annotated[SASRecConfig, Tag("sasrec")]
    | Annotated[FMRLRecConfig, Tag("fmrlrec")]
    | Annotated[TwoTowerConfig, Tag("two_tower")],
    Discriminator(
        _name_of,
        custom_error_type="unknown_model",
        custom_error_message=f"there is no model of this name; known: {', '.join(MODELS)}",
    ),
]
"""The union of all model configs; `name` tells them apart, `sasrec` where it is left out."""
