"""Fitting and measuring: a lift where there is one, honest rows, doors."""

import json
import shutil
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

import recsys
from recsys.errors import ConfigError, DataError, RunError
from recsys.rankers.examples import take
from recsys.rankers.features.config import FeaturesConfig
from recsys.rankers.features.making import FeatureMaker
from recsys.rankers.fitted import load_ranker
from recsys.recipes.ranking.earlier import without_test
from recsys.recipes.ranking.knowing import knowledge_of
from recsys.recipes.ranking.rows import askers_of, folds_of, labelled_rows
from recsys.reports.ranking.rows import ranking_rows
from recsys.reports.ranking.terminal import print_ranking
from tests.rankers.conftest import TREES


@pytest.fixture(scope="module")
def content(run, fit):
    sweeping = recsys.Sweeping(granularities=(4,), keeps=(20,), whole=20)
    return recsys.rank_evaluate(run, sweeping=sweeping)


def test_the_ranker_beats_the_order_of_its_candidates(fit, content):
    assert fit.lift.difference_low > 0 and fit.after > 1.2 * fit.before
    exact, dot, ranked, *_ = content.rows
    assert (exact.name, dot.name, ranked.name) == ("exact search", "dot products", "lightgbm")
    assert dot.ndcg == exact.ndcg  # all candidates are found by the same order
    assert ranked.beside_dot.difference_low > 0
    assert ranked.ndcg - dot.ndcg == pytest.approx(ranked.beside_dot.difference)
    assert dot.recall <= ranked.recall <= ranked.reached
    assert ranked.multiply_adds > dot.multiply_adds


def test_further_funnels_and_the_whole_catalogue_stand_beside(content, run):
    names = [(row.name, row.stages, row.keep) for row in content.rows]
    assert ("dot products", "4:20,8", 20) in names and ("lightgbm", "4:20,8", 20) in names
    whole = content.rows[-1]
    assert whole.name.endswith("whole catalogue") and whole.num_users == 20
    frame = content.frame
    assert (run / "ranking" / "ranking.csv").is_file()
    assert frame["ndcg"].is_between(0, 1).all() and len(frame) == len(content.rows)


def test_labels_stand_where_the_funnel_found_the_targets(source):
    split = source.loaded.split
    known = knowledge_of(source.loaded.dataset, split.train_end, FeaturesConfig())
    maker = FeatureMaker(FeaturesConfig(), known, source.items)
    askers = askers_of(source, "valid")
    requests = askers.found_by(source.funnel())
    found = labelled_rows(askers, requests, maker)
    naive = [
        int(item) in askers.targets[askers.offsets[q] : askers.offsets[q + 1]]
        for q in found.requests
        for item in requests.candidates[q]
        if item >= 0
    ]
    np.testing.assert_array_equal(found.examples.labels, naive)
    assert 0 < found.told["targets found"] < found.told["targets"]
    assert found.examples.weights is None
    every = labelled_rows(askers, requests, maker, missed=0.25)
    assert every.told["users with rows"] == len(askers)
    rows = take(every.examples, np.setdiff1d(np.arange(len(askers)), found.requests))
    assert set(rows.weights[rows.labels == 1]) == {0.25}
    assert (rows.weights[rows.labels == 0] == 1).all()


def test_folds_hold_every_user_once():
    groups = folds_of(103, 5, 0)
    assert sorted(np.bincount(groups)) == [20, 20, 21, 21, 21]
    assert (groups != folds_of(103, 5, 1)).any()


def test_rows_of_an_earlier_run(data, run, loaded, place):
    folder = recsys.rank_earlier(run, place / "runs" / "earlier")
    before = recsys.load_run(folder).dataset
    split = loaded.split
    cut = np.concatenate(
        [data.items[lo:hi] for lo, hi in zip(data.offsets, split.valid_end, strict=False)]
    )
    np.testing.assert_array_equal(before.items, cut)
    assert before.user_frame().equals(data.user_frame())
    assert without_test(data, split, before.folder).folder == before.folder  # made once
    found = recsys.rank_fit(
        run, None, [*TREES, f"rows.earlier={folder}"], out=place / "from-earlier"
    )
    assert found.lift.difference_low > 0
    assert load_ranker(found.folder).manifest.fitted["rows"] == "an earlier run"


def test_doors(run, fit, shelf, tmp_path):
    with pytest.raises(ConfigError, match="did you mean"):
        recsys.rank_fit(run, None, ["candidates.kep=5"])
    with pytest.raises(ConfigError, match="there is no ranker named 'oak'"):
        recsys.rank_fit(run, None, ["ranker.name=oak"])
    with pytest.raises(ConfigError, match="name the run"):
        recsys.rank_fit(shelf)
    with pytest.raises(DataError, match="too few to learn from"):
        recsys.rank_fit(run, None, [*TREES, "rows.most=30"])
    with pytest.raises(RunError, match="has no rankers"):
        shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("rankers"))
        recsys.rank_evaluate(tmp_path / "bare")
    with pytest.raises(DataError, match="is no ranker"):
        recsys.rank_evaluate(run, [tmp_path])
    manifest = json.loads((fit.folder / "ranker.json").read_text())
    manifest["scores"] = "0" * 64
    (tmp_path / "odd").mkdir()
    for file in fit.folder.rglob("*"):
        if file.is_file():
            target = tmp_path / "odd" / file.relative_to(fit.folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    (tmp_path / "odd" / "ranker.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="fitted on other scores"):
        recsys.rank_evaluate(run, [tmp_path / "odd"])


def test_a_ranker_from_before_items_had_several_categories_reads_the_first(fit, tmp_path):
    folder = shutil.copytree(fit.folder, tmp_path / "ranker")
    manifest = json.loads((folder / "ranker.json").read_text())
    assert manifest["features"].pop("most_categories") == 6
    (folder / "ranker.json").write_text(json.dumps(manifest))
    assert load_ranker(folder).manifest.features.most_categories == 1


def test_the_report_of_the_trade_off_shows_rankers(content, run, tmp_path):
    words = ["granularities=[4]", "indexes=[scan]", "codecs=[fp16]", "keeps=[30]"]
    shown = recsys.tradeoff(run, words, out=tmp_path)
    assert [row.ranker for row in shown.ranking] == [row.name for row in content.rows]
    page = (tmp_path / "tradeoff.html").read_text("utf-8")
    ranked = content.rows[2]
    assert f"<td>{ranked.ndcg:.4f}</td>" in page and "lightgbm" in page
    gain = 100 * ranked.beside_dot.difference / content.rows[1].ndcg
    assert f"{gain:+.1f} %" in page


def test_figures_of_a_results_file(content):
    figures = {(f.name, f.metric): f for f in ranking_rows(content)}
    ranked = content.rows[2]
    share = figures[f"lightgbm, {ranked.candidates}", "of dot"]
    assert share.value == pytest.approx(ranked.ndcg / content.rows[1].ndcg)
    assert figures["exact search", "ndcg@10"].value == content.rows[0].ndcg


@pytest.mark.slow
def test_a_network_takes_the_same_rows_and_is_served_like_trees(run, place):
    words = [
        "candidates.keep=30", "rows.folds=3", "rows.most=200", "ranker.name=din",
        "ranker.training.epochs=1", "ranker.widths.shares=[0.5, 1.0]",
        "features.item_categories=[kind,tags]", "features.context=[hour]",
    ]  # fmt: skip
    found = recsys.rank_fit(run, None, words, out=place / "network")
    again = load_ranker(place / "network")
    groups = {field.name: field.group for field in again.ranker.schema.fields}
    assert groups["kind"] == "" and groups["tags_4"] == "tags"
    assert again.ranker.schema.num_items == again.knowledge.num_items
    table = recsys.rank_evaluate(
        run,
        [place / "network"],
        sweeping=recsys.Sweeping(num_users=60),
        out=place / "network-table",
    )
    names = ["exact search", "dot products", "network", "network at 0.5"]
    assert [row.name for row in table.rows] == names
    dot, whole, half = (row.multiply_adds for row in table.rows[1:])
    assert dot < half < whole
    assert not any(file.suffix == ".pkl" for file in found.folder.rglob("*"))


def test_no_figure_is_cut_on_a_narrow_terminal(content):
    console = Console(file=StringIO(), width=60)
    print_ranking(content, console)
    text = console.file.getvalue()
    assert all(f"{row.ndcg:.4f}" in text and f"{row.name} " in text for row in content.rows)
    assert f"{content.rows[2].ms:.1f}\n" in text.replace(" \n", "\n")
