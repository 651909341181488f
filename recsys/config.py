"""Typed configuration: YAML -> pydantic, `key=value` overrides, unknown keys refused by name.

Every config class lives beside the code it configures and derives from `StrictModel`.
"""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import ConfigError


class StrictModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is absent, is not YAML or is not a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"no config file at {path}; configs/ holds ready ones")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds a {type(tree).__name__}; a mapping of keys is expected")
    return tree


def apply_overrides(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Returns `tree` with `a.b=value` overrides put in; values are read as YAML.

    Raises:
        ConfigError: an override has no `=`, or walks through something that is no mapping.
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
            raise ConfigError(f"override {override!r}: the value is not YAML: {error}") from error
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
        lines = [_explain(model, dict(issue)) for issue in error.errors()]
        raise ConfigError("\n".join([f"{origin} cannot be used:", *lines])) from error


def _explain(model: type[BaseModel], issue: dict[str, Any]) -> str:
    location = list(issue["loc"])
    known, written = _known_keys(model, location[:-1])
    dotted = ".".join([*written, *(str(part) for part in location[-1:])])
    if issue["type"] != "extra_forbidden":
        dotted = ".".join(_known_keys(model, location)[1])
        found = issue.get("input")
        # A check of a whole section says what is wrong in it; all of the section would bury that.
        whole = issue["type"] == "value_error" and isinstance(found, dict | BaseModel)
        text = issue["msg"].removeprefix("Value error, ")
        return f"  {dotted or '(top)'}: {text}" + ("" if whole else f" (found {found!r})")
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"  {dotted}: unknown key; {hint}Known here: {', '.join(sorted(known))}"


def _known_keys(model: type[BaseModel], location: list[int | str]) -> tuple[list[str], list[str]]:
    """Names of the fields at `location`, and the location as a config file has it.

    Nested models and discriminated unions are followed; pydantic puts the tag of the one that was
    chosen into its locations, the file does not.
    """
    candidates: list[type[BaseModel]] = [model]
    written: list[str] = []
    for part in location:
        if isinstance(part, int):  # a place in a list: what may stand there is known already
            written.append(str(part))
            continue
        following: list[type[BaseModel]] = []
        tagged = [candidate for candidate in candidates if _tag_of(candidate) == part]
        for candidate in candidates:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                following += _models_in(field.annotation)
        if tagged and not following:
            following = tagged
        else:
            written.append(str(part))
        candidates = following
    return sorted({name for candidate in candidates for name in candidate.model_fields}), written


def _tag_of(model: type[BaseModel]) -> object:
    """The default of the model's `name` field: the tag of a discriminated union."""
    field = model.model_fields.get("name")
    return None if field is None else field.default


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        found += _models_in(argument)
    return found
