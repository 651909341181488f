"""The rankers by name."""

from __future__ import annotations

from typing import Annotated

from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry
from recsys.rankers.base import RankerConfig, lacks_of_ranker

_ROOM = "recsys.rankers.models"
RANKERS: Registry[type[RankerConfig]] = Registry(
    kind="ranker",
    group="recsys.rankers",
    inside={
        "autoint": f"{_ROOM}.autoint:AutoIntConfig",
        "dcn_v2": f"{_ROOM}.dcn_v2:DcnV2Config",
        "din": f"{_ROOM}.din:DinConfig",
        "dlrm": f"{_ROOM}.dlrm:DlrmConfig",
        "finalmlp": f"{_ROOM}.finalmlp:FinalMlpConfig",
        "lightgbm": f"{_ROOM}.trees:LightGBMConfig",
        "logistic": f"{_ROOM}.linear:LogisticConfig",
        "wukong": f"{_ROOM}.wukong:WukongConfig",
    },
    lacks=lacks_of_ranker,
)

AnyRankerConfig = Annotated[RankerConfig, NamedSection(RANKERS.find, default="lightgbm")]
"""The config of any ranker; `name` tells which, `lightgbm` where it is left out."""
