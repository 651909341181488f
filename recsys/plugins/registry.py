"""Registries of parts by name: parts of the package, entry points, and `module:Object`."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from recsys.errors import ConfigError

T = TypeVar("T")
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_RUN = "run.json"


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The parts of one kind, by name. A module is imported when its part is first requested."""

    kind: str
    """As messages call it: model."""
    group: str
    """The group of entry points by which other packages name theirs: recsys.models."""
    inside: Mapping[str, str]
    """The package's own: name -> `module:Object`."""
    lacks: Callable[[Any], list[str]]
    """What an object lacks to be such a part, in words; empty: nothing."""

    def find(self, name: str) -> T:
        """The part of that name: `sasrec`, an entry point, or `my_package.my_module:GRU4Rec`.

        Raises:
            ConfigError: there is none, it cannot be imported, or it lacks something.
        """
        found = self._load(name)
        if missing := self.lacks(found):
            raise ConfigError(
                f"{name} cannot be used as a {self.kind}: it lacks {'; '.join(missing)}"
            )
        return cast(T, found)

    def names(self) -> tuple[str, ...]:
        """All short names: the package's own and those of entry points."""
        return tuple(dict.fromkeys([*self.inside, *entry_points(group=self.group).names]))

    def _load(self, name: str) -> object:
        if path := self.inside.get(name):
            return _object(path, f"{self.kind} {name}")
        if ":" in name:
            return _object(name, f"{self.kind} {name}")
        return _object(self._entry(name).value, f"{self.kind} {name}")

    def _entry(self, name: str) -> EntryPoint:
        found = {entry.value: entry for entry in entry_points(group=self.group, name=name)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            raise ConfigError(
                f"several installed packages have a {self.kind} named {name!r}: "
                f"{', '.join(sorted(found))}; name one of these instead"
            )
        near = difflib.get_close_matches(name, self.names(), n=1)
        meant = f"did you mean {near[0]!r}? Your" if near else "your"
        raise ConfigError(
            f"there is no {self.kind} named {name!r}; known: {', '.join(self.names())}; {meant} "
            "own is named as my_package.my_module:Object"
        )


def _object(path: str, what: str) -> object:
    """The object at `module:Object`.

    Raises:
        ConfigError: the module cannot be imported, or holds no such object.
    """
    if not _PATH.fullmatch(path):
        raise ConfigError(f"{what} is not of the form my_package.my_module:Object")
    module, _, attribute = path.partition(":")
    _refuse_code_of_runs(module, what)
    try:
        loaded = import_module(module)
    except Exception as error:  # whatever a foreign module raises while it is imported
        raise ConfigError(_why_not(module, what, error)) from error
    if not hasattr(loaded, attribute):
        place = getattr(loaded, "__file__", "built in")
        raise ConfigError(f"{what}: the module {module} ({place}) has no {attribute}")
    found: object = getattr(loaded, attribute)
    return found


def _why_not(module: str, what: str, error: Exception) -> str:
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if missing and f"{module}.".startswith(f"{missing}."):
        top = module.partition(".")[0]
        return (
            f"{what} needs the module {module}, and there is no {missing}; install the package "
            f"that holds it, or put the folder that holds {top} on the path (PYTHONPATH=FOLDER)"
        )
    return f"{what}: importing {module} fails ({type(error).__name__}: {error})"


def _refuse_code_of_runs(module: str, what: str) -> None:
    """Raises ConfigError where a module lies in a run folder: code never comes with a run."""
    if module in sys.modules:
        return
    top, *inner = module.split(".")
    for place in _places(top):
        deepest = place.joinpath(*inner).resolve()
        for folder in (deepest, *deepest.parents):
            if (folder / _RUN).is_file():
                raise ConfigError(
                    f"{what} would be imported from the run folder {folder}; code is not run from "
                    "there: install the package, or put another folder on the path"
                )


def _places(top: str) -> list[Path]:
    """The file and the folders of a module; a folder on the path is a package without a file."""
    if top in sys.modules:
        return [Path(place) for place in getattr(sys.modules[top], "__path__", ())]
    spec = find_spec(top)
    if spec is None:
        return []
    own = [spec.origin] if spec.has_location and spec.origin else []
    return [Path(place) for place in (*own, *(spec.submodule_search_locations or ()))]
