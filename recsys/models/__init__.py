"""Trained models: one paper, one file, one line here."""

from typing import Annotated, Any

from recsys.models.base import Model, ModelConfig, lacks_of_model
from recsys.models.bert4rec import BERT4Rec, BERT4RecConfig
from recsys.models.comirec import ComiRec, ComiRecConfig
from recsys.models.elsa import ELSA, ELSAConfig
from recsys.models.fmrlrec import FMRLRec, FMRLRecConfig
from recsys.models.fuxi import FuXi, FuXiConfig
from recsys.models.hstu import HSTU, HSTUConfig
from recsys.models.sasrec import SASRec, SASRecConfig
from recsys.models.solved.ials import IALS, IALSConfig
from recsys.models.solved.micro import MiCRO, MiCROConfig
from recsys.models.solved.spectral import Spectral, SpectralConfig
from recsys.models.two_tower import TwoTower, TwoTowerConfig
from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry

__all__ = [
    "ELSA",
    "HSTU",
    "IALS",
    "MODELS",
    "AnyModelConfig",
    "BERT4Rec",
    "BERT4RecConfig",
    "ComiRec",
    "ComiRecConfig",
    "ELSAConfig",
    "FMRLRec",
    "FMRLRecConfig",
    "FuXi",
    "FuXiConfig",
    "HSTUConfig",
    "IALSConfig",
    "MiCRO",
    "MiCROConfig",
    "Model",
    "ModelConfig",
    "SASRec",
    "SASRecConfig",
    "Spectral",
    "SpectralConfig",
    "TwoTower",
    "TwoTowerConfig",
]

MODELS: Registry[type[Model]] = Registry(
    "model",
    "recsys.models",
    {
        "sasrec": "recsys.models.sasrec:SASRec",
        "bert4rec": "recsys.models.bert4rec:BERT4Rec",
        "comirec": "recsys.models.comirec:ComiRec",
        "fmrlrec": "recsys.models.fmrlrec:FMRLRec",
        "fuxi": "recsys.models.fuxi:FuXi",
        "hstu": "recsys.models.hstu:HSTU",
        "two_tower": "recsys.models.two_tower:TwoTower",
        "mf": "recsys.models.pairs.mf:MF",
        "lightgcn": "recsys.models.pairs.lightgcn:LightGCN",
        "ltgnn": "recsys.models.pairs.ltgnn:LTGNN",
        "ultragcn": "recsys.models.pairs.ultragcn:UltraGCN",
        "svd_gcn": "recsys.models.pairs.svd_gcn:SVDGCN",
        "feature_towers": "recsys.models.pairs.feature_towers:FeatureTowers",
        "elsa": "recsys.models.elsa:ELSA",
        "ials": "recsys.models.solved.ials:IALS",
        "micro": "recsys.models.solved.micro:MiCRO",
        "spectral": "recsys.models.solved.spectral:Spectral",
    },
    lacks_of_model,
)
"""All models by name."""


def _without_mean(given: dict[str, Any]) -> dict[str, Any]:
    """A stored SASRec of before there were means of recent items has none."""
    is_sasrec = given.get("name", "sasrec") == "sasrec"
    return {"history_mean": 0} | given if is_sasrec else given


AnyModelConfig = Annotated[
    ModelConfig,
    NamedSection(lambda name: MODELS.find(name).Config, default="sasrec", older=_without_mean),
]
"""The config of any model; `name` tells which, `sasrec` where it is left out."""
