"""What a ranker is: a config that fits, and a fitted model that scores rows and is kept.

A fitted ranker scores without torch: trees by their library, networks by ONNX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from recsys.arrays import Float32
from recsys.config import StrictModel
from recsys.rankers.examples import Examples, Schema


@runtime_checkable
class Ranker(Protocol):
    """A fitted ranker."""

    @property
    def schema(self) -> Schema:
        """The features that it was fitted on."""
        ...

    def scores(self, examples: Examples) -> Float32:
        """`[R]`, higher is better within a request; the logit of a label where it was fitted on
        clicks.
        """
        ...

    def multiply_adds(self) -> float:
        """Multiply-adds (for trees: comparisons) for one row."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the files of the ranker, no pickle, into an empty folder."""
        ...


class RankerConfig(StrictModel):
    """Options of a ranker; subclasses add their own."""

    name: str
    """The name the ranker is registered by."""

    def check_installed(self) -> None:
        """Raises InstallationError where a package is missing that fitting needs."""

    def fit(self, schema: Schema, train: Examples, validation: Examples, seed: int) -> Ranker:
        """Fits on `train`; `validation` says when to stop. Both have labels."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> Ranker:
        """Opens what `Ranker.save` wrote."""
        raise NotImplementedError


def lacks_of_ranker(found: Any) -> list[str]:
    """What a class lacks to be the config of a ranker."""
    if not isinstance(found, type) or not issubclass(found, RankerConfig):
        return ["the base class recsys.rankers.base.RankerConfig"]
    return [
        f"a method {name}"
        for name in ("fit", "load")
        if getattr(found, name) == getattr(RankerConfig, name)
    ]
