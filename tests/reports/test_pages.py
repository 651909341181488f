"""What a reader of a page stumbles on: marks of Markdown, faint labels, parts out of reach."""

import re
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import recsys
from recsys.reports.plot_style import COLOURS, EndLabel, label_ends, legible, new_axes, ramp
from recsys.reports.plots import short_names
from recsys.reports.ranking.content import _shown
from recsys.tuning.page import short_labels
from tests.reports.test_reports import Page, content, write_report

TEMPLATES = sorted(Path(recsys.__file__).parent.rglob("*.html.j2"))


def contrast(colour):
    """Of text in this colour on white, by WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def test_code_in_a_sentence_is_shown_as_code_and_a_per_cent_sign_stays_with_its_number(tmp_path):
    text = write_report(tmp_path, content())[0].read_text(encoding="utf-8")
    body = text.split("</style>")[1]
    assert "`" not in body and "<code>recsys evaluate</code>" in body
    headline = re.search(r'<p class="headline">(.*?)</p>', body)[1]
    assert "97.4\N{NO-BREAK SPACE}%" in headline and not re.search(r"\d %", headline)
    assert "97.4 % of ndcg@10" in Page(text).text


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_whatever_scrolls_is_reached_by_the_keyboard_and_has_a_name(template):
    for tag in re.findall(r'<\w+ class="(?:scroll|wide)"[^>]*>', template.read_text("utf-8")):
        assert 'tabindex="0"' in tag and re.search(r"aria-label(ledby)?=", tag), tag


@pytest.mark.parametrize("colour", [*COLOURS, *ramp(6), "#ffff00", "#ffffff"])
def test_labels_beside_lines_are_dark_enough_to_read(colour):
    _, axes = new_axes("title", "under", "x", 40)
    axes.plot([0, 1], [0, 1])
    label_ends(axes, [EndLabel("line", 1.0, colour)])
    assert contrast(axes.texts[0].get_color()) >= 4.5
    if contrast(colour) >= 4.5:
        assert legible(colour) == colour


def test_the_highest_number_of_an_axis_stays_below_the_subtitle():
    figure, axes = new_axes("title", "a subtitle that is long enough to stand over it", "x", 12)
    axes.plot([0, 1], [0, 0.1])
    axes.set_ylim(0, 0.1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    under = figure.texts[1].get_window_extent(canvas.get_renderer())
    top = axes.get_yticklabels()[-1].get_window_extent(canvas.get_renderer())
    assert top.y1 < under.y0 and under.x0 < top.x1


def test_long_names_that_begin_alike_stay_apart_and_leave_room_for_the_plot():
    seeds = [f"beauty_sasrec_with_a_rather_long_name_seed_{seed}" for seed in range(3)]
    assert list(short_names(seeds).values()) == [f"beauty_sasr…_name_seed_{s}" for s in range(3)]
    assert list(short_names(["ease l2=50", seeds[0]]).values()) == [
        "ease",
        "beauty_sasrec_with_a_ra…",
    ]
    middle = [f"{'a' * 30}{each}{'b' * 30}" for each in "xyz"]
    for names in (seeds, middle, [f"knn {'k' * 30}={each}" for each in range(12)]):
        labels = short_names(names)
        assert list(labels) == names and len(set(labels.values())) == len(names)
        assert max(map(len, labels.values())) <= 24


def test_choices_under_an_axis_are_short_and_never_alike():
    assert short_labels([128, 256]) == ["128", "256"]
    assert short_labels([{"name": "dense"}, {"name": "hashed", "method": "double"}]) == [
        "dense",
        "hashed, double",
    ]
    long = [f"a name that goes on and on, {at}" for at in range(5)]
    cut = short_labels(long)
    assert len(set(cut)) == 5 and sum(map(len, cut)) < 64


def test_a_kept_row_of_a_ranking_says_no_interval_of_nothing():
    row = {
        "ranker": "dot products", "stages": "8:200,256", "keep": 200, "codecs": "fp32",
        "candidates": 0.8, "ndcg": 0.1, "multiply_adds": 9.0, "ms": None, "dot_difference": None,
        "exact_difference": 0.0, "exact_low": 0.0, "exact_high": 0.0,
    }  # fmt: skip
    shown = _shown(row)
    assert shown.beside_exact == "+0.0 %" and shown.reached == "80.0 %"
    assert shown.candidates == "200 by 8,256 (fp32)"
    told = _shown(row | {"exact_low": -0.01, "exact_high": 0.02})
    assert told.beside_exact == "+0.0 % [-10.0, +20.0]"
