import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from recsys.studies.report.content import (
    MEAN,
    RETENTION,
    SUMMARY_SCHEMA,
    VERSUS_SEPARATE,
    StudyContent,
)
from recsys.studies.report.plots import LOOKS, bytes_plot
from recsys.studies.report.terminal import print_study
from recsys.studies.report.words import HOW, headline, standing
from recsys.studies.report.writing import write_study
from tests.reports.tables import card
from tests.reports.test_reports import Page

LABELS = {name: name.replace("_", " + ") for name in LOOKS}
FAMILIES = {name: "nested" if "nested" in name else "others" for name in LOOKS}
NDCG = {8: 0.02, 16: 0.04, 24: 0.045, 32: 0.048, 64: 0.05}
SEPARATE = {8: 0.021, 16: 0.035, 32: 0.048, 64: 0.05}


def row(figure, method, size, value, metric="ndcg", half=0.001, **changes):
    fields = {
        "figure": figure, "method": method, "granularity": size, "setting": "", "trained": True,
        "bytes": 4 * size, "shared_bytes": 0, "metric": metric, "k": 10, "num_seeds": 3,
        "num_users": 100, "value": value, "low": value - half, "high": value + half,
    }  # fmt: skip
    return fields | changes


def make_content(rows=None, **changes):
    if rows is None:
        rows = []
        for metric, times in (("ndcg", 1.0), ("recall", 1.8)):
            for size, value in NDCG.items():
                own = {"metric": metric, "trained": size != 24}
                rows.append(row(MEAN, "nested", size, times * value, **own))
                rows.append(row(RETENTION, "nested", size, value / 0.05, half=0.02, **own))
            for size, value in SEPARATE.items():
                rows.append(row(MEAN, "separate", size, times * value, metric))
                ratio = NDCG[size] / value
                rows.append(row(VERSUS_SEPARATE, "nested", size, ratio, metric, half=0.02))
            rows.append(row(RETENTION, "truncation", 32, 0.41, metric))
            rows.append(row(MEAN, "truncation", 32, times * 0.02, metric))
            rows.append(row(MEAN, "pq", 64, times * 0.03, metric, setting="pq16", bytes=16,
                            shared_bytes=65536))  # fmt: skip
    fields = {
        "title": "nested vectors on beauty",
        "card": card(),
        "summary": pl.DataFrame(rows, schema=SUMMARY_SCHEMA),
        "labels": LABELS,
        "families": FAMILIES,
        "full": 64,
        "seeds": (0, 1, 2),
        "command": "recsys study configs/beauty_study.yaml",
    }
    return StudyContent(**(fields | changes))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    content = make_content(missing=("sparse, seed 2: run <b>separate</b> is missing",))
    return write_study(tmp_path_factory.mktemp("page"), content)


def test_the_page_is_whole_and_fetches_nothing(files):
    text = files[0].read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and page.tags.count("svg") == 2 and "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "<b>separate" not in text and "run <b>separate</b> is missing" in page.text


def test_the_page_has_both_tables_retention_and_tax(files):
    text = " ".join(re.sub(r"<[^>]*>", " ", files[0].read_text(encoding="utf-8")).split())
    assert "32 of 64 coordinates keep 96.0 % of ndcg@10 (95 % interval 94.0 to 98.0 %);" in text
    assert "; no shorter prefix is sure to keep 95.0 %." in text
    assert "above at 1, level at 2 and below at 1 of 4 widths" in text
    assert "d24 (never trained) 96 90.0 % 88.0 to 92.0 90.0 % 88.0 to 92.0" in text
    assert "d32 128 96.0 % 94.0 to 98.0 96.0 % 94.0 to 98.0 41.0 %" in text
    assert "d8 0.0200 ±0.0010 0.0210 ±0.0010 95.2 % 93.2 to 97.2 95.2 % 93.2 to 97.2 below" in text
    assert "pq16 16 65,536 3" in text


def test_the_headline_names_the_shortest_prefix_that_is_sure_to_keep_enough():
    rows = [row(RETENTION, "nested", size, value, half=half)
            for size, value, half in ((8, 0.97, 0.03), (16, 0.96, 0.005), (32, 0.99, 0.01),
                                      (64, 1.0, 0.0))]  # fmt: skip
    text = headline(make_content(rows))
    assert text == "16 of 64 coordinates keep 96.0 % of ndcg@10 (95 % interval 95.5 to 96.5 %)."


def test_a_figure_that_reaches_zero_in_a_resample_is_said_to_have_no_interval(tmp_path):
    bare = {"low": None, "high": None}
    rows = [row(RETENTION, "nested", 32, 0.97, m, **bare) for m in ("ndcg", "recall")]
    rows += [row(MEAN, "nested", 32, 0.001, m) for m in ("ndcg", "recall")]
    rows += [row(VERSUS_SEPARATE, "nested", 32, 1.5, m, **bare) for m in ("ndcg", "recall")]
    nothing = row(VERSUS_SEPARATE, "nested", 8, 1.0) | {"value": None, **bare}
    content = make_content([*rows, nothing])
    assert "97.0 % of ndcg@10 (no interval: in a resample there is nothing" in headline(content)
    assert standing(content) == (
        "Beside models trained at one width alone, the nested one cannot be compared at d8, d32, "
        "where a figure reaches 0 in a resample."
    )
    some = make_content([*rows, nothing, row(VERSUS_SEPARATE, "nested", 16, 1.2, half=0.1)])
    assert "is above at 1, level at 0 and below at 0 of 1 widths; its lowest ratio" in standing(
        some
    )
    assert "1.200 at d16 (110.0 to 130.0 %); it cannot be compared at d8, d32" in standing(some)
    pages = write_study(tmp_path, some)[0].read_text(encoding="utf-8")
    print_study(some, console := Console(record=True, width=200))
    for text in (pages, console.export_text()):
        assert "nan" not in text.replace("nance", "") and "interval  %" not in text


def test_each_method_stands_under_its_bytes():
    content = make_content()
    assert content.budgets == [16, 32, 64, 128, 256]
    nested = [f.num_bytes if f else None for f in content.row("ndcg", "nested")]
    assert nested == [None, 32, 64, 128, 256], "of 96 and 128 bytes the longer one stands at 128"
    assert [f.vector if f else None for f in content.row("ndcg", "pq")] == [
        "pq16", None, None, None, None,
    ]  # fmt: skip
    assert content.best("ndcg") == [0.03, 0.021, 0.04, 0.048, 0.05]


def test_scales_do_not_push_a_codec_into_the_next_column():
    sizes = {12: 16, 20: 16, 36: 32, 48: 64, 68: 64, 132: 128, 260: 256, 300: 512, 1024: 1024}
    for num_bytes, column in sizes.items():
        rows = [row(MEAN, "int8", 64, 0.1, m, bytes=num_bytes) for m in ("ndcg", "recall")]
        assert make_content(rows).budgets == [column]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=9, unique=True))
def test_every_size_has_exactly_one_column(sizes):
    content = make_content([row(MEAN, "int8", 64, 0.1, bytes=size) for size in sizes])
    for size in sizes:
        assert sum(content._column(budget, size) for budget in content.budgets) == 1


def test_every_method_can_be_drawn_and_is_explained():
    from recsys.studies.methods import METHODS

    assert set(LOOKS) == set(HOW) == set(METHODS)
    looks = [(look.colour, look.marker, look.dashes) for look in LOOKS.values()]
    assert len(set(looks)) == len(looks), "two methods look alike"


@pytest.mark.parametrize("metric", ["recall", "ndcg"])
def test_every_text_of_the_plot_stays_inside(metric):
    rows = [row(MEAN, name, 64, 0.1, m, bytes=8 * 2 ** (i % 8))
            for i, name in enumerate(LOOKS) for m in ("ndcg", "recall")]  # fmt: skip
    rows.append(row(MEAN, "nested", 24, 0.1, trained=False))
    figure = bytes_plot(make_content(rows), metric)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    legend = figure.axes[0].get_legend()
    texts = [*figure.texts, *legend.get_texts(), *figure.axes[0].get_xticklabels()]
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text


def test_a_study_with_little_in_it_is_still_a_page(tmp_path):
    rows = [row(MEAN, "separate", 64, 0.1, m, low=None, high=None) for m in ("ndcg", "recall")]
    content = make_content(rows)
    text = Page(write_study(tmp_path, content)[0].read_text(encoding="utf-8")).text
    assert "The nested model has not been measured yet." in text
    assert headline(content) and standing(content)


def test_a_page_says_nothing_of_what_the_study_has_not(tmp_path, files):
    rows = [row(MEAN, "nested", size, 0.1, m) for size in (32, 64) for m in ("ndcg", "recall")]
    rows += [row(RETENTION, "nested", 64, 1.0, m, half=0.0) for m in ("ndcg", "recall")]
    rows += [row(RETENTION, "nested", 32, 0.9, m, half=0.1) for m in ("ndcg", "recall")]
    small = Page(write_study(tmp_path, make_content(rows, seeds=(0,)))[0].read_text("utf-8")).text
    whole = Page(files[0].read_text("utf-8")).text
    assert "truncation keeps" in whole and "truncation keeps" not in small
    assert "over users and seeds;" in whole and "over users and seeds;" not in small
    assert "over users;" in small and "100.0 to 100.0" not in small
    assert "80.0 to 100.0" in small
    for page in (small, whole):
        assert "baselines" not in page, "a study has none"


def test_widths_that_were_never_trained_stand_in_the_legend_with_their_own_method():
    legend = bytes_plot(make_content(), "ndcg").axes[0].get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names[names.index("nested") :][:3] == [
        "nested",
        "nested",
        "nested, width never trained",
    ]


def test_the_terminal_never_cuts_a_number(capsys):
    print_study(make_content(missing=("pq: [none]",)), Console(width=40, force_terminal=False))
    printed = capsys.readouterr().out
    assert "…" not in printed and "94.0 to 98.0" in printed and "pq: [none]" in printed
