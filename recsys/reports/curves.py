"""Training curves: loss by step, and a validation metric by epoch at every granularity."""

import math

import polars as pl

from recsys.errors import RunError
from recsys.reports.content import CURVES_SCHEMA
from recsys.reports.plot_style import (
    COLOURS,
    EndLabel,
    Figure,
    FuncFormatter,
    MaxNLocator,
    label_ends,
    new_axes,
    ramp,
)

_POINTS = 400  # of the loss curve: more cannot be seen and swell the page


def training_plots(curves: pl.DataFrame) -> dict[str, Figure]:
    """Plots `loss` and `validation`, as far as the log has rows for them.

    Args:
        curves: columns of `CURVES_SCHEMA`; training rows have a loss, validation rows a metric.

    Raises:
        RunError: a column is missing.
    """
    missing = [name for name in CURVES_SCHEMA if name not in curves.columns]
    if missing:
        raise RunError(f"the training log has no column {missing}; found {curves.columns}")
    plots = {}
    loss = curves.filter(pl.col("loss").is_not_null() & pl.col("granularity").is_null())
    if not loss.is_empty():
        plots["loss"] = loss_plot(loss.sort("step"))
    values = curves.filter(pl.col("metric").is_not_null() & pl.col("value").is_finite())
    if not values.is_empty():
        plots["validation"] = validation_plot(values)
    return plots


def loss_plot(loss: pl.DataFrame) -> Figure:
    """Training loss by step, averaged over blocks of steps.

    A loss that is not a finite number leaves a gap, and the subtitle counts such steps.
    """
    block = -(-loss.height // _POINTS)
    finite = pl.when(pl.col("loss").is_finite()).then(pl.col("loss")).otherwise(math.nan)
    points = (
        loss.with_row_index("row")
        .group_by(pl.col("row") // block, maintain_order=True)
        .agg(pl.col("step").mean(), finite.mean())
    )
    under = "weighted mean over granularities" + (
        f"; mean of {block} logged steps" if block > 1 else ""
    )
    broken = loss.filter(~pl.col("loss").is_finite()).height
    under += f"; not finite at {broken} steps" if broken else ""
    figure, axes = new_axes("Training loss", under, "step", 12)
    axes.plot(points["step"], points["loss"], color=COLOURS[0], linewidth=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.01)
    return figure


def validation_plot(values: pl.DataFrame) -> Figure:
    """A validation metric by epoch, one line per granularity: ndcg@10, or the first logged."""
    names = values["metric"].unique(maintain_order=True).to_list()
    name = "ndcg@10" if "ndcg@10" in names else str(names[0])
    chosen = values.filter(pl.col("metric") == name).sort("epoch")
    sizes = chosen["granularity"].unique().sort().to_list()
    figure, axes = new_axes(f"Validation {name}", "by epoch, at every granularity", "epoch", 46)
    labels = []
    for size, colour in zip(sizes, ramp(len(sizes)), strict=True):
        own = chosen.filter(pl.col("granularity").eq_missing(size))
        marker = "o" if own.height == 1 else None
        axes.plot(own["epoch"], own["value"], color=colour, linewidth=1.8, marker=marker)
        labels.append(EndLabel("" if size is None else f"d{size}", own["value"][-1], colour, True))
    axes.set_ylim(0, 1.06 * max(chosen["value"]) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.01)
    label_ends(axes, labels)
    return figure
