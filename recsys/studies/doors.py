"""Refusals of a study before its first run is trained: what would be measured as if it were more.

A change that changes nothing gives the figures of the recipe again, a second name for the same runs
counts them twice, and runs of other protocols or data are not comparable at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recsys.errors import ConfigError
from recsys.evaluation.protocol import Part
from recsys.runs.config import RunConfig
from recsys.runs.idle import idle_keys

_SILENT = (
    *("threads", "device", "logs", "mapped"),
    *("trainer.checkpoint_seconds", "trainer.keep_checkpoint"),
)
"""Keys that change no figure beyond rounding."""
_SHARED = ("data", "protocol", "split", "fit_on")
"""Keys that all runs of a comparison have alike."""


def changes(before: RunConfig, after: RunConfig) -> list[str]:
    """The keys by which two runs differ, as far as figures can tell."""
    first, second = (_leaves(config.model_dump(mode="json")) for config in (before, after))
    still = (*_SILENT, *idle_keys(after))
    return [
        key
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
        and not any(f"{key}.".startswith(f"{silent}.") for silent in still)
    ]


def check_comparable(before: RunConfig, after: RunConfig, what: str) -> None:
    """Raises ConfigError where two runs are of other rows, or measured in another way."""
    wrong = [key for key in _SHARED if getattr(before, key) != getattr(after, key)]
    if wrong:
        raise ConfigError(
            f"{what} changes {' and '.join(wrong)}, and runs of a study are compared on the same "
            "rows under one protocol; leave that out, or make a study of its own with it"
        )


def check_measurable(
    config: RunConfig, part: Part, origin: object, *, other: str = "say part: test"
) -> None:
    """Raises ConfigError where the part that is measured is one that the runs are fitted on."""
    if config.fit_on == "all" or (config.fit_on == "train+valid" and part == "valid"):
        rest = "" if config.fit_on == "all" or not other else f", or {other}"
        raise ConfigError(
            f"the runs of {origin} have fit_on={config.fit_on} here, so figures of the {part} part "
            f"would be of what they have seen; say fit_on=train{rest}"
        )


def check_taken(overrides: Iterable[str], taken: dict[str, str]) -> None:
    """Refuses overrides that the study would overwrite.

    Args:
        overrides: `key=value`.
        taken: key -> where the study takes it from.

    Raises:
        ConfigError: one is given.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        for name, origin in taken.items():
            if f"{key}.".startswith(f"{name}."):
                raise ConfigError(f"{override} does nothing here: {origin}; leave it out")


SEEDS = {"trainer.seed": "the study sets it to each of its seeds"}


def distinct(values: Sequence[object], what: str) -> None:
    """Raises ValueError where one of them stands twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"{what} must be named once each, found {tuple(values)}")


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        found |= inner or {f"{prefix}{key}": value}
    return found
