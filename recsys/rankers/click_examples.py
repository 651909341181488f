"""Labelled events as examples of a ranker: each event is a request of its own.

Shape legend: R events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.data.clicks.manifest import Part
from recsys.data.clicks.reading import Clicks
from recsys.rankers.examples import Examples, Field, Schema


def click_schema(clicks: Clicks, features: Sequence[str] | None = None) -> Schema:
    """The schema of the features named; None: of all.

    Raises:
        ConfigError: there is no feature of one of the names.
    """
    fields, numbers = clicks.chosen(features)
    return Schema(numbers, tuple(Field(each.name, each.size, each.group) for each in fields))


def click_examples(clicks: Clicks, part: Part, features: Sequence[str] | None = None) -> Examples:
    """The events of a part; requests of one row each, so that only pointwise losses fit.

    Raises:
        ConfigError: there is no feature of one of the names.
    """
    rows = clicks.read(part, features)
    return Examples(
        numbers=rows.numbers,
        fields=rows.fields,
        offsets=np.arange(len(rows.labels) + 1),
        labels=rows.labels,
    )
