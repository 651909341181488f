"""The README's table of the demo, against the figures that the demo's report wrote."""

import re
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
DEMO = pl.read_csv(ROOT / "docs" / "demo.csv")
LINES = re.findall(r"^\| demo \| d(\d+).*$", (ROOT / "README.md").read_text(), flags=re.M)


def figure(run, granularity, metric):
    chosen = DEMO.filter(
        pl.col("metric") == metric, pl.col("run") == run,
        pl.col("granularity").eq_missing(granularity),
    )  # fmt: skip
    (row,) = chosen.iter_rows(named=True)
    return row


def line_of(run, granularity):
    """`| run | vector | recall | ndcg | keeps | bytes |` as numbers."""
    vector = "-" if granularity is None else rf"d{granularity}(?: full)?"
    name = re.escape(run.replace("_", r"\_"))
    (cells,) = re.findall(
        rf"^\| {name} \| {vector} \| (.*) \|$", (ROOT / "README.md").read_text(), flags=re.M
    )
    return cells.split(" | ")


def told(row):
    return f"{row['value']:.4f} ±{(row['high'] - row['low']) / 2:.4f}"


@pytest.mark.parametrize(
    ("run", "granularity"), DEMO.select("run", "granularity").unique(maintain_order=True).rows()
)
def test_every_figure_of_the_demos_table_is_what_its_report_says(run, granularity):
    recall, ndcg, keeps, size = line_of(run, granularity)
    assert recall == told(figure(run, granularity, "recall"))
    assert ndcg == told(figure(run, granularity, "ndcg"))
    if granularity is not None:
        whole = figure(run, 256, "ndcg")["value"]
        share = figure(run, granularity, "ndcg")["value"] / whole
        assert keeps.split(" %")[0] == f"{100 * share:.1f}"
        assert size == f"{4 * granularity:,}"


def test_the_table_has_a_line_for_every_granularity():
    assert [int(size) for size in LINES] == [8, 16, 32, 64, 128, 256]
