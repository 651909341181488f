"""Losses, each taken at every granularity."""

from typing import Annotated, Any

from recsys.losses.base import LossConfig, lacks_of_loss
from recsys.losses.bpr import BPRConfig
from recsys.losses.gbce import GBCEConfig
from recsys.losses.pairs.constrained import ConstrainedBCEConfig
from recsys.losses.pairs.cosine_contrastive import CosineContrastiveConfig
from recsys.losses.softmax_configs import SampledSoftmaxConfig, SoftmaxConfig
from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry

__all__ = [
    "LOSSES",
    "AnyLossConfig",
    "BPRConfig",
    "ConstrainedBCEConfig",
    "CosineContrastiveConfig",
    "GBCEConfig",
    "LossConfig",
    "SampledSoftmaxConfig",
    "SoftmaxConfig",
]

LOSSES: Registry[type[LossConfig]] = Registry(
    "loss",
    "recsys.losses",
    {
        "softmax": "recsys.losses:SoftmaxConfig",
        "sampled_softmax": "recsys.losses:SampledSoftmaxConfig",
        "gbce": "recsys.losses:GBCEConfig",
        "bpr": "recsys.losses:BPRConfig",
        "constrained_bce": "recsys.losses:ConstrainedBCEConfig",
        "cosine_contrastive": "recsys.losses:CosineContrastiveConfig",
    },
    lacks_of_loss,
)
"""The configs of all losses by name."""

_DEFAULT = "sampled_softmax"
_ONCE_SHARED = {"negatives", "distillation", "calibration"}


def _own_options(section: dict[str, Any]) -> dict[str, Any]:
    """Earlier versions stored the options of every loss, also those that it did not read."""
    own = LOSSES.find(str(section.get("name", _DEFAULT))).model_fields
    return {key: value for key, value in section.items() if key in own or key not in _ONCE_SHARED}


AnyLossConfig = Annotated[
    LossConfig, NamedSection(LOSSES.find, default=_DEFAULT, older=_own_options)
]
"""The config of any loss; `name` tells which, `sampled_softmax` where it is left out."""
