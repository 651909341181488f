"""Messages about wrong config values: the key as written in the file, and the nearest known key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from recsys.plugins.named_section import NamedSection

Reader = type[BaseModel] | NamedSection
"""What may read a part of a config."""
_MARKS = {
    "recsys study": ("run",),
    "recsys last-stage": ("stages",),
    "recsys clicks": ("rankers",),
    "recsys rank fit": ("ranker", "rows"),
    "recsys train": ("model", "trainer", "loss"),
}
"""Keys that the configs of one verb have and those of no other."""
_ALIKE = 0.8
"""How like a key is that may have been meant, as difflib measures it."""
_DEEPEST = 3
"""Sections in sections that are looked into."""


def of_another_verb(model: type[BaseModel], tree: object) -> str | None:
    """Whose config it is, where it has keys of another verb's; None: it seems to be the right one.

    Args:
        model: the config class that does not take it.
        tree: what it was given.
    """
    if not isinstance(tree, Mapping):
        return None
    for verb, marks in _MARKS.items():
        found = [mark for mark in marks if mark in tree]
        if found and not set(marks) & set(model.model_fields):
            return (
                f"it is a config of `{verb}` (it has {', '.join(found)}); give it to that verb, "
                f"or name a file of keys such as {', '.join(list(model.model_fields)[:3])}"
            )
    return None


def explain(model: type[BaseModel], tree: object, issue: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors.

    Args:
        model: the config class.
        tree: what it was given.
        issue: as `ValidationError.errors()` lists it.
    """
    location = list(issue["loc"])
    if issue["type"] == "extra_forbidden":
        known, written = _known_keys(model, tree, location[:-1])
        near = _nearest(str(location[-1]), known, _leaves([model], tree))
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        dotted = ".".join([*written, str(location[-1])])
        return f"  {dotted}: unknown key; {hint}Known here: {', '.join(sorted(known))}"
    dotted = ".".join(_known_keys(model, tree, location)[1])
    if issue["type"] == "missing":
        return f"  {dotted}: is missing, and has to be given"
    found = issue.get("input")
    # A check of a whole section says what is wrong in it; all of the section would bury that.
    whole = issue["type"] == "value_error" and isinstance(found, dict | BaseModel)
    text = issue["msg"].removeprefix("Value error, ")
    return f"  {dotted or '(top)'}: {text}" + ("" if whole else f" (found {found!r})")


def _nearest(key: str, known: list[str], leaves: list[str]) -> list[str]:
    """The keys that may have been meant: one beside it, or, if none is like it, of other sections.

    Args:
        key: what was written.
        known: names that may stand there.
        leaves: all dotted keys of the whole config.
    """
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    if near and _likeness(key, near[0]) >= _ALIKE:
        return near
    likenesses = {dotted: _likeness(key, dotted.rpartition(".")[2]) for dotted in leaves}
    best = max(likenesses.values(), default=0.0)
    return near if best < _ALIKE else [each for each, like in likenesses.items() if like == best]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _leaves(readers: Iterable[Reader], tree: object, depth: int = _DEEPEST) -> list[str]:
    """Dotted keys of a config and of its sections, as they would be read."""
    found: list[str] = []
    for reader in _classes(readers, {} if tree is None else tree):
        for name in reader.model_fields:
            found.append(name)
            if depth and (inner := _readers_in(reader, name)):
                given = _child(tree, name)
                tag = _child(given, "name") or getattr(reader.model_fields[name].default, "name", 0)
                tagged = [each for each in inner if isinstance(each, type) and _tag_of(each) == tag]
                keys = _leaves(tagged or inner, given, depth - 1)
                found += [f"{name}.{key}" for key in keys]
    return list(dict.fromkeys(found))


def _known_keys(
    model: type[BaseModel], tree: object, location: list[int | str]
) -> tuple[list[str], list[str]]:
    """Names of the fields at `location`, and the location as a config file has it.

    Nested models, named sections and discriminated unions are followed; pydantic puts the tag of
    the one that was chosen into its locations, the file does not.
    """
    readers: list[Reader] = [model]
    written: list[str] = []
    for part in location:
        if not isinstance(part, int):  # of a list: what may stand there is known already
            classes = _classes(readers, tree)
            tagged = [found for found in classes if _tag_of(found) == part]
            following = [
                reader
                for found in classes
                if part in found.model_fields
                for reader in _readers_in(found, part)
            ]
            readers = following or list[Reader](tagged)
            if tagged and not following:
                continue
        written.append(str(part))
        tree = _child(tree, part)
    names = {name for found in _classes(readers, tree) for name in found.model_fields}
    return sorted(names), written


def _classes(readers: Iterable[Reader], given: object) -> list[type[BaseModel]]:
    """The config classes that may read `given`; none of a section whose name leads nowhere."""
    found = []
    for reader in readers:
        try:
            found.append(reader.chosen(given) if isinstance(reader, NamedSection) else reader)
        except ValueError:
            continue
    return found


def _child(tree: object, part: int | str) -> object:
    """The value at that place; None: nothing."""
    try:
        found: object = tree[part]  # type: ignore[index]
    except (TypeError, LookupError):
        return None
    return found


def _tag_of(model: type[BaseModel]) -> object:
    """The default of the model's `name` field: the tag of a discriminated union."""
    field = model.model_fields.get("name")
    return None if field is None else field.default


def _readers_in(model: type[BaseModel], name: str) -> list[Reader]:
    """What may read that field."""
    field = model.model_fields[name]
    sections = [found for found in field.metadata if isinstance(found, NamedSection)]
    return [*sections] or _models_in(field.annotation)


def _models_in(annotation: Any) -> list[Reader]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    sections = getattr(annotation, "__metadata__", ())
    if found := [section for section in sections if isinstance(section, NamedSection)]:
        return [*found]
    return [inner for part in getattr(annotation, "__args__", ()) for inner in _models_in(part)]
