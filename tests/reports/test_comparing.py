"""What a report says of two figures goes by the paired interval of their difference."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from recsys.errors import ProtocolError, RunError
from recsys.evaluation.bootstrap import intervals, paired_difference, resample, resample_often
from recsys.evaluation.metric_table import join_tables, load_table
from recsys.evaluation.metrics import MISS, ndcg
from recsys.evaluation.summary import user_rows
from recsys.evaluation.target_ranks import target_ranks
from recsys.reports.content import ReportContent, View
from recsys.reports.terminal import print_table
from recsys.reports.words import card_lines, headline, standing
from recsys.reports.writing import write_report
from tests.reports.tables import card, full_table, make_table

U = 400
OFFSETS = np.arange(U + 1)


def found_by(users, rank=1):
    """Ranks `[U]` of a model that finds the targets of those users alone."""
    ranks = np.full(U, MISS)
    ranks[list(users)] = rank
    return ranks


def table_of(run, by_size, **changes):
    """The table of one run, as `evaluate` makes it: granularity -> ranks `[U]`."""
    sizes, ranks = tuple(by_size), np.stack(list(by_size.values()))
    rows = user_rows(
        ranks, OFFSETS, segment="all", sizes=sizes, metrics=("recall", "ndcg"), ks=(10,), seed=0
    )
    names = {"run": run, "split": "test", "protocol": "s3rec"}
    table = make_table([names | row for row in rows], **changes)
    return type(table)(table.card, table.rows, target_ranks(run, sizes, ranks, OFFSETS, 10))


def said(*tables):
    view = View(join_tables(tables), None)
    return f"{headline(view)} {standing(view)}"


def test_a_prefix_that_beats_the_full_width_by_chance_is_called_noise():
    whole, prefix = found_by(range(100)), found_by([*range(80), *range(300, 330)])
    text = said(table_of("demo", {16: prefix, 256: whole}))
    assert "16 of 256 coordinates keep 110.0 % of ndcg@10 (95 % interval 9" in text
    assert "at a sixteenth of the bytes; the difference from the full width may be noise" in text
    assert "no shorter prefix" not in text


def test_it_is_said_when_the_users_are_too_few_to_tell_what_a_prefix_keeps():
    whole = found_by(range(100))
    wild, calm = found_by([*range(40), *range(300, 365)]), found_by(range(4, 100))
    text = said(table_of("demo", {16: wild, 64: calm, 256: whole}))
    assert text.startswith("64 of 256 coordinates keep 96.0 %"), "the surest, not the highest"
    assert "With 400 users no shorter prefix is sure to keep 95.0 %." in text


def test_the_headline_names_the_shortest_prefix_that_is_sure_to_keep_enough():
    whole = found_by(range(200))
    by_size = {8: found_by(range(192)), 16: found_by(range(198)), 64: found_by(range(199))}
    text = said(table_of("demo", {**by_size, 256: whole}))
    assert text.startswith("16 of 256 coordinates keep 99.0 % of ndcg@10 (95 % interval 97.")
    assert "no shorter prefix" not in text


def test_a_difference_that_is_there_is_said_although_the_intervals_overlap():
    mine, theirs = found_by(range(112)), found_by(range(100))
    low, high = intervals(np.stack([mine < 11, theirs < 11], axis=1).astype(float))
    assert low[0] < high[1]
    text = said(table_of("demo", {64: mine}), table_of("ease", {None: theirs}))
    assert "12.0 % above ease, the best of the others (0.2500)" in text
    assert "demo is better: the paired difference is +0.0300, 95 % interval +0.0" in text


def test_a_difference_that_may_be_noise_is_called_so():
    mine, theirs = found_by(range(100)), found_by([*range(60), *range(200, 238)])
    text = said(table_of("demo", {64: mine}), table_of("ease", {None: theirs}))
    assert "2.0 % above ease" in text and "95 % interval -0." in text
    assert "may be noise." in text and "is better" not in text


def test_a_baseline_that_wins_is_named_as_the_better_one():
    mine, theirs = found_by(range(80)), found_by(range(100))
    others = table_of("ease", {None: theirs}), table_of("popularity", {None: found_by(range(9))})
    text = said(table_of("demo", {64: mine}), *others)
    assert "20.0 % below ease, the best of the others (0.2500); ease is better" in text
    assert "the paired difference is -0.0500, 95 % interval -0.0" in text


def test_the_best_of_several_baselines_is_told_with_what_it_has_over_the_next():
    near = said(
        table_of("ease", {None: found_by(range(100))}),
        table_of("item_knn", {None: found_by(range(2, 100))}),
    )
    assert near.startswith("ease has the highest ndcg@10 among 2 models: 0.2500; item_knn follows")
    assert "may be noise" in near
    far = said(
        table_of("ease", {None: found_by(range(100))}),
        table_of("item_knn", {None: found_by(range(50))}),
    )
    assert "ease is better: the paired difference is +0.1250" in far


def test_a_table_without_ranks_tells_nothing_of_noise():
    view = View(full_table(), None)
    for text in (headline(view), standing(view)):
        assert "whether that is more than noise cannot be told" in text
    assert not any(line.kept_half for line in view.lines)


def test_shares_kept_have_their_paired_interval_in_every_form(tmp_path):
    whole, prefix = found_by(range(100)), found_by(range(10, 100))
    table = table_of("demo", {16: prefix, 256: whole})
    both = np.stack([ndcg(r, OFFSETS, (10,))[:, 0] for r in (whole, prefix)], axis=1)
    known = resample_often(both).paired(0, 1)
    half = f"±{50 * (known.ratio_high - known.ratio_low):.1f}"
    assert 1 < float(half[1:]) < 10
    page, markdown, *_ = write_report(tmp_path, ReportContent("t", table))
    assert f"90.0 % <small>{half}</small>" in page.read_text()
    assert f"| 90.0 % {half} | 64 |" in markdown.read_text()
    assert "band: 95 % interval, paired over users" in (tmp_path / "retention.svg").read_text()
    stream = io.StringIO()
    print_table(table, console=Console(file=stream, width=100))
    assert f"90.0 {half}" in stream.getvalue() and "95 % interval" in stream.getvalue()


def test_a_full_width_that_finds_nothing_in_a_resample_gives_no_band_and_no_broken_text():
    text = said(table_of("demo", {16: found_by([0, 1]), 256: found_by([0])}))
    assert "keep 200.0 % of ndcg@10 at a sixteenth" in text and "may be noise" in text
    assert "nan" not in text and "inf" not in text


def test_any_two_of_many_figures_are_compared_as_if_alone():
    values = np.random.default_rng(0).random((50, 4))
    together = resample(values).paired(1, 3)
    alone = paired_difference(values[:, 1], values[:, 3])
    assert together.difference_low == pytest.approx(alone.difference_low)
    assert together.ratio_high == pytest.approx(alone.ratio_high)
    assert paired_difference(values[:, 0], values[:, 0]).verdict == "level"


def test_a_kept_table_compares_as_before_and_takes_the_name_of_its_folder(tmp_path):
    table = table_of("demo", {16: found_by(range(9)), 256: found_by(range(8), rank=3)})
    table.save(tmp_path / "t.json")
    again = load_table(tmp_path / "t.json").renamed("demo", "other")
    assert again.rows["run"].unique().to_list() == ["other"]
    view, old = View(again, None), View(table, None)
    assert [line.paired for line in view.lines] == [line.paired for line in old.lines]


def test_damaged_ranks_are_refused(tmp_path):
    path = tmp_path / "t.json"
    table_of("demo", {16: found_by(range(9))}).save(path)
    tree = json.loads(path.read_text())
    text = tree["ranks"]["lines"][0]["ranks"]
    for broken in (text[:-4], text[4:], "", tree["ranks"]["offsets"], None):
        tree["ranks"]["lines"][0]["ranks"] = broken
        path.write_text(json.dumps(tree))
        with pytest.raises(RunError, match="is not a metrics file"):
            load_table(path)


def test_tables_of_other_users_are_not_joined():
    one = table_of("demo", {16: found_by(range(9))})
    fewer = target_ranks("ease", (None,), found_by(range(9))[None, :5], np.arange(6), 10)
    with pytest.raises(ProtocolError, match="not of the same users"):
        join_tables([one, type(one)(one.card, one.rows, fewer)])


def test_figures_of_the_validation_part_say_that_choices_were_made_by_it():
    told = dict(card_lines(card(part="valid")))
    assert "flatter" in told["beware"] and "beware" not in dict(card_lines(card()))
