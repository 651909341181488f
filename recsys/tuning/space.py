"""The space of a search: which keys of a config vary, and within which values.

    tune:
      trainer.optimizer.learning_rate: {low: 0.0003, high: 0.01, log: true}
      model.encoder.dropout: {low: 0.1, high: 0.6, step: 0.1}
      batching.batch_tokens: [512, 1024, 2048]

A list holds values to choose from, also whole sections; a range holds numbers.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, Field, model_validator

from recsys.config import StrictModel, parse
from recsys.errors import ConfigError
from recsys.runs.config import RunConfig
from recsys.runs.idle import idle_reason

_ONE_MEASURE = "trials are compared, so all of them have the same data, protocol and metric"
_LUCK = "a seed that was chosen by its validation is luck, and no better on the test part"
_FIXED = {
    **dict.fromkeys(("data", "mapped", "protocol", "fit_on", "split"), _ONE_MEASURE),
    "trainer.metric": _ONE_MEASURE,
    "trainer.seed": _LUCK,
    "threads": "it changes the time of a trial, and its figures by rounding alone",
    "trainer.checkpoint_seconds": "it changes no figure",
    "trainer.keep_checkpoint": "it changes no figure",
}
"""Keys that no search may vary, and why."""


class RangeConfig(StrictModel):
    """Numbers from `low` to `high`, both included."""

    low: int | float = Field(allow_inf_nan=False)
    high: int | float = Field(allow_inf_nan=False)
    step: int | float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Only `low`, `low + step` ... are tried; None: any number."""
    log: bool = False
    """Numbers are drawn evenly by their logarithm, as fits learning rates."""

    @model_validator(mode="after")
    def _is_a_range(self) -> RangeConfig:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; leave one out")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, found {self.low}")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
                last = self.low + max(1, math.floor(steps)) * self.step
                raise ValueError(
                    f"high {self.high} is no whole number of steps of {self.step} above low "
                    f"{self.low}; {last:g} would be"
                )
        return self


@dataclass(frozen=True)
class Parameter:
    """One key of the config, and what it may be."""

    path: str
    """As a config file has it: `model.encoder.dropout`."""
    choices: tuple[Any, ...] = ()
    """Of a list, its values; none: numbers of `range`."""
    range: RangeConfig | None = None
    whole: bool = False
    """The numbers are whole."""

    def ends(self) -> list[tuple[str, Any]]:
        """The values that the config must allow before anything is trained, each with its word."""
        if self.range is None:
            return [("choice", choice) for choice in self.choices]
        kind = int if self.whole else float
        return [("low", kind(self.range.low)), ("high", kind(self.range.high))]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of those that are searched."""
        if self.range is None:
            return any(_same(value, choice) for choice in self.choices)
        given = self.range
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        steps = (value - given.low) / given.step if given.step else 0.0
        on_grid = math.isclose(steps, round(steps), abs_tol=1e-9)
        return bool(given.low <= value <= given.high and on_grid)


def read_space(given: Any, tree: Mapping[str, Any], origin: str) -> list[Parameter]:
    """The parameters of a section `tune`, each checked against the config it varies.

    Args:
        given: the section.
        tree: the config without it.
        origin: the name of the file, for messages.

    Raises:
        ConfigError: the config or the section is wrong, an unknown key is varied, a value of a
            range is one that the config does not allow, or a key does nothing in any trial.
    """
    config = parse(RunConfig, dict(tree), origin)
    if config.fit_on != "train":
        raise ConfigError(
            f"{origin}: fit_on {config.fit_on} holds nothing out to choose by; tune with "
            "fit_on=train, then train the best config with the fit_on you want"
        )
    ranges = ranges_of(given, origin)
    if not ranges:
        raise ConfigError(
            f"{origin} has no section `tune` with ranges; add one, such as `tune: "
            "{trainer.optimizer.learning_rate: {low: 0.0003, high: 0.01, log: true}}`"
        )
    known = dict(_keys(config))
    space = [_parameter(path, found, config, known, origin) for path, found in ranges.items()]
    for parameter in space:
        inner = [p.path for p in space if p.path.startswith(f"{parameter.path}.")]
        if inner:
            raise ConfigError(
                f"{origin}: tune.{inner[0]} lies inside of tune.{parameter.path}, whose choices "
                "would overwrite it; leave one of them out"
            )
    ends = []
    for parameter in space:
        for word, value in parameter.ends():
            place = f"tune.{parameter.path}: {word} {value!r} of {origin}"
            ends.append(parse(RunConfig, with_values(tree, {parameter.path: value}), place))
    for parameter in space:
        reasons = [idle_reason(end, parameter.path) for end in ends]
        if all(reasons):
            raise ConfigError(
                f"{origin}: tune.{parameter.path} does nothing in any trial: it {reasons[0]}; "
                "leave it out"
            )
    return space


def with_values(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a config's tree with other values at dotted keys."""
    result = copy.deepcopy(dict(tree))
    for path, value in values.items():
        node = result
        *parents, leaf = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = copy.deepcopy(value)
    return result


def value_at(config: BaseModel, path: str) -> Any:
    """What a config has at a dotted key, as a config file would have it."""
    found: Any = config.model_dump(mode="json")
    for name in path.split("."):
        found = found[name]
    return found


def ranges_of(given: Any, origin: str) -> dict[str, Any]:
    """Dotted key -> list or range. Sections in sections are dotted keys written otherwise.

    Raises:
        ConfigError: something is neither.
    """
    ranges: dict[str, Any] = {}
    if given is None:
        return ranges
    if not isinstance(given, Mapping):
        raise ConfigError(f"{origin}: tune holds {given!r}; keys with ranges are expected")
    for path, found in _flat(given, ""):
        if not isinstance(found, list | Mapping):
            raise ConfigError(
                f"{origin}: tune.{path} is {found!r}; a range {{low: ..., high: ...}} or a list of "
                "values is expected"
            )
        before = ranges.get(path)
        both = isinstance(before, Mapping) and isinstance(found, Mapping)
        ranges[path] = {**before, **found} if both else found  # type: ignore[dict-item]
    return ranges


def _flat(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, found in node.items():
        path = f"{prefix}{key}"
        if isinstance(found, Mapping) and found and not set(found) & set(RangeConfig.model_fields):
            yield from _flat(found, f"{path}.")
        else:
            yield path, found


def _parameter(
    path: str, found: Any, config: RunConfig, known: Mapping[str, Any], origin: str
) -> Parameter:
    _check_path(path, config, known, origin)
    if isinstance(found, list):
        return Parameter(path, choices=_choices(path, found, origin))
    given = parse(RangeConfig, found, f"{origin}: tune.{path}")
    kinds = _kinds(config, path)
    if not kinds & {int, float}:
        raise ConfigError(
            f"{origin}: tune.{path} is a range, and the key holds no number; give a list of values"
        )
    whole = float not in kinds
    parts = (given.low, given.high, given.step)
    if whole and any(part is not None and part != int(part) for part in parts):
        raise ConfigError(
            f"{origin}: tune.{path} is a whole number; low, high and step must be whole, too "
            f"(found {', '.join(str(part) for part in parts if part is not None)})"
        )
    return Parameter(path, range=given, whole=whole)


def _check_path(path: str, config: RunConfig, known: Mapping[str, Any], origin: str) -> None:
    parts = path.split(".")
    above = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    for key in above:
        if key in _FIXED:
            raise ConfigError(f"{origin}: tune.{path} cannot be searched: {_FIXED[key]}")
    if path == "model.granularities.sizes" and "/d" not in config.trainer.metric:
        raise ConfigError(
            f"{origin}: tune.{path} would change what trainer.metric {config.trainer.metric} is "
            "the mean of; name one granularity that all trials have, as in ndcg@10/d64"
        )
    if path in known:
        return
    if empty := [key for key in above if key in known and known[key] is None]:
        raise ConfigError(
            f"{origin}: tune.{path}: {empty[0]} is null in the config; give it a value there, so "
            "that there is something to vary"
        )
    leaf = parts[-1]
    alike = [key for key in known if key.rpartition(".")[2] == leaf] or list(known)
    near = difflib.get_close_matches(path, alike, n=1, cutoff=0.0)[0]
    raise ConfigError(f"{origin}: tune.{path}: unknown key; did you mean {near!r}?")


def _choices(path: str, found: list[Any], origin: str) -> tuple[Any, ...]:
    double = [
        value for at, value in enumerate(found) if any(_same(value, one) for one in found[:at])
    ]
    if len(found) < 2 or double:
        raise ConfigError(
            f"{origin}: tune.{path} must list two values or more, each once (found {found})"
        )
    return tuple(found)


def _same(one: Any, other: Any) -> bool:
    """True is not 1, 2 is 2.0."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _keys(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a config, sections too, with what stands there."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        yield f"{prefix}{name}", value
        if isinstance(value, BaseModel):
            yield from _keys(value, f"{prefix}{name}.")


def _kinds(config: RunConfig, path: str) -> set[Any]:
    """The types that a key may have."""
    owner: Any = config
    *parents, leaf = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    annotation = type(owner).model_fields[leaf].annotation
    return {annotation, *get_args(annotation)}
