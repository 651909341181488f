"""The reliability plot: how often events of a predicted probability are positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys.reports.plot_style import (
    COLOURS,
    QUIET,
    EndLabel,
    Figure,
    draw_curve,
    label_ends,
    new_axes,
)


def reliability_plot(curves: Mapping[str, Any], kind: str = "calibrated") -> Figure:
    """Observed over predicted shares; on the diagonal the probabilities are right.

    Args:
        curves: label -> `raw` and `calibrated` -> predicted and observed shares of bins.
        kind: which of the two.
    """
    title = "Predicted and observed shares"
    figure, axes = new_axes(
        title,
        f"test part, {kind}; y: share of events that are positive; dotted: as predicted",
        "predicted probability",
        110,
    )
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    ends = []
    for place, (label, found) in enumerate(curves.items()):
        colour, points = COLOURS[place % len(COLOURS)], found[kind]
        draw_curve(axes, points["predicted"], points["observed"], colour, main=place == 0)
        ends.append(EndLabel(label, points["observed"][-1], colour))
    label_ends(axes, ends)
    return figure
