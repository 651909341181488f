"""Typed configuration: YAML files and `key=value` overrides, read into pydantic models.

Every config class lives beside the code it configures and derives from `StrictModel`.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.config_hints import explain, of_another_verb
from recsys.errors import ConfigError
from recsys.files.kinds import found_at


class StrictModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=BaseModel)
_LONGEST = 40
"""Characters of a value that an error shows."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is absent, is not YAML or is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(
            f"no config file at {path}: {found_at(path)}; give one, configs/ holds ready ones"
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8, as YAML is; give another file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_one_line(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        what = "a list" if isinstance(tree, list) else f"{_brief(tree)} alone"
        raise ConfigError(f"{path} holds {what}; lines of the form `key: value` are expected")
    return tree


def _one_line(error: yaml.YAMLError) -> str:
    """What is wrong and where: yaml itself tells it in several lines, with an excerpt."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def apply_overrides(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Returns `tree` with `a.b=value` overrides put in; values are read as YAML.

    Raises:
        ConfigError: an override has no `=`, or walks through something that is not a mapping.
    """
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(tree))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {override!r} is not of the form key=value")
        node = result
        *parents, leaf = key.split(".")
        for depth, parent in enumerate(parents, start=1):
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                found = ".".join(parents[:depth])
                raise ConfigError(f"override {override!r}: {found} is a value, not a section")
        try:
            node[leaf] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"override {override!r}: the value is not YAML: {_one_line(error)}"
            ) from error
    return result


def parse(model: type[M], tree: dict[str, Any], origin: str, *, stored: bool = False) -> M:
    """Validates `tree` as `model`; errors name the key, the origin and the nearest known key.

    Args:
        model: the config class.
        tree: what was read.
        origin: where, for messages.
        stored: a config that was used before; validators see it as `info.context["stored"]`.

    Raises:
        ConfigError: with one line for each thing that is wrong.
    """
    try:
        return model.model_validate(tree, context={"stored": stored})
    except ValidationError as error:
        if (other := of_another_verb(model, tree)) is not None:
            raise ConfigError(f"{origin} cannot be used here: {other}") from error
        lines = [explain(model, tree, dict(issue)) for issue in error.errors()]
        raise ConfigError("\n".join([f"{origin} cannot be used:", *lines])) from error
