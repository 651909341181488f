"""Gates of an export as text: `ndcg@10 >= 0.99 * current`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from recsys.errors import ConfigError
from recsys.evaluation.metrics import METRICS

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_FORM = re.compile(
    rf"(?P<metric>\w+)@(?P<k>\d+)(?:/d(?P<size>\d+))?\s*(?P<sign>>=|>)\s*"
    rf"(?:(?:(?P<factor>{_NUMBER})\s*\*\s*)?current(?:\s*(?P<way>[-+])\s*(?P<more>{_NUMBER}))?"
    rf"|(?P<number>{_NUMBER}))"
)
_FORMS = (
    "METRIC@K >= current, METRIC@K >= 0.99 * current, METRIC@K >= current - 0.001, "
    "METRIC@K > 0.05; /dSIZE behind K measures one granularity: ndcg@10/d64 >= current"
)


@dataclass(frozen=True)
class Gate:
    """What a version must reach on validation users to be published."""

    text: str
    """As it was given."""
    metric: str
    k: int
    size: int | None
    """Granularity to rank by; None: the stages that the bundle is served by."""
    strict: bool
    """More, not as much."""
    factor: float
    """Of what `current` has; 0: that does not matter."""
    more: float
    """What is added to it."""

    @property
    def figure(self) -> str:
        """Its name: ndcg@10/d64."""
        return f"{self.metric}@{self.k}" + ("" if self.size is None else f"/d{self.size}")

    @property
    def compares(self) -> bool:
        """Whether it asks for `current`."""
        return self.factor > 0

    def holds(self, value: float, current: float | None) -> bool:
        """Whether a version may be published; current None: there is none, so it may."""
        if self.compares and current is None:
            return True
        bound = self.factor * (current or 0.0) + self.more
        if self.strict:
            return value > bound
        return value >= bound or math.isclose(value, bound, rel_tol=1e-12)


def parse_gates(given: str | Sequence[str] | None) -> tuple[Gate, ...]:
    """Reads gates.

    Raises:
        ConfigError: one is not of the form, or names no metric.
    """
    texts = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    return tuple(_parsed(text) for text in texts)


def _parsed(text: str) -> Gate:
    found = _FORM.fullmatch(text.strip())
    if found is None:
        why = "; every metric is better when higher" if "<" in text else ""
        raise ConfigError(f"gate {text!r} is none of the forms {_FORMS}{why}")
    METRICS.find(found["metric"])
    if int(found["k"]) < 1:
        raise ConfigError(f"gate {text!r}: the cutoff is {found['k']}; 1 or more is expected")
    factor = 0.0 if found["number"] else float(found["factor"] or 1)
    if not found["number"] and not factor:
        raise ConfigError(f"gate {text!r} holds always: 0 * current is 0")
    more = float(found["number"] or found["more"] or 0)
    return Gate(
        text=text.strip(),
        metric=found["metric"],
        k=int(found["k"]),
        size=None if found["size"] is None else int(found["size"]),
        strict=found["sign"] == ">",
        factor=factor,
        more=-more if found["way"] == "-" else more,
    )
