"""Steps of the last stage by name, and the call that runs them one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import SerializeAsAny

from recsys.config import StrictModel
from recsys.plugins.named_section import NamedSection
from recsys.plugins.registry import Registry
from recsys.rankers.lists.base import Known, Ranked, check_ranked

_ROOM = "recsys.rankers.lists"
_BETWEEN = 5


class Step(StrictModel):
    """Options of a step; subclasses choose."""

    name: str

    def choose(self, ranked: Ranked, known: Known, k: int) -> Ranked:
        """Lists of k, in the order in which they are shown.

        Args:
            ranked: candidates, or what the step before has chosen.
            known: of items and users.
            k: places; a step before the last gets more, so that the next one can choose.

        Raises:
            ConfigError: something is not known that the step needs.
        """
        raise NotImplementedError


def _lacks(found: Any) -> list[str]:
    if not isinstance(found, type) or not issubclass(found, Step):
        return [f"the base class {_ROOM}.steps.Step"]
    return [] if found.choose is not Step.choose else ["a method choose"]


STEPS: Registry[type[Step]] = Registry(
    kind="step of the last stage",
    group="recsys.last_stage",
    inside={
        "calibrate": f"{_ROOM}.calibrate:CalibrateConfig",
        "caps": f"{_ROOM}.caps:CapsConfig",
        "categories": f"{_ROOM}.categories:CategoriesConfig",
        "dpp": f"{_ROOM}.dpp:DppConfig",
        "explore": f"{_ROOM}.explore:ExploreConfig",
        "mmr": f"{_ROOM}.mmr:MmrConfig",
    },
    lacks=_lacks,
)

AnyStep = Annotated[SerializeAsAny[Step], NamedSection(STEPS.find)]
"""Any step; `name` tells which."""


def last_stage(ranked: Ranked, steps: Sequence[Step], known: Known, k: int) -> Ranked:
    """Runs steps one after another; all but the last leave 5 k candidates to the next one.

    Args:
        ranked: candidates, best first.
        steps: none: the best k.
        known: of items and users.
        k: places of a list.

    Raises:
        ConfigError: something is not known that a step needs, or k is too large.
    """
    check_ranked(ranked, k)
    if not steps:
        return Ranked(ranked.items[:, :k], ranked.scores[:, :k])
    for place, step in enumerate(steps, start=1):
        wanted = k if place == len(steps) else _BETWEEN * k
        ranked = step.choose(ranked, known, min(wanted, ranked.items.shape[1]))
    return ranked
