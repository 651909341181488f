"""Options of `prepare` from the command line: `key=value`."""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from data_prep.options import PrepareOptions
from recsys.config import apply_overrides, parse

_QUOTES = ("'", '"')


def options_from_text(pairs: list[str]) -> PrepareOptions:
    """`delimiter=|`, `user_column=no`, `min_user_count=5` -> options.

    What an option takes as text (names, paths, delimiters) is not read as YAML, so that `|`, `no`
    and `007` are what they look like; quotes around the whole of it are left out. Numbers and
    sections are YAML.

    Raises:
        ConfigError: a pair has no `=`, a key is unknown, or a value is of the wrong kind.
    """
    tree = apply_overrides({}, [_as_yaml(pair) for pair in pairs])
    return parse(PrepareOptions, tree, "the options of `recsys prepare`")


def _as_yaml(pair: str) -> str:
    key, equals, text = pair.partition("=")
    if not equals or not _is_text(key):
        return pair
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1]
    return f"{key}={json.dumps(text, ensure_ascii=False)}"


def _is_text(key: str) -> bool:
    model: type[BaseModel] = PrepareOptions
    *sections, leaf = key.split(".")
    for section in sections:
        field = model.model_fields.get(section)
        inner = None if field is None else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return False
        model = inner
    field = model.model_fields.get(leaf)
    return field is not None and _takes_text(field.annotation)


def _takes_text(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _takes_text(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return any(_takes_text(choice) for choice in get_args(annotation))
    return origin is Literal or annotation in (str, Path)
