"""Run-time items, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from recsys.server.web.schemas import MOST, Body, Column, Id

Number = StrictInt | StrictFloat
Numbers = Annotated[list[Number], Field(max_length=MOST)]
Words = Annotated[list[Annotated[StrictStr, Field(max_length=10_000)]], Field(max_length=MOST)]
Told = (
    StrictBool
    | Number
    | Annotated[StrictStr, Field(max_length=100_000)]
    | list[StrictBool | Number | StrictStr]
    | None
)
_FILM: dict[str, Any] = {"features": {"genres": ["Comedy"]}, "columns": {"title": "A new film"}}


class NewItem(Body):
    """What an item is put with: features or a vector, and what is told of it."""

    features: dict[Column, Numbers | Words | Number] | None = Field(default=None, max_length=100)
    """For the item tower of the bundle: a vector of the encoder of its training data, names of
    categories, or a number. What is left out counts as missing."""
    vector: Numbers | None = None
    """In the space of the bundle's items, for a bundle without an item tower."""
    columns: dict[Column, Told] = Field(default={}, max_length=100)
    """Of those that the bundle has: titles and the like."""
    model_config = ConfigDict(json_schema_extra={"examples": [_FILM]})

    @model_validator(mode="after")
    def _one_way(self) -> NewItem:
        if self.features is not None and self.vector is not None:
            raise ValueError("features and vector both say what the item's vector is; give one")
        return self

    def content(self) -> dict[str, Any]:
        """As the log keeps it."""
        told = self.model_dump(mode="json", include={"features", "vector", "columns"})
        return {key: value for key, value in told.items() if value is not None}


class NamedItem(NewItem):
    """An item of a batch."""

    item_id: Id
    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "n1", **_FILM}]})


class ItemBatch(Body):
    """Items to put and to delete: all of it is done, or nothing."""

    put: Annotated[list[NamedItem], Field(max_length=MOST)] = Field(default=[])
    delete: Annotated[list[Id], Field(max_length=MOST)] = Field(default=[])
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"put": [{"item_id": "n1", **_FILM}], "delete": ["168"]}]}
    )

    @model_validator(mode="after")
    def _each_once(self) -> ItemBatch:
        names = [str(item.item_id) for item in self.put] + [str(name) for name in self.delete]
        if not names:
            raise ValueError("there is nothing to put or delete")
        if len(set(names)) != len(names):
            raise ValueError("an item occurs twice; put or delete each once")
        return self


class ItemChange(BaseModel):
    """What became of an item."""

    item_id: str
    state: str
    """`added`; `bundle`: the version that is served holds it, and serves it as it stands there; or
    `deleted`."""


class ItemChanges(BaseModel):
    """The changes are on disk and served by the worker that answers."""

    version: str
    sequence: int
    """Number of the last change. `/readyz` tells the last one that a worker serves."""
    items: list[ItemChange]
