"""The content of a trade-off's report, shared by the page and the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.evaluation.tradeoff.sweep import Choice, Point, Tradeoff
from recsys.reports.ranking.content import ShownRow
from recsys.reports.tradeoff.words import choice_sentence, kept_of, measured_sentence, wanted_of


@dataclass(frozen=True)
class TradeoffContent:
    """Everything that a trade-off's report shows."""

    source: str
    """The run or bundle."""
    under: str
    """Data set and protocol in one line."""
    parts: tuple[str, str]
    """Who the sweep was measured with, and who the chosen funnel."""
    found: Tradeoff
    """All funnels, with the users to choose by."""
    floor: float
    choice: Choice | None
    measured: Tradeoff | None
    """The chosen funnel alone, with the users to measure by."""
    command: str | None
    """The `recsys export` that makes the chosen point."""
    machine: str
    """What the milliseconds were measured on."""
    ranking: tuple[ShownRow, ...] = ()
    """Rankers behind funnels, as `recsys rank evaluate` has measured them; empty: it has not."""

    @property
    def what(self) -> str:
        """The name of what is kept."""
        name = "overlap" if self.found.exact.ndcg is None else "ndcg"
        return f"{name}@{self.found.k}"

    @property
    def chosen(self) -> Point | None:
        """The funnel to take, as measured with the users to choose by."""
        return self.choice.point if self.choice else None

    @property
    def headline(self) -> str:
        """What the chosen funnel keeps, measured once."""
        if self.measured is None:
            best = max(self.found.points, key=lambda point: point.kept)
            return (
                f"No funnel of this sweep keeps {wanted_of(self.floor)} of exact search's "
                f"{self.what} on {self.parts[0]}; the best one keeps {kept_of(best)}."
            )
        return measured_sentence(self.measured.points[0], self.what, self.floor, self.parts[1])

    @property
    def standing(self) -> str:
        """How the funnel was chosen."""
        return choice_sentence(self.choice, self.floor, self.parts[0]) if self.choice else ""

    def rows(self) -> list[Point]:
        """Exact search, then the best points by what they keep, with the users to choose by."""
        best = [point for point in self.found.points if point.best]
        return [self.found.exact, *sorted(best, key=lambda point: (-point.kept, point.hot_bytes))]
