"""Trained models: one paper, one file, one line here."""

from typing import Annotated

from recsys.models.base import Model, ModelConfig, lacks_of_model
from recsys.models.fmrlrec import FMRLRec, FMRLRecConfig
from recsys.models.fuxi import FuXi, FuXiConfig
from recsys.models.hstu import HSTU, HSTUConfig
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.models.two_tower import TwoTower, TwoTowerConfig
from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry

__all__ = [
    "HSTU",
    "MODELS",
    "AnyModelConfig",
    "FMRLRec",
    "FMRLRecConfig",
    "FuXi",
    "FuXiConfig",
    "HSTUConfig",
    "Model",
    "ModelConfig",
    "SASRec",
    "SASRecConfig",
    "TwoTower",
    "TwoTowerConfig",
]

MODELS: Registry[type[Model]] = Registry(
    "model",
    "recsys.models",
    {
        "sasrec": "recsys.models.sasrec:SASRec",
        "fmrlrec": "recsys.models.fmrlrec:FMRLRec",
        "fuxi": "recsys.models.fuxi:FuXi",
        "hstu": "recsys.models.hstu:HSTU",
        "two_tower": "recsys.models.two_tower:TwoTower",
    },
    lacks_of_model,
)
"""All models by name."""

AnyModelConfig = Annotated[
    ModelConfig, NamedSection(lambda name: MODELS.find(name).Config, default="sasrec")
]
"""The config of any model; `name` tells which, `sasrec` where it is left out."""
