"""Config sections whose `name` chooses their class, which may lie outside the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from recsys.errors import ConfigError


@dataclass(frozen=True)
class NamedSection:
    """Metadata of a config field: `model: Annotated[ModelConfig, NamedSection(find, "sasrec")]`.

    The classes need not be known where the field is declared.
    """

    class_of: Callable[[str], type[BaseModel]]
    """Name -> config class. Raises ConfigError: there is none of this name."""
    default: str | None = None
    """The name of a section without one; None: the name is required."""
    older: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """A stored section, as earlier versions wrote it -> as it is written today."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._read)

    def chosen(self, given: object) -> type[BaseModel]:
        """The class that reads a section.

        Raises:
            ValueError: it has no name, or one that leads to no class.
        """
        name = given.get("name", self.default) if isinstance(given, Mapping) else None
        if not isinstance(name, str):
            raise ValueError("a section with a name is expected")
        try:
            return self.class_of(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def _read(self, given: Any, info: ValidationInfo) -> BaseModel:
        if isinstance(given, BaseModel):
            return self._checked(given)
        chosen = self.chosen(given)
        stored = (info.context or {}).get("stored")
        return chosen.model_validate(self.older(given) if stored else given, context=info.context)

    def _checked(self, given: BaseModel) -> BaseModel:
        """A config object, if its run could be opened again."""
        name = getattr(given, "name", None)
        if self.chosen({"name": name}) is not type(given):
            raise ValueError(
                f"the name {name!r} of this {type(given).__name__} belongs to another class, so "
                "its "
                "stored config could not be read again; give it its registered name"
            )
        return given
