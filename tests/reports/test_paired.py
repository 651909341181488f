"""Paired tests of kept figures: bootstrap, signed ranks, Holm; what is refused, what is said."""

import json

import numpy as np
import pytest
from scipy.stats import false_discovery_control, wilcoxon

import recsys
from recsys.errors import ConfigError, ProtocolError, RunError
from recsys.evaluation.metric_table import MetricTable, join_tables
from recsys.evaluation.metrics import ndcg
from recsys.files.atomic import write_json
from recsys.reports.content import ReportContent, View
from recsys.reports.paired.comparing import DRAWS, Comparisons
from recsys.reports.paired.families import families
from recsys.reports.paired.signed_rank import holm, signed_rank
from recsys.reports.plots import short_names
from recsys.reports.words import paired_lines
from recsys.reports.writing import write_report
from tests.command import call, invoke
from tests.reports.test_comparing import OFFSETS, U, found_by, table_of


def per_user(ranks):
    return ndcg(ranks, OFFSETS, (10,))[:, 0]


def everything():
    """A nested run, another one, and two baselines."""
    return [
        table_of("demo", {16: found_by(range(100), 2), 64: found_by(range(110))}),
        table_of("other", {16: found_by(range(70, 170)), 32: found_by(range(40))}),
        table_of("ease l2=50", {None: found_by([*range(90), *range(300, 318)])}),
        table_of("popularity", {None: found_by(range(200, 212))}),
    ]


def kept_run(folder, table):
    """A run folder as `evaluate` leaves it, as far as tables are read."""
    run = {"schema_version": 1, "name": "sasrec", "state": "finished", "seed": 0, "commit": None}
    write_json(folder / "run.json", run | {"dataset": {}, "versions": {}, "command": ""})
    (folder / "config.yaml").write_text("data: nowhere\n")
    table.save(folder / "metrics" / "test-s3rec.json")
    return folder


@pytest.fixture
def runs(tmp_path):
    demo, other, *flat = everything()
    return [
        kept_run(tmp_path / "demo", join_tables([demo, *flat])),
        kept_run(tmp_path / "other", other),
    ]


def test_signed_ranks_are_those_of_a_count_over_all_signs():
    """With n differences all 2^n ways to sign their ranks are equally likely."""
    differences = np.array([0.3, -0.1, 0.0, 0.7, 0.2, -0.4, 0.9])
    ranks = np.array([3.0, 1, 5, 2, 4, 6])  # of the sizes, the zero left out
    signs = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1)
    sums = ranks @ signs
    seen = 3.0 + 5 + 2 + 6
    tail = min((sums >= seen).mean(), (sums <= seen).mean())
    assert signed_rank(differences) == pytest.approx(2 * tail)
    assert signed_rank(np.zeros(9)) == 1.0


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
    values = np.random.default_rng(0).random(7) / 20
    bounds = false_discovery_control(values)  # a weaker correction
    assert all(corrected >= bound for corrected, bound in zip(holm(values), bounds, strict=True))


def test_every_granularity_stands_beside_full_width_other_runs_and_every_baseline(runs):
    found = recsys.compare_paired(runs)
    rows = found.frame.select("granularity", "against", "against_granularity").rows()
    assert rows == [
        (16, "demo", 64),
        (16, "other", 16), (64, "other", 32),
        (16, "ease l2=50", None), (64, "ease l2=50", None),
        (16, "popularity", None), (64, "popularity", None),
    ]  # fmt: skip
    mine, rival = per_user(found_by(range(110))), per_user(found_by(range(40)))
    row = found.frame.row(2, named=True)
    assert row["difference"] == pytest.approx(float((mine - rival).mean()))
    p = [wilcoxon(x).pvalue for x in (
        per_user(found_by(range(100), 2)) - per_user(found_by(range(70, 170))), mine - rival
    )]  # fmt: skip
    assert row["p"] == pytest.approx(p[1]) and row["p_holm"] == pytest.approx(holm(p)[1])
    assert row["verdict"] == "above" and row["num_users"] == U


def test_intervals_hold_what_a_bootstrap_by_hand_gives():
    tables = everything()
    one, other = per_user(found_by(range(110))), per_user(found_by(range(40)))
    told = Comparisons(join_tables(tables), "ndcg", 10).of(("other", 32), ("demo", 64))
    rng = np.random.default_rng(1)
    drawn = [(one - other)[rng.integers(0, U, U)].mean() for _ in range(4000)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert (told.difference_low, told.difference_high) == pytest.approx((low, high), abs=0.004)
    assert DRAWS == 10_000


def test_another_metric_is_compared_when_asked_for(runs):
    hits = recsys.compare_paired(runs[:1], metric="hit@10").frame
    assert hits["difference"][0] == pytest.approx(-10 / U)
    assert set(hits["metric"]) == {"hit"}


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="not of the form ndcg@10"):
        recsys.compare_paired(runs, metric="ndcg")
    with pytest.raises(ConfigError, match="no metric named 'nope'"):
        recsys.compare_paired(runs, metric="nope@10")
    with pytest.raises(ConfigError, match=r"further than rank 10.*--ks 20"):
        recsys.compare_paired(runs, metric="ndcg@20")
    for changed in ({"content_hash": "ab" * 32}, {"protocol": "hstu"}, {"filter_seen": False}):
        other = table_of("third", {16: found_by(range(9))}, **changed)
        third = kept_run(tmp_path / "third", other)
        with pytest.raises(ProtocolError, match=next(iter(changed))):
            recsys.compare_paired([runs[0], third])
    table = everything()[1]
    bare = kept_run(tmp_path / "bare", MetricTable(table.card, table.rows))
    with pytest.raises(RunError, match="keep the ranks"):
        recsys.compare_paired([runs[0], bare])


def test_runs_of_other_users_are_refused_with_their_numbers(runs, tmp_path):
    table = everything()[1]
    few = type(table.ranks)(np.arange(6), {place: x[:5] for place, x in table.ranks.ranks.items()})
    fewer = kept_run(tmp_path / "fewer", MetricTable(table.card, table.rows, few))
    with pytest.raises(ProtocolError, match=f"they have {U}, .*5 users"):
        recsys.compare_paired([runs[0], fewer])


def test_a_run_with_nothing_beside_it_is_refused(tmp_path):
    alone = kept_run(tmp_path / "alone", table_of("alone", {16: found_by(range(9))}))
    with pytest.raises(RunError, match="nothing stands beside it"):
        recsys.compare_paired([alone])


def test_the_verb_prints_families_or_gives_rows(runs):
    text = call("compare", "--paired", *runs)
    assert "prefixes beside the full width, d64" in text and "beside ease l2=50" in text
    rows = json.loads(call("compare", "--paired", runs[0], "--metric", "recall@10", "--json"))
    assert {row["against"] for row in rows["rows"]} == {"demo", "ease l2=50", "popularity"}
    assert invoke("compare", "--paired", runs[0], "--metric", "ndcg@99").exit_code == 1


def test_sentences_say_what_the_paired_test_says():
    view = View(join_tables(everything()), None)
    beside, full = paired_lines(view)
    assert beside == "Beside the full width of 64 coordinates, d16 is worse."
    assert full == (
        "With all 64 coordinates demo is better than other d32 and popularity; the difference of "
        "demo from ease l2=50 may be noise."
    )


def test_an_interval_that_the_signed_ranks_do_not_confirm_is_called_so():
    """A few large gains against many small losses: the mean rises, ranks do not."""
    base = np.full(U, 4)
    mine = base.copy()
    mine[:45], mine[45:175] = 1, 5
    table = join_tables([table_of("demo", {64: mine}), table_of("ease", {None: base})])
    (family,) = families(table, Comparisons(table, "ndcg", 10), "demo")
    (only,) = family.comparisons
    assert only.paired.verdict == "above" and only.says == "better, unconfirmed"


def test_the_report_has_the_paired_tests_on_its_page_and_in_markdown(tmp_path):
    page, markdown, *_ = write_report(tmp_path, ReportContent("t", join_tables(everything())))
    text = page.read_text()
    assert "ndcg@10, user by user" in text and "beside ease l2=50" in text
    assert "prefixes beside the full width, d64:" in markdown.read_text()
    assert "| d16 | -0.1" in markdown.read_text()


def test_labels_of_plots_have_no_settings_and_stay_apart():
    names = ["ease l2=50", "item_knn neighbours=500 shrinkage=0", "demo"]
    assert list(short_names(names).values()) == ["ease", "item_knn", "demo"]
    twice = short_names(["ease l2=50", "ease l2=100", "x" * 40])
    assert list(twice.values()) == ["ease l2=50", "ease l2=100", "x" * 23 + "…"]
    assert len(set(short_names(["y" * 30 + "1", "y" * 30 + "2"]).values())) == 2
