"""What is read of labelled events: the label, fields, numbers, and how they are split."""

from __future__ import annotations

from pydantic import Field, model_validator

from recsys.config import StrictModel


class ClickOptions(StrictModel):
    """Columns of labelled events, and the rules of label and split."""

    label: str = "label"
    """The column of labels: 0 or 1, or numbers that the two rules below judge."""
    positive_above: float | None = None
    """A label is 1 where the number is greater ..."""
    negative_below: float | None = None
    """... and 0 where it is less; events between are left out."""
    fields: tuple[str, ...] = ()
    """Categorical columns."""
    lists: tuple[str, ...] = ()
    """Categorical columns of several values."""
    separator: str = Field(default="|", min_length=1)
    """What stands between the values of a list."""
    most_values: int = Field(default=8, ge=1)
    """Values of a list that are kept, the first ones."""
    numbers: tuple[str, ...] = ()
    """Numeric columns."""
    user: str | None = None
    """The column that says whose event it is, for AUC by user."""
    split: str | None = None
    """The column that names the part of an event: train, valid, test; None: drawn."""
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of the parts, where they are drawn."""
    seed: int = Field(default=0, ge=0)
    """Of the drawing."""
    min_count: int = Field(default=1, ge=1)
    """Categories that fewer training events have are one, that of what was never seen."""

    @model_validator(mode="after")
    def _fits_together(self) -> ClickOptions:
        if (self.positive_above is None) != (self.negative_below is None):
            raise ValueError("positive_above and negative_below are one rule; give both or none")
        above, below = self.positive_above, self.negative_below
        if above is not None and below is not None and above < below:
            raise ValueError(f"labels above {above} and below {below} overlap")
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError(f"shares {self.shares} are to be above 0 and to add up to 1")
        named = [*self.fields, *self.lists]
        if len(set(named)) != len(named):
            raise ValueError("a column is named twice among fields and lists")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        single = (self.user, self.split)
        named = (self.label, *self.fields, *self.lists, *self.numbers)
        return tuple(dict.fromkeys([*named, *(each for each in single if each is not None)]))
