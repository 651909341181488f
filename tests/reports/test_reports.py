import io
import re
from html.parser import HTMLParser
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from recsys.errors import RunError
from recsys.evaluation.metric_table import SCHEMA, join_tables
from recsys.reports.content import ReportContent, View
from recsys.reports.plot_style import spread, to_svg, write_png
from recsys.reports.plots import make_plots
from recsys.reports.terminal import print_table
from recsys.reports.words import card_lines, headline, standing
from recsys.reports.writing import write_report
from tests.reports.tables import FLAT, NESTED, card, curves, full_table, make_table, model_rows, row


class Page(HTMLParser):
    """Collects what a browser would fetch, the text, and whether tags are balanced."""

    VOID = frozenset({"meta", "br", "hr", "img", "input", "link", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.links, self.text, self.open, self.tags = [], "", [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("href", "src", "xlink:href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def content(table=None, **changes):
    fields = {
        "title": "sasrec on beauty",
        "table": table or full_table(),
        "curves": curves(),
        "config_text": "model:\n  name: sasrec\n",
        "versions": {"commit": "abc1234", "torch": "2.13.0"},
        "command": "recsys train configs/beauty_sasrec.yaml",
    }
    return ReportContent(**(fields | changes))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report"), content())


def test_the_page_is_whole_and_fetches_nothing(files):
    text = files[0].read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "script" not in page.tags
    assert page.tags.count("svg") == 4


def test_the_page_shows_every_granularity_and_figure(files):
    text = Page(files[0].read_text(encoding="utf-8")).text
    for size, ndcg in NESTED.items():
        assert f"d{size}" in text and f"{ndcg:.4f}" in text and f"{4 * size:,}" in text
        assert f"{100 * ndcg / NESTED[256]:.1f} %" in text
    for name, ndcg in FLAT.items():
        assert name in text and f"{ndcg:.4f}" in text
    assert "64 of 256 coordinates keep 97.4 % of ndcg@10 at a quarter of the bytes" in text
    assert "fitted on train, seen items filtered" in text and "abc1234" in text


def test_texts_of_users_are_escaped_everywhere(tmp_path):
    evil = "<script>alert(1)</script>|`x`"
    rows = [row(evil, size, "ndcg", 0.01 * size) for size in (8, 16)]
    written = write_report(
        tmp_path, content(make_table(rows), title=evil, config_text=evil, command=evil)
    )
    page, markdown = written[0].read_text(), written[1].read_text()
    assert "<script" not in page and "&lt;script&gt;alert" in page
    assert "<script" not in markdown.split("## Repeat it")[0]
    assert r"\|\`x\`" in markdown


def test_the_markdown_table_holds_the_same_numbers(files):
    lines = files[1].read_text(encoding="utf-8").splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    header, _, *rows = cells
    place = header.index("ndcg@10")
    found = {(r[0], r[1]): float(r[place].split()[0]) for r in rows[: len(NESTED) + len(FLAT)]}
    assert found["sasrec", "d64"] == NESTED[64]
    assert found["sasrec", "d256 full"] == NESTED[256]
    assert found["ease", "-"] == FLAT["ease"]
    assert all(len(r) == len(header) for r in rows[: len(found)])


def test_the_markdown_shows_plots_that_lie_beside_it(files):
    text = files[1].read_text(encoding="utf-8")
    images = re.findall(r"!\[.+\]\((.+)\)", text)
    assert images == ["granularity.svg", "retention.svg", "loss.svg", "validation.svg"]
    assert all((files[1].parent / image).read_text().startswith("<svg") for image in images)


def test_backticks_in_a_config_do_not_end_its_block(tmp_path):
    text = write_report(tmp_path, content(config_text="a: |\n  ```\n  b"))[1].read_text()
    assert "````yaml\na: |\n  ```\n  b\n````" in text


def test_every_field_of_the_protocol_card_is_told():
    telling = {
        "protocol": "P1", "dataset": "D2", "content_hash": "H3", "filters": ("F4", "F5"),
        "tie_rule": "T6", "split": "S7", "part": "valid", "fit_on": "train+valid",
        "filter_seen": False, "candidates": "C8", "history": "Y9", "score_ties": "O1",
        "unscorable": "U2", "metrics": "M3", "catalogue_metrics": "G4", "segments": "E5",
        "intervals": "I6", "baselines": "B7", "filtered_targets": "R8", "untrained": "N9",
        "request_time": "Q5",
    }  # fmt: skip
    assert set(telling) == set(card().model_dump())
    told = " ".join(text for _, text in card_lines(card(**telling), [22363]))
    for value in telling.values():
        words = "not filtered" if value is False else value
        assert all(word in told for word in ((words,) if isinstance(words, str) else words))
    assert "22,363 users" in told


def test_ids_of_several_plots_do_not_meet_in_one_page(files):
    ids = re.findall(r'\bid="([^"]+)"', files[0].read_text(encoding="utf-8"))
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', files[0].read_text(encoding="utf-8"))
    assert len(ids) == len(set(ids))
    assert {a or b for a, b in used} <= set(ids)


def test_every_row_of_the_page_names_its_run_to_a_screen_reader(files):
    text = files[0].read_text(encoding="utf-8")
    assert text.count('<th scope="row">') == 2 * (len(NESTED) + len(FLAT))
    assert text.count("<caption>") == 2


def test_a_run_name_is_drawn_as_it_is_written(tmp_path):
    name = "a_1$b^2$ & <c>"
    rows = [row(name, size, "ndcg", 0.01 * size) for size in (8, 16)]
    svg = to_svg(make_plots(content(make_table(rows)))["granularity"], "g")
    assert "a_1$b^2$ &amp; &lt;c&gt;" in svg


def test_a_loss_that_is_not_finite_is_counted_and_leaves_the_rest(tmp_path):
    broken = curves().with_columns(
        pl.when(pl.col("step") == 5).then(float("inf")).otherwise("loss").alias("loss")
    )
    svg = to_svg(make_plots(content(curves=broken))["loss"], "l")
    assert "not finite at 1 steps" in svg
    with pytest.raises(RunError, match="no column"):
        make_plots(content(curves=broken.drop("metric")))


def test_the_csv_reads_back_to_the_same_rows(files):
    assert pl.read_csv(files[2], schema=SCHEMA).equals(full_table().rows)


@pytest.mark.parametrize(
    "rows",
    [
        [r for name, value in FLAT.items() for r in model_rows(name, None, value)],
        model_rows("one", 64, 0.05),
        [r for size, v in NESTED.items() for r in model_rows("bare", size, v, half=None)],
    ],
    ids=["no nested run", "one granularity", "no intervals"],
)
def test_unusual_tables_make_a_report_too(rows, tmp_path):
    page = write_report(tmp_path, content(make_table(rows), curves=None))[0]
    assert rows[0]["run"] in Page(page.read_text(encoding="utf-8")).text


def test_several_nested_runs_stand_in_one_page(tmp_path):
    other = full_table("other")
    nested = other.rows.filter(pl.col("run") == "other")
    table = join_tables([full_table(), make_table(nested.to_dicts())])
    text = Page(write_report(tmp_path, content(table))[0].read_text(encoding="utf-8")).text
    assert "sasrec" in text and "other" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_refused(value, tmp_path):
    with pytest.raises(RunError, match="must be a finite number"):
        write_report(tmp_path, content(make_table([row("x", 8, "ndcg", value, half=None)])))
    assert not list(tmp_path.iterdir())


def test_an_empty_table_and_a_repeated_figure_are_refused():
    with pytest.raises(RunError, match="no rows"):
        View(make_table([]), None)
    with pytest.raises(RunError, match="more than once"):
        View(make_table([row("x", 8, "ndcg", 0.1)] * 2), None)


def test_the_headline_is_computed():
    view = View(full_table(), None)
    assert "keep 97.4 %" in headline(view)
    assert "19.3 % above ease" in standing(view)
    flat = View(make_table(model_rows("pop", None, 0.1) + model_rows("ease", None, 0.2)), None)
    assert headline(flat).startswith("ease has the highest ndcg@10")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_number_is_cut_on_a_terminal_of_any_width(width):
    stream = io.StringIO()
    print_table(full_table(), console=Console(file=stream, width=width))
    text = stream.getvalue()
    for size, value in NESTED.items():
        assert f"d{size}" in text and f"{value:.4f}" in text
    assert ("±" in text) == (width > 60)  # intervals are the first to go
    assert "s3rec: test part" in text


def test_drawings_are_reproducible_and_written_whole(tmp_path):
    plots = make_plots(content())
    assert set(plots) == {"granularity", "retention", "loss", "validation"}
    first = to_svg(plots["granularity"], "g")
    assert first == to_svg(make_plots(content())["granularity"], "g")
    write_png(plots["retention"], tmp_path / "a.png", dpi=50)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_labels_are_pushed_apart_but_not_further_than_needed():
    assert spread([0.0, 100.0], 10) == [0.0, 100.0]
    assert spread([50.0, 50.0], 10) == [45.0, 55.0]
    moved = spread([0.0, 1.0, 2.0, 90.0], 10)
    assert min(b - a for a, b in pairwise(moved)) >= 10 - 1e-9
    assert moved[3] == 90.0


def labels():
    return st.lists(st.floats(0, 100), min_size=1, max_size=8).map(sorted)


@given(labels())
def test_labels_stay_within_the_axes_in_their_order(places):
    moved = spread(places, 12, 0, 100)
    assert moved[0] >= -1e-9 and moved[-1] <= 100 + 1e-9
    assert all(b - a >= 12 - 1e-9 for a, b in pairwise(moved))


@given(st.lists(st.floats(0, 100), min_size=2, max_size=2).map(sorted))
def test_two_labels_share_the_way_evenly(places):
    low, high = places
    push = max(0.0, 12 - (high - low)) / 2
    assert spread(places, 12) == pytest.approx([low - push, high + push])


@pytest.mark.parametrize("last", [0.3, 0.6, 1.4], ids=["falling far", "falling", "rising"])
def test_no_text_of_a_plot_leaves_the_drawing(last):
    values = [0.2, 0.4, 0.6, 0.8, 1.0, last]
    rows = [
        r
        for size, value in zip(NESTED, values, strict=True)
        for r in model_rows("a_rather_long_run_name", size, 0.1 * value)
    ]
    rows += [r for name, value in FLAT.items() for r in model_rows(name, None, value)]
    for figure in make_plots(content(make_table(rows))).values():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # places the labels of the axes
        renderer = canvas.get_renderer()
        axes = figure.axes[0]
        for text in (*figure.texts, *axes.texts, axes.xaxis.label):
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0 and box.y0 >= 0, text.get_text()
            assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, text.get_text()
